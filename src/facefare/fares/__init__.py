"""What a ride costs: tariffs, journeys, caps, and why.

Pure functions over versioned data; nothing here keeps state or does I/O except reading a tariff from the path
it is given. All amounts are integers in minor units.

- `tariff`: the data; `load_tariff` for our JSON, `gtfs.read_gtfs` for a GTFS Fares v2 feed.
- `journeys`: taps to legs, completed where the evidence allows.
- `pricing`: `price_week`, `price_day`, `quote`.
- `posted`: what a gate may say a passage costs, before anybody is known.
- `explain`: the lines of a receipt, as codes and parameters.
- `standing`: first-ride risk and the deny list.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from facefare.fares.errors import TariffError, UnknownFare
from facefare.fares.gtfs import read_gtfs
from facefare.fares.journeys import Tap, TapKind
from facefare.fares.pricing import price_week

WEDNESDAY = datetime(2026, 3, 4, 8, 0, tzinfo=UTC)
WEEK = date(2026, 3, 2)
LATER = WEDNESDAY + timedelta(days=30)

FEED = {
    "agency.txt": "agency_id,agency_name,agency_timezone\nx,Example,UTC\n",
    "rider_categories.txt": "rider_category_id,rider_category_name,is_default_fare_category\nad,Adult,1\nch,Child,0\n",
    "fare_products.txt": (
        "fare_product_id,fare_product_name,fare_media_id,rider_category_id,amount,currency\n"
        "single,Single,face,ad,2.50,EUR\n"
        "single,Single,face,ch,1.25,EUR\n"
        "single,Single,cash,ad,3.00,EUR\n"
        "airport,Airport,,,6.00,EUR\n"
        "rush,Rush hour,,,3.50,EUR\n"
        "upgrade,Upgrade,,,0.50,EUR\n"
    ),
    "fare_leg_rules.txt": (
        "leg_group_id,network_id,from_area_id,to_area_id,from_timeframe_group_id,fare_product_id\n"
        "city,,,,,single\n"
        "air,,air,,,airport\n"
        "air,,,air,,airport\n"
        "rail,rail,,,rush,rush\n"
        "rail,rail,,,calm,single\n"
    ),
    "fare_transfer_rules.txt": (
        "from_leg_group_id,to_leg_group_id,transfer_count,duration_limit,duration_limit_type,"
        "fare_transfer_type,fare_product_id\n"
        "city,city,-1,3600,1,0,\n"
        "city,rail,,3600,1,0,upgrade\n"
    ),
    "timeframes.txt": (
        "timeframe_group_id,start_time,end_time,service_id\n"
        "rush,07:00:00,09:00:00,work\n"
        "calm,,07:00:00,all\ncalm,09:00:00,24:00:00,all\n"
    ),
    "calendar.txt": (
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
        "work,1,1,1,1,1,0,0,20260101,20261231\nall,1,1,1,1,1,1,1,20260101,20261231\n"
    ),
    "calendar_dates.txt": "service_id,date,exception_type\nwork,20260305,2\n",
    "areas.txt": "area_id,area_name\nair,Airport\n",
    "stop_areas.txt": "area_id,stop_id\nair,terminal\n",
    "stops.txt": (
        "stop_id,stop_lat,stop_lon,parent_station\nterminal,40.4,-3.5,\ngate,40.4,-3.5,terminal\ntown,40.4,-3.7,\n"
    ),
    "networks.txt": "network_id,network_name\nrail,Rail\nbus,Bus\n",
}


def write(folder, **changes):
    for name, text in (FEED | {name.replace("__", "."): text for name, text in changes.items()}).items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8-sig")


def read(folder):
    return read_gtfs(
        folder,
        tariff_id="x",
        effective_from=date(2026, 1, 1),
        fare_medium="face",
        tap_out=frozenset({"metro"}),
    )


def costs(tariff, *taps, category=""):
    made = [
        Tap(f"t{n}", WEDNESDAY + timedelta(minutes=minute), stop, kind, network)
        for n, (minute, stop, kind, network) in enumerate(taps)
    ]
    return [charge.amount for charge in price_week(made, tariff, WEEK, now=LATER, category=category)]


IN, OUT = TapKind.ENTRY, TapKind.EXIT


def test_a_feed_prices_legs_by_medium_category_area_and_time(tmp_path):
    write(tmp_path)
    tariff = read(tmp_path)
    assert costs(tariff, (0, "town", IN, "bus")) == [250]
    assert costs(tariff, (0, "town", IN, "bus"), category="ch") == [125]
    assert costs(tariff, (0, "terminal", IN, "bus")) == [600]
    assert costs(tariff, (0, "gate", IN, "metro"), (30, "town", OUT, "metro")) == [600]  # by its station
    assert costs(tariff, (0, "town", IN, "rail")) == [350]
    assert costs(tariff, (60, "town", IN, "rail")) == [250]
    with pytest.raises(UnknownFare):  # no rush hour on a removed day, and the calm hours leave it out
        costs(tariff, (24 * 60, "town", IN, "rail"))


def test_transfers_of_a_feed_apply_within_their_time(tmp_path):
    write(tmp_path)
    tariff = read(tmp_path)
    assert costs(tariff, *((m, "town", IN, "bus") for m in (0, 30, 59, 61))) == [250, 0, 0, 250]
    assert costs(tariff, (0, "town", IN, "bus"), (30, "town", IN, "rail")) == [250, 50]


def test_with_priorities_an_empty_field_matches_everything(tmp_path):
    write(
        tmp_path,
        fare_leg_rules__txt=(
            "network_id,from_area_id,fare_product_id,rule_priority\n,,single,\nrail,,rush,1\n,air,airport,2\n"
        ),
        fare_transfer_rules__txt=None,
    )
    tariff = read(tmp_path)
    assert costs(tariff, (0, "town", IN, "bus")) == [250]
    assert costs(tariff, (0, "town", IN, "rail")) == [350]
    assert costs(tariff, (0, "terminal", IN, "rail")) == [600]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fare_products__txt": "fare_product_id,amount,currency\nsingle,-1.00,EUR\n"}, "negative"),
        ({"fare_products__txt": "fare_product_id,amount,currency\na,1.00,EUR\nb,1.00,USD\n"}, "one currency"),
        ({"fare_products__txt": "fare_product_id,amount,currency\na,1.005,EUR\n"}, "minor unit"),
        ({"fare_products__txt": None}, "one currency"),
        ({"fare_products__txt": "fare_product_id,cost\na,1\n"}, "lacks the column"),
        ({"timeframes__txt": None}, "no such timeframe"),
        ({"calendar_dates__txt": "service_id,date,exception_type\nwork,2026-03-05,2\n"}, "YYYYMMDD"),
        (
            {"fare_transfer_rules__txt": "from_leg_group_id,to_leg_group_id,fare_transfer_type\na,b,9\n"},
            "malformed field",
        ),
    ],
)
def test_a_feed_that_cannot_be_right_is_refused_with_the_reason(tmp_path, changes, says):
    write(tmp_path, **changes)
    with pytest.raises(TariffError, match=says):
        read(tmp_path)

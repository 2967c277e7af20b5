"""Payment intents: from an amount at a gate or till to money moved, once, with a receipt.

Jobs, one module each: `merchants` (who is paid, and through which terminals), `decision` (the pure rule: is
this answer of the guardians a payment?), `attempts` (a payment by face, from the guardians' answer to the
ledger), `scanned` (a payment without a face, by a code on the terminal's screen), `intents` (what has become of a
payment), `receipts` (what the payer keeps).

An intent moves `requires_identification -> processing -> succeeded | requires_capture`, or ends `refused`
or `canceled`. Money moves only in the transaction that moves the intent, under ids made from the intent's
own, so a payment that is tried again is the same payment.
"""

"""The payer-held key profile: the reference exists on the payer's device alone, and is compared 1:1.

    payer's device -- code (QR) --> terminal -- signed record, no face --> wallet
          ^                            |
          '---- signed announcement of the terminal's current key ----'

Jobs, one module each: `documents` (what operator, station and terminal sign), `code` (what the device shows:
its reference, sealed to one terminal's key, for some seconds), `handover` (how a reference made at an
enrolment station gets onto the device), `comparison` (probe against reference, yes or no).

Invariants: a reference leaves the device only sealed to a key that a terminal holds and soon erases; who
photographs a code learns neither a face nor which device made it; the wallet and the guardians never hold
anything that was derived from the face but a salted hash.
"""

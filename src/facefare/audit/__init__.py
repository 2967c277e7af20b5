"""The transparency log: what each guardian answered, in a form it can't take back.

Every guardian appends each request it answered to a Merkle log of its own, the other two co-sign its
checkpoints as witnesses, and anyone can check all three offline.

- `merkle`: the tree of RFC 9162. `notes`, `checkpoints`: C2SP signed notes, checkpoints, cosignatures.
- `entries`: what an entry says, and what it must not. `log`: the log on disk. `witness`: the co-signer.
- `receipts`: proof that one entry is in a log. `fetching`: copies published logs. `verifier`: checks three of them.
- `own_log`: a payer's check that no identification was kept from them.
- `reconciliation`: searches that no payment explains, for each terminal and day, and what that test can find.

What it shows: that the three logs are append-only, are the same for everyone, and agree. What it can't show:
an answer that all three guardians conspired to leave out. That is found by the payer's own accumulator.
"""

"""Double-entry accounts and two-phase transfers.

One row of `ledger_transfer` is one movement: an amount leaves the debited account and reaches the credited
one, so nothing unbalanced can be written down. Rows are never changed; corrections are new transfers. The
database itself keeps every account's balance in step (a trigger on insert) and refuses what would break a
floor, end a hold twice or give back more than was taken. The room takes a SQLAlchemy connection inside the
caller's transaction and knows nothing of payers, faces or HTTP.
"""

from facefare.ledger.accounts import Account, Balance, Kind, balance_of, lock_accounts, open_account
from facefare.ledger.transfers import Transfer, expire_holds, post
from facefare.ledger.verify import Finding, verify

__all__ = [
    "Account",
    "Balance",
    "Finding",
    "Kind",
    "Transfer",
    "balance_of",
    "expire_holds",
    "lock_accounts",
    "open_account",
    "post",
    "verify",
]

"""Money in: a payer's account is credited once for each top-up, from a named source."""

import hashlib

from sqlalchemy import Connection

from facefare.ledger import Account, Kind, Transfer, open_account, post
from facefare.ledger.ids import new_id
from facefare.payments import receipts
from facefare.wallet import payers
from facefare.wallet.payers import Payer


def from_test_funds(connection: Connection, payer: Payer, amount: int, *, idempotency_key: str | None) -> str:
    """Credit `amount` minor units of test money; returns the receipt's id.

    The same key of the same payer credits once and returns the same receipt. Raises InvalidAmount, and
    TransferConflict for the same key with another amount.
    """
    payers.locked(connection, payer.id)
    source = f"acc_test_funds_{payer.currency}"
    open_account(connection, Account(source, payer.currency, Kind.ASSET, floor=None))
    top_up = Transfer.now(
        _id_for(payer, idempotency_key),
        debit=source,
        credit=payer.account_id,
        amount=amount,
        currency=payer.currency,
        reason="top_up",
    )
    if top_up.id not in post(connection, [top_up]):
        return receipts.of_transfer(connection, top_up.id)
    return receipts.write(connection, payer, kind="top_up", amount=amount, transfer_id=top_up.id)


def _id_for(payer: Payer, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return new_id("top")
    return "top_" + hashlib.sha256(f"{payer.id}\n{idempotency_key}".encode()).hexdigest()[:32]

"""Where money comes from: the operator's choice, and test money where that is the choice.

A payer's account is credited once for each top-up. Cards are in `card_top_ups`.
"""

import hashlib
from enum import StrEnum

from sqlalchemy import Connection

from facefare.ledger import Account, Kind, Transfer, open_account, post
from facefare.ledger.ids import new_id
from facefare.payments import receipts
from facefare.payments.errors import FundingClosed
from facefare.wallet import payers
from facefare.wallet.payers import Payer


class Funding(StrEnum):
    """Where payers' money comes from: nowhere, out of thin air (demo and tests), or from cards."""

    NONE = "none"
    TEST = "test"
    STRIPE = "stripe"


def from_test_funds(
    connection: Connection, payer: Payer, amount: int, *, funding: Funding, idempotency_key: str | None
) -> str:
    """Credit `amount` minor units of test money; returns the receipt's id.

    The same key of the same payer credits once and returns the same receipt. Raises FundingClosed unless
    `funding` is TEST, InvalidAmount, and TransferConflict for the same key with another amount.
    """
    if funding is not Funding.TEST:
        raise FundingClosed("Money can't be added this way here.")
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

"""A program that moves money until it is killed: `python writer.py URL SEED WRITERS`, so many at once.

It says `begin ID` before each transfer and `done ID` after its commit, so a test that killed it knows which
transfers must be there and which may be.
"""

import itertools
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from facefare.ledger import Account, Kind, Transfer, open_account, post
from facefare.ledger.database import make_engine
from facefare.ledger.errors import InsufficientFunds

PAYERS = [f"acc_p{number}" for number in range(8)]
SHOP = "acc_shop"


def open_books(engine: Engine, funds: int) -> None:
    with engine.begin() as connection:
        open_account(connection, Account("acc_bank", "EUR", Kind.ASSET, None))
        open_account(connection, Account(SHOP, "EUR", Kind.LIABILITY, None))
        for payer in PAYERS:
            open_account(connection, Account(payer, "EUR", Kind.LIABILITY, 0))
            post(
                connection,
                [
                    Transfer.now(
                        f"fund_{payer}",
                        debit="acc_bank",
                        credit=payer,
                        amount=funds,
                        currency="EUR",
                        reason="top_up",
                    )
                ],
            )


def one_payment(engine: Engine, id: str, chance: random.Random) -> bool:
    """A random movement under this id: at once, between payers, or held and captured in part or voided."""
    debit, credit = chance.choice(PAYERS), SHOP
    if chance.random() < 0.3:
        debit, credit = chance.sample(PAYERS, 2)
    hold = Transfer.hold(
        id,
        debit=debit,
        credit=credit,
        amount=chance.randint(2, 400),
        currency="EUR",
        reason="test",
        expires_at=datetime.now(UTC) + timedelta(minutes=5),
    )
    ending = chance.choice([hold.capture(f"{id}.c"), hold.capture(f"{id}.c", 1), hold.void(f"{id}.v")])
    try:
        with engine.begin() as connection:
            post(connection, [hold])
        with engine.begin() as connection:
            post(connection, [ending])
    except InsufficientFunds:
        return False
    return True


def main() -> None:
    url, seed, writers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    engine, lines = make_engine(url, connections=writers), threading.Lock()

    def say(what: str, id: str) -> None:
        with lines:
            print(what, id, flush=True)

    def write(writer: int) -> None:
        chance = random.Random(f"{seed} {writer}")
        for number in itertools.count():
            id = f"w{seed}_{writer}_{number}"
            say("begin", id)
            if one_payment(engine, id, chance):
                say("done", id)

    with ThreadPoolExecutor(writers) as pool:
        for ended in pool.map(write, range(writers)):
            raise AssertionError(ended)


if __name__ == "__main__":
    main()

"""The demo's money: from a card, charged through localstripe where that can be had, else out of thin air."""

import httpx

from demo.localstripe import GOOD, fill_in
from demo.machine import Machine
from facefare.client import ApiError, PayerClient


def put_on_file(machine: Machine, payer: PayerClient, number: str = GOOD) -> None:
    """What the payer's browser does with the card processor's form."""
    setup = payer.begin_card()
    with httpx.Client(base_url=machine.processor_url or "", auth=("sk_test_demo", "")) as browser:
        fill_in(browser, setup.setup, setup.client_secret, number)
    payer.keep_card(setup.setup)


def fund(machine: Machine, payer: PayerClient, amount: int, key: str) -> None:
    """Bring `amount` minor units into the payer's account, once for the key."""
    if machine.processor_url is None:
        payer.top_up(amount, idempotency_key=key)
        return
    try:
        payer.card()
    except ApiError:  # none yet
        put_on_file(machine, payer)
    payer.top_up_from_card(amount, key)

"""The app factory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Response
from sqlalchemy import Engine, text

from facefare.identification.calibration import Calibration
from facefare.payments import card_top_ups, intents, merchants, notifications, travel, travel_periods, webhooks
from facefare.payments.decision import Rules, Stated
from facefare.payments.held import HeldRules
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.settings import Limits
from facefare.wallet import consents
from facefare.wallet.carrying import Changes
from facefare.wallet.consents import Notice, Profile
from facefare.wallet.pending_keys import PendingKeys
from facefare.web.api import attempts, cards, enrolments, held, operators, payers, problems, rights, tries
from facefare.web.api.limits import AddressLimit, BodyLimit
from facefare.web.api.services import Guardians, Services
from facefare.web.api.signatures import FRESH_FOR
from facefare.web.api.tries import Tries

if TYPE_CHECKING:  # it speaks the pages' languages, and the pages import this
    from facefare.web.pages.notifying import Notifier

_WORKERS = 16
_SWEEP_EVERY = 60.0
_DELIVER_EVERY = 2.0
_LATE_WITHIN = 15.0
_FUND_EVERY = 5.0


def create_app(
    *,
    engine: Engine,
    guardians: Guardians,
    calibration: Calibration,
    fpir: float,
    lookalike_fpir: float | None = None,
    receipt_key: Ed25519PrivateKey,
    notice: Notice,
    rules: Rules | None = None,
    face_alone: Stated | None = None,
    held_rules: HeldRules | None = None,
    pending_keys: PendingKeys | None = None,
    funding: Funding = Funding.NONE,
    processor: Processor | None = None,
    notifier: "Notifier | None" = None,
    profiles: Collection[Profile] = tuple(Profile),
    limits: Limits | None = None,
) -> FastAPI:
    """The wallet's API on a migrated database.

    A search takes the loosest threshold of `calibration` that keeps the false-positive identification rate
    at `fpir` for the gallery's current size; where there is none, a card is asked for.
    A new face is compared with those enrolled at the one that keeps it at `lookalike_fpir` (by default `fpir`).
    `receipt_key` signs consent receipts under `notice`; `rules` decide about payments, but for what a face alone may
    pay: that follows what the calibration measured and `face_alone` states. `held_rules` are about payers who hold
    their own reference. `funding` says where payers' money comes from (by default from nowhere);
    `processor` charges cards, `notifier` tells payers of payments. `profiles`: which ways of paying by face can be
    agreed to. `pending_keys`: so that nothing of an enrolment stays in the database's files. `limits`: how often each
    may ask.
    """
    services = Services(
        engine=engine,
        guardians=guardians,
        changes=Changes(
            engine,
            guardians,
            pending_keys,
            threshold=lambda payers: calibration.threshold(payers, lookalike_fpir or fpir),
        ),
        calibration=calibration,
        risk=calibration if calibration.currency else Calibration.default(),
        fpir=fpir,
        receipt_key=receipt_key,
        notice=notice,
        rules=rules or Rules(),
        stated=face_alone or Stated(),
        held=held_rules or HeldRules(),
        funding=funding,
        processor=processor,
        notifier=notifier,
        profiles=frozenset(profiles),
        tries=Tries(engine, receipt_key),
        limits=limits or Limits(),
    )

    @asynccontextmanager
    async def working(_: FastAPI) -> AsyncIterator[None]:
        # asyncio's own default is 6 threads on two cores, too few for work that mostly waits for the database.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_WORKERS, "wallet"))
        loops = (_sweep_for_ever, _deliver_for_ever, _fund_for_ever, _notify_for_ever)
        tasks = [asyncio.create_task(work(services)) for work in loops]
        yield
        if services.late:
            await asyncio.wait(services.late, timeout=_LATE_WITHIN)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(
        title="facefare wallet",
        summary="Pay a fare or a coffee by looking at a camera.",
        version="1",
        lifespan=working,
    )
    app.state.services = services
    app.add_middleware(BodyLimit)
    app.add_middleware(AddressLimit, services=services)
    problems.install(app)
    problems.describe(app)
    for room in (attempts, cards, enrolments, held, operators, payers, rights):
        app.include_router(room.router)

    @app.get("/healthz", tags=["operation"])
    async def healthy() -> dict[str, str]:
        """The process is up."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"], responses={503: {"description": "The database is away."}})
    def ready(response: Response) -> dict[str, str]:
        """The database answers."""
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception:  # whatever keeps the database from answering
            response.status_code = 503
            return {"status": "database unavailable"}
        return {"status": "ok"}

    @app.get("/v1/consent_keys", tags=["payer"])
    async def consent_keys() -> dict[str, list[dict[str, str]]]:
        """The public keys (JWK set, RFC 7517) that verify consent receipts."""
        return {"keys": [consents.jwk(receipt_key.public_key())]}

    return app


async def _for_ever(every: float, failed: str, *works: Callable[[], Awaitable[object]]) -> None:
    """Do these one after the other, again and again; one that fails keeps no other from its turn, and has its own."""
    while True:
        await asyncio.sleep(every)
        for work in works:
            try:
                await work()
            except Exception as error:  # the next round tries again
                structlog.get_logger().warning(failed, error=type(error).__name__)


async def _sweep_for_ever(services: Services) -> None:
    """End payments that waited too long and old nonces, carry what guardians did not confirm, every minute."""
    changes, sweep = services.changes, partial(asyncio.to_thread, _sweep, services)
    await _for_ever(_SWEEP_EVERY, "sweep_failed", sweep, changes.finish_all_pending, changes.agree_everywhere)


def _sweep(services: Services) -> None:
    with services.engine.begin() as connection:
        intents.expire(connection, services.rules)
        merchants.forget_nonces(connection, older_than_seconds=4 * FRESH_FOR)
        tries.forget_old(connection)
    travel.complete(services.engine, datetime.now(UTC), services.rules.travel_on_account)


async def _deliver_for_ever(services: Services) -> None:
    """Send merchants their webhooks as they come due."""
    with httpx.Client(timeout=10) as http:
        deliver = partial(asyncio.to_thread, webhooks.deliver_due, services.engine, http)
        await _for_ever(_DELIVER_EVERY, "delivery_failed", deliver)


async def _notify_for_ever(services: Services) -> None:
    """Tell payers who asked for it of their payments."""
    if (notifier := services.notifier) is None:
        return
    notify = partial(asyncio.to_thread, notifications.deliver_due, services.engine, notifier.send)
    await _for_ever(_DELIVER_EVERY, "notifying_failed", notify)


async def _fund_for_ever(services: Services) -> None:
    """Charge cards: for travel on account, for payers below their own mark; settle what a crash left open."""
    if (processor := services.processor) is None:
        return
    engine = services.engine
    await _for_ever(
        _FUND_EVERY,
        "funding_failed",
        partial(asyncio.to_thread, travel_periods.check_cards, engine, processor),
        lambda: asyncio.to_thread(travel_periods.charge_due, engine, processor, datetime.now(UTC)),
        partial(asyncio.to_thread, card_top_ups.charge_those_below, engine, processor),
        partial(asyncio.to_thread, card_top_ups.finish_left_behind, engine, processor),
    )

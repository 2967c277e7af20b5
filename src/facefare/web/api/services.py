"""What the routes share: the database, the guardians, the operator's key and rules."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection, Engine

from facefare.guardian.messages import OpenAnswer, OpenRequest, SearchRequest
from facefare.identification.calibration import Calibration
from facefare.mpc.answers import Answer
from facefare.payments.decision import Rules, Stated, face_alone
from facefare.payments.held import HeldRules
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.settings import Limits
from facefare.wallet import payers
from facefare.wallet.carrying import Changes, GalleryKeepers
from facefare.wallet.consents import Notice, Profile
from facefare.wallet.errors import NotAuthenticated
from facefare.wallet.payers import Payer
from facefare.web.api.errors import ProfileNotOffered
from facefare.web.api.tries import Tries, address
from facefare.web.stages import Stages

if TYPE_CHECKING:  # it speaks the pages' languages, and the pages import this
    from facefare.web.pages.notifying import Notifier


class Guardians(GalleryKeepers, Protocol):
    """All three guardians, as the wallet reaches them; any failure is an exception."""

    @property
    def log_keys(self) -> Sequence[str]:
        """The verifier keys of the three public logs, by which payers know what the guardians signed."""

    async def search(self, request: SearchRequest, gallery_version: int, threshold: int) -> Answer:
        """None, one or several of the gallery's live rows match; raises IdentificationError."""

    async def open_row(self, request: OpenRequest) -> tuple[OpenAnswer, OpenAnswer, OpenAnswer]:
        """A payer's row opened: three parts that only this payer can read; raises IdentificationError."""


@dataclass(frozen=True, repr=False)
class Services:
    """Made once by the app factory."""

    engine: Engine
    guardians: Guardians
    changes: Changes
    calibration: Calibration
    risk: Calibration
    fpir: float
    receipt_key: Ed25519PrivateKey
    notice: Notice
    rules: Rules
    stated: Stated
    held: HeldRules
    funding: Funding
    processor: Processor | None
    notifier: "Notifier | None"
    profiles: frozenset[Profile]
    tries: Tries
    limits: Limits
    stages: Stages = field(default_factory=Stages)
    late: set[asyncio.Task[None]] = field(default_factory=set)
    """Answers that came too late to decide by, on their way into access logs."""

    def rules_for(self, payers: int) -> Rules:
        """The rules of a search among so many payers: what a face alone may pay follows the risk measured for them.
        A gallery of one is a comparison with one reference.
        """
        return replace(self.rules, face_alone=face_alone(self.risk.face_alone(max(payers, 1), self.fpir), self.stated))

    def check_offered(self, profile: Profile) -> None:
        """Raise ProfileNotOffered for a way of paying by face that this operator does not offer."""
        if profile not in self.profiles:
            raise ProfileNotOffered("This operator does not offer that way of paying by face.")

    def count_caller(self, kind: str, id: str, most: int) -> None:
        """Count a request of somebody who has shown who it is; raises TooManyTries, CannotCount."""
        self.tries.count(kind, id, most=most, within=timedelta(minutes=1))


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


WithServices = Annotated[Services, Depends(_services)]


def _transaction(services: WithServices) -> Iterator[Connection]:
    with services.engine.begin() as connection:
        yield connection


# Committed when the route returns, before the response is sent.
Transaction = Annotated[Connection, Depends(_transaction, scope="function")]

_bearer = HTTPBearer(auto_error=False, scheme_name="payer", description="A payer's token (`ptk_…`).")


def _signed_in(
    services: WithServices,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Payer:
    if credentials is None:
        raise NotAuthenticated("Send your token in the Authorization header, as a Bearer token.")
    with services.engine.connect() as connection:
        payer = payers.by_token(connection, credentials.credentials)
    services.count_caller("token", payer.id, services.limits.token)
    return payer


def count_account(request: Request, services: WithServices) -> None:
    """Count an account that is about to be opened; raises TooManyTries, CannotCount."""
    services.tries.count("account", address(request), most=services.limits.accounts, within=timedelta(hours=1))


SignedIn = Annotated[Payer, Depends(_signed_in)]
CountedAccount = Annotated[None, Depends(count_account)]
"""So many accounts are opened from one address in an hour, by the API and the pages together."""

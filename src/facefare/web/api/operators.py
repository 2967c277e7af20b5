"""What merchants' own systems do, with API keys: payments, refunds, disputes, webhooks, terminals, settlements."""

import base64
import binascii
from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from facefare.ledger import verify
from facefare.payments import api_keys, merchants, operators, settlements, webhooks
from facefare.payments.api_keys import ApiKey, Scope
from facefare.payments.errors import ProofWrong, UnknownApiKey
from facefare.payments.merchants import Terminal
from facefare.payments.operators import Seen
from facefare.payments.verify import INVARIANTS
from facefare.web.api.attempts import IntentId, IntentOut, Refund
from facefare.web.api.payers import Limit, Page, StartingAfter
from facefare.web.api.problems import DOCUMENTED
from facefare.web.api.services import Transaction, WithServices
from facefare.web.api.signatures import SignedTerminal

router = APIRouter(prefix="/v1", responses=DOCUMENTED)

_bearer = HTTPBearer(auto_error=False, scheme_name="operator", description="A merchant's API key (`fsk_…`).")


def _key(
    services: WithServices, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> ApiKey:
    if credentials is None:
        raise UnknownApiKey("Send your API key in the Authorization header, as a Bearer token.")
    with services.engine.connect() as connection:
        key = api_keys.by_key(connection, credentials.credentials)
    services.count_caller("token", key.id, services.limits.token)
    return key


class _May:
    """The caller's API key, if it has the scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __call__(self, key: Annotated[ApiKey, Depends(_key)]) -> ApiKey:
        key.check(self._scope)
        return key


MayReadPayments = Annotated[ApiKey, Depends(_May(Scope.PAYMENTS_READ))]
MayRefund = Annotated[ApiKey, Depends(_May(Scope.PAYMENTS_REFUND))]
MayReadDisputes = Annotated[ApiKey, Depends(_May(Scope.DISPUTES_READ))]
MayDecideDisputes = Annotated[ApiKey, Depends(_May(Scope.DISPUTES_DECIDE))]
MayReadWebhooks = Annotated[ApiKey, Depends(_May(Scope.WEBHOOKS_READ))]
MayWriteWebhooks = Annotated[ApiKey, Depends(_May(Scope.WEBHOOKS_WRITE))]
MayWriteTerminals = Annotated[ApiKey, Depends(_May(Scope.TERMINALS_WRITE))]
MayReadSettlements = Annotated[ApiKey, Depends(_May(Scope.SETTLEMENTS_READ))]
MayVerify = Annotated[ApiKey, Depends(_May(Scope.LEDGER_VERIFY))]

DisputeId = Annotated[str, Path(pattern=r"^dsp_[0-9a-z]{26}$")]
EventId = Annotated[str, Path(pattern=r"^evt_[0-9a-z]{26}$")]
EndpointId = Annotated[str, Path(pattern=r"^whe_[0-9a-z]{26}$")]
SettlementId = Annotated[str, Path(pattern=r"^stl_[0-9a-z]{26}$")]
TerminalId = Annotated[str, Path(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")]
Expand = Annotated[list[Literal["refunds", "dispute"]], Query(max_length=2)]
_Base64Key = Annotated[str, Field(max_length=44, description="Base64 of the raw Ed25519 public key (32 bytes).")]
_Proof = Annotated[str, Field(max_length=88, description="Base64 of the key's own signature, see `key_proof`.")]


class RefundedOut(BaseModel):
    """Money given back, in minor units."""

    id: str
    amount: int
    at: datetime


class SeenOut(IntentOut):
    """A payment. `payer` is a pseudonym of the day; `refunds` and `dispute` where expanded."""

    payer: str | None
    refunds: list[RefundedOut] | None
    dispute: str | None


class OperatorDispute(BaseModel):
    """A payment that its payer says was someone else's."""

    id: str
    payment_intent: str
    state: str
    amount: int
    currency: str
    created_at: datetime


class Decided(BaseModel):
    """Whether the money goes back."""

    model_config = ConfigDict(extra="forbid")

    give_back: Annotated[bool, Field(strict=True)]


class EndpointIn(BaseModel):
    """Where events are sent."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2000, examples=["https://merchant.example/hook"])]


class EndpointOut(BaseModel):
    """Where events are sent; the secret is shown when it is made, this once."""

    id: str
    url: str
    secret: str | None = None


class EventOut(BaseModel):
    """An event and how its delivery to your endpoints stands."""

    id: str
    body: str
    created_at: datetime
    delivered: int
    waiting: int
    given_up: int


class Replayed(BaseModel):
    """To how many endpoints the event goes again."""

    endpoints: int


class TerminalIn(BaseModel):
    """A gate or till, and proof that it has the key."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^trm_[A-Za-z0-9_-]{1,40}$")]
    place: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["gate", "till"]
    public_key: _Base64Key
    proof: _Proof


class NewKey(BaseModel):
    """A terminal's next key, and proof that it has it."""

    model_config = ConfigDict(extra="forbid")

    public_key: _Base64Key
    proof: _Proof


class TerminalOut(BaseModel):
    """A gate or till."""

    id: str
    place: str
    kind: str


class WhoAmI(BaseModel):
    """Whose key this is and what it may do."""

    merchant: str
    name: str
    scopes: list[str]


class SettlementOut(BaseModel):
    """A day (UTC) of a merchant, in minor units: carried + taken - given_back - paid_out is carried on."""

    id: str
    currency: str
    day: date
    carried: int
    taken: int
    given_back: int
    paid_out: int


class LineOut(BaseModel):
    """One movement of a settlement; `amount` is negative where money was given back."""

    transfer: str
    payment_intent: str
    reason: str
    amount: int
    currency: str
    place: str | None
    at: datetime


class SettlementLines(BaseModel):
    """A settlement and what it is made of."""

    settlement: SettlementOut
    lines: list[LineOut]


class Verification(BaseModel):
    """How many entries break each money invariant that does not hold (10 are counted at most)."""

    holds: bool
    broken: dict[str, int]


@router.get("/operator/me", tags=["operator"])
def who_am_i(key: Annotated[ApiKey, Depends(_key)]) -> WhoAmI:
    """Whose key this is."""
    return WhoAmI(merchant=key.merchant_id, name=key.name, scopes=sorted(key.scopes))


@router.get("/operator/payments", tags=["operator"])
def payment_list(
    key: MayReadPayments,
    connection: Transaction,
    limit: Limit = 20,
    starting_after: StartingAfter = None,
    state: Annotated[str | None, Query(max_length=30)] = None,
    expand: Expand = [],  # noqa: B006 - FastAPI copies it
) -> Page[SeenOut]:
    """The merchant's payments, newest first; nothing says who paid."""
    found = operators.payments(
        connection, key, limit=limit + 1, before=starting_after, state=state, expand=frozenset(expand)
    )
    return Page(data=[_seen(one) for one in found[:limit]], has_more=len(found) > limit)


@router.get("/operator/payments/{intent_id}", tags=["operator"])
def payment(intent_id: IntentId, key: MayReadPayments, connection: Transaction, expand: Expand = []) -> SeenOut:  # noqa: B006
    """One payment."""
    return _seen(operators.payment(connection, key, intent_id, frozenset(expand)))


@router.post("/operator/payments/{intent_id}/refunds", tags=["operator"])
def refund(
    intent_id: IntentId,
    body: Refund,
    key: MayRefund,
    connection: Transaction,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=255)],
) -> IntentOut:
    """Give back all or part of a payment, once for each Idempotency-Key."""
    given = operators.refund(connection, key, intent_id, body.amount, idempotency_key=idempotency_key)
    return IntentOut(**vars(given))


@router.get("/operator/disputes", tags=["operator"])
def dispute_list(
    key: MayReadDisputes, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[OperatorDispute]:
    """Disputes, newest first."""
    found = operators.disputes(connection, key, limit=limit + 1, before=starting_after)
    return Page(data=[OperatorDispute(**vars(one)) for one in found[:limit]], has_more=len(found) > limit)


@router.post("/operator/disputes/{dispute_id}/decision", tags=["operator"])
def dispute_decision(
    dispute_id: DisputeId, body: Decided, key: MayDecideDisputes, connection: Transaction
) -> OperatorDispute:
    """Give the money back, or decline."""
    return OperatorDispute(**vars(operators.decide(connection, key, dispute_id, give_back=body.give_back)))


@router.get("/operator/webhook_endpoints", tags=["operator"])
def endpoint_list(key: MayReadWebhooks, connection: Transaction) -> list[EndpointOut]:
    """Where events are sent."""
    return [EndpointOut(id=id, url=url) for id, url in webhooks.endpoints(connection, key.merchant_id)]


@router.post("/operator/webhook_endpoints", status_code=201, tags=["operator"])
def endpoint_new(body: EndpointIn, key: MayWriteWebhooks, connection: Transaction) -> EndpointOut:
    """Send events there too."""
    id, secret = webhooks.register(connection, key.merchant_id, body.url)
    return EndpointOut(id=id, url=body.url, secret=secret)


@router.delete("/operator/webhook_endpoints/{endpoint_id}", status_code=204, tags=["operator"])
def endpoint_gone(endpoint_id: EndpointId, key: MayWriteWebhooks, connection: Transaction) -> None:
    """Send nothing there any more."""
    webhooks.remove(connection, key.merchant_id, endpoint_id)


@router.get("/operator/events", tags=["operator"])
def event_list(
    key: MayReadWebhooks, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[EventOut]:
    """Events, newest first, and how their delivery stands."""
    found = webhooks.events(connection, key.merchant_id, limit=limit + 1, before=starting_after)
    return Page(data=[EventOut(**vars(one)) for one in found[:limit]], has_more=len(found) > limit)


@router.post("/operator/events/{event_id}/replay", tags=["operator"])
def event_replay(event_id: EventId, key: MayWriteWebhooks, connection: Transaction) -> Replayed:
    """Send an event again, delivered or not."""
    return Replayed(endpoints=webhooks.replay(connection, key.merchant_id, event_id))


@router.post("/operator/terminals", status_code=201, tags=["operator"])
def terminal_new(body: TerminalIn, key: MayWriteTerminals, connection: Transaction) -> TerminalOut:
    """Register a gate or till that has shown that it has its key."""
    public_key = _proved(key.merchant_id, body.id, body.public_key, body.proof)
    merchants.register_terminal(connection, Terminal(body.id, key.merchant_id, body.place, public_key, body.kind))
    return TerminalOut(id=body.id, place=body.place, kind=body.kind)


@router.delete("/operator/terminals/{terminal_id}", status_code=204, tags=["operator"])
def terminal_revoked(terminal_id: TerminalId, key: MayWriteTerminals, connection: Transaction) -> None:
    """Refuse a gate or till from now on."""
    merchants.revoke_terminal_of(connection, key.merchant_id, terminal_id)


@router.put("/terminal_key", status_code=204, tags=["terminal"])
def terminal_rotated(body: NewKey, terminal: SignedTerminal, connection: Transaction) -> None:
    """Replace the terminal's key: signed by the old one, proved by the new one, which is good at once."""
    public_key = _proved(terminal.merchant_id, terminal.id, body.public_key, body.proof)
    merchants.rotate_key(connection, terminal, public_key)


@router.get("/operator/settlements", tags=["operator"])
def settlement_list(
    key: MayReadSettlements, connection: Transaction, limit: Limit = 20, starting_after: StartingAfter = None
) -> Page[SettlementOut]:
    """Settlements, newest first."""
    found = settlements.of_merchant(connection, key.merchant_id, limit=limit + 1, before=starting_after)
    return Page(data=[_settlement(one) for one in found[:limit]], has_more=len(found) > limit)


@router.get("/operator/settlements/{settlement_id}", tags=["operator"])
def settlement(settlement_id: SettlementId, key: MayReadSettlements, connection: Transaction) -> SettlementLines:
    """A settlement and what it is made of."""
    one = settlements.read(connection, key.merchant_id, settlement_id)
    lines = [LineOut(**vars(line)) for line in settlements.lines(connection, settlement_id)]
    return SettlementLines(settlement=_settlement(one), lines=lines)


@router.get("/operator/verification", tags=["operator"])
def verification(key: MayVerify, services: WithServices) -> Verification:  # noqa: ARG001 - the key is the point
    """Check every money invariant on the live books."""
    broken = {finding.invariant: len(finding.broken_by) for finding in verify(services.engine, INVARIANTS)}
    return Verification(holds=not broken, broken=broken)


def _seen(one: Seen) -> SeenOut:
    refunds = None if one.refunds is None else [RefundedOut(**vars(refund)) for refund in one.refunds]
    return SeenOut(**vars(one.intent), payer=one.payer, refunds=refunds, dispute=one.dispute)


def _settlement(one: settlements.Settlement) -> SettlementOut:
    return SettlementOut(**{name: getattr(one, name) for name in SettlementOut.model_fields})


def _proved(merchant_id: str, terminal_id: str, public_key: str, proof: str) -> bytes:
    try:
        key, signature = (base64.b64decode(text, validate=True) for text in (public_key, proof))
    except (binascii.Error, ValueError) as error:
        raise ProofWrong("The key or the proof is not base64.") from error
    merchants.check_proof(merchant_id, terminal_id, key, signature)
    return key

"""What several rooms' tests share: a real PostgreSQL (started once, a fresh database per test), fake guardians."""

import itertools
import os
import secrets
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from sqlalchemy import Connection, Engine, make_url

from facefare.audit.notes import KeyKind, NoteSigner
from facefare.audit.openings import Components
from facefare.guardian.errors import RefusalCode
from facefare.guardian.messages import (
    Confirmation,
    EnrolPayload,
    EnrolRequest,
    GalleryStatus,
    MessageError,
    OpenAnswer,
    OpenRequest,
    Operation,
    SearchPayload,
    SearchRequest,
    Status,
    verify,
)
from facefare.identification.errors import BY_REASON, AnswersDisagree, GuardianUnavailable, RequestRefused
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.mpc.answers import Answer, Match, NoMatch, Several
from facefare.web.migrations import upgrade

settings.register_profile("any machine", deadline=None)  # no test asserts a time
settings.load_profile("any machine")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server whose database `pristine` is migrated and never written to."""
    with embedded_postgres(tmp_path_factory.mktemp("postgres") / "data") as url:
        admin = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")  # no test cuts the power
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            connection.exec_driver_sql("CREATE DATABASE pristine")
        migrated = make_engine(_database(url, "pristine"))
        upgrade(migrated)
        migrated.dispose()
        admin.dispose()
        yield url


def _database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """URL of a fresh, migrated, empty database."""
    name = f"test_{next(_numbers)}"
    admin = make_engine(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE pristine")
    admin.dispose()
    return _database(postgres_url, name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, connections=20)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection inside a transaction that is rolled back at the end."""
    with engine.connect() as connection:
        yield connection


def refusal(code: RefusalCode) -> RequestRefused:
    return BY_REASON.get(code, RequestRefused)(code, "As the test asked.", 1)


class FakeGuardians:
    """Three guardians in one process that compare labels instead of faces: for tests of what is around them.

    A "sealed share" is the label padded to a share's size. Faults are set by `down`, `refuse`, `lose_answer`,
    `lose_search` and `slow`.
    """

    def __init__(self) -> None:
        self.keys = [Ed25519PrivateKey.generate() for _ in range(3)]
        self.logs = [NoteSigner(f"guardian-{n}.example", KeyKind.LOG, Ed25519PrivateKey.generate()) for n in range(3)]
        self.rows: dict[str, dict[int, bytes]] = {}
        self.paused: set[tuple[str, int]] = set()
        self.versions: dict[str, int] = {}
        self.erased: dict[tuple[str, int], int] = {}  # on top of which version
        self.ever: dict[str, set[int]] = {}  # rows are not used twice
        self.down = False
        self.refuse: RefusalCode | None = None
        self.lose_answer = False  # the change is made, but its confirmations never arrive
        self.lose_search = False  # the answer is made, but does not come whole
        self.sums: dict[tuple[str, int], int] = {}  # the payers' accumulators
        self.payer_keys: dict[tuple[str, int], bytes | None] = {}
        self.checked: set[bytes] = set()
        self.searches = 0
        self.threshold = 0

    @property
    def log_keys(self) -> list[str]:
        return [str(log.key) for log in self.logs]

    async def search(self, request: SearchRequest, gallery_version: int, threshold: int) -> Answer:
        self.searches += 1
        return self._match(request, gallery_version, threshold)

    async def check(self, request: EnrolRequest, version: int, threshold: int) -> Answer:
        id = request.fields().enrolment_id
        if id in self.checked:
            raise refusal(RefusalCode.REPLAYED)
        answer = self._match(request, version, threshold)
        self.checked.add(id)
        return answer

    def _match(self, request: SearchRequest | EnrolRequest, gallery_version: int, threshold: int) -> Answer:
        self.threshold = threshold
        self._check()
        gallery = request.fields().gallery
        if gallery_version != self.versions.get(gallery, 0):
            raise refusal(RefusalCode.STALE_GALLERY_VERSION)
        found = [
            row
            for row, label in self.rows.get(gallery, {}).items()
            if label == request.sealed[0] and (gallery, row) not in self.paused
        ]
        if len(found) != 1:
            return NoMatch() if not found else Several()
        tag = secrets.randbits(64)
        self.sums[gallery, found[0]] = self.sums.get((gallery, found[0]), 0) ^ tag
        if self.lose_search:
            lost = AnswersDisagree("As the test asked.")
            lost.lost_tag = tag
            raise lost
        return Match(found[0], tag)

    async def open_row(self, request: OpenRequest) -> tuple[OpenAnswer, OpenAnswer, OpenAnswer]:
        self._check()
        fields = request.fields()
        key = self.payer_keys.get((fields.gallery, fields.row))
        try:
            verify(key or bytes(32), request.signature, request.payload)
        except MessageError:
            raise refusal(RefusalCode.BAD_SIGNATURE) from None
        parts = [secrets.randbits(64), secrets.randbits(64)]
        parts.append(self.sums.get((fields.gallery, fields.row), 0) ^ parts[0] ^ parts[1])
        first, second, third = (
            Components(guardian, 1, 0, 1, parts[guardian], parts[(guardian + 1) % 3]).give(
                fields.recipient, fields.gallery, fields.opening_id, signer
            )
            for guardian, signer in enumerate(self.logs)
        )
        return OpenAnswer(**vars(first)), OpenAnswer(**vars(second)), OpenAnswer(**vars(third))

    async def enrol(self, request: EnrolRequest, row: int, version: int) -> list[Confirmation]:
        gallery = request.fields().gallery
        rows = self.rows.setdefault(gallery, {})
        label = request.sealed[0]
        if rows.get(row) != label:
            self._change(gallery, version)
            rows[row] = label
            self.payer_keys[gallery, row] = request.fields().payer_key
            self.ever.setdefault(gallery, set()).add(row)
        return self._confirm(gallery, row, version, Operation.ENROL)

    async def delete(self, gallery: str, row: int, version: int) -> list[Confirmation]:
        if row in self.rows[gallery]:
            self._change(gallery, version)
            del self.rows[gallery][row]
            self.erased[gallery, row] = version
            self.sums.pop((gallery, row), None)
        return self._confirm(gallery, row, self.erased[gallery, row], Operation.DELETE)

    async def pause(self, gallery: str, row: int, version: int) -> list[Confirmation]:
        if (gallery, row) not in self.paused:
            self._change(gallery, version)
            self.paused.add((gallery, row))
        return self._confirm(gallery, row, version, Operation.PAUSE)

    async def resume(self, gallery: str, row: int, version: int) -> list[Confirmation]:
        if (gallery, row) in self.paused:
            self._change(gallery, version)
            self.paused.remove((gallery, row))
        return self._confirm(gallery, row, version, Operation.RESUME)

    async def status(self) -> list[Status | None]:
        galleries = tuple(
            GalleryStatus(
                gallery=gallery,
                kind="live",
                version=self.versions.get(gallery, 0),
                head=bytes(32),
                rows=max(self.ever.get(gallery, set()), default=-1) + 1,
                live=len([row for row in rows if (gallery, row) not in self.paused]),
                epoch=0,
            )
            for gallery, rows in self.rows.items()
        )
        return [
            None
            if self.down and index == 1
            else Status(guardian=index, connected=True, missing=None, galleries=galleries)
            for index in range(3)
        ]

    def _check(self) -> None:
        if self.down:
            raise GuardianUnavailable(1, "Guardian 1 is away.")
        if self.refuse is not None:
            raise refusal(self.refuse)

    def _change(self, gallery: str, version: int) -> None:
        self._check()
        if version != self.versions.get(gallery, 0):
            raise refusal(RefusalCode.STALE_GALLERY_VERSION)
        self.versions[gallery] = version + 1

    def _confirm(self, gallery: str, row: int, version: int, operation: Operation) -> list[Confirmation]:
        if self.lose_answer:
            raise GuardianUnavailable(2, "Guardian 2 is away.")
        return [
            Confirmation.sign(
                key,
                gallery=gallery,
                row=row,
                count=1,
                version=version + 1,
                operation=operation,
                time=time.time_ns() // 1_000_000,
                guardian=index,
            )
            for index, key in enumerate(self.keys)
        ]


def _sealed(label: str) -> tuple[bytes, bytes, bytes]:
    share = label.encode().ljust(96, b".")
    return share, share, share


class Requests:
    """Makes what terminals and stations sign, with a label in place of a face."""

    def __init__(self) -> None:
        self.terminal_key = Ed25519PrivateKey.generate()
        self.station_key = Ed25519PrivateKey.generate()

    def search(
        self, label: str, *, terminal: str = "trm_gate", gallery: str = "gal_town", query_id: bytes | None = None
    ) -> SearchRequest:
        payload = SearchPayload(
            v=1,
            gallery=gallery,
            model="labels",
            terminal=terminal,
            purpose="payment",
            query_id=query_id or os.urandom(16),
            issued_at=time.time_ns() // 1_000_000,
            sealed_sha256=(bytes(32), bytes(32), bytes(32)),
            component_sha256=(bytes(32), bytes(32), bytes(32)),
        ).to_bytes()
        return SearchRequest(payload, self.terminal_key.sign(payload), _sealed(label))

    def enrolment(
        self,
        label: str,
        consent_sha256: bytes,
        *,
        station: str = "stn_desk",
        gallery: str = "gal_town",
        payer_key: bytes | None = None,
    ) -> EnrolRequest:
        payload = EnrolPayload(
            v=1,
            gallery=gallery,
            model="labels",
            station=station,
            consent_sha256=consent_sha256,
            enrolment_id=os.urandom(16),
            issued_at=time.time_ns() // 1_000_000,
            sealed_sha256=(bytes(32), bytes(32), bytes(32)),
            payer_key=payer_key,
            component_sha256=(bytes(32), bytes(32), bytes(32)),
        ).to_bytes()
        return EnrolRequest(payload, self.station_key.sign(payload), _sealed(label))


@pytest.fixture
def guardians() -> FakeGuardians:
    return FakeGuardians()


@pytest.fixture
def requests() -> Requests:
    return Requests()

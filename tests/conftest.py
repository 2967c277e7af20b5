"""What several rooms' tests share: a real PostgreSQL (started once, a fresh database per test), fake guardians."""

import itertools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

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

_LONGEST = ("tests/e2e", "tests/restraint", "tests/guardian", "tests/terminal", "tests/evaluation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rooms with long files first, so that at the end no worker waits for another one's."""
    places = {place: number for number, place in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.nodeid.split("/")[:2]), len(places)))


class Databases:
    """A server's migrated, empty databases. One that a test left is emptied for the next, as copying one takes longer.

    Whatever else a test changes than rows (a table, a trigger, a function), and a changed row that the migrations
    wrote: such a database is dropped. Each test has a name of its own, so that what goes on running after its test
    can't reach the next one's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._empty: list[str] = []
        self._admin = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
        self._do("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "CREATE DATABASE pristine")  # no power cuts
        migrated = make_engine(self._of("pristine"))
        upgrade(migrated)
        with migrated.connect() as connection:
            tables = connection.exec_driver_sql(_TABLES).scalars().all()
            self._seeded = [
                table for table in tables if connection.exec_driver_sql(f"SELECT EXISTS (TABLE {table})").scalar()
            ]
            self._filled_by_tests = sorted(set(tables) - set(self._seeded))
            self._pristine = self._state(connection)
        migrated.dispose()

    @contextmanager
    def one(self) -> Iterator[str]:
        """URL of a migrated, empty database."""
        name = f"test_{next(self._numbers)}"
        if self._empty:
            self._do(f"ALTER DATABASE {self._empty.pop()} RENAME TO {name}")
        else:
            self._do(f"CREATE DATABASE {name} TEMPLATE pristine")
        yield self._of(name)
        self._do(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
        used = make_engine(self._of(name))
        with used.begin() as connection:
            unchanged = self._state(connection) == self._pristine
            if unchanged:
                connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # no triggers
                connection.exec_driver_sql("; ".join(f"DELETE FROM {table}" for table in self._filled_by_tests))
                connection.exec_driver_sql(_SEQUENCES)
        used.dispose()
        if unchanged:
            self._empty.append(name)
        else:
            self._do(f"DROP DATABASE {name}")

    def close(self) -> None:
        self._admin.dispose()

    def _of(self, name: str) -> str:
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def _do(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _state(self, connection: Connection) -> list[object]:
        """What the migrations made: every row of the catalogues by who wrote it, and the rows of tables."""
        made = [f"SELECT count(*), sum(xmin::text::bigint) FROM {catalogue}" for catalogue in _CATALOGUES]
        rows = [f"SELECT count(*), sum(hashtext(t::text)) FROM {table} t" for table in self._seeded]
        return [tuple(row) for row in connection.exec_driver_sql(" UNION ALL ".join(made + rows))]


_CATALOGUES = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_extension", "pg_index", "pg_namespace"),
    *("pg_policy", "pg_proc", "pg_rewrite", "pg_trigger", "pg_type"),
)
_TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
_SEQUENCES = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with embedded_postgres(tmp_path_factory.mktemp("postgres") / "data") as url:
        databases = Databases(url)
        yield databases
        databases.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """URL of a migrated, empty database."""
    with databases.one() as url:
        yield url


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

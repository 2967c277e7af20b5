"""The scenario: things that have to come out right, with real faces, real shares and real (test) money."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import cv2
import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from sqlalchemy import MetaData, func, select

from demo.cards import fund, put_on_file
from demo.faces import Person, Sitter
from demo.localstripe import DECLINED
from demo.machine import CURRENCY, DAY_CAP, FARE, GALLERY, PASSBACK_SECONDS, STATION, Machine
from facefare.biometrics import FacePipeline, Template, fuse
from facefare.client import MerchantClient, PayerClient, StationClient
from facefare.guardian.ceremony import Folder
from facefare.guardian.request_log import Entry
from facefare.guardian.store import ShareStore
from facefare.identification.quantise import quantise
from facefare.identification.requests import prepare_enrolment
from facefare.terminal.screen import State
from facefare.terminal.station import Capture
from facefare.wallet.enrolments import SYNTHETIC

SYNTHETIC_REFERENCES = 10_000
_BATCH = 1_000
_FIRST_TOP_UP = 380  # one fare, and not enough for another
_TOP_UP = 2_000
_MOST_ASKED = 12  # twice what an enrolment station asks for
_FRAME_EVERY = 1 / 15  # seconds; a slow camera
_BOOT = 120.0


@dataclass
class Step:
    """One thing that was tried: what was expected, what came out, and whether they agree."""

    name: str
    expected: str
    got: str
    ok: bool
    facts: dict[str, Any] = field(default_factory=dict)


class Scenario:
    """Plays the scenario on a running machine; `steps` fills up as it goes, `payers` holds who enrolled.

    `check_keys`: by which each payer may have the guardians open what they counted.
    """

    def __init__(
        self, machine: Machine, pipeline: FacePipeline, http: httpx.Client, on_step: Callable[[Step], None]
    ) -> None:
        """`http` has the wallet's base URL."""
        self._machine = machine
        self._pipeline = pipeline
        self._on_step = on_step
        self._http = http
        self._sitters = {
            "A": Sitter(Person.EILEEN_COLLINS, pipeline),
            "B": Sitter(Person.GRACE_HOPPER, pipeline),
        }
        self.payers: dict[str, PayerClient] = {}
        self.check_keys: dict[str, Ed25519PrivateKey] = {}
        self.tokens: dict[str, str] = {}
        self._frame = 0
        self._walks = 0
        self._rehearsed: dict[tuple[str, int], list[bytes]] = {}
        self._passback_until = 0.0
        self.steps: list[Step] = []

    def play(self, progress: Callable[[str, int, int], None]) -> None:
        """Play all steps, in order; `progress` hears of the long ones (what, done, total)."""
        self.enrol_synthetic(progress)
        self.enrol("A", top_up=_FIRST_TOP_UP)
        self._payment_by_face()
        self._stranger_leaves_nothing()
        self.enrol("B", top_up=_TOP_UP)
        self._charged_once()
        self._same_face_again()
        self._too_littlemoney()
        self._card_is_charged_once()
        self._guardian_stops_and_comes_back()
        self._fare_is_capped()
        self._dump_is_noise()
        self._deleted_face_is_a_stranger()
        self._merchant_sees_no_names()

    # --- the steps ---

    def enrol_synthetic(self, progress: Callable[[str, int, int], None]) -> None:
        """Enrol references of nobody, so that the search is a search."""
        rng = np.random.default_rng(20_000)
        mean = self._machine.calibration.mean
        started = time.perf_counter()
        for done in range(0, SYNTHETIC_REFERENCES, _BATCH):
            progress("synthetic references", done, SYNTHETIC_REFERENCES)
            direction = rng.normal(size=(_BATCH, len(mean)))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            nobody = (mean + 0.42 * direction).astype(np.float32)
            self._bring(Template(nobody, self._machine.calibration.model), SYNTHETIC)
        progress("synthetic references", SYNTHETIC_REFERENCES, SYNTHETIC_REFERENCES)
        seconds = time.perf_counter() - started
        self._note(
            f"Enrol {SYNTHETIC_REFERENCES:,} synthetic references",
            "three guardians hold them",
            f"{self._live_rows()} live rows",
            self._live_rows() == [SYNTHETIC_REFERENCES] * 3,
            {"seconds": round(seconds, 1)},
        )

    def enrol(self, who: str, top_up: int) -> None:
        """Consent, guided capture at the station, sealed enrolment, top-up."""
        payer, token = PayerClient.register(self._http, CURRENCY)
        self.check_keys[who] = Ed25519PrivateKey.generate()
        done = self._capture(who, payer, self.check_keys[who].public_key().public_bytes_raw())
        fund(self._machine, payer, top_up, key=f"demo-{who}")
        self.payers[who], self.tokens[who] = payer, token
        account = payer.account()
        confirmed_by = account.faces[0].confirmed_by if account.faces else ()
        self._note(
            f"Payer {who} consents, enrols live, tops up",
            f"active, confirmed by 3 guardians, {money(top_up)}",
            f"{account.faces[0].state if account.faces else 'no face'}, confirmed by"
            f" {len(confirmed_by)} guardians, {money(account.available)}",
            done and len(confirmed_by) == 3 and account.available == top_up,
        )

    def _same_face_again(self) -> None:
        """B's face comes to the station for another account; nobody there learns whose it looks like."""
        other, _ = PayerClient.register(self._http, CURRENCY)
        done = self._capture("B", other)
        marked = [face.lookalike for payer in (self.payers["B"], other) for face in payer.account().faces]
        told = [payer.access_log()[0]["outcome"] for payer in (self.payers["B"], other)]
        before = self.payers["B"].account().available
        attempt = self.walk("B")
        charged = before - self.payers["B"].account().available
        freed = self.payers["B"].same_person(other.give_up_face())  # the other account was hers
        self._note(
            "B's face is enrolled again, for another account",
            "station: see staff; both marked and told; the face alone opens nothing; one person's two accounts end it",
            f"{'done' if done else 'see staff'}; marked {marked.count(True)}, told {told.count('lookalike')};"
            f" {attempt['outcome']} ({attempt['reason']}), charged {money(charged)};"
            f" then {'marked' if freed[0].lookalike else 'free again'}",
            (done, marked, told, charged) == (False, [True, True], ["lookalike", "lookalike"], 0)
            and attempt["outcome"] != State.ACCEPTED.value
            and not freed[0].lookalike,
            attempt,
        )

    def _payment_by_face(self) -> None:
        attempt = self.walk("A")
        receipt = self.payers["A"].receipt(attempt["receipt"]) if attempt["receipt"] else None
        balance = self.payers["A"].account().available
        self._note(
            "Payer A walks up",
            f"gate opens, {money(FARE)} charged, receipt",
            f"{attempt['outcome']}, balance {money(balance)}, receipt {'yes' if receipt else 'no'}",
            attempt["outcome"] == State.ACCEPTED.value and balance == _FIRST_TOP_UP - FARE and bool(receipt),
            attempt,
        )

    def _stranger_leaves_nothing(self) -> None:
        before = self._everything_stored()
        attempt = self.walk("B")
        new = {
            place: rows - before[place] for place, rows in self._everything_stored().items() if rows != before[place]
        }
        last = self._last_request(0)
        left = ", ".join(f"{place} +{count}" for place, count in sorted(new.items()))
        only_expected = set(new) <= _A_STRANGER_LEAVES
        self._note(
            "A stranger (B before her enrolment) walks up",
            "use your card; only terminal, time, purpose, request hash stay",
            f"{attempt['outcome']}; {last}; rows: {left}",
            attempt["outcome"] == State.USE_CARD.value and only_expected and attempt["reason"] == "not_recognised",
            {**attempt, "rows": new},
        )

    def _charged_once(self) -> None:
        first, second = self.walk("B"), self.walk("B")
        balance = self.payers["B"].account().available
        self._note(
            "Payer B walks up twice within a minute",
            "charged once; the second answer says so",
            f"{first['outcome']}, then {second['outcome']} ({second['reason']}); balance {money(balance)}",
            (first["outcome"], second["outcome"]) == ("accepted", "already_paid") and balance == _TOP_UP - FARE,
            {"first": first, "second": second},
        )

    def _too_littlemoney(self) -> None:
        attempt = self.walk("A", after_passback=True)
        balance = self.payers["A"].account().available
        self._note(
            f"Payer A, with {money(_FIRST_TOP_UP - FARE)} left, walks up",
            "refused, with the reason; nothing charged",
            f"{attempt['outcome']} ({attempt['reason']}), balance {money(balance)}",
            (attempt["outcome"], attempt["reason"]) == ("refused", "insufficient_funds")
            and balance == _FIRST_TOP_UP - FARE,
            attempt,
        )

    def _card_is_charged_once(self) -> None:
        payer = self.payers["A"]
        before, declined, states = payer.account().available, "no cards here", []
        if self._machine.processor_url is not None:
            put_on_file(self._machine, payer, DECLINED)
            declined = str(payer.top_up_from_card(_TOP_UP, "demo-A-declined").reason)
            put_on_file(self._machine, payer)
            states = [payer.top_up_from_card(_TOP_UP, "demo-A-again").state for _ in range(2)]
        else:
            payer.top_up(_TOP_UP, "demo-A-again")
        brought = payer.account().available - before
        self._note(
            "Payer A tops up with a card that the bank refuses, then with another one, asked twice",
            f"nothing; then {money(_TOP_UP)}, once",
            f"{declined}; then {', '.join(states) or 'test money'}: {money(brought)}",
            brought == _TOP_UP and declined in ("card_declined", "no cards here"),
        )

    def _guardian_stops_and_comes_back(self) -> None:
        before = self.payers["A"].account().available
        self._machine.guardians[2].stop()
        attempt = self.walk("A", after_passback=True)
        charged = before - self.payers["A"].account().available
        self._machine.restart_guardian(2)
        back = time.perf_counter()
        while self._live_rows() != [SYNTHETIC_REFERENCES + 2] * 3:
            if time.perf_counter() - back > _BOOT:
                break
            time.sleep(0.2)
        again = self.walk("A", after_passback=True)
        self._note(
            "Guardian 2 is stopped, then comes back",
            "use your card, nothing charged; then payment works again",
            f"{attempt['outcome']} ({attempt['reason']}), charged {money(charged)}; then {again['outcome']}",
            attempt["outcome"] == State.USE_CARD.value and charged == 0 and again["outcome"] == State.ACCEPTED.value,
            {"stopped": attempt, "back": again},
        )

    def _fare_is_capped(self) -> None:
        before = self.payers["B"].account().available
        attempt = self.walk("B", after_passback=True)
        charged = before - self.payers["B"].account().available
        why = self.payers["B"].receipt(attempt["receipt"])["explained"] if attempt["receipt"] else []
        self._note(
            f"Payer B rides a second time today; a day costs {money(DAY_CAP)} at most",
            f"{money(DAY_CAP - FARE)} charged; the receipt says why",
            f"{attempt['outcome']}, {money(charged)}; {'; '.join(why)}",
            attempt["outcome"] == State.ACCEPTED.value
            and charged == DAY_CAP - FARE
            and any("capped" in line for line in why),
            attempt,
        )

    def _dump_is_noise(self) -> None:
        """Steal guardian 1's whole folder and try to use its shares as templates."""
        folder = Folder(self._machine.guardian_folder(1))
        store = ShareStore(folder.shares)
        gallery = store.load(folder.registry().galleries()[0])
        shares = gallery.shares.copy()
        store.close()
        counts = np.bincount(shares.view(np.uint8).reshape(-1), minlength=256)
        chi2 = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
        probe = fuse(
            [self._pipeline.embed(f, self._pipeline.observe(f)) for f in self._sitters["A"].enrolment_views(seed=9)]
        )
        closest, rank = _as_template_store(shares, quantise(probe.vector, self._machine.calibration), row=10_000)
        self._note(
            "Guardian 1's whole folder is stolen",
            "shares are noise and match nothing",
            f"chi-square of bytes {chi2:.0f} (255 +- 23 is noise); A's own row ranks {rank:,} of {len(shares):,}",
            150 < chi2 < 400 and rank > 100,
            {"chi_square": chi2, "rank_of_own_row": rank, "closest": closest},
        )

    def _deleted_face_is_a_stranger(self) -> None:
        deleted = self.payers["A"].delete_face()
        confirmed = deleted[0].confirmed_by if deleted else ()
        before = self.payers["A"].account().available
        attempt = self.walk("A", after_passback=True)
        self._note(
            "Payer A deletes her face and walks up",
            "deletion confirmed by 3 guardians; she is a stranger",
            f"confirmed by {len(confirmed)}, then {attempt['outcome']} ({attempt['reason']})",
            len(confirmed) == 3
            and (attempt["outcome"], attempt["reason"]) == ("use_card", "not_recognised")
            and self.payers["A"].account().available == before,
            attempt,
        )

    def _merchant_sees_no_names(self) -> None:
        merchant = MerchantClient(self._http, self._machine.merchant_key)
        seen = list(merchant.payments(state="succeeded", expand=("refunds", "dispute")))
        names = {one.payer for one in seen}
        ids = [payer.account().id for payer in self.payers.values()]
        leaked = [id for id in ids if any(id in str(one) for one in seen)]
        broken = merchant.broken_invariants()
        self._note(
            "The merchant's system reads its payments, and checks the books",
            "names that are others tomorrow, no payer's id; every money invariant holds",
            f"{len(seen)} payments by {len(names)} names, {len(leaked)} ids; {len(broken)} invariants broken",
            bool(names) and all(name and name.startswith("psn_") for name in names) and not (leaked or broken),
        )

    # --- how they are played ---

    def _capture(self, who: str, payer: PayerClient, payer_key: bytes | None = None) -> bool:
        """Consent, and the guided capture at the station; whether the enrolment is done there."""
        _, consent_sha256 = payer.consent("1")
        capture = Capture(self._pipeline)
        for _ in range(_MOST_ASKED):
            for frame in self._sitters[who].obey(capture.asked) if capture.asked else []:
                capture.offer(frame)
        return capture.complete and self._bring(capture.reference(), consent_sha256, payer_key)

    def _bring(self, templates: Template, consent_sha256: bytes, payer_key: bytes | None = None) -> bool:
        request = prepare_enrolment(
            templates,
            calibration=self._machine.calibration,
            guardians=self._machine.identities,
            gallery=GALLERY,
            station=STATION,
            key=self._machine.station_key,
            consent_sha256=consent_sha256,
            now=datetime.now(UTC),
            payer_key=payer_key,
        )
        return StationClient(self._http).enrol(request.to_bytes())

    def rehearse(self, who: str, walks: int) -> None:
        """Render somebody's next walks ahead, so that it takes no time while they walk."""
        for number in range(self._walks + 1, self._walks + walks + 1):
            self._rehearsed[who, number] = self._pictures(who, number)

    def _pictures(self, who: str, number: int) -> list[bytes]:
        frames = self._sitters[who].walk_up(100 * number, stays=(-7, -1, 5, 8, 2, -4))
        empty = np.full_like(frames[0], 90)
        return [cv2.imencode(".png", frame)[1].tobytes() for frame in [empty, *frames, empty]]

    def walk(self, who: str, *, after_passback: bool = False) -> dict[str, Any]:
        """Let somebody walk up to the camera, picture by picture; the gate's attempt."""
        if after_passback:
            time.sleep(max(0.0, self._passback_until - time.monotonic()))
        self._walks += 1
        pictures = self._rehearsed.pop((who, self._walks), None) or self._pictures(who, self._walks)
        for picture in pictures:
            self._frame += 1
            partial = self._machine.camera / f"{self._frame:06}.part"
            partial.write_bytes(picture)
            partial.rename(partial.with_suffix(".png"))
            time.sleep(_FRAME_EVERY)
        attempt = self._machine.gate.event("attempt", within=30)
        self._passback_until = time.monotonic() + PASSBACK_SECONDS + 0.5
        for file in self._machine.camera.iterdir():
            file.unlink(missing_ok=True)
        return attempt

    def _live_rows(self) -> list[int]:
        """How many live rows each guardian has, by its own status (-1 where it does not answer)."""
        return [_live_rows_of(self._machine, index) for index in range(3)]

    def _everything_stored(self) -> dict[str, int]:
        """Rows of every table of the wallet's database and of the guardians' files."""
        rows: dict[str, int] = {}
        metadata = MetaData()
        metadata.reflect(self._machine.engine)
        with self._machine.engine.connect() as connection:
            for table in metadata.sorted_tables:
                rows[f"wallet.{table.name}"] = connection.execute(select(func.count()).select_from(table)).scalar_one()
        for index in range(3):
            for file in sorted(self._machine.guardian_folder(index).glob("*")):
                with _sqlite(file) as database:
                    if database is None:
                        continue
                    for (table_name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                        (count,) = database.execute(f'SELECT count(*) FROM "{table_name}"').fetchone()  # noqa: S608
                        rows[f"guardian.{table_name}"] = rows.get(f"guardian.{table_name}", 0) + count
        return rows

    def _last_request(self, index: int) -> str:
        with _sqlite(Folder(self._machine.guardian_folder(index)).requests) as database:
            if database is None:
                return "no request log"
            (leaf,) = database.execute("SELECT leaf FROM requests ORDER BY number DESC LIMIT 1").fetchone()
        entry = Entry(*cbor2.loads(leaf)[1:])
        return f"log: {entry.asker}, {entry.time}, {entry.purpose}, {entry.request_sha256.hex()[:8]}…"

    def _note(self, name: str, expected: str, got: str, ok: bool, facts: dict[str, Any] | None = None) -> None:
        step = Step(name, expected, got, ok, facts or {})
        self.steps.append(step)
        self._on_step(step)


_A_STRANGER_LEAVES = {
    "wallet.payment_intent",
    "wallet.terminal_nonce",
    "guardian.requests",
    "guardian.seen",
}


def _live_rows_of(machine: Machine, index: int) -> int:
    try:
        status = machine.status(index)
    except httpx.HTTPError:
        return -1
    return sum(gallery.live for gallery in status.galleries) if status.connected else -1


def _as_template_store(shares: NDArray[np.uint16], probe: NDArray[np.int32], row: int) -> tuple[int, int]:
    """Compare a template with one guardian's shares as if they were templates.

    Returns:
        The row that comes closest, and at which rank the template's own row comes.
    """
    stolen = shares[:, : len(probe)].view(np.int16).astype(np.float64)
    stolen /= np.linalg.norm(stolen, axis=1, keepdims=True)
    scores = stolen @ (probe / np.linalg.norm(probe))
    return int(scores.argmax()), int((scores > scores[row]).sum()) + 1


@contextmanager
def _sqlite(file: Path) -> Iterator[sqlite3.Connection | None]:
    """A database file, read-only; None for any other file."""
    if not file.is_file() or file.read_bytes()[:15] != b"SQLite format 3":
        yield None
        return
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        yield database
    finally:
        database.close()


def money(minor: int) -> str:
    """Minor units as a person reads them."""
    return f"{minor / 100:.2f}"

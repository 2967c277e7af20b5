"""The scenario's other half: payers who hold their own reference, at a second gate that takes codes only.

The gate reaches the wallet through a cable that can be pulled out.
"""

import base64
import contextlib
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import MetaData, select

from demo.cards import fund
from demo.faces import Frame, Person, Sitter
from demo.machine import CURRENCY, FARE, GALLERY, STATION, Machine, MachineError, Process
from demo.phone import Phone, held_up
from demo.scenario import Step, money
from facefare.biometrics import FacePipeline
from facefare.client import MerchantClient, PayerClient
from facefare.guardian.ceremony import Folder, write_key
from facefare.identification.held.documents import decoded
from facefare.identification.held.handover import Request, hand_over
from facefare.terminal.station import Capture

TERMINAL = "trm_gate2"
_TOP_UP = 1_000
_FRAME_EVERY = 1 / 15  # seconds; a slow camera
_FRAMES = 12
_STANDING = (-7, -1, 5, 8, 2, -4)  # degrees to which the head turns meanwhile
_SHOWN_FOR = 60  # pictures
_MOST_ASKED = 12  # twice what an enrolment station asks for
_STARTED_WITHIN = 60.0
_HANDED_IN_WITHIN = 40.0


def play(
    machine: Machine, pipeline: FacePipeline, on_step: Callable[[Step], None], owner: PayerClient | None = None
) -> list[Step]:
    """Play the profile on a running machine; `owner`: a payer whose face the guardians don't hold (any more).

    Raises MachineError where the second gate does not start.
    """
    with httpx.Client(base_url=machine.wallet_url, timeout=30) as http:
        return HeldScenario(machine, pipeline, on_step, http, owner).play()


class HeldScenario:
    """A payer with a phone, a thief, and the second gate, on a running machine."""

    def __init__(
        self,
        machine: Machine,
        pipeline: FacePipeline,
        on_step: Callable[[Step], None],
        http: httpx.Client,
        owner: PayerClient | None,
    ) -> None:
        self._machine = machine
        self._pipeline = pipeline
        self._on_step = on_step
        self._owner_sitter = Sitter(Person.EILEEN_COLLINS, pipeline)
        self._thief_sitter = Sitter(Person.GRACE_HOPPER, pipeline)
        self._http = http
        self._payer = owner or PayerClient.register(http, CURRENCY)[0]
        self._phone = Phone(self._payer, _operator_key(http))
        self._walks = 0
        self._frame = 0
        self._steps: list[Step] = []

    def play(self) -> list[Step]:
        """All the steps, in their order. Raises MachineError."""
        with self.second_gate() as (gate, cable):
            announced = base64.b64decode(gate.event("opening_key", _STARTED_WITHIN)["announcement"])
            self.reference_goes_to_the_phone()
            used = self._payment_with_the_phone(gate, announced)
            self._replayed(gate, used)
            self._thief(gate, announced)
            self._offline(gate, announced, cable)
            self._lost(gate, announced)
        return self._steps

    # --- the steps ---

    def reference_goes_to_the_phone(self) -> None:
        """Consent, guided capture at the station, and the reference handed to the payer's phone; some money too."""
        before = self._payer.account()
        _, consent_sha256 = self._payer.consent("1", profile="held")
        capture = Capture(self._pipeline)
        for _ in range(_MOST_ASKED):
            for frame in self._owner_sitter.obey(capture.asked) if capture.asked else []:
                capture.offer(frame)
        sealed = hand_over(
            capture.reference().vector,
            decoded(Request, self._phone.request(consent_sha256)),
            calibration=self._machine.calibration,
            operator_key=self._phone.operator_key,
            station=STATION,
            key=self._machine.station_key,
            now=datetime.now(UTC),
        )
        device = self._phone.take(sealed, consent_sha256)
        fund(self._machine, self._payer, _TOP_UP, key=f"held-{device.id}")
        after = self._payer.account()
        nowhere = not self._anywhere(self._phone.holding.reference)
        self._note(
            "A's reference goes to her phone, and nowhere else",
            "attested and registered; the account stays; no database or file holds it",
            f"{device.state}, {'self-made' if device.self_made else 'attested'};"
            f" {money(before.available)} and {money(_TOP_UP)} make {money(after.available)};"
            f" found {'nowhere' if nowhere else 'SOMEWHERE'}",
            (device.state, device.self_made) == ("active", False)
            and after.id == before.id
            and after.available == before.available + _TOP_UP
            and nowhere,
            {"bytes_handed_over": len(sealed)},
        )

    def _payment_with_the_phone(self, gate: Process, announced: bytes) -> bytes:
        asked, before = self._guardians_asked(), self._payer.account().available
        shown = self._phone.code(announced)
        attempt = self._walk(gate, self._owner_sitter, shown)
        charged = before - self._payer.account().available
        asked = self._guardians_asked() - asked
        self._note(
            "A holds up her phone and walks up",
            f"gate opens, {money(FARE)} charged, receipt; no guardian is asked",
            f"{attempt['outcome']}, {money(charged)}, receipt {'yes' if attempt['receipt'] else 'no'};"
            f" {asked} requests to guardians",
            attempt["outcome"] == "accepted" and charged == FARE and bool(attempt["receipt"]) and asked == 0,
            {**attempt, "code_bytes": len(shown)},
        )
        return shown

    def _replayed(self, gate: Process, used: bytes) -> None:
        before = self._payer.account().available
        again = self._walk(gate, self._owner_sitter, used)
        self._note(
            "The same code is shown again",
            "use your card; nothing charged",
            f"{again['outcome']} ({again['reason']})",
            (again["outcome"], again["reason"]) == ("use_card", "code_used_before")
            and self._payer.account().available == before,
            again,
        )

    def _thief(self, gate: Process, announced: bytes) -> None:
        before = self._payer.account().available
        now = self._walk(gate, self._thief_sitter, self._phone.code(announced))
        old = self._phone.code(announced, now=datetime.now(UTC) - timedelta(seconds=35))
        later = self._walk(gate, self._owner_sitter, old)
        self._note(
            "B holds up a photograph of A's new code; somebody shows one of 35 seconds ago",
            "use your card, twice; nothing charged",
            f"{now['outcome']} ({now['reason']}), {later['outcome']} ({later['reason']})",
            (now["reason"], later["reason"]) == ("not_recognised", "code_expired")
            and self._payer.account().available == before,
            {"now": now, "later": later},
        )

    def _offline(self, gate: Process, announced: bytes, cable: "Cable") -> None:
        before = self._payer.account().available
        cable.unplug()
        attempt = self._walk(gate, self._owner_sitter, self._phone.code(announced))
        cable.plug_in()
        until = time.monotonic() + _HANDED_IN_WITHIN
        while self._payer.account().available == before and time.monotonic() < until:
            time.sleep(0.2)
        charged = before - self._payer.account().available
        self._note(
            "The gate's network is gone; A walks up; the network comes back",
            f"gate opens offline; then {money(FARE)} are charged, once",
            f"{attempt['outcome']} ({attempt['reason']}); then {money(charged)}",
            (attempt["outcome"], attempt["reason"], charged) == ("accepted", "offline", FARE),
            attempt,
        )

    def _lost(self, gate: Process, announced: bytes) -> None:
        before = self._payer.account().available
        device = self._phone.device
        state = self._payer.lose_device(device.id).state if device else "unregistered"
        attempt = self._walk(gate, self._owner_sitter, self._phone.code(announced))
        self._note(
            "A reports the phone lost; it is shown at the gate",
            "use your card; nothing charged",
            f"{state}; {attempt['outcome']} ({attempt['reason']})",
            (state, attempt["outcome"], attempt["reason"]) == ("lost", "use_card", "device_denied")
            and self._payer.account().available == before,
            attempt,
        )

    # --- how they are played ---

    @contextlib.contextmanager
    def second_gate(self) -> Iterator[tuple[Process, "Cable"]]:
        """A gate that takes codes only, with a cable of its own to the wallet. Raises MachineError."""
        machine, key = self._machine, Ed25519PrivateKey.generate()
        merchant = MerchantClient(self._http, machine.merchant_key)
        merchant.register_terminal(TERMINAL, place="Central Station, gate 2", kind="gate", key=key)
        write_key(machine.folder / "gate2.pem", key)
        camera = machine.folder / "camera2"
        camera.mkdir()
        cable = Cable(machine.wallet_url)
        (machine.folder / "gate2.toml").write_text(
            f'id = "{TERMINAL}"\nkey = "gate2.pem"\nwallet = "{cable.url}"\ngallery = "{GALLERY}"\n'
            f'guardians = ["identity-0.json", "identity-1.json", "identity-2.json"]\n'
            f'fare = {{ amount = {FARE}, currency = "{CURRENCY}" }}\n'
            f'[held]\noperator_key = "{self._phone.operator_key.public_bytes_raw().hex()}"\nstore = "held.sqlite"\n'
        )
        gate = machine.start("gate2", "gate", "serve", machine.folder / "gate2.toml", "--source", camera, "--follow")
        try:
            yield gate, cable
        finally:
            gate.stop()
            cable.unplug()
            shutil.rmtree(camera, ignore_errors=True)

    def _walk(self, gate: Process, sitter: Sitter, shown: bytes) -> dict[str, Any]:
        """Let somebody walk up to the second gate with a phone in the hand; the gate's attempt."""
        self._walks += 1
        walk = held_up(sitter.walk_up(seed=100 * self._walks + 7, frames=_FRAMES), shown, seed=self._walks)
        empty: Frame = np.full_like(walk[0], 90)
        for picture in [empty, *walk, empty]:
            self._send(_png(picture))
            time.sleep(_FRAME_EVERY)
        return gate.event("attempt", within=30)

    def shows_code(self, gate: Process, announced: bytes, number: int) -> tuple[dict[str, Any], float]:
        """Come, stand, then hold up the phone; the gate's attempt, and seconds from the first picture with the code.

        Until the gate has said what it answered. Raises MachineError where it does not.
        """
        frames = self._owner_sitter.walk_up(100 * number, stays=_STANDING)
        coming, standing = frames[: -len(_STANDING)], frames[-len(_STANDING) :]
        codes = [_png(picture) for picture in held_up(standing, self._phone.code(announced), seed=number)]
        empty: Frame = np.full_like(frames[0], 90)
        for picture in [empty, *coming]:
            self._send(_png(picture))
            time.sleep(_FRAME_EVERY)
        shown = time.perf_counter()
        for turn in range(_SHOWN_FOR):
            self._send(codes[turn % len(codes)])
            with contextlib.suppress(MachineError):
                attempt = gate.event("attempt", within=_FRAME_EVERY)
                taken = time.perf_counter() - shown
                self._send(_png(empty))
                return attempt, taken
        raise MachineError(f"{gate.name} answered nothing to the code; see {gate.log}.")

    def _send(self, picture: bytes) -> None:
        self._frame += 1
        partial = self._machine.folder / "camera2" / f"{self._frame:06}.part"
        partial.write_bytes(picture)
        partial.rename(partial.with_suffix(".png"))

    def _guardians_asked(self) -> int:
        """How many requests the three guardians have logged, ever."""
        count = 0
        for index in range(3):
            file = Folder(self._machine.guardian_folder(index)).requests
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                count += database.execute("SELECT count(*) FROM requests").fetchone()[0]
        return count

    def _anywhere(self, reference: bytes) -> bool:
        """Whether any 16 bytes of the reference are in any file of the machine, or in the wallet's database."""
        pieces = [reference[start : start + 16] for start in range(0, len(reference) - 15, 16)]
        for file in self._machine.folder.rglob("*"):
            if file.is_file() and any(piece in file.read_bytes() for piece in pieces):
                return True
        tables = MetaData()
        tables.reflect(self._machine.engine)
        with self._machine.engine.connect() as connection:
            for table in tables.sorted_tables:
                for row in connection.execute(select(table)):
                    values = [bytes(value) for value in row if isinstance(value, bytes | memoryview)]
                    if any(piece in value for value in values for piece in pieces):
                        return True
        return False

    def _note(self, name: str, expected: str, got: str, ok: bool, facts: dict[str, Any]) -> None:
        step = Step(name, expected, got, ok, facts)
        self._steps.append(step)
        self._on_step(step)


@dataclass
class Cable:
    """Connects a port of its own with the wallet's, until it is unplugged."""

    wallet: str
    port: int = 0
    _listener: socket.socket | None = None
    _ends: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plug_in()

    @property
    def url(self) -> str:
        """Where the wallet is reached through it."""
        return f"http://localhost:{self.port}"

    def plug_in(self) -> None:
        """Let new connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def unplug(self) -> None:
        """Break every connection and let no new one through."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self, listener: socket.socket) -> None:
        target = urlsplit(self.wallet)
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection((target.hostname or "localhost", target.port or 80))
            except OSError:
                return
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _png(picture: Frame) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _operator_key(http: httpx.Client) -> Ed25519PublicKey:
    """The operator's public key, as the wallet publishes it (JWK, RFC 8037)."""
    (key,) = http.get("/v1/consent_keys").json()["keys"]
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))

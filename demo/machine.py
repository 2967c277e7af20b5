"""One machine that plays everybody: three guardians, the wallet with its PostgreSQL, and a gate.

Each service is a real process with its own folder and keys. Everything lies in one temporary folder, which
goes away with the machine; no process outlives it.
"""

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from demo import localstripe
from facefare.fares.tariff import Band, Cap, LegRule, Period, Product, Tariff, TariffVersion
from facefare.guardian.ceremony import Folder, perform_on_one_machine, write_key
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.links import client_context
from facefare.guardian.messages import Status
from facefare.guardian.policy import Limits
from facefare.guardian.registry import GalleryDefinition, Station, Terminal
from facefare.identification.calibration import Calibration
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.payments import api_keys, merchants, tariffs
from facefare.payments.api_keys import Scope
from facefare.payments.tariffs import FarePoint
from facefare.settings import Settings
from facefare.wallet import galleries, stations
from facefare.web.migrations import upgrade

GALLERY, TERMINAL, STATION = "gal_demo", "trm_gate1", "stn_demo"
FARE, DAY_CAP, CURRENCY = 280, 500, "EUR"
PASSBACK_SECONDS = 10
_STARTED_WITHIN = 120.0


class MachineError(Exception):
    """A process of the demo did not start, or stopped by itself."""


@dataclass(repr=False)
class Process:
    """A `facefare …` process; its output goes to a file, events also to a queue and to a reader."""

    name: str
    popen: subprocess.Popen[str]
    log: Path
    reader: IO[str] | None = None
    events: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)

    def event(self, kind: str, within: float) -> dict[str, Any]:
        """The next event of this kind. Raises MachineError if none comes in time."""
        deadline = time.monotonic() + within
        while True:
            try:
                event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise MachineError(f"{self.name} said nothing within {within:g} s; see {self.log}.") from None
            if event.get("event") == kind:
                return event

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 10 seconds."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


@dataclass(repr=False)
class Machine:
    """Everything that runs, and the keys of the demo's own station."""

    folder: Path
    identities: list[GuardianIdentity]
    calibration: Calibration
    engine: Engine
    wallet_url: str
    processor_url: str | None
    merchant_key: str
    screen_url: str
    staff_token: str
    station_key: Ed25519PrivateKey
    guardians: list[Process]
    camera: Path
    gate: Process
    start: Callable[..., Process]

    def restart_guardian(self, index: int) -> None:
        """Start a stopped guardian again, from its own folder."""
        self.guardians[index] = self.start(f"guardian-{index}", "guardian", "serve", self.guardian_folder(index))

    def status(self, index: int) -> Status:
        """What guardian `index` says of itself. Raises httpx.HTTPError where it does not answer."""
        home, identity = Folder(self.guardian_folder(index)), self.identities[index]
        context = client_context(home.certificate, home.tls_key, identity.certificate)
        with httpx.Client(verify=context, timeout=5) as client:
            response = client.get(
                f"https://{identity.host}:{identity.http_port}/v1/status",
                extensions={"sni_hostname": identity.server_name},
            )
        return Status.from_bytes(response.content)

    def guardian_folder(self, index: int) -> Path:
        """Where guardian `index` keeps everything it has."""
        return self.folder / f"guardian-{index}"


@contextmanager
def running(calibration: Calibration, say: Callable[[str], None]) -> Iterator[Machine]:
    """Start everything, in a new temporary folder; stop everything and remove the folder at the end.

    Raises MachineError where a process does not start.
    """
    settings = Settings.read()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facefare-demo-")))
        say("Key ceremony of three guardians, a gate and an enrolment station")
        ports = free_ports(11)
        gate_key, station_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        identities = perform_on_one_machine(
            folder,
            ports=ports[:9],
            galleries=[_gallery(calibration)],
            terminals=[Terminal(TERMINAL, gate_key.public_key().public_bytes_raw(), (GALLERY,))],
            stations=[Station(STATION, station_key.public_key().public_bytes_raw(), (GALLERY,), demo_only=True)],
            limits=Limits(station_rate=100.0, station_burst=20_000.0),  # synthetic references come at once
        )
        for identity in identities:
            (folder / f"identity-{identity.index}.json").write_text(identity.to_json())

        def start(name: str, *arguments: object, environment: dict[str, str] | None = None) -> Process:
            return stack.enter_context(_process(folder / f"{name}.log", name, arguments, environment or {}))

        say("Three guardians, each with its own folder and keys")
        guardians = [start(f"guardian-{i}", "guardian", "serve", folder / f"guardian-{i}") for i in range(3)]
        say("PostgreSQL and the wallet")
        url = settings.database_url or stack.enter_context(embedded_postgres(folder / "postgres"))
        engine = make_engine(url)
        stack.callback(engine.dispose)
        upgrade(engine)
        with engine.begin() as connection:
            merchant = merchants.register_merchant(connection, "Demo Metro")
            merchants.register_terminal(
                connection,
                merchants.Terminal(
                    TERMINAL, merchant, "Central Station, gate 1", gate_key.public_key().public_bytes_raw()
                ),
            )
            stations.register(connection, STATION, station_key.public_key().public_bytes_raw())
            galleries.open_gallery(connection, GALLERY, kind="demo")
            _, merchant_key = api_keys.create(connection, merchant, "demo", set(Scope))
            tariffs.import_tariff(connection, _tariff())
            tariffs.assign(connection, TERMINAL, FarePoint("metro", "Central Station", "flat"))
        say("A card processor (localstripe)")
        processor_url = _processor(stack, say)
        wallet_url = f"http://localhost:{ports[9]}"
        staff_token = secrets.token_urlsafe(24)
        wallet = start(
            "wallet",
            "wallet",
            "serve",
            "--port",
            ports[9],
            environment={
                "FACEFARE_DATABASE_URL": url,
                "FACEFARE_DATA_DIR": str(folder),
                "FACEFARE_RELAY_DIR": str(folder / "relay"),
                "FACEFARE_GUARDIANS": json.dumps([str(folder / f"identity-{i}.json") for i in range(3)]),
                "FACEFARE_OPERATOR": "Demo Metro",
                "FACEFARE_FUNDING_SOURCE": "test",
                "FACEFARE_HANDS_FREE": "true",
                "FACEFARE_PASSBACK_SECONDS": str(PASSBACK_SECONDS),
                "FACEFARE_STAFF_TOKEN": staff_token,
                **(
                    {
                        "FACEFARE_STRIPE_API": processor_url,
                        "FACEFARE_STRIPE_SECRET_KEY": "sk_test_demo",
                        "FACEFARE_STRIPE_WEBHOOK_SECRET": "whsec_demo",
                    }
                    if processor_url
                    else {}
                ),
            },
        )
        _wait_until_ready(f"{wallet_url}/readyz", wallet)
        say("The gate")
        camera = folder / "camera"
        camera.mkdir()
        write_key(folder / "gate.pem", gate_key)
        (folder / "gate.toml").write_text(
            f'id = "{TERMINAL}"\nkey = "gate.pem"\nwallet = "{wallet_url}"\ngallery = "{GALLERY}"\n'
            f'guardians = ["identity-0.json", "identity-1.json", "identity-2.json"]\n'
            f'fare = {{ currency = "{CURRENCY}", stop = "Central Station", kind = "flat" }}\n'
        )
        gate = start("gate", "gate", "serve", folder / "gate.toml", "--source", camera, "--follow")
        gate.reader = start("screen", "web", "screen", "--port", ports[10]).popen.stdin
        gate.event("screen", _STARTED_WITHIN)
        yield Machine(
            folder,
            identities,
            calibration,
            engine,
            wallet_url,
            processor_url,
            merchant_key,
            f"http://localhost:{ports[10]}",
            staff_token,
            station_key,
            guardians,
            camera,
            gate,
            start,
        )


def _processor(stack: ExitStack, say: Callable[[str], None]) -> str | None:
    """Where cards are charged; None where localstripe is not here and can't be had, then there is test money."""
    try:
        return stack.enter_context(localstripe.running())
    except localstripe.Offline as error:
        say(f"No cards: {error}")
        return None


def _tariff() -> Tariff:
    """One price for a ride, and no more than a cap a day."""
    version = TariffVersion(
        effective_from=date(2026, 1, 1),
        products=(Product(id="single", amounts={"": FARE}),),
        rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        caps=(Cap(id="day", period=Period.DAY, amounts={"": DAY_CAP}),),
    )
    return Tariff(id="metro", currency=CURRENCY, versions=(version,))


def _gallery(calibration: Calibration) -> GalleryDefinition:
    allowed = [row.threshold for row in calibration.thresholds]
    return GalleryDefinition(
        id=GALLERY,
        kind="demo",
        model=calibration.model,
        dimensions=calibration.dimensions,
        min_squared_norm=calibration.min_squared_norm,
        max_squared_norm=calibration.max_squared_norm,
        min_threshold=min(allowed),
        max_threshold=max(allowed),
    )


@contextmanager
def _process(log: Path, name: str, arguments: tuple[object, ...], environment: dict[str, str]) -> Iterator[Process]:
    command = [sys.executable, "-m", "facefare", *map(str, arguments)]
    with log.open("a") as file:
        popen = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C reaches the demo, which stops its processes in order
        )
        process = Process(name, popen, log)
        reader = threading.Thread(target=_read, args=(process, file), daemon=True)
        reader.start()
        try:
            yield process
        finally:
            process.stop()
            reader.join(5)


def _read(process: Process, file: Any) -> None:
    for line in process.popen.stdout or ():
        file.write(line)
        file.flush()
        with contextlib.suppress(ValueError, OSError):
            event = json.loads(line)
            if isinstance(event, dict):
                process.events.put(event)
                if process.reader is not None:
                    process.reader.write(line)
                    process.reader.flush()


def _wait_until_ready(url: str, process: Process) -> None:
    deadline = time.monotonic() + _STARTED_WITHIN
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).is_success:
                return
        time.sleep(0.1)
    raise MachineError(f"{process.name} did not start; its log ends with:\n{process.log.read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

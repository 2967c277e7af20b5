"""The promises, checked: the guardians' public logs, payer B's own log, and the operator's books against both.

The same commands that an auditor and a payer run, in this process; nothing here has a secret of the wallet's.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, insert, select

from demo.machine import TERMINAL, Machine
from demo.scenario import Step
from facefare.cli import command_line
from facefare.client import PayerClient
from facefare.guardian.ceremony import write_key, write_trust
from facefare.wallet.tables import access_log
from facefare.web.payer_commands import fetch_own_log

_COSIGNED_WITHIN = 20.0
_KNOWN = {"strangers": 3, "spread": 0.3, "uncertainty": 0.1, "refused": 0.1}
"""What the demo's site knows of its gate: strangers a day, and payers who are not recognised or can't pay."""


def play(machine: Machine, payer: PayerClient, key: Ed25519PrivateKey, on_step: Callable[[Step], None]) -> list[Step]:
    """Play the audit; `payer` was enrolled with the check key `key`."""
    return _Audit(machine, payer, key, on_step).play()


class _Audit:
    def __init__(
        self, machine: Machine, payer: PayerClient, key: Ed25519PrivateKey, on_step: Callable[[Step], None]
    ) -> None:
        self._machine, self._payer, self._key, self._on_step = machine, payer, key, on_step
        self._folder = machine.folder / "audit"
        self._steps: list[Step] = []

    def play(self) -> list[Step]:
        self._folder.mkdir()
        write_key(self._folder / "check-key.pem", self._key)
        write_trust(self._folder / "trust", self._machine.identities)
        (self._folder / "sites.json").write_text(json.dumps({TERMINAL: _KNOWN}))
        self._logs()
        self._own_log()
        with self._silent_wallet():
            self._own_log_of_a_silent_wallet()
            self._books_of_a_silent_wallet()
        self._books()
        return self._steps

    def _logs(self) -> None:
        """Fetch until the newest entries are co-signed by all."""
        urls = [f"http://{one.host}:{one.public_port}" for one in self._machine.identities]
        until = time.monotonic() + _COSIGNED_WITHIN
        while True:
            _run("audit", "fetch", *urls, "--to", self._folder / "copy")
            code, said = _run("audit", "verify", self._folder / "copy", "--trust", self._folder / "trust")
            if code == 0 and len({line.split(":")[1].split(",")[0] for line in said[:3]}) == 1:
                break
            if time.monotonic() > until:
                break
            time.sleep(1)
        self._note(
            "Anyone copies the three guardians' public logs and checks them",
            "co-signed, equal, nothing wrong",
            f"{said[0].split(': ')[-1]}; {said[-1]}",
            code == 0,
        )

    def _own_log(self) -> None:
        code, said = self._compared()
        shown = len(self._payer.identifications(self._payer.account().faces[0].id)["accesses"])
        self._note(
            "Payer B compares her access log with what the guardians counted",
            f"{shown} identifications, all shown, each in all three logs",
            said[-1],
            code == 0 and said[-1].startswith(f"{shown} identifications") and shown > 0,
        )

    def _own_log_of_a_silent_wallet(self) -> None:
        (self._folder / "mine" / "last-comparison.json").unlink()  # as if she had not compared before
        code, said = self._compared()
        self._note(
            "The wallet keeps silent about one of them; B compares again",
            "incomplete",
            said[-1].split(":")[0].lower(),
            code == 1 and said[-1].startswith("INCOMPLETE"),
        )

    def _books_of_a_silent_wallet(self) -> None:
        code, said = self._reconciled()
        alarms = [line for line in said if line.startswith("ALARM")]
        self._note(
            "An auditor compares searches with payments, as that wallet tells them",
            "one alarm: a payment that no payer is shown",
            "; ".join(alarms) or "no alarm",
            code == 1 and len(alarms) == 1,
        )

    def _books(self) -> None:
        code, said = self._reconciled("--html", self._folder / "report.html")
        (counts,) = [line for line in said if line.startswith(f"{TERMINAL}:")]
        self._note(
            "... and as an honest one does",
            "nothing unexplained, and what the test could find",
            f"{counts}; {said[-1].lower()}",
            code == 0 and (self._folder / "report.html").exists(),
        )

    # --- how they are played ---

    def _compared(self) -> tuple[int, list[str]]:
        fetch_own_log(self._payer, self._key, self._folder / "mine")
        return _run(
            "audit",
            "my-log",
            self._folder / "mine",
            "--trust",
            self._folder / "trust",
            "--logs",
            self._folder / "copy",
        )

    def _reconciled(self, *more: object) -> tuple[int, list[str]]:
        today, word = datetime.now(UTC).strftime("%Y-%m-%d"), self._folder / "wallet.json"
        with _environment(FACEFARE_DATABASE_URL=self._machine.engine.url.render_as_string(hide_password=False)):
            _run("wallet", "searches", word, "--from", "2020-01-01", "--to", today)
        return _run("audit", "reconcile", self._folder / "copy", word, self._folder / "sites.json", *more)

    @contextlib.contextmanager
    def _silent_wallet(self) -> Iterator[None]:
        """One of B's entries is missing in the wallet's database."""
        columns, payer_id = access_log.c, self._payer.account().id
        with self._machine.engine.begin() as connection:
            entry = connection.execute(
                select(access_log).where(columns.payer_id == payer_id, columns.outcome == "accepted").limit(1)
            ).one()
            connection.execute(delete(access_log).where(columns.id == entry.id))
        try:
            yield
        finally:
            with self._machine.engine.begin() as connection:
                connection.execute(insert(access_log).values(**entry._mapping))

    def _note(self, name: str, expected: str, got: str, ok: bool) -> None:
        step = Step(name, expected, got, ok)
        self._steps.append(step)
        self._on_step(step)


def _run(*words: object) -> tuple[int, list[str]]:
    """Run a command of ours; its exit code and the lines it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = typer.main.get_command(command_line([str(words[0])])).main(
            [str(word) for word in words], standalone_mode=False
        )
    return code or 0, said.getvalue().splitlines() or [""]


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

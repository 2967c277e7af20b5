"""A stand-in for Stripe: localstripe (GPL-3.0), as a process of its own in a virtual environment of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

VERSION = "1.15.10"
GOOD, DECLINED, ASKED = "4242424242424242", "4000000000000341", "4000002500003155"
"""Test cards: one that pays, one that is kept but refused when it is charged, one whose bank asks (3-D Secure)."""
_HOME = Path(__file__).resolve().parents[1] / ".cache" / f"localstripe-{VERSION}"


class Offline(Exception):
    """It is not here yet and can't be installed."""


@contextmanager
def running() -> Iterator[str]:
    """The base URL of a fresh localstripe; raises Offline."""
    python = _installed()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(  # noqa: S603 - of its own virtual environment
            [python, "-m", "localstripe", "--port", str(port), "--from-scratch"],
            cwd=folder,
            env={**os.environ, "TMPDIR": folder},  # where it keeps its state
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fill_in(browser: httpx.Client, setup: str, client_secret: str, number: str) -> None:
    """What the processor's form in a payer's browser does with a card; `browser` has localstripe's base URL."""
    data = {
        "client_secret": client_secret,
        "payment_method_data[type]": "card",
        "payment_method_data[card][number]": number,
        "payment_method_data[card][exp_month]": "12",
        "payment_method_data[card][exp_year]": "2040",
        "payment_method_data[card][cvc]": "123",
    }
    browser.post(f"/v1/setup_intents/{setup}/confirm", data=data).raise_for_status()
    if number == ASKED:  # the bank's question is answered
        browser.post(f"/v1/setup_intents/{setup}/confirm").raise_for_status()


def _installed() -> Path:
    python = _HOME / "bin" / "python"
    done = _HOME / "installed"
    if done.exists():
        return python
    _HOME.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", _HOME], check=True, capture_output=True)  # noqa: S603
        subprocess.run(  # noqa: S603 - a pinned version
            [python, "-m", "pip", "install", "--quiet", "--retries", "1", f"localstripe=={VERSION}"],
            check=True,
            capture_output=True,
            timeout=240,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Offline(f"localstripe {VERSION} is not installed and could not be: {error}") from error
    done.touch()
    return python


def _wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/v1/customers", timeout=2)
            return
        time.sleep(0.1)
    raise RuntimeError("localstripe did not start.")

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
_HOME = Path(__file__).resolve().parents[2] / ".cache" / f"localstripe-{VERSION}"


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
        process = subprocess.Popen(
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


def _installed() -> Path:
    python = _HOME / "bin" / "python"
    done = _HOME / "installed"
    if done.exists():
        return python
    _HOME.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", _HOME], check=True, capture_output=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"localstripe=={VERSION}"],
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

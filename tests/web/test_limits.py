"""How often somebody may ask: counted by all processes together, refused where it can't be counted."""

import base64
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from starlette.requests import HTTPConnection

from facefare.errors import SettingsError
from facefare.payments import api_keys, merchants
from facefare.payments.api_keys import Scope
from facefare.settings import Limits, Settings
from facefare.web.api.errors import CannotCount, TooManyTries
from facefare.web.api.tries import Tries, address, forget_old

SECRET = Ed25519PrivateKey.generate()
DAY = timedelta(days=1)


def let_through(tries: Tries, times: int, most: int, who: str = "ada") -> int:
    through = 0
    for _ in range(times):
        with contextlib.suppress(TooManyTries):
            tries.count("try", who, most=most, within=DAY)
            through += 1
    return through


@pytest.mark.parametrize("most", [1, 7, 20, 100])
def test_several_processes_and_threads_let_through_the_limit_and_no_more(engine: Engine, most: int) -> None:
    processes = [Tries(engine, SECRET) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        parts = pool.map(lambda n: let_through(processes[n % 3], 2 * most, most), range(6))
    assert sum(parts) == most
    assert let_through(Tries(engine, SECRET), 3, most) == 0
    assert let_through(processes[0], 3, most, "somebody else") == min(3, most)


def test_one_process_asks_the_database_for_a_share_and_not_each_time(engine: Engine) -> None:
    tries = Tries(engine, SECRET)
    assert let_through(tries, 100, 2000) == 100
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE tries"))
    with pytest.raises(CannotCount):  # the next share
        tries.count("try", "ada", most=2000, within=DAY)


def test_a_new_window_counts_anew_and_old_counts_are_forgotten(engine: Engine) -> None:
    assert let_through(Tries(engine, SECRET), 3, 2) == 2
    with engine.begin() as connection:
        connection.execute(text("UPDATE tries SET window_start = window_start - interval '1 day'"))
    assert let_through(Tries(engine, SECRET), 3, 2) == 2
    with engine.begin() as connection:
        connection.execute(text("UPDATE tries SET window_start = window_start - interval '2 days'"))
        forget_old(connection)
        assert connection.execute(text("SELECT count(*) FROM tries")).scalar_one() == 0


@given(st.ip_addresses(v=6))
def test_one_site_of_the_newer_internet_is_one_address(ip: Any) -> None:
    def at(host: str) -> str:
        return address(HTTPConnection({"type": "http", "headers": [], "client": (host, 1)}))

    neighbour = type(ip)(int(ip) ^ 1)
    elsewhere = type(ip)(int(ip) ^ (1 << 64))
    assert at(str(ip)) == at(str(neighbour)) != at(str(elsewhere))
    assert at("192.0.2.1") != at("192.0.2.2")


# --- over the API ---


def count_anew(world: Any, **limits: int) -> None:
    """From here on these limits count, whatever making the scene took."""
    services = world.app.state.services
    object.__setattr__(services, "limits", Limits(**limits))
    object.__setattr__(services, "tries", Tries(world.engine, Ed25519PrivateKey.generate()))


Ask = Callable[[], httpx.Response]


@pytest.fixture
def asking(world: Any) -> dict[str, Ask]:
    """By limit, what counts for it."""
    token = world.payer()._auth._token
    with world.engine.begin() as connection:
        merchant = merchants.register_merchant(connection, "Shop")
        _, api_key = api_keys.create(connection, merchant, "till", set(Scope))

    def me() -> httpx.Response:
        return world.http.get("/v1/payers/me", headers={"Authorization": f"Bearer {token}"})

    return {
        "address": lambda: world.http.get("/v1/payers/notice"),
        "token": me,
        "key": lambda: world.http.get("/v1/operator/payments", headers={"Authorization": f"Bearer {api_key}"}),
        "terminal": lambda: world.http.get("/v1/deny_list", auth=world.gate._auth),
        "accounts": lambda: world.http.post("/v1/payers", json={"currency": "EUR"}),
    }


@pytest.mark.parametrize(
    ("what", "limit"),
    [("address", "address"), ("token", "token"), ("key", "token"), ("terminal", "terminal"), ("accounts", "accounts")],
)
def test_who_asks_too_often_is_told_when_to_come_back(
    world: Any, asking: dict[str, Ask], what: str, limit: str
) -> None:
    for _ in range(2):  # a minute may end within one of them
        count_anew(world, **{limit: 3})
        answers = [asking[what]() for _ in range(4)]
        if answers[3].status_code == 429:
            break
    assert [answer.status_code < 400 for answer in answers] == [True, True, True, False], answers[0].text
    refused = answers[3]
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:facefare:problem:too-many-tries"
    assert 0 < int(refused.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("what", ["address", "token", "key", "terminal", "accounts"])
def test_where_it_cannot_be_counted_it_is_refused(world: Any, asking: dict[str, Ask], what: str) -> None:
    count_anew(world)
    with world.engine.begin() as connection:
        accounts = connection.execute(text("SELECT count(*) FROM payer")).scalar_one()
        connection.execute(text("DROP TABLE tries"))
    refused = asking[what]()
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:facefare:problem:cannot-count"
    with world.engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM payer")).scalar_one() == accounts


def test_a_forged_signature_or_token_uses_up_nobodys_limit(world: Any, asking: dict[str, Ask]) -> None:
    count_anew(world, terminal=3, token=3)
    forged = world.http.get("/v1/deny_list", auth=world.gate._auth).request.headers
    for number in range(5):
        nonce = f"{number:0>22}"
        made_up = forged["signature-input"].replace(forged["signature-input"].split('nonce="')[1][:22], nonce)
        signature = base64.b64encode(bytes(64)).decode()
        headers = {"Signature-Input": made_up, "Signature": f"facefare=:{signature}:"}
        assert world.http.get("/v1/deny_list", headers=headers).status_code == 401
        assert world.http.get("/v1/payers/me", headers={"Authorization": f"Bearer {nonce}"}).status_code == 401
    assert asking["terminal"]().status_code == 200
    assert asking["token"]().status_code == 200


# --- settings ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMITS", '{"adress": 5}'),
        ("LIMITS", '{"address": 0}'),
        ("TRUSTED_PROXIES", '["proxy.example"]'),
        ("TRUSTED_PROXIES", '["10.0.0.1/8"]'),
        ("TRUSTED_PROXIES", "*"),
    ],
)
def test_a_limit_or_proxy_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FACEFARE_{name}", value)
    with pytest.raises(SettingsError, match=f"^FACEFARE_{name}: "):
        Settings.read()


@contextlib.contextmanager
def wallet(folder: Path, database_url: str, **settings: str) -> Iterator[httpx.Client]:
    """`facefare wallet serve` in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    named = {f"FACEFARE_{name}": value for name, value in settings.items()}
    environment = {**os.environ, **named, "FACEFARE_DATABASE_URL": database_url, "FACEFARE_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "facefare", "wallet", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            until = time.monotonic() + 60
            while True:
                assert process.poll() is None
                assert time.monotonic() < until
                with contextlib.suppress(httpx.TransportError):
                    http.get("/healthz")
                    break
                time.sleep(0.1)
            yield http
    finally:
        process.terminate()
        process.wait(20)


def test_behind_a_trusted_proxy_the_address_that_it_saw_counts(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    def status(http: httpx.Client, forwarded: str) -> int:
        answer = http.post("/v1/payers", json={"currency": "EUR"}, headers={"X-Forwarded-For": forwarded})
        return answer.status_code

    limits = {"LIMITS": '{"accounts": 1}'}
    with wallet(tmp_path, database_url, **limits, TRUSTED_PROXIES='["127.0.0.0/8"]') as http:
        assert status(http, "192.0.2.1") == 201
        assert status(http, "192.0.2.2") == 201
        assert status(http, "198.51.100.7, 192.0.2.1") == 429  # what a client adds to it counts for nothing
    with wallet(tmp_path, database_url, **limits) as http:
        assert [status(http, f"192.0.2.{number}") for number in (3, 4)] == [201, 429]

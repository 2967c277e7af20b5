"""Lanes made from a terminal's file, and what a terminal that takes codes remembers on its disk."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facefare.biometrics.backdrop import FIRST
from facefare.guardian.ceremony import write_key
from facefare.identification.held.errors import CounterUsed
from facefare.terminal.approach import Approach
from facefare.terminal.configuration import Configuration
from facefare.terminal.errors import ConfigurationError
from facefare.terminal.fares import FixedFare
from facefare.terminal.held import HeldApproach, HeldTerms
from facefare.terminal.held_lane import lane
from facefare.terminal.held_store import HeldStore, OpeningKey
from facefare.terminal.lost_answers import LostAnswers

OPERATOR = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()


def configured(folder: Path, held: str) -> Configuration:
    write_key(folder / "terminal.pem", Ed25519PrivateKey.generate())
    file = folder / "gate.toml"
    file.write_text(
        'id = "trm_gate"\nkey = "terminal.pem"\nwallet = "http://127.0.0.1:9"\ngallery = "gal_town"\n'
        f'guardians = []\nfare = {{ amount = 280, currency = "EUR" }}\n{held}'
    )
    return Configuration.load(file)


def answers(folder: Path) -> LostAnswers:
    return LostAnswers(folder / "lost", lambda _: pytest.fail("Nothing was asked for."))


def test_without_the_section_a_lane_takes_faces_only(tmp_path: Path) -> None:
    with lane(configured(tmp_path, ""), object(), _search, answers(tmp_path), FixedFare(280, "EUR"), _say([])) as (
        approach,
        ask,
    ):
        assert type(approach) is Approach
        assert ask is _search


@pytest.mark.parametrize(
    ("lines", "compares"),
    [
        ("", True),
        ("backdrop = false\n", False),
        ('[till]\ncurrency = "EUR"\n', False),  # it looks at nothing before the payer's yes
        (f'[held]\noperator_key = "{OPERATOR}"\nstore = "held.sqlite"\n', True),
    ],
)
def test_a_gate_compares_what_is_behind_a_face_with_its_empty_place(tmp_path: Path, lines: str, compares: bool) -> None:
    configuration = configured(tmp_path, lines)
    said: list[tuple[str, Any]] = []
    with lane(configuration, object(), _search, answers(tmp_path), FixedFare(280, "EUR"), _say(said)) as (approach, _):
        assert (approach._backdrop is not None) is compares
        if approach._backdrop is not None:
            approach._backdrop._clock = partial(next, count(0.0, 0.5))
            place = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
            for _ in range(2 * int(FIRST) + 2):
                approach._backdrop.learn(place)
    assert (("backdrop", {"known": True}) in said) is compares


def test_a_backdrop_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="true or false"):
        configured(tmp_path, 'backdrop = "no"\n')


@pytest.mark.parametrize("codes_only", ["true", "false"])
def test_a_lane_for_codes_opens_without_a_wallet_and_says_what_is_wrong(tmp_path: Path, codes_only: str) -> None:
    section = f'[held]\noperator_key = "{OPERATOR}"\nstore = "held.sqlite"\ncodes_only = {codes_only}\n'
    said: list[tuple[str, Any]] = []
    with lane(
        configured(tmp_path, section), object(), _search, answers(tmp_path), FixedFare(280, "EUR"), _say(said)
    ) as (approach, ask):
        assert isinstance(approach, HeldApproach)
        assert ask is not _search
        _wait_for(lambda: said != [])
    assert said[0] == ("refresh_failed", {"error": "Unreachable", "detail": "The wallet did not answer: ConnectError."})
    assert not [thread for thread in threading.enumerate() if thread.name == "held-refresh"]
    assert (tmp_path / "held.sqlite").stat().st_mode & 0o077 == 0


def test_the_terms_of_the_file_are_the_terms_of_the_lane(tmp_path: Path) -> None:
    section = (
        f'[held]\noperator_key = "{OPERATOR}"\nstore = "held.sqlite"\nself_made_limit = 500\n'
        "offline_limit = 0\ndeny_list_max_age = 60\n"
    )
    held = configured(tmp_path, section).held
    assert held is not None
    assert held.codes_only
    assert (held.self_made_limit, held.offline_limit) == (500, 0)
    assert held.deny_list_max_age.total_seconds() == 60
    assert held.passback == HeldTerms().passback


@pytest.mark.parametrize(
    "section",
    [
        '[held]\nstore = "held.sqlite"\n',
        '[held]\noperator_key = "abcd"\nstore = "held.sqlite"\n',
        f'[held]\noperator_key = "{OPERATOR}"\nstore = "held.sqlite"\nofline_limit = 1\n',
    ],
    ids=["no key", "short key", "misspelt"],
)
def test_a_section_that_cannot_be_meant_so_is_refused(tmp_path: Path, section: str) -> None:
    with pytest.raises(ConfigurationError):
        configured(tmp_path, section)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HeldStore]:
    store = HeldStore(tmp_path / "held.sqlite")
    yield store
    store.close()


def test_of_many_who_show_one_counter_at_once_one_gets_it(store: HeldStore) -> None:
    def use(_: int) -> bool:
        try:
            store.use(b"d" * 16, 7, until=2_000_000_000)
        except CounterUsed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(40))) == [False] * 39 + [True]


def test_numbers_only_grow_even_over_a_lost_file(tmp_path: Path, store: HeldStore) -> None:
    numbers = [store.next_sequence() for _ in range(50)]
    new = HeldStore(tmp_path / "new.sqlite")
    time.sleep(0.1)
    numbers.append(new.next_sequence())
    new.close()
    assert numbers == sorted(set(numbers))


def test_the_newest_key_comes_first(store: HeldStore) -> None:
    for at in (100, 300, 200):
        store.add_key(OpeningKey(X25519PrivateKey.generate(), b"%d" % at, at), last_use=1000 + at)
    assert [key.announced_at for key in store.keys(0).values()] == [300, 200, 100]
    assert [key.announced_at for key in store.keys(1150).values()] == [300, 200]


def _search(_: Any) -> Any:
    raise AssertionError


def _say(said: list[tuple[str, Any]]) -> Any:
    return lambda event, facts: said.append((event, facts))


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_a_gate_for_codes_only_needs_no_guardians_and_one_that_searches_does(tmp_path: Path) -> None:
    configured(tmp_path, "")
    file = tmp_path / "gate.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("guardians")]
    text = "\n".join(lines).replace('gallery = "gal_town"', "")
    held = f'\n[held]\noperator_key = "{OPERATOR}"\nstore = "held.sqlite"\n'
    file.write_text(text + held)
    assert Configuration.load(file).guardians == ()
    for searching in ("", held + "codes_only = false\n"):
        file.write_text(text + searching)
        with pytest.raises(ConfigurationError, match=r"guardians is missing"):
            Configuration.load(file)

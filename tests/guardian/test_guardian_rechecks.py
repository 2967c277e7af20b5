"""A guardian that lies inside the protocol: it charges whom it likes without rechecks, and nobody with them."""

import asyncio
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from facefare.guardian.engine import Engine, Work
from facefare.guardian.errors import RefusalCode
from facefare.guardian.frames import Task
from facefare.guardian.rechecks import Rechecks
from facefare.identification.errors import AnswersDisagree, IdentificationError
from facefare.mpc.answers import Match, NoMatch

three = sys.modules["three_guardians"]
VICTIM = 7
PEOPLE = three.synthetic_templates(40, seed=21)
STRANGER = three.synthetic_templates(1, seed=22)[0]

# The liar flips the match bit of row 7 in every search: its part of the last AND, and its own copy of it.
LIAR = f"""
import numpy as np
import facefare.mpc.carry as carry
honest = carry.reshare
def reshare(own):
    if own.ndim == 2 and len(own) == 1 and own.shape[1] >= 16:
        own[0, 0] ^= np.uint64(1) << np.uint64(16 * ({VICTIM} % 4) + {VICTIM} // 4)
    return (yield from honest(own))
carry.reshare = reshare
"""


def running(folder, permille):
    return three.three_guardians(folder, replace(three.GENEROUS, recheck_permille=permille))


def enrol(trio):
    three.run(trio, lambda guardians: trio.enrol(guardians, PEOPLE))


def restart(trio, index, prelude=""):
    trio.stop(index)
    trio.start(index, prelude)
    asyncio.run(trio.ready())


def until_reordered(trio, since):
    """Wait until guardian 0 says so of the demo gallery in its log, from that place on."""
    deadline = time.monotonic() + 60
    while not any("secret_order_ready" in line and three.DEMO in line for line in trio.log(0)[since:].splitlines()):
        assert time.monotonic() < deadline, trio.log(0)[-2000:]
        time.sleep(0.1)


def searches(trio, templates):
    async def ask():
        answers = []
        async with trio.relay() as guardians:
            for template in templates:
                try:
                    answers.append(await trio.search(guardians, template))
                except IdentificationError as error:
                    answers.append(type(error))
        return answers

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def rechecked(tmp_path_factory):
    with running(tmp_path_factory.mktemp("rechecked"), 1000) as trio:
        enrol(trio)
        yield trio


@pytest.mark.parametrize("liar", range(3))
def test_with_rechecks_a_lying_guardian_charges_nobody_and_is_noticed_at_once(rechecked, liar):
    restart(rechecked, liar, LIAR)
    try:
        until_reordered(rechecked, rechecked.log(0).rfind("session_started"))
        assert searches(rechecked, [STRANGER, STRANGER]) == [AnswersDisagree] * 2
        assert Match(VICTIM) not in searches(rechecked, [PEOPLE[3], STRANGER])
    finally:
        restart(rechecked, liar)


def test_honest_guardians_agree_with_their_rechecks_through_an_enrolment_and_a_deletion(rechecked):
    trio = rechecked
    until_reordered(trio, trio.log(0).rfind("session_started"))
    assert searches(trio, [PEOPLE[3], STRANGER, PEOPLE[39]]) == [Match(3), NoMatch(), Match(39)]
    mark = len(trio.log(0))

    async def change():
        async with trio.relay() as guardians:
            await trio.enrol(guardians, three.synthetic_templates(1, seed=23))
            later = await trio.search(guardians, three.synthetic_templates(1, seed=23)[0])
            trio.follow(await guardians.delete(three.DEMO, 3, trio.version[three.DEMO]))
            return later

    assert asyncio.run(change()) == Match(40), "a row that is not in the order yet"
    assert searches(trio, [PEOPLE[3], PEOPLE[4]]) == [NoMatch(), Match(4)]  # before the new order is made
    until_reordered(trio, mark)
    assert searches(trio, [PEOPLE[3], PEOPLE[4]]) == [NoMatch(), Match(4)]


def test_without_rechecks_a_lying_guardian_charges_whom_it_likes(tmp_path):
    """Not a defence: what an operator accepts who turns them off. The threat model says so."""
    with running(tmp_path, 0) as trio:
        enrol(trio)
        restart(trio, 1, LIAR)
        assert searches(trio, [STRANGER]) == [Match(VICTIM)]


# --- when an order is made, used and given up ---


class Moved:
    """A party whose every step finishes an order, and whose coin shows what it is told to."""

    coin = 0

    def reorder(self, order):
        order._phase = 5

    def draw(self):
        return self.coin

    def recheck(self, probes, rule, order, thresholds):
        return [SimpleNamespace(to_bytes=lambda: b"share")] * len(thresholds)


def gallery(live):
    bits = np.packbits(np.array(live, np.uint8), bitorder="little")
    words = np.zeros(-(-len(live) // 64) * 8, np.uint8)
    words[: len(bits)] = bits
    definition = SimpleNamespace(id="gal_a", rule=None)
    return SimpleNamespace(
        definition=definition, rows=len(live), live=words.view(np.uint64), shares=np.zeros((len(live), 4), np.uint16)
    )


def made(monkeypatch, wanted=1000, live=(1, 1, 0, 1)):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("facefare.guardian.rechecks.time", SimpleNamespace(monotonic=lambda: clock.now))
    rechecks = Rechecks(wanted, patience=600.0)
    rows = gallery(live)
    if wanted:
        assert rechecks.due([rows]) == "gal_a"
        assert rechecks.advance(Moved(), rows)
    assert rechecks.due([rows]) is None
    return rechecks, rows, clock


PROBE, THRESHOLD = np.zeros((2, 1, 2), np.uint32), np.array([-1], np.int32)


def test_a_secret_order_gets_its_turn_though_searches_never_pause(tmp_path):
    """Else busy guardians would make none, and refuse all searches when their patience is over."""
    rows = SimpleNamespace(standing=b"s" * 32, version=1)
    registry = SimpleNamespace(galleries=lambda: ["gal_a"], gallery=lambda _: "gal_a")
    store = SimpleNamespace(load=lambda _: rows, erasure_pending=False)
    rechecks = SimpleNamespace(due=lambda _: "gal_a")
    leader = Engine(0, None, store, registry, None, None, tmp_path, rechecks)
    search = Work(key=bytes(32), operation=None, gallery="gal_a", version=1)
    announced = []
    for _ in range(4):
        leader._waiting = {search.key: search}
        announced.append(leader._announce(SimpleNamespace(channels={})))
    assert [announcement.keys for announcement in announced] == [(search.key,), ()] * 2
    assert [announcement.task for announcement in announced] == [None, Task("reorder", 0)] * 2


def test_a_gallery_that_waits_keeps_no_other_from_its_order(monkeypatch):
    rechecks, rows, clock = made(monkeypatch)
    other = gallery((1, 1))
    other.definition.id = "gal_b"
    assert rechecks.due([gallery((0, 1, 0, 1)), other]) == "gal_a"
    rechecks.wait("gal_a")
    assert rechecks.due([gallery((0, 1, 0, 1)), other]) == "gal_b"
    rechecks.wait("gal_b")
    assert rechecks.due([rows, other]) is None
    clock.now += 3
    assert rechecks.due([rows, other]) == "gal_b"


@pytest.mark.parametrize("live", [(1, 0, 0, 1), (1, 1, 1, 1), (0, 0, 0, 0)])
def test_a_deletion_a_pause_or_a_resumption_ends_an_order_at_once(monkeypatch, live):
    rechecks, rows, _ = made(monkeypatch)
    assert rechecks.search(Moved(), rows, PROBE, THRESHOLD) == [b"share"]
    changed = gallery(live)
    assert rechecks.search(Moved(), changed, PROBE, THRESHOLD) == [None]
    assert rechecks.due([changed]) == "gal_a"


def test_rows_enrolled_later_wait_for_the_next_order_and_a_refresh_ends_it(monkeypatch):
    rechecks, _, clock = made(monkeypatch)
    grown = gallery((1, 1, 0, 1, 1, 1))
    assert rechecks.search(Moved(), grown, PROBE, THRESHOLD) == [b"share"]
    assert rechecks.due([grown]) is None
    clock.now += 61
    assert rechecks.due([grown]) == "gal_a"
    rechecks.forget("gal_a")
    assert rechecks.search(Moved(), grown, PROBE, THRESHOLD) == [None]


def test_the_strictest_guardian_has_its_way_and_the_coin_decides(monkeypatch):
    rechecks, rows, _ = made(monkeypatch, wanted=1)
    rechecks.agree([1, 0, 250])
    party = Moved()
    for coin, made_again in ((249, True), (250, False), (2**64 - 1, False), (1000, True)):
        party.coin = coin
        assert (rechecks.search(party, rows, PROBE, THRESHOLD) == [b"share"]) is made_again, coin


def test_a_guardian_that_is_kept_from_rechecks_for_too_long_answers_no_search(monkeypatch):
    rechecks, rows, clock = made(monkeypatch)
    paused = gallery((1, 0, 0, 1))
    assert rechecks.judge(rows) is None
    clock.now += 599
    assert rechecks.judge(paused) is None
    clock.now += 2
    assert rechecks.judge(paused).code is RefusalCode.RECHECK_OVERDUE
    rechecks.advance(Moved(), paused)
    assert rechecks.judge(paused) is None
    without, rows, clock = made(monkeypatch, wanted=0)
    clock.now += 10_000
    assert without.judge(rows) is None

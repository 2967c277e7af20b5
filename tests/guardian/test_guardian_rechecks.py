"""A guardian that lies inside the protocol: it charges whom it likes without rechecks, and nobody with them."""

import asyncio
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from facefare.guardian.engine import Engine
from facefare.guardian.errors import RefusalCode
from facefare.guardian.frames import Task
from facefare.guardian.rechecks import Rechecks
from facefare.guardian.work import Kind, Work
from facefare.identification import relay
from facefare.identification.errors import AnswersDisagree, IdentificationError
from facefare.mpc.answers import Match, NoMatch
from facefare.mpc.recheck import confirm

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


def test_honest_guardians_agree_with_their_rechecks_through_every_change_and_never_pause_them(rechecked, monkeypatch):
    trio = rechecked
    until_reordered(trio, trio.log(0).rfind("session_started"))
    confirmed = []
    monkeypatch.setattr(relay, "confirm", lambda answer, shares: confirmed.append(answer) or confirm(answer, shares))

    async def scene(guardians):
        asked = 0

        async def found(*people):
            nonlocal asked
            asked += len(people)
            return [await trio.search(guardians, person) for person in people]

        async def changed(change, row):
            trio.follow(await change(three.DEMO, row, trio.version[three.DEMO]))

        assert await found(PEOPLE[3], STRANGER, PEOPLE[39]) == [Match(3), NoMatch(), Match(39)]
        await trio.enrol(guardians, three.synthetic_templates(1, seed=23))
        assert await found(three.synthetic_templates(1, seed=23)[0]) == [Match(40)], "not in the order yet"
        await changed(guardians.pause, 5)
        await changed(guardians.delete, 3)
        assert await found(PEOPLE[3], PEOPLE[5], PEOPLE[4]) == [NoMatch(), NoMatch(), Match(4)]
        await changed(guardians.resume, 5)
        assert await found(PEOPLE[5], PEOPLE[3]) == [Match(5), NoMatch()]
        assert len(confirmed) == asked

    three.run(trio, scene)


def test_without_rechecks_a_lying_guardian_charges_whom_it_likes(tmp_path):
    """Not a defence: what an operator accepts who turns them off. The threat model says so."""
    with running(tmp_path, 0) as trio:
        enrol(trio)
        restart(trio, 1, LIAR)
        assert searches(trio, [STRANGER]) == [Match(VICTIM)]


# --- when an order is made, used and given up ---


class Moved:
    """A party whose every step finishes an order that moves no row, and whose coin shows what it is told to."""

    coin = 0
    among = None

    def reorder(self, order):
        order._phase = 5

    def reveal(self, order, numbers):
        return np.searchsorted(order._numbers, numbers).astype(np.uint32)

    def draw(self):
        return self.coin

    def recheck(self, probes, rule, order, live, thresholds):
        places = np.flatnonzero(np.unpackbits(live.view(np.uint8), bitorder="little"))
        self.among = {int(n) for n in order._numbers[places] if n < 1 << 63}
        return [SimpleNamespace(to_bytes=lambda: b"share")] * len(thresholds)


def bitmap(bits):
    words = np.zeros(-(-len(bits) // 64) * 8, np.uint8)
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little")
    words[: len(packed)] = packed
    return words.view(np.uint64)


def gallery(states):
    """Rows by letter: (l)ive, (p)aused, (d)eleted, (-) never enrolled."""
    return SimpleNamespace(
        definition=SimpleNamespace(id="gal_a", rule=None),
        rows=len(states),
        live=bitmap([state == "l" for state in states]),
        enrolled=bitmap([state in "lp" for state in states]),
        shares=np.ones((len(states), 4), np.uint16),
    )


def made(monkeypatch, wanted=1000, states="llpl"):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("facefare.guardian.rechecks.time", SimpleNamespace(monotonic=lambda: clock.now))
    rechecks = Rechecks(wanted, patience=600.0)
    rows = gallery(states)
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
    leader = Engine(0, None, store, registry, None, None, tmp_path, rechecks, None)
    search = Work(Kind.SEARCH, key=bytes(32), gallery="gal_a", version=1)
    announced = []
    for _ in range(4):
        leader._waiting = {search.key: search}
        announced.append(leader._announce(SimpleNamespace(channels={})))
    assert [announcement.keys for announcement in announced] == [(search.key,), ()] * 2
    assert [announcement.task for announcement in announced] == [None, Task("reorder", 0)] * 2


def test_a_gallery_that_waits_keeps_no_other_from_its_order(monkeypatch):
    rechecks, rows, clock = made(monkeypatch)
    other = gallery("ll")
    other.definition.id = "gal_b"
    rechecks.renew("gal_a")
    assert rechecks.due([rows, other]) == "gal_a"
    rechecks.wait("gal_a")
    assert rechecks.due([rows, other]) == "gal_b"
    rechecks.wait("gal_b")
    assert rechecks.due([rows, other]) is None
    clock.now += 3
    assert rechecks.due([rows, other]) == "gal_a"


def test_a_paused_row_is_left_out_of_the_order_in_use_and_a_resumed_one_comes_back(monkeypatch):
    rechecks, rows, clock = made(monkeypatch)
    party = Moved()
    assert rechecks.search(party, rows, PROBE, THRESHOLD, paused_too=False) == [b"share"]
    assert party.among == {0, 1, 3}
    assert rechecks.search(party, rows, PROBE, THRESHOLD, paused_too=True) == [b"share"], (
        "a check is among paused rows too"
    )
    assert party.among == {0, 1, 2, 3}
    for states, among in (("lppl", {0, 3}), ("lplp", {0, 2}), ("llll", {0, 1, 2, 3})):
        changed = gallery(states)
        rechecks.follow(party, changed)
        assert rechecks.search(party, changed, PROBE, THRESHOLD, paused_too=False) == [b"share"]
        assert party.among == among
    assert rechecks.due([changed]) is None
    clock.now += 61
    assert rechecks.due([changed]) == "gal_a", "whose place was known once is to be hidden again"
    assert rechecks.due([gallery("lppp")]) is None


def test_of_a_deleted_row_an_order_keeps_nothing(monkeypatch):
    rechecks, _, _ = made(monkeypatch)
    party, changed = Moved(), gallery("ldpl")
    rechecks.follow(party, changed)
    for paused_too, among in ((False, {0, 3}), (True, {0, 2, 3})):
        rechecks.search(party, changed, PROBE, THRESHOLD, paused_too=paused_too)
        assert party.among == among
    assert not rechecks._ready["gal_a"].order.rows[1].any()
    assert rechecks._ready["gal_a"].order.rows[[0, 2, 3]].all()


def test_a_row_deleted_while_an_order_is_made_is_forgotten_when_it_is_ready(monkeypatch):
    rechecks, _, _ = made(monkeypatch)
    party, changed = Moved(), gallery("ldpl")
    party.reorder = lambda order: None
    rechecks.renew("gal_a")
    assert not rechecks.advance(party, gallery("llpl"))
    rechecks.follow(party, changed)
    assert rechecks.advance(Moved(), changed)
    assert not rechecks._ready["gal_a"].order.rows[1].any()


def test_a_row_enrolled_below_the_last_one_ends_an_order_that_would_deny_it(monkeypatch):
    rechecks, _, _ = made(monkeypatch, states="ll-l")
    filled = gallery("llll")
    rechecks.follow(Moved(), filled)
    assert rechecks.search(Moved(), filled, PROBE, THRESHOLD, paused_too=False) == [None]
    assert rechecks.due([filled]) == "gal_a"


def test_rows_enrolled_later_wait_for_the_next_order_and_so_does_a_refresh(monkeypatch):
    rechecks, _, clock = made(monkeypatch)
    grown = gallery("llplll")
    rechecks.follow(Moved(), grown)
    assert rechecks.search(Moved(), grown, PROBE, THRESHOLD, paused_too=False) == [b"share"]
    assert rechecks.due([grown]) is None
    clock.now += 61
    assert rechecks.due([grown]) == "gal_a"
    assert rechecks.advance(Moved(), grown)
    assert rechecks.due([grown]) is None
    rechecks.renew("gal_a")
    assert rechecks.due([grown]) == "gal_a"
    assert rechecks.search(Moved(), grown, PROBE, THRESHOLD, paused_too=False) == [b"share"], (
        "until then the old one is used"
    )
    rechecks.forget()
    assert rechecks.search(Moved(), grown, PROBE, THRESHOLD, paused_too=False) == [None]


def test_the_strictest_guardian_has_its_way_and_the_coin_decides(monkeypatch):
    rechecks, rows, _ = made(monkeypatch, wanted=1)
    rechecks.agree([1, 0, 250])
    party = Moved()
    for coin, made_again in ((249, True), (250, False), (2**64 - 1, False), (1000, True)):
        party.coin = coin
        assert (rechecks.search(party, rows, PROBE, THRESHOLD, paused_too=False) == [b"share"]) is made_again, coin


def test_a_guardian_that_is_kept_from_rechecks_for_too_long_answers_no_search(monkeypatch):
    rechecks, rows, clock = made(monkeypatch)
    clock.now += 10_000
    assert rechecks.judge(rows) is None, "an order serves for as long as nothing ends it"
    rechecks.forget()
    clock.now += 599
    assert rechecks.judge(rows) is None
    clock.now += 2
    assert rechecks.judge(rows).code is RefusalCode.RECHECK_OVERDUE
    rechecks.advance(Moved(), rows)
    assert rechecks.judge(rows) is None
    without, rows, clock = made(monkeypatch, wanted=0)
    clock.now += 10_000
    assert without.judge(rows) is None

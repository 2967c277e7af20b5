"""Each guardian in turn lies at each step: what is caught at once, and what is not (docs/threat-model.md says so)."""

import itertools
from collections import Counter

import numpy as np
import pytest

from facefare.mpc import InputRule, Match, MpcError, NoMatch, Several, combine, held_by, split
from facefare.mpc.recheck import SecretOrder, confirm

RULE = InputRule(2, 1, 8191)
GALLERY = np.array([[60, 60], [-60, 60], [60, -60]] + [[-70, -20]] * 61)
PROBE = np.array([[60, 60]])
THRESHOLD = np.array([-5], np.int32)


def tampered(trio, liar, change):
    """From now on `change(number, message)` may change each message that the liar sends."""
    counter = itertools.count()
    for end in (trio.previous[liar], trio.following[liar]):

        def send(data, end=end, honest=end.send):
            honest(change(next(counter), bytes(data)))

        end.send = send


def searched(trio, tamper=None):
    """Search for row 0; `tamper` is a liar and its `change`."""
    _, rows = trio.admit(GALLERY, RULE)
    if tamper is not None:
        tampered(trio, *tamper)
    live = np.array([~np.uint64(0)])
    (parts,) = trio.identify(rows, live, PROBE, THRESHOLD, RULE)
    if None in parts:
        raise MpcError("The probe was taken for a forbidden one.")
    return parts


def flip(at, bit):
    def change(number, message):
        if number != at:
            return message
        changed = bytearray(message)
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
        return bytes(changed)

    return change


def messages_of(trio, guardian):
    numbers = []
    searched(trio, (guardian, lambda number, message: numbers.append(len(message)) or message))
    return numbers


@pytest.mark.parametrize("liar", range(3))
def test_a_lie_in_any_message_is_caught_or_changes_the_answer_but_never_shows_a_share(trio, liar):
    """The protocol is semi-honest: a bit flipped inside an AND is a wrong answer. It is counted here, not hidden."""
    sizes = messages_of(trio, liar)
    outcomes = {"caught": 0, "wrong": 0, "harmless": 0}
    for number in range(len(sizes)):
        fresh = type(trio)()
        try:
            answer = combine(searched(fresh, (liar, flip(number, 3))))
        except MpcError:
            outcomes["caught"] += 1
            continue
        assert isinstance(answer, NoMatch | Match | Several)
        outcomes["harmless" if answer == Match(0) else "wrong"] += 1
    assert outcomes["caught"] >= 2, "both headers are compared by their receivers"
    assert sum(outcomes.values()) == len(sizes)


def searched_twice(trio, liar, change):
    """Bring the rows into a secret order, search for row 0, search again, and compare; the liar lies all along."""
    _, rows = trio.admit(GALLERY, RULE)
    orders = [SecretOrder(share, np.arange(64, dtype=np.uint64), 64) for share in rows]
    components = split(PROBE.astype(np.int32))
    tampered(trio, liar, change)
    while not orders[0].ready:
        trio.run(lambda i: trio.parties[i].reorder(orders[i]))
    parts = trio.run(
        lambda i: (
            trio.parties[i].identify(held_by(i, components), RULE, rows[i], np.array([~np.uint64(0)]), THRESHOLD)[0],
            trio.parties[i].recheck(held_by(i, components), RULE, orders[i], orders[i].everywhere, THRESHOLD)[0],
        )
    )
    if None in (answer for answer, _ in parts):
        raise MpcError("The probe was taken for a forbidden one.")
    answer = combine([answer for answer, _ in parts])
    confirm(answer, [again for _, again in parts])
    return answer


@pytest.mark.parametrize("liar", range(3))
def test_with_a_recheck_no_lie_in_any_message_makes_another_pay(trio, liar, monkeypatch):
    monkeypatch.setattr("facefare.mpc.recheck.SENTINELS", 64)
    sizes = []
    assert searched_twice(trio, liar, lambda _, message: sizes.append(len(message)) or message) == Match(0)
    outcomes = Counter()
    for number in range(len(sizes)):
        try:
            outcomes[searched_twice(type(trio)(), liar, flip(number, 8 * (number % 7) + number % 8))] += 1
        except MpcError:
            outcomes["caught"] += 1
    assert set(outcomes) <= {Match(0), Several(), "caught"}
    assert outcomes["caught"] > len(sizes) / 3


@pytest.mark.parametrize("liar", range(3))
def test_a_lie_about_the_opened_test_is_noticed_or_only_costs_the_answer(trio, liar):
    """The two last messages of a guardian are its part of the blinded test: changed alike, all see 'several'."""
    sizes = messages_of(trio, liar)
    for number in (len(sizes) - 2, len(sizes) - 1):
        fresh = type(trio)()
        try:
            answer = combine(searched(fresh, (liar, flip(number, 0))))
        except MpcError:
            continue
        assert answer in (Several(), Match(0))


@pytest.mark.parametrize("liar", range(3))
def test_a_guardian_whose_rows_are_in_another_order_gets_several_and_nobody_is_charged(trio, liar):
    """Its shares no longer lie on a line with the others': every score is noise, and half of all rows match."""
    _, rows = trio.admit(GALLERY, RULE)
    rows[liar] = np.roll(rows[liar], 1, axis=0)
    for _ in range(5):
        (parts,) = trio.identify(rows, np.array([~np.uint64(0)]), PROBE, THRESHOLD, RULE)
        assert combine(parts) == Several()


def test_messages_of_one_search_replayed_in_another_spoil_it_and_answer_nothing_twice(trio):
    recorded = {}

    def record(number, message):
        recorded[number] = message
        return message

    def replay(number, message):
        return recorded[number] if number > 1 else message  # the headers carry fresh coins

    assert combine(searched(trio, (1, record))) == Match(0)
    fresh = type(trio)()
    try:
        answer = combine(searched(fresh, (1, replay)))
    except MpcError:
        return
    assert answer != Match(1)


def test_two_recorded_sessions_of_one_search_have_nothing_in_common(trio):
    def session():
        fresh = type(trio)()
        assert combine(searched(fresh)) == Match(0)
        ends = (*fresh.previous, *fresh.following)
        return [np.frombuffer(m, np.uint8) for end in ends for m in end.received if len(m) >= 64]

    first, second = session(), session()
    assert [len(m) for m in first] == [len(m) for m in second]
    same = np.mean(np.concatenate(first) == np.concatenate(second))
    assert same < 0.02, "independent bytes agree one time in 256"

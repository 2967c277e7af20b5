"""What the wallet puts together, and what it refuses to."""

from dataclasses import replace

import pytest

from facefare.mpc import AnswerShare, Match, NoMatch, Several, ShareMismatch, combine


def shares(parity, row, several=False):
    components = [(5, 77), (9, 1234), (5 ^ 9 ^ parity, 77 ^ 1234 ^ row)]
    if several:
        components = [(0, 0)] * 3
    return [AnswerShare(i, several, components[i], components[(i + 1) % 3]) for i in range(3)]


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        (shares(0, 0), NoMatch()),
        (shares(1, 0), Match(0)),
        (shares(1, 123_456), Match(123_456)),
        (shares(0, 0, several=True), Several()),
    ],
)
def test_three_shares_say_none_one_or_several(parts, answer):
    assert combine(reversed(parts)) == answer
    assert combine([AnswerShare.from_bytes(part.to_bytes()) for part in parts]) == answer


def test_guardians_that_disagree_on_several_are_noticed():
    parts = shares(1, 7)
    parts[2] = replace(parts[2], several=True)
    with pytest.raises(ShareMismatch, match="several"):
        combine(parts)


@pytest.mark.parametrize(("parity", "row"), [(0, 7), (2, 0), (3, 7)])
def test_what_opens_to_neither_nothing_nor_one_row_is_no_answer(parity, row):
    with pytest.raises(ShareMismatch, match="neither"):
        combine(shares(parity, row))


def test_every_share_has_the_same_size():
    assert {len(p.to_bytes()) for s in (shares(0, 0), shares(1, 9), shares(0, 0, several=True)) for p in s} == {48}


@pytest.mark.parametrize("liar", range(3))
@pytest.mark.parametrize("place", ["own", "following"])
def test_one_guardian_that_changes_a_component_is_noticed(liar, place):
    parts = shares(1, 5)
    honest = parts[liar]
    changed = {"own": honest.own, "following": honest.following}
    changed[place] = (changed[place][0] ^ 1, changed[place][1])
    parts[liar] = AnswerShare(liar, False, changed["own"], changed["following"])
    with pytest.raises(ShareMismatch):
        combine(parts)


def test_one_guardian_that_claims_several_is_noticed():
    parts = shares(1, 5)
    parts[1] = AnswerShare(1, True, (0, 0), (0, 0))
    with pytest.raises(ShareMismatch):
        combine(parts)


def test_guardians_that_name_different_tags_are_noticed():
    parts = shares(1, 5)
    parts[2] = AnswerShare(2, False, parts[2].own, parts[2].following, tag=9)
    with pytest.raises(ShareMismatch):
        combine(parts)


@pytest.mark.parametrize("parts", [shares(1, 5)[:2], [shares(1, 5)[0]] * 3])
def test_an_answer_takes_each_guardian_once(parts):
    with pytest.raises(ShareMismatch):
        combine(parts)


@pytest.mark.parametrize("data", [b"", bytes(47), bytes([3]) + bytes(47), bytes([0, 2]) + bytes(46)])
def test_malformed_bytes_are_refused(data):
    with pytest.raises(ValueError, match="answer share"):
        AnswerShare.from_bytes(data)


def test_a_share_does_not_show_its_components():
    assert "1234" not in repr(shares(1, 5)[0])

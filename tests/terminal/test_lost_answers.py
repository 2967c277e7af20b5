"""An answer that was lost let nobody pass, so nobody may be charged for it."""

import os
import time

import httpx
import pytest

from facefare.client import ApiError, Unreachable
from facefare.terminal.lost_answers import STALE_AFTER, LostAnswers

QUERY = bytes(range(16))
GONE = Unreachable(httpx.ConnectError("gone"))
UNKNOWN = ApiError(404, "unknown-payment", "There is no payment by this query.")


class Wallet:
    def __init__(self):
        self.undone, self.error = [], None

    def undo(self, query_id):
        if self.error is not None:
            raise self.error
        self.undone.append(query_id)


@pytest.fixture
def wallet():
    return Wallet()


@pytest.fixture
def answers(tmp_path, wallet):
    return LostAnswers(tmp_path / "lost", wallet.undo)


def lose(answers, error=GONE):
    with pytest.raises(ApiError), answers.waiting(QUERY):
        raise error


def test_an_answered_attempt_leaves_nothing(answers, wallet, tmp_path):
    with answers.waiting(QUERY):
        assert [file.name for file in (tmp_path / "lost").iterdir()] == [QUERY.hex()], "on the disk before asking"
    assert answers.settle() == 0
    assert wallet.undone == []


def test_a_refusal_is_an_answer(answers, wallet):
    lose(answers, ApiError(422, "invalid-amount", "An amount is more than 0."))
    assert answers.settle() == 0
    assert wallet.undone == []


@pytest.mark.parametrize("error", [GONE, ApiError(502, "no-problem-details", "The wallet answered 502.")])
def test_silence_is_taken_back_once_the_wallet_is_there_again(answers, wallet, error):
    lose(answers, error)
    wallet.error = GONE
    assert answers.settle() == 1
    wallet.error = None
    assert answers.settle() == 0
    assert answers.settle() == 0
    assert wallet.undone == [QUERY]


def test_a_search_that_may_still_arrive_is_asked_for_again(answers, wallet, tmp_path):
    lose(answers)
    wallet.error = UNKNOWN
    assert answers.settle() == 1
    old = time.time() - STALE_AFTER - 1
    os.utime(tmp_path / "lost" / QUERY.hex(), (old, old))
    assert answers.settle() == 0


def test_a_gate_that_died_while_it_waited_takes_back_after_its_restart(answers, wallet, tmp_path):
    waiting = answers.waiting(QUERY)
    waiting.__enter__()  # and the process is gone
    assert LostAnswers(tmp_path / "lost", wallet.undo).settle() == 0
    assert wallet.undone == [QUERY]


def test_an_attempt_under_way_is_not_taken_back(answers, wallet):
    with answers.waiting(QUERY):
        assert answers.settle() == 0
    assert wallet.undone == []

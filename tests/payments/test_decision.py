"""The decision, over everything that can be the case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.payments.decision import (
    Decision,
    FaceAlone,
    Law,
    Outcome,
    Paid,
    Reason,
    Rules,
    Situation,
    Stated,
    decide,
    face_alone,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RULES = Rules()
amounts = st.integers(1, 30_000)
situations = st.builds(
    Situation,
    now=st.just(NOW),
    at_gate=st.booleans(),
    holds_currency=st.sampled_from(["EUR", "CHF"]),
    available=st.integers(0, 30_000),
    last_paid=st.none()
    | st.builds(Paid, at=st.integers(0, 300).map(lambda ago: NOW - timedelta(seconds=ago)), amount=amounts),
    spent_today=st.integers(0, 30_000),
    daily_limit=st.none() | st.integers(0, 30_000),
    alone_total=st.integers(0, 20_000),
    alone_in_a_row=st.integers(0, 7),
    confirmed=st.booleans(),
)


@given(amounts, st.sampled_from(["EUR", "CHF"]), situations)
def test_an_accepted_payment_is_affordable_within_limits_and_strong_enough(
    amount: int, currency: str, situation: Situation
) -> None:
    decision = decide(amount, currency, situation, RULES)
    assert (decision.reason is None) == (decision.outcome is Outcome.ACCEPTED)
    if decision.outcome is not Outcome.ACCEPTED:
        return
    assert amount <= situation.available
    assert currency == situation.holds_currency
    assert situation.daily_limit is None or situation.spent_today + amount <= situation.daily_limit
    if not (situation.at_gate or situation.confirmed):
        limits = FaceAlone()
        assert currency == "EUR"
        assert amount <= limits.single
        assert situation.alone_total + amount <= limits.total
        assert situation.alone_in_a_row < limits.in_a_row


@pytest.mark.parametrize(
    ("changes", "most", "beyond"),
    [
        ({}, 50_00, Reason.SECOND_FACTOR),
        ({"alone_total": 149_00}, 1_00, Reason.SECOND_FACTOR),
        ({"alone_in_a_row": 4}, 50_00, Reason.SECOND_FACTOR),
        ({"alone_in_a_row": 5}, 0, Reason.SECOND_FACTOR),
        ({"available": 280}, 280, Reason.INSUFFICIENT_FUNDS),
        ({"daily_limit": 1000, "spent_today": 720}, 280, Reason.DAILY_LIMIT),
    ],
)
def test_a_face_alone_pays_up_to_the_limit_and_not_a_cent_more(
    changes: dict[str, int], most: int, beyond: Reason
) -> None:
    nothing_yet = Situation(NOW, False, "EUR", 1000_00, None, 0, None, 0, 0, confirmed=False)
    situation = replace(nothing_yet, **changes)
    if most:
        assert decide(most, "EUR", situation, RULES).outcome is Outcome.ACCEPTED
    assert decide(most + 1, "EUR", situation, RULES).reason is beyond


@pytest.mark.parametrize(("ago", "outcome"), [(59, Outcome.ALREADY_PAID), (60, Outcome.ACCEPTED)])
def test_a_payment_at_a_gate_covers_the_payer_for_a_minute(ago: int, outcome: Outcome) -> None:
    paid = Paid(NOW - timedelta(seconds=ago), 280)
    assert decide(280, "EUR", Situation(NOW, True, "EUR", 1000, paid, 0, None, 0, 0, False), RULES).outcome is outcome


@given(amounts, situations, st.integers(0, 59))
def test_a_gate_never_charges_twice_within_a_minute(amount: int, situation: Situation, ago: int) -> None:
    again = Situation(**{**vars(situation), "at_gate": True, "last_paid": Paid(NOW - timedelta(seconds=ago), amount)})
    assert decide(amount, "EUR", again, RULES) == Decision(Outcome.ALREADY_PAID, Reason.PAID_MOMENTS_AGO)


@given(amounts, situations)
def test_a_second_factor_never_turns_a_yes_into_a_no(amount: int, situation: Situation) -> None:
    without = decide(amount, "EUR", Situation(**{**vars(situation), "confirmed": False}), RULES)
    with_factor = decide(amount, "EUR", Situation(**{**vars(situation), "confirmed": True}), RULES)
    assert with_factor.outcome is not Outcome.CONFIRMATION_REQUIRED
    if without.outcome is not Outcome.CONFIRMATION_REQUIRED:
        assert with_factor == without
    else:
        assert with_factor.outcome is Outcome.ACCEPTED


def test_a_currency_without_limits_always_takes_a_second_factor_at_a_till() -> None:
    situation = Situation(NOW, False, "CHF", 1000, None, 0, None, 0, 0, confirmed=False)
    assert decide(1, "CHF", situation, RULES).reason is Reason.SECOND_FACTOR


limits = st.dictionaries(st.sampled_from(["EUR", "CHF", "GBP"]), st.integers(0, 10_000))


@given(limits, st.none() | limits)
def test_what_is_stated_never_raises_what_was_measured(measured: dict[str, int], stated: dict[str, int] | None) -> None:
    for currency, limit in face_alone(measured, Stated(stated)).items():
        assert 0 < limit.single <= measured[currency]
        assert stated is None or limit.single <= stated[currency]
        assert limit.total == 3 * limit.single


@given(limits, limits)
def test_what_is_stated_counts_once_somebody_accepted_it_in_writing(
    measured: dict[str, int], stated: dict[str, int]
) -> None:
    accepted = face_alone(measured, Stated(stated, "A. Example, 2026-11-20", Law.ELSEWHERE))
    assert {currency: limit.single for currency, limit in accepted.items()} == {k: v for k, v in stated.items() if v}


@given(limits, st.none() | limits)
def test_in_the_eu_nobody_can_accept_more_than_the_law_allows(
    measured: dict[str, int], stated: dict[str, int] | None
) -> None:
    allowed = face_alone(measured, Stated(stated, "A. Example, 2026-11-20")).get("EUR", FaceAlone(0, 0))
    assert allowed.single == min((measured if stated is None else stated).get("EUR", 0), 50_00)
    assert (allowed.total, allowed.in_a_row) == (3 * allowed.single, 5)


@given(limits, st.integers(0, 10_000))
def test_a_worse_measured_risk_never_raises_a_limit(measured: dict[str, int], less: int) -> None:
    worse = {currency: max(0, amount - less) for currency, amount in measured.items()}
    before, after = (face_alone(risk, Stated({"EUR": 50_00, "CHF": 20_00})) for risk in (measured, worse))
    assert all(after[currency].single <= before[currency].single for currency in after)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.fares.errors import BadEvent
from facefare.fares.standing import Standing, State


def test_the_first_ride_is_let_through_at_the_operators_risk():
    assert Standing().may_travel(risk_limit=0)


def test_a_decline_puts_the_payer_on_the_deny_list_with_what_they_owe():
    denied = Standing().travelled(280).declined(280)
    assert (denied.state, denied.owed, denied.at_risk) == (State.DENIED, 280, 0)
    assert not denied.may_travel(risk_limit=10_000)


def test_paying_in_full_clears_at_once_and_in_part_does_not():
    denied = Standing().travelled(280).declined(280)
    assert not denied.paid(100).may_travel(10_000)
    assert denied.paid(100).paid(180).may_travel(10_000)


def test_nothing_but_payment_clears_a_debt():
    denied = Standing(State.GOOD).travelled(280).declined(280)
    assert denied.authorised(280).owed == 280
    with pytest.raises(BadEvent):
        denied.travelled(100)


def test_a_debt_cannot_be_overpaid_or_written_off_twice():
    denied = Standing().declined(280)
    for amount in (281, 0, -5):
        with pytest.raises(BadEvent):
            denied.paid(amount)
    with pytest.raises(BadEvent):
        denied.written_off().written_off()


def test_rides_stop_when_too_much_is_unsecured_and_go_on_once_it_is_secured():
    rides = Standing(State.GOOD).travelled(300).travelled(300)
    assert not rides.may_travel(600)
    assert rides.authorised(600).may_travel(600)


events = st.lists(
    st.tuples(st.sampled_from(["travelled", "authorised", "declined", "paid", "written_off"]), st.integers(-10, 1000)),
    max_size=30,
)


@given(events)
def test_whatever_happens_a_payer_is_denied_exactly_while_they_owe(happenings):
    standing = Standing()
    for name, amount in happenings:
        try:
            step = getattr(standing, name)
            standing = step() if name == "written_off" else step(amount)
        except BadEvent:
            continue
        assert standing.owed >= 0
        assert standing.at_risk >= 0
        assert (standing.state is State.DENIED) == (standing.owed > 0)
        assert standing.owed == 0 or not standing.may_travel(10**9)

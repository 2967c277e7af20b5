"""Somebody who looks like a payer enrols: what the station hears, what both payers hear, and what a face then pays."""

from typing import Any

import pytest

from facefare.client import ApiError, PayerClient


@pytest.fixture
def twins(world: Any) -> tuple[PayerClient, PayerClient]:
    """Two payers whom the guardians took for one at enrolment, and can tell apart when they look at a camera."""
    ada, eve = world.payer("twin"), world.payer("twin")
    world.guardians.rows["gal_town"] = {
        row: world.requests.search(label).sealed[0] for row, label in enumerate(("ada", "eve"))
    }
    for payer in (ada, eve):
        payer.set_pin("2468")
    return ada, eve


def at_the_till(world: Any, label: str, amount: int = 300) -> Any:
    search = world.requests.search(label, terminal="trm_till").to_bytes()
    return world.till.attempt(amount=amount, currency="EUR", search=search)


def brought(world: Any, label: str) -> dict[str, Any]:
    """What the station hears, word for word."""
    heard: list[dict[str, Any]] = []
    world.http.event_hooks["response"] = [lambda response: (response.read(), heard.append(response.json()))]
    try:
        world.payer(label)
    finally:
        world.http.event_hooks["response"] = []
    return heard[-1]


def test_the_station_hears_done_or_see_staff_and_nothing_else(world: Any) -> None:
    assert brought(world, "ada") == {"outcome": "done"}
    assert brought(world, "ada") == {"outcome": "see_staff"}  # like one, and enrolled
    assert brought(world, "ada") == {"outcome": "see_staff"}  # like several, and not enrolled
    assert world.guardians.rows["gal_town"].keys() == {0, 1}


@pytest.mark.parametrize("who", [0, 1])
def test_a_lookalikes_face_alone_pays_nothing_at_a_till_and_the_pin_does(
    world: Any, twins: tuple[PayerClient, PayerClient], who: int
) -> None:
    label, payer = ("ada", "eve")[who], twins[who]
    reply = at_the_till(world, label, amount=1)
    assert (reply.outcome, reply.reason) == ("confirmation_required", "second_factor")
    assert world.till.confirm(reply.payment_intent, "1357").reason == "pin_wrong"
    assert payer.account().available == 1000
    assert world.till.confirm(reply.payment_intent, "2468").outcome == "accepted"
    assert [one.account().available for one in twins] == [999 if one is payer else 1000 for one in twins]


def test_a_lookalike_may_say_yes_in_the_own_app_and_the_other_may_not(
    world: Any, twins: tuple[PayerClient, PayerClient]
) -> None:
    ada, eve = twins
    reply = at_the_till(world, "ada")
    with pytest.raises(ApiError, match="no payment"):
        eve.confirm(reply.payment_intent)
    assert ada.confirm(reply.payment_intent)
    assert (ada.account().available, eve.account().available) == (700, 1000)


def test_a_lookalikes_face_alone_opens_no_gate_not_even_moments_after_the_other_paid(
    world: Any, twins: tuple[PayerClient, PayerClient]
) -> None:
    for _ in range(2):
        reply = world.look("ada")
        assert (reply.outcome, reply.reason, reply.opens) == ("use_card", "second_factor", False)
    first = at_the_till(world, "ada")
    world.till.confirm(first.payment_intent, "2468")
    assert at_the_till(world, "ada").outcome == "confirmation_required"
    assert twins[0].account().available == 700


def test_two_who_match_at_once_are_asked_for_a_card_and_no_pin_chooses_between_them(world: Any) -> None:
    world.payer("twin"), world.payer("twin")
    assert at_the_till(world, "twin").reason == "several_match"


def test_both_are_told_and_neither_who_the_other_is(world: Any, twins: tuple[PayerClient, PayerClient]) -> None:
    for me, other in (twins, twins[::-1]):
        (face,) = me.account().faces
        assert face.lookalike
        (notice,) = [entry for entry in me.access_log() if entry["purpose"] == "enrolment"]
        assert (notice["by"], notice["outcome"]) == ("stn_desk", "lookalike")
        everything = world.http.get("/v1/payers/me/export", auth=me._auth).text
        assert "lookalike" in everything
        assert other.account().id not in everything
        assert other.account().faces[0].id not in everything


def test_who_looks_like_nobody_pays_as_ever(world: Any, twins: tuple[PayerClient, PayerClient]) -> None:
    cleo = world.payer("cleo")
    assert not cleo.account().faces[0].lookalike
    assert world.look("cleo").outcome == "accepted"


def test_one_person_with_an_older_account_proves_it_there_and_pays_by_face_here(world: Any) -> None:
    old, new = world.payer("ada"), world.payer("ada")
    assert new.account().faces[0].lookalike
    word = old.give_up_face()
    assert old.account().faces == ()
    assert world.look("ada").reason == "second_factor"  # the old account's leaving alone frees nobody
    (face,) = new.same_person(word)
    assert not face.lookalike
    assert world.look("ada").outcome == "accepted"


def test_nobody_frees_a_payer_but_that_payer(world: Any, twins: tuple[PayerClient, PayerClient]) -> None:
    ada, eve = twins
    word = eve.give_up_face()
    for somebody in (eve, world.payer("cleo")):
        with pytest.raises(ApiError) as caught:
            somebody.same_person(word)
        assert caught.value.code == "not-the-same-person"
    assert ada.account().faces[0].lookalike


def test_an_enrolment_that_could_not_be_compared_is_no_enrolment(world: Any) -> None:
    world.guardians.down = True
    with pytest.raises(ApiError) as caught:
        world.payer("ada")
    assert (caught.value.status, caught.value.code) == (503, "cannot-compare")
    world.guardians.down = False
    assert brought(world, "ada") == {"outcome": "done"}

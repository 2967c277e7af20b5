"""Cards in the payer's app, against a stand-in for the card processor."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from facefare.payments import card_top_ups


@pytest.fixture
def processor(card_processor: Any) -> Any:
    return card_processor


@pytest.fixture
def page(site: Any, visit: Any, stand_in: Any) -> Iterator[Any]:
    """Ada, who has put a card on file."""
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        page.goto("/app/top-up")
        page.get_by_role("button", name="Add a card").click()
        expect(page.get_by_role("link", name="Go to the card processor")).to_have_attribute(
            "href", "https://cards.example/cs_test_1"
        )
        page.goto("/app/card/added?session=cs_test_1")  # closed the page without a card
        expect(page.get_by_role("alert")).to_contain_text("No card was added")
        stand_in.card = {"brand": "visa", "last4": "4242"}
        page.goto("/app/card/added?session=cs_test_1")
        expect(page.get_by_role("status")).to_contain_text("Your card is on file")
        expect(page.get_by_role("heading", name="Visa •••• 4242")).to_be_visible()
        yield page


def top_up(page: Any) -> None:
    page.goto("/app/top-up")
    page.get_by_role("button", name="20.00").click()


def test_a_card_given_on_the_processors_page_tops_up(site: Any, page: Any, stand_in: Any) -> None:
    (asked,) = [form for call, form in stand_in.asked if call == "POST /v1/checkout/sessions"]
    assert asked["success_url"] == f"{site.url}/app/card/added?session={{CHECKOUT_SESSION_ID}}"
    page.goto("/app/top-up")
    form = {"amount": "2000", "key": page.locator("[name=key]").input_value()}
    page.get_by_role("button", name="20.00").click()
    expect(page.locator(".receipt .amount")).to_have_text("20.00\u00a0€")
    page.request.post("/app/top-up", form=form, headers={"Sec-Fetch-Site": "same-origin"})  # the same form once more
    page.goto("/app/")
    expect(page.locator(".balance .amount")).to_have_text("30.00\u00a0€")
    assert [call for call, _ in stand_in.asked].count("POST /v1/payment_intents") == 1


def test_what_the_bank_asks_is_answered_at_the_bank_and_credited_after_it(site: Any, page: Any, stand_in: Any) -> None:
    stand_in.bank = "ask"
    top_up(page)
    expect(page.get_by_role("link", name="Go to my bank")).to_have_attribute("href", "https://bank.example/ask")
    back = stand_in.intent["next_action"]["redirect_to_url"]["return_url"]
    assert back.startswith(f"{site.url}/app/card/top_")
    page.goto(back)  # not answered yet
    expect(page.get_by_role("heading", name="Your bank wants to ask you")).to_be_visible()
    stand_in.intent |= {"status": "succeeded", "next_action": None}
    page.goto(back)
    expect(page.locator(".receipt .amount")).to_have_text("20.00\u00a0€")
    page.goto("/app/")
    expect(page.locator(".balance .amount")).to_have_text("30.00\u00a0€")


@pytest.mark.parametrize(
    ("said", "told"),
    [("insufficient_funds", "There is not enough money on this card"), ("do_not_honor", "did not say why")],
)
def test_a_refusal_is_said_in_words_and_charges_nothing(page: Any, stand_in: Any, said: str, told: str) -> None:
    stand_in.bank = said
    top_up(page)
    expect(page.get_by_role("alert")).to_contain_text(told)
    page.goto("/app/")
    expect(page.locator(".balance .amount")).to_have_text("10.00\u00a0€")


def test_it_tops_up_by_itself_until_the_bank_refuses_or_the_card_is_removed(
    site: Any, page: Any, stand_in: Any, processor: Any
) -> None:
    page.goto("/app/card/")
    page.get_by_label("When there is less than").fill("15")
    page.get_by_label("Add (EUR)").fill("20")
    page.get_by_role("button", name="Top up by itself").click()
    expect(page.get_by_role("status")).to_contain_text("It tops up by itself")
    stand_in.bank = "insufficient_funds"
    card_top_ups.charge_those_below(site.engine, processor(site.url))
    page.goto("/app/card/")
    expect(page.get_by_text("It stopped topping up by itself")).to_be_visible()
    (asked,) = [form for call, form in stand_in.asked if call == "POST /v1/payment_intents"]
    assert "return_url" not in asked  # nobody is there
    assert asked["off_session"] == "true"
    page.get_by_role("button", name="Never by itself").click()
    expect(page.get_by_role("status")).to_contain_text("never tops up by itself")
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("button", name="Add a card")).to_be_visible()
    assert ("POST /v1/payment_methods/pm_1/detach", {}) in stand_in.asked


def test_one_payer_sees_nothing_of_anothers_top_up(site: Any, visit: Any, page: Any, stand_in: Any) -> None:
    stand_in.bank = "ask"
    top_up(page)
    path = stand_in.intent["next_action"]["redirect_to_url"]["return_url"].removeprefix(site.url)
    site.payer("ben")
    with visit(site.url, expect_missing=True) as other:
        site.sign_in(other, "ben")
        assert other.request.get(path).status == 404
        other.goto("/app/card/added?session=cs_test_1")  # ada's page of the processor
        expect(other.locator("main")).not_to_contain_text("4242")

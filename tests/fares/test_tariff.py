from datetime import date

import pytest

from facefare.fares.errors import TariffError
from facefare.fares.explain import Line, money, render
from facefare.fares.tariff import load_tariff, minor_units


def test_a_tariff_survives_its_json_form(city, tmp_path):
    path = tmp_path / "city.json"
    path.write_text(city.model_dump_json())
    assert load_tariff(path) == city


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("product", '"nothing"', "no such product"),
        ("amounts", '{"": -1}', "greater than or equal"),
        ("amounts", '{"": 1.5}', "integer"),
        ("effective_from", '"yesterday"', "date"),
        ("prise", "1", "prise is nothing that is known here"),
    ],
)
def test_a_tariff_that_contradicts_itself_is_refused_with_the_reason(tmp_path, field, text, says):
    parts = {"product": '"single"', "amounts": '{"": 100}', "effective_from": '"2026-01-01"'}
    extra = f', "{field}": {text}' if field not in parts else ""
    parts[field] = text
    path = tmp_path / "bad.json"
    path.write_text(
        f'{{"id": "t", "currency": "EUR"{extra}, "versions": [{{"effective_from": {parts["effective_from"]},'
        f' "products": [{{"id": "single", "amounts": {parts["amounts"]}}}],'
        f' "rules": [{{"id": "r", "bands": [{{"product": {parts["product"]}}}]}}]}}]}}'
    )
    with pytest.raises(TariffError, match=says):
        load_tariff(path)


def test_a_missing_file_is_said_so(tmp_path):
    with pytest.raises(TariffError, match="No such file"):
        load_tariff(tmp_path / "none.json")


def test_no_price_applies_before_the_first_version(flat):
    with pytest.raises(TariffError, match="no version in force"):
        flat.version_on(date(2025, 12, 31))


def test_a_version_cannot_be_slipped_in_behind_a_later_one(flat):
    with pytest.raises(TariffError):
        flat.with_version(flat.versions[0])


@pytest.mark.parametrize(
    ("text", "currency", "minor"), [("2.80", "EUR", 280), ("310", "JPY", 310), ("0.250", "KWD", 250)]
)
def test_amounts_keep_their_currencys_minor_unit(text, currency, minor):
    assert minor_units(text, currency) == minor
    assert money(minor, currency) == text


@pytest.mark.parametrize("text", ["2.805", "two", "NaN", "Infinity", ""])
def test_an_amount_that_is_no_whole_number_of_minor_units_is_refused(text):
    with pytest.raises(TariffError):
        minor_units(text, "EUR")


def test_a_receipt_can_be_said_in_another_language():
    line = Line("fare.capped.day", {"saved": 280, "cap": 1000})
    spanish = {"fare.capped.day": "tope diario: {saved} de ahorro"}
    assert render(line, "EUR", spanish) == "tope diario: 2.80 de ahorro"

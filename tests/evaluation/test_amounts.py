"""What a face alone may pay follows the measured risk, never upwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.evaluation.amounts import (
    NOT_SIMULATED,
    UNTIL_FACTOR,
    Attacks,
    Costs,
    describe,
    face_alone,
    with_amounts,
)
from facefare.evaluation.errors import CostsError
from facefare.evaluation.presentation import BONA_FIDE, GATE_ALL, GATE_ONLY_MOTION
from facefare.identification.calibration import Calibration
from facefare.payments import decision

rates = st.floats(0, 1)
amounts = st.integers(0, 500_00)
costs = st.builds(
    Costs, strangers=rates, handling=amounts, loss_a_payment=amounts, loss_an_attack=amounts, most=amounts
)


@given(rates, rates, rates, rates, costs)
def test_a_worse_measured_risk_never_raises_the_amount(
    fpir: float, worse_fpir: float, apcer: float, worse_apcer: float, costs: Costs
) -> None:
    fpir, worse_fpir = sorted((fpir, worse_fpir))
    apcer, worse_apcer = sorted((apcer, worse_apcer))
    assert 0 <= face_alone(worse_fpir, worse_apcer, costs) <= face_alone(fpir, apcer, costs) <= costs.most


@given(rates, rates, costs)
def test_the_amount_costs_no_more_than_is_borne(fpir: float, apcer: float, costs: Costs) -> None:
    amount = face_alone(fpir, apcer, costs)
    if amount:
        assert costs.strangers * fpir * (amount + costs.handling) <= costs.loss_a_payment * (1 + 1e-9)
        assert apcer * UNTIL_FACTOR * amount <= costs.loss_an_attack * (1 + 1e-9)


def row(species: str, high: float, *, check: str = GATE_ALL, source: str = "simulated") -> dict[str, object]:
    return {"species": species, "check": check, "source": source, "rate": {"high": high}}


def test_the_worst_species_counts_and_one_that_nobody_tested_always_passes() -> None:
    tested = [row("print", 0.1), row("cut-out", 0.25), row(BONA_FIDE, 0.9), row("still", 0.8, check=GATE_ONLY_MOTION)]
    attacks = Attacks.of(tested)
    assert (attacks.covered, attacks.worst, attacks.not_covered) == (0.25, "cut-out", NOT_SIMULATED)
    assert attacks.apcer == 1.0
    recorded = [row(name, 0.3, source="recorded") for name in NOT_SIMULATED]
    assert Attacks.of([*tested, *recorded]).apcer == 0.3
    assert Attacks.of([*tested, *(row(name, 0.3) for name in NOT_SIMULATED)]).apcer == 1.0  # nobody renders a mask
    assert Attacks.of([]).apcer == Attacks.read({}).apcer == 1.0


def test_a_row_without_an_interval_pays_nothing() -> None:
    rows = [{"payers": 10, "fpir": 0.001, "threshold": -2000}]
    assert with_amounts(rows, Attacks.of([]), Costs())[0]["face_alone"] == 0
    assert describe(rows, Attacks.of([]), Costs())["rows"][0]["face_alone"] == 0


def test_the_shipped_amounts_are_those_of_the_shipped_risk_and_fall_with_payers() -> None:
    default = Calibration.default()
    for one in default.thresholds:
        assert one.fpir_high is not None
        assert one.face_alone == face_alone(one.fpir_high, 1.0, Costs())  # masks were never tested
    paid = [default.face_alone(payers, 0.001)["EUR"] for payers in (1, 1000, 10_000, 100_000)]
    assert paid == sorted(paid, reverse=True)
    assert paid[0] == 50_00 > paid[2] > paid[3] == 0
    assert default.face_alone(100_001, 0.001) == {}  # where the table ends nothing was measured


def test_reckoning_and_rules_mean_the_same_by_in_a_row() -> None:
    assert UNTIL_FACTOR == decision.UNTIL_FACTOR


@pytest.mark.parametrize("text", ["strangers = 2.0", "most = -1", 'most = "much"', "handling = 1.5", "loss = 3", "="])
def test_a_file_of_costs_that_makes_no_sense_is_refused(tmp_path, text) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(text)
    with pytest.raises(CostsError):
        Costs.read(file)


def test_costs_are_read_from_a_file(tmp_path) -> None:
    file = tmp_path / "costs.toml"
    file.write_text('currency = "CHF"\nmost = 30_00\n')
    assert Costs.read(file) == Costs(currency="CHF", most=30_00)

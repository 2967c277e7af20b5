"""What a face alone may pay: from the measured risk and what a fraud costs, pure functions.

Two things may go wrong, and each bounds the amount of a single payment; the smaller bound counts, rounded down:
  a stranger is taken for a payer   strangers' share x FPIR (upper end of its interval, at the number of payers)
                                    x (amount + handling) <= what may be lost at a payment on average
  an attack is presented            APCER (upper end, of the worst species) x what it takes until the next second
                                    factor, `UNTIL_FACTOR` single payments, <= what may be lost at an attack
Never more than `Costs.most`. A species that was not tested counts as one that always passes (APCER 1).
Invariant: a risk measured as worse never gives a larger amount.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from facefare.evaluation.errors import CostsError
from facefare.evaluation.metrics import Report
from facefare.evaluation.presentation import BONA_FIDE, GATE_ALL
from facefare.files import read_toml, sentence

UNTIL_FACTOR: Final = 3
"""Single payments that a face alone may make in total until a second factor is asked for."""
NOT_SIMULATED: Final = ("mask", "injected video")
"""Species that are never rendered: covered only where an operator recorded them, under these names."""


@dataclass(frozen=True)
class Costs:
    """What a fraud costs an operator, and how much of that is borne. Amounts in minor units of `currency`.

    Attributes:
        strangers: share of attempts at tills that are of people who are no payers.
        handling: what a disputed payment costs beside its amount.
        loss_a_payment: what may be lost at each payment by face alone, on average.
        loss_an_attack: what one attack that passes may take.
        most: no single payment by face alone is ever larger. The defaults of this and of `loss_an_attack` are those of
            contactless cards (Delegated Regulation (EU) 2018/389, article 11: 50.00, and 150.00 in total).
    """

    currency: str = "EUR"
    strangers: float = 0.05
    handling: int = 10_00
    loss_a_payment: int = 5
    loss_an_attack: int = 150_00
    most: int = 50_00

    def __post_init__(self) -> None:
        amounts = (self.handling, self.loss_a_payment, self.loss_an_attack, self.most)
        whole = all(isinstance(amount, int) and amount >= 0 for amount in amounts)
        if not whole or not 0 <= self.strangers <= 1 or len(self.currency) != 3:
            raise CostsError("Costs are whole minor units, not negative; a share lies within 0 and 1.")

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a TOML file with any of the attributes; raises CostsError."""
        try:
            body = read_toml(path)
            unknown = set(body) - {field.name for field in fields(cls)}
            if unknown:
                raise CostsError(f"{path.name} names {', '.join(sorted(unknown))}, which is no cost.")
            return cls(**body)
        except OSError as error:
            raise CostsError(sentence(error)) from error
        except TypeError as error:
            raise CostsError(f"{path}: A value in it is of another kind.") from error


@dataclass(frozen=True)
class Attacks:
    """The upper end of the worst APCER among the species tested, which one that is, and which were not tested."""

    covered: float
    worst: str
    not_covered: tuple[str, ...]

    @property
    def apcer(self) -> float:
        """What has to be reckoned with: a species nobody tested passes."""
        return 1.0 if self.not_covered else self.covered

    @classmethod
    def of(cls, rows: Iterable[Report]) -> Self:
        """Of a report's `attacks`: the gate's check where its empty place is not known, as in recordings; an operator's
        recordings beside simulations."""
        tested = [row for row in rows if row["check"] == GATE_ALL and row["species"] != BONA_FIDE]
        recorded = {row["species"] for row in tested if row["source"] == "recorded"}
        not_covered = tuple(name for name in NOT_SIMULATED if name not in recorded)
        worst = max(tested, key=lambda row: float(row["rate"]["high"]), default=None)
        if worst is None:
            return cls(1.0, "none was tested", not_covered)
        return cls(float(worst["rate"]["high"]), str(worst["species"]), not_covered)

    @classmethod
    def read(cls, measured: dict[str, Any]) -> Self:
        """Of what a calibration file says was measured; where it says nothing, nothing is covered."""
        described = measured.get("attacks")
        if not isinstance(described, dict):
            return cls(1.0, "none was tested", NOT_SIMULATED)
        return cls(float(described["covered"]), str(described["worst"]), tuple(map(str, described["not_covered"])))


def by_strangers(fpir_high: float, costs: Costs) -> int:
    """The amount up to which strangers who are taken for payers cost no more than is borne."""
    risk = costs.strangers * fpir_high
    return _whole(costs.loss_a_payment / risk - costs.handling if risk > 0 else math.inf, costs)


def by_attacks(apcer: float, costs: Costs) -> int:
    """The amount up to which an attack takes no more than is borne."""
    return _whole(costs.loss_an_attack / (UNTIL_FACTOR * apcer) if apcer > 0 else math.inf, costs)


def face_alone(fpir_high: float, apcer: float, costs: Costs) -> int:
    """What a single payment by face alone may be, in minor units; 0: a second factor always."""
    return min(by_strangers(fpir_high, costs), by_attacks(apcer, costs))


def with_amounts(rows: Sequence[Report], attacks: Attacks, costs: Costs) -> list[Report]:
    """Add to rows of thresholds what a face alone may pay; a row without an interval counts as FPIR 1."""
    return [{**row, "face_alone": face_alone(float(row.get("fpir_high") or 1.0), attacks.apcer, costs)} for row in rows]


def describe(rows: Sequence[Report], attacks: Attacks, costs: Costs) -> Report:
    """What the report shows of it: each bound by itself, and what it would be if no other attacks came than tested."""
    return {
        "costs": asdict(costs),
        "attacks": asdict(attacks),
        "until_factor": UNTIL_FACTOR,
        "by_attacks": by_attacks(attacks.apcer, costs),
        "by_attacks_covered": by_attacks(replace(attacks, not_covered=()).apcer, costs),
        "rows": [
            {
                "payers": row["payers"],
                "fpir": row["fpir"],
                "fpir_high": row.get("fpir_high"),
                "by_strangers": by_strangers(float(row.get("fpir_high") or 1.0), costs),
                "face_alone": face_alone(float(row.get("fpir_high") or 1.0), attacks.apcer, costs),
            }
            for row in rows
        ],
    }


def _whole(amount: float, costs: Costs) -> int:
    return max(0, min(costs.most, math.floor(min(amount, costs.most))))

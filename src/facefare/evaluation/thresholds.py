"""Thresholds for a number of payers and a risk, from measured impostor distances.

FPIR of N payers is N times the FMR of one comparison (an upper bound: ISO/IEC 19795-1 gives
1 - (1 - FMR)^N for independent comparisons). Rates smaller than the data can show are extrapolated. The smallest of
many distances that cannot fall below zero follow a Weibull law (Fisher and Tippett 1928; Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, theorem 3.1): FMR is a power of the squared distance in the tail, a line
between their logarithms, which is fitted and carried on. How far off it may be is told by leaving out groups of people
(delete-a-group jackknife; a comparison is left out with either of its people).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.errors import EvaluationError
from facefare.evaluation.metrics import Distances
from facefare.identification.calibration import Calibration

PAYERS: Final = (
    *(1, 2, 3, 5, 7),
    *(base * 10**power for power in range(4) for base in (10, 15, 20, 30, 50, 70)),
    100_000,
)
FPIRS: Final = (0.01, 0.003, 0.001)
LOOSEST: Final = 1e-3
"""FMR that no threshold exceeds, however few the payers."""
VERIFICATION_FMR: Final = 1e-4
"""FMR of comparisons with one reference, the payer-held key profile."""
BULK: Final = (0.1, 0.03, 0.01, 0.003, 0.001)
_FIT = (3e-6, 3e-4)
_IN_FILE = ("payers", "fpir", "threshold", "fpir_high", "face_alone")
_DEFAULT_SCALE = 160.0
_MAX_SQUARED_NORM = 8191  # so that no squared distance of two allowed templates leaves 16 bits
_LOWEST = 1e-4  # of a rate, that a cautious distance is looked for down to
_ENOUGH = 30  # false matches for a rate to be measured rather than extrapolated


@dataclass(frozen=True)
class ImpostorCurve:
    """ln(squared distance) = level + slope * log10(FMR); measured down to `measured_fmr`, a line below."""

    level: float
    slope: float
    measured_fmr: float
    pairs: int
    bulk: tuple[tuple[float, float], ...] = ()  # (FMR, squared distance) above the tail, for a site to compare with

    @classmethod
    def of(cls, impostor: Distances) -> Self:
        """Fit to counted distances: over FMR 3e-6..3e-4, or the two decades above where the data ends."""
        measured = max(_ENOUGH / max(impostor.total, 1), 1e-9)
        lowest = max(_FIT[0], measured)
        rates = np.geomspace(lowest, max(_FIT[1], lowest * 100), 40)
        distances = np.array([impostor.threshold_at(float(rate)) for rate in rates])
        slope, level = np.polyfit(np.log10(rates), np.log(np.maximum(distances, 1e-9)), 1)
        bulk = tuple((rate, round(impostor.threshold_at(rate), 5)) for rate in BULK)
        return cls(float(level), float(slope), measured, impostor.total, bulk)

    def distance(self, fmr: float) -> float:
        """Return the squared distance of unit vectors below which a share `fmr` of impostors lies."""
        return float(np.exp(self.level + self.slope * np.log10(fmr)))

    def fmr(self, distance: float) -> float:
        """Undo `distance`."""
        return float(10 ** ((np.log(distance) - self.level) / self.slope))

    def interval(self, fmr: float, without: Sequence[Self]) -> tuple[float, float]:
        """Return a 95 % interval of the FMR at the distance that the curve gives for `fmr`.

        without: the curve fitted without each group of people, at least two of them.
        """
        logs = np.log10([one.fmr(self.distance(fmr)) for one in without])
        error = float(np.sqrt((len(logs) - 1) * np.var(logs)))
        return fmr * 10 ** (-1.96 * error), fmr * 10 ** (1.96 * error)

    def cautious_distance(self, fmr: float, without: Sequence[Self]) -> float | None:
        """Return the largest squared distance at which the upper end of `interval` is `fmr`.

        None where there is none: so far beyond the data the interval widens faster than the rate falls.
        """
        for rate in np.geomspace(fmr, fmr * _LOWEST, 161).tolist():
            if self.interval(rate, without)[1] <= fmr:
                return self.distance(rate)
        return None

    def moved(self, factor: float) -> "ImpostorCurve":
        """Return the same curve with all squared distances multiplied."""
        bulk = tuple((rate, distance * factor) for rate, distance in self.bulk)
        return replace(self, level=self.level + float(np.log(factor)), bulk=bulk)

    def table(
        self, calibration: Calibration, refused: Callable[[float], float], without: Sequence[Self] = ()
    ) -> list[dict[str, Any]]:
        """Return a row for each number of payers and FPIR: integer threshold, and how many payers it refuses.

        `calibration` says how templates are quantised. `refused`: share of genuine comparisons at or above a squared
        distance. `without`: see `interval`; the rows then say within which the true FPIR lies.
        """
        rows = []
        for payers, fpir, fmr in _asked():
            distance = self.distance(fmr)
            rows.append(_row(payers, fpir, distance, calibration, refused, extrapolated=fmr < self.measured_fmr))
            if without:
                rows[-1] |= _within(payers, self.interval(fmr, without))
        return rows

    def describe(self) -> dict[str, Any]:
        """Return its parameters, for a file."""
        return asdict(self)

    @classmethod
    def read(cls, document: str) -> Self:
        """Read the curve of a calibration file. Raises EvaluationError if it holds none."""
        try:
            return cls.from_description(json.loads(document)["measured"]["impostor_curve"])
        except (KeyError, TypeError) as error:
            raise EvaluationError("The calibration file holds no impostor curve.") from error

    @classmethod
    def from_description(cls, fields: dict[str, Any]) -> Self:
        """Undo `describe`. Raises EvaluationError for other fields."""
        try:
            bulk = tuple((float(rate), float(distance)) for rate, distance in fields["bulk"])
            return cls(
                float(fields["level"]),
                float(fields["slope"]),
                float(fields["measured_fmr"]),
                int(fields["pairs"]),
                bulk,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError("The calibration file holds no impostor curve.") from error


def integer(distance: float, calibration: Calibration) -> int:
    """Return the threshold for quantised templates at a squared distance of unit vectors: minus one of integers."""
    return -max(1, int(calibration.scale**2 * distance + rounding(calibration)))


def squared_distance(threshold: int, calibration: Calibration) -> float:
    """Undo `integer`, to within its rounding."""
    return max(0.0, -threshold - rounding(calibration)) / calibration.scale**2


@dataclass(frozen=True)
class GroupCurve:
    """Impostors inside one group of people, and the same without parts of it."""

    name: str
    curve: ImpostorCurve
    without: tuple[ImpostorCurve, ...]


def worst_distance(groups: Sequence[GroupCurve], fmr: float) -> tuple[float, GroupCurve] | None:
    """Return the squared distance at which every group's upper end is at most `fmr`, and the group that sets it."""
    found = [(group.curve.cautious_distance(fmr, group.without), group) for group in groups]
    reached = [(distance, group) for distance, group in found if distance is not None]
    return min(reached, key=lambda one: one[0]) if reached and len(reached) == len(found) else None


def table_for_groups(
    groups: Sequence[GroupCurve], calibration: Calibration, refused: Callable[[float], float]
) -> list[dict[str, Any]]:
    """Return `ImpostorCurve.table`'s rows at the distances where the worst group's upper end meets the FPIR.

    As if all payers and strangers were of that group. Rows that no distance reaches are left out: no search there.
    """
    rows = []
    for payers, fpir, fmr in _asked():
        worst = worst_distance(groups, fmr)
        if worst is None:
            continue
        distance, group = worst
        inside = group.curve.fmr(distance)
        row = _row(payers, fpir, distance, calibration, refused, extrapolated=inside < group.curve.measured_fmr)
        within = _within(payers, group.curve.interval(inside, group.without))
        rows.append(row | within | {"group": group.name})
    return rows


def _asked() -> Iterator[tuple[int, float, float]]:
    """Each number of payers and FPIR that a table has, and the FMR that keeps it."""
    for payers in PAYERS:
        for fpir in FPIRS:
            yield payers, fpir, min(fpir / payers, LOOSEST)


def _row(
    payers: int,
    fpir: float,
    distance: float,
    calibration: Calibration,
    refused: Callable[[float], float],
    *,
    extrapolated: bool,
) -> dict[str, Any]:
    return {
        "payers": payers,
        "fpir": fpir,
        "threshold": integer(distance, calibration),
        "squared_distance": round(distance, 5),
        "genuine_refused": round(refused(distance), 4),
        "extrapolated": bool(extrapolated),
    }


def _within(payers: int, fmr: tuple[float, float]) -> dict[str, float]:
    """The interval of the FPIR, from that of the FMR."""
    low, high = fmr
    return {"fpir_low": payers * low, "fpir_high": min(1.0, payers * high)}


def moved_rows(calibration: Calibration, factor: float, refused: Callable[[float], float]) -> list[dict[str, Any]]:
    """Return the rows of a calibration with all squared distances multiplied: the same rates on other cameras."""
    rows = []
    for row in calibration.thresholds:
        distance = factor * squared_distance(row.threshold, calibration)
        rows.append(
            {
                "payers": row.payers,
                "fpir": row.fpir,
                "threshold": integer(distance, calibration),
                "genuine_refused": round(refused(distance), 4),
                "fpir_high": row.fpir_high,
            }
        )
    return rows


def new_calibration(model_id: str, vectors: NDArray[np.float32], people: NDArray[np.int64]) -> Calibration:
    """Choose centre and scale for another embedder, from unit vectors (n, D) of many people (n,); no thresholds yet.

    The centre is the mean of people's means, so that it is nobody's template. The scale is the largest, up to the
    default embedder's, at which every vector seen stays within what the guardians take, with a twentieth to spare.
    """
    counts = np.bincount(people)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, people, vectors)
    mean = (sums[counts > 0] / counts[counts > 0, None]).mean(axis=0).astype(np.float32)
    centred = vectors - mean
    norms = (centred.astype(np.float64) ** 2).sum(axis=1)
    scale = min(_DEFAULT_SCALE, 0.95 * np.sqrt(_MAX_SQUARED_NORM / norms.max()), 0.95 * 127 / np.abs(centred).max())
    scale = float(np.floor(scale))
    least = max(1, int(scale**2 * np.quantile(norms, 0.001) / 2))
    return Calibration(model_id, mean, scale, least, _MAX_SQUARED_NORM, (), directions=directions(centred))


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the directions in which vectors (n, D) differ, (K, D), the widest first; None if they differ in all.

    A direction with less than a ten-thousandth of the whole variance does not count.
    """
    variances, axes = np.linalg.eigh(np.cov(vectors, rowvar=False, dtype=np.float64))
    count = int((variances > 1e-4 * variances.sum()).sum())
    return axes[:, ::-1][:, :count].T.astype(np.float32) if 0 < count < len(axes) else None


def rounding(calibration: Calibration) -> float:
    """Return what rounding two templates adds to their squared distance of integers, on average.

    A coordinate's own error has a variance of 1/12, on top of what it makes up for (see `quantise`).
    """
    if calibration.carried is None:
        return calibration.dimensions / 6
    own = np.linalg.inv(calibration.carried)
    return float(2 * (own**2).sum() / 12)


def calibration_document(
    calibration: Calibration,
    curve: ImpostorCurve,
    rows: list[dict[str, Any]],
    notes: list[str],
    *,
    verification: float | None,
    currency: str,
    **measured: object,
) -> str:
    """Return the text of a calibration file: `calibration` with the thresholds of `rows`, and where they come from.

    verification: squared distance for comparisons with one reference; None leaves these out. currency: of the rows'
    amounts.
    """
    body: dict[str, Any] = {
        "model": calibration.model,
        "mean": [round(float(value), 7) for value in calibration.mean],
        "scale": calibration.scale,
        "min_squared_norm": calibration.min_squared_norm,
        "max_squared_norm": calibration.max_squared_norm,
        "notes": notes,
        "measured": {**measured, "impostor_curve": curve.describe()},
        "currency": currency,
        "thresholds": [{name: row[name] for name in _IN_FILE if row.get(name) is not None} for row in rows],
    }
    if verification is not None:
        body["verification"] = {"fmr": VERIFICATION_FMR, "threshold": integer(verification, calibration)}
    if calibration.directions is not None:
        body["directions"] = [[round(float(value), 4) for value in row] for row in calibration.directions]
    return json.dumps(body, separators=(", ", ": ")) + "\n"

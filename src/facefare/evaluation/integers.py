"""What private matching loses: the guardians compare integers, not floating-point numbers.

Rounding is a coin thrown once for each coordinate. Moving the public centre by less than half a unit changes nothing
but how the coins fall, so that the mean over several such centres shows what rounding costs rather than one throw.
The same trials are judged both ways (paired), and the interval is over people. One operating point has few errors that
could go either way; `pooled` takes all of them together.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.comparisons import Comparisons, Draw, FusedComparisons, Subjects, all_pairs, fused_pairs
from facefare.evaluation.metrics import ENOUGH, Distances, Report
from facefare.evaluation.open_set import FPIRS, OpenSet, Search, sizes
from facefare.identification.calibration import Calibration
from facefare.identification.errors import IdentificationError
from facefare.identification.quantise import quantise

FMRS: Final = (1e-3, 1e-4, 1e-5, 1e-6)
_ROUNDINGS = 5
_DRAWS = 8  # of views: more change little and take their time
_INTEGER_TOP = 40_000.0  # above the largest squared distance that the guardians take


@dataclass(frozen=True, repr=False, eq=False)
class Paired:
    """The same genuine trials in float and in integers, at the same FMR.

    people (G,): whose they are. before (G,): share of roundings with a false non-match in float, after (G,): in
    integers (what float misses hangs on the rounding too, which decides which FMR can be reached).
    """

    views: str
    fmr: float
    people: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def describe(self) -> Report:
        """Return the relative loss with its interval, as the report holds it."""
        return {"views": self.views, "fmr": self.fmr, **_relative(self.people, self.before, self.after)}


def private_verification(
    subjects: Subjects,
    single: Comparisons,
    draws: Mapping[tuple[int, int], Sequence[Draw]],
    calibration: Calibration,
) -> list[Paired]:
    """FNMR of the same comparisons at the same FMR: single photos, and the fused views of `draws`."""
    roundings = _roundings(calibration)
    ones = [
        all_pairs(replace(subjects, vectors=_quantised(subjects.vectors, rounding)), 1.0, _INTEGER_TOP, 0)
        for rounding in roundings
    ]
    rows = _loss("1 photo, 1 photo", single.impostor, single.genuine, subjects.people[single.pairs[:, 0]], ones)
    for (enrolled, probe), drawn in draws.items():
        fused = fused_pairs(drawn[:_DRAWS])
        whole = [
            fused_pairs([_quantised_draw(one, rounding) for one in drawn[:_DRAWS]], 1.0, _INTEGER_TOP)
            for rounding in roundings
        ]
        label = f"{enrolled} views, {probe} view{'s' if probe > 1 else ''}"
        rows += _loss(label, fused.impostor, fused.genuine, fused.people, whole)
    return rows


def pooled(paired: Sequence[Paired]) -> Report:
    """Return the relative loss over several operating points together, each error counted once for each point."""
    return _relative(
        np.concatenate([one.people for one in paired]),
        np.concatenate([one.before for one in paired]),
        np.concatenate([one.after for one in paired]),
    )


def private_identification(sets: Sequence[OpenSet], calibration: Calibration) -> list[Report]:
    """FNIR in float and in integers at the same FPIR, as the system searches."""
    rows = []
    roundings = [
        [replace(one, drawn=_quantised_draw(one.drawn, rounding)) for one in sets]
        for rounding in _roundings(calibration)
    ]
    for payers in sizes(sets):
        found = Search.of(sets, payers)
        rounded = [Search.of(rounding, payers) for rounding in roundings]
        for fpir in FPIRS:
            before, after = [], []
            for one in rounded:
                # An integer threshold cannot be set finer than one unit: compare at the FPIR that it reaches.
                unit = one.threshold_at(fpir)
                before.append(found.missed(found.threshold_at(float((one.strangers < unit).mean()))))
                after.append(one.missed(unit))
            rows.append(
                {
                    "payers": payers,
                    "fpir": fpir,
                    **_relative(found.people, np.mean(before, axis=0), np.mean(after, axis=0)),
                }
            )
    return rows


def _roundings(calibration: Calibration) -> list[Calibration]:
    """The calibration with its centre moved by less than half a unit, in several ways."""
    rng = np.random.default_rng(0)
    shifts = [np.zeros(calibration.dimensions)]
    shifts += [rng.uniform(-0.5, 0.5, calibration.dimensions) for _ in range(_ROUNDINGS - 1)]
    return [
        replace(calibration, mean=(calibration.mean + shift / calibration.scale).astype(np.float32)) for shift in shifts
    ]


def _loss(
    label: str,
    impostor: Distances,
    genuine: NDArray[np.float64],
    people: NDArray[np.int64],
    in_integers: Sequence[Comparisons | FusedComparisons],
) -> list[Paired]:
    """FNMR in float and in integers at the same FMR, where float has enough false matches."""
    rows = []
    for fmr in FMRS:
        if fmr * impostor.total < ENOUGH:
            continue
        before, after, reached = [], [], []
        for integers in in_integers:
            # An integer threshold cannot be set finer than one unit: compare at the FMR that the integers reach.
            unit = integers.impostor.threshold_at(fmr)
            reached.append(float(integers.impostor.share_below(unit)))
            before.append(genuine >= impostor.threshold_at(reached[-1]))
            after.append(integers.genuine >= unit)
        means = np.mean(before, axis=0), np.mean(after, axis=0)
        rows.append(Paired(label, float(np.mean(reached)), people, *means))
    return rows


def _relative(people: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]) -> Report:
    """How much more often integers (G,) miss than float (G,), with an interval over people (G,)."""
    float_errors, integer_errors = np.bincount(people, weights=before), np.bincount(people, weights=after)
    each = np.full(len(float_errors), 1 / len(float_errors))
    weights = np.random.default_rng(0).multinomial(len(each), each, 1000)
    resampled = (weights @ integer_errors) / np.maximum(weights @ float_errors, 1) - 1
    return {
        "float": float(before.mean()),
        "integers": float(after.mean()),
        "relative_loss": float(integer_errors.sum() / max(float_errors.sum(), 1.0) - 1) if before.any() else 0.0,
        "low": float(np.quantile(resampled, 0.025)),
        "high": float(np.quantile(resampled, 0.975)),
        "errors": float(float_errors.sum()),
        "fewer_than_30_errors": bool(float_errors.sum() < ENOUGH),
    }


def _quantised(vectors: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """Quantise rows; those that the guardians would not take become a row far from every face."""
    try:
        return quantise(vectors, calibration).astype(np.float32)
    except IdentificationError:
        pass
    whole = np.full(vectors.shape, 127.0, np.float32)
    for row, vector in enumerate(vectors):
        with suppress(IdentificationError):
            whole[row] = quantise(vector, calibration)
    return whole


def _quantised_draw(one: Draw, calibration: Calibration) -> Draw:
    return replace(one, references=_quantised(one.references, calibration), probes=_quantised(one.probes, calibration))

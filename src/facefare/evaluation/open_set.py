"""One to many in an open set: some probes are of people who are enrolled, others of strangers (ISO/IEC 19795-1).

Half of those who can be probed are strangers, everybody else is enrolled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.comparisons import Draw, squared_distances
from facefare.evaluation.metrics import Rate, Report
from facefare.evaluation.thresholds import LOOSEST, ImpostorCurve

FPIRS: Final = (1e-2, 3e-3, 1e-3)
MIN_PEOPLE: Final = 10
_SUBSETS = 5
_PAYERS = (100, 300, 1000, 3000)


@dataclass(frozen=True, repr=False, eq=False)
class OpenSet:
    """One draw with some people enrolled and others not."""

    drawn: Draw
    gallery: NDArray[np.int64]  # rows of references, those of mated probes first
    mated: NDArray[np.int64]  # rows of probes, in the order of their references
    strangers: NDArray[np.int64]


@dataclass(frozen=True, repr=False, eq=False)
class Search:
    """Distances of stranger probes (S,) to the nearest reference, of mated ones (M,) to their own and to others."""

    strangers: NDArray[np.float32]
    own: NDArray[np.float32]
    others: NDArray[np.float32]
    people: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[OpenSet], payers: int) -> Self:
        """Search the first so many payers of each set."""
        parts = []
        for one in sets:
            references = one.drawn.references[one.gallery[:payers]]
            mated = one.mated[:payers]
            strangers = squared_distances(one.drawn.probes[one.strangers], references)
            distances = squared_distances(one.drawn.probes[mated], references)
            own = np.diagonal(distances).copy()
            np.fill_diagonal(distances, np.inf)
            parts.append((strangers.min(axis=1), own, distances.min(axis=1), one.drawn.by[mated]))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def threshold_at(self, fpir: float) -> float:
        """The largest threshold that keeps FPIR."""
        ordered = np.sort(self.strangers)
        return float(ordered[min(int(fpir * len(ordered) + 1e-9), len(ordered) - 1)])

    def missed(self, threshold: float) -> NDArray[np.bool_]:
        """Which mated searches do not return the own reference first, below the threshold."""
        return (self.own >= threshold) | (self.others < self.own)


def open_sets(draws: Sequence[Draw], enrolled: int) -> list[OpenSet]:
    """Part each draw's people; none where too few have `enrolled` views and a probe."""
    parted = [_open_set(one, enrolled, np.random.default_rng(seed)) for seed, one in enumerate(draws)]
    return [one for one in parted if one is not None]


def identification(sets: Sequence[OpenSet], enrolled: int, probe: int) -> list[Report]:
    """FNIR over FPIR for growing numbers of payers."""
    rows = []
    for payers in sizes(sets):
        found = Search.of(sets, payers)
        row: Report = {"enrolled": enrolled, "probe": probe, "payers": payers}
        row |= {"stranger_trials": len(found.strangers), "mated_trials": len(found.own), "at": []}
        for fpir in FPIRS:
            threshold = found.threshold_at(fpir)
            several = (found.own < threshold) & (found.others < threshold)
            row["at"].append(
                {
                    "fpir": fpir,
                    "false_positives": int((found.strangers < threshold).sum()),
                    "fnir": Rate.of_trials(found.people, found.missed(threshold)).describe(),
                    "several": float(several.mean()),
                }
            )
        shares = np.geomspace(1 / len(found.strangers), 0.3, 60)
        fnir = [float(found.missed(found.threshold_at(float(share))).mean()) for share in shares]
        row["curve"] = {"fpir": shares.tolist(), "fnir": fnir}
        rows.append(row)
    return rows


def stated_fpir(draws: Sequence[Draw], curve: ImpostorCurve) -> list[Report]:
    """Is the FPIR that a threshold states what strangers see? Searched, at the thresholds of `curve`.

    Every draw's references in random galleries of each size, probed by everybody who is in none of them.
    """
    rows = []
    most = min(len(one.of) for one in draws)
    for payers in [size for size in (10, 30, 100, 300, 1000, 3000) if size <= most * 0.8]:
        nearest, strangers = [], []
        for seed, one in enumerate(draws):
            rng, distances = np.random.default_rng(seed), squared_distances(one.references, one.probes)
            for _ in range(_SUBSETS):
                gallery = rng.permutation(len(one.of))[:payers]
                outside = ~np.isin(one.whose, one.of[gallery])
                nearest.append(distances[np.ix_(gallery, np.flatnonzero(outside))].min(axis=0))
                strangers.append(one.whose[outside])
        found, people = np.concatenate(nearest), np.concatenate(strangers)
        for fpir in FPIRS:
            below = found < curve.distance(min(fpir / payers, LOOSEST))
            stated = payers * min(fpir / payers, LOOSEST)
            rows.append({"payers": payers, "stated": stated, "fpir": Rate.of_trials(people, below).describe()})
    return rows


def sizes(sets: Sequence[OpenSet]) -> list[int]:
    """Numbers of payers to try: round ones, then all."""
    most = min((len(one.gallery) for one in sets), default=0)
    return [*(size for size in _PAYERS if size < most), most] if most else []


def _open_set(drawn: Draw, enrol: int, rng: np.random.Generator) -> OpenSet | None:
    candidates = rng.permutation(len(drawn.by))
    strangers = candidates[: len(candidates) // 2]
    place = {int(person): row for row, person in enumerate(drawn.of)}
    mated = [row for row in candidates[len(strangers) :] if drawn.by[row] >= 0]
    mated = [row for row in mated if drawn.views[place[int(drawn.by[row])]] == enrol]
    if len(mated) < MIN_PEOPLE or len(strangers) < MIN_PEOPLE:
        return None
    own = [place[int(drawn.by[row])] for row in mated]
    outside = set(drawn.whose[strangers].tolist())
    rest = [row for person, row in place.items() if person not in outside and row not in set(own)]
    return OpenSet(drawn, np.array([*own, *rng.permutation(rest)], np.int64), np.array(mated), strangers)

"""Error rates and their uncertainty, after ISO/IEC 19795-1 (terms, DET, rule of 3) and 19795-1 annex B's idea that
people, not comparisons, are independent: every interval is a bootstrap over people.

A comparison score here is a squared distance, smaller is more alike: of unit vectors (0..4), or of quantised
templates (integers). A comparison matches if its distance is below the threshold.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Report = dict[str, Any]
"""A part of what the JSON file holds: plain dictionaries, lists, numbers and words."""
ENOUGH: Final = 30
"""Errors for a rate to be taken at its word (rule of 30)."""
_RESAMPLES = 1000
_CONFIDENCE = 0.95
FINE = 2e-5  # width of a bin for distances of unit vectors


class Distances:
    """A histogram of very many distances from 0 to `top`, in bins of one width; larger ones go to the last bin."""

    def __init__(self, width: float = FINE, top: float = 4.0) -> None:
        self.width = width
        self.counts: NDArray[np.int64] = np.zeros(round(top / width) + 1, np.int64)

    def add(self, distances: ArrayLike) -> None:
        """Count distances of any shape."""
        # The tiniest nudge, so that an integer distance n falls in bin n and no rounding puts it below.
        bins = (np.asarray(distances, np.float64).reshape(-1) / self.width + 1e-3).astype(np.int64)
        np.clip(bins, 0, len(self.counts) - 1, out=bins)
        self.counts += np.bincount(bins, minlength=len(self.counts))

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def share_below(self, thresholds: ArrayLike) -> NDArray[np.float64]:
        """Share of distances below each threshold, at the resolution of the bins."""
        edges = np.rint(np.asarray(thresholds) / self.width).astype(np.int64).clip(0, len(self.counts))
        cumulative = np.concatenate([[0], np.cumsum(self.counts)])
        shares: NDArray[np.float64] = cumulative[edges] / max(self.total, 1)
        return shares

    def threshold_at(self, rate: float) -> float:
        """Return the largest threshold with at most this share of distances below it."""
        cumulative = np.cumsum(self.counts) / max(self.total, 1)
        return float(np.searchsorted(cumulative, rate, side="right")) * self.width


@dataclass(frozen=True)
class Rate:
    """A rate with its 95 % interval over people, and what it rests on."""

    value: float
    low: float
    high: float
    errors: float
    trials: float
    people: int

    @classmethod
    def over_people(cls, errors: ArrayLike, trials: ArrayLike, seed: int = 0) -> Self:
        """Of errors and trials for each person (P,): bootstrap over people; rule of 3 where nothing went wrong."""
        errors, trials = np.asarray(errors, np.float64), np.asarray(trials, np.float64)
        tried = trials > 0
        errors, trials, people = errors[tried], trials[tried], int(tried.sum())
        if not people:
            return cls(0.0, 0.0, 1.0, 0, 0, 0)
        wrong, all_trials = float(errors.sum()), float(trials.sum())
        if wrong in (0.0, all_trials):
            unseen = min(1.0, 3 / people)
            bounds = (0.0, unseen) if wrong == 0 else (1 - unseen, 1.0)
            return cls(wrong / all_trials, *bounds, wrong, all_trials, people)
        weights = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=_RESAMPLES)
        rates = (weights @ errors) / np.maximum(weights @ trials, 1e-9)
        low, high = np.quantile(rates, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        return cls(wrong / all_trials, float(low), float(high), wrong, all_trials, people)

    @classmethod
    def of_trials(cls, people: NDArray[np.int64], wrong: NDArray[np.bool_]) -> Self:
        """Of single trials: whose (T,) and whether they went wrong (T,)."""
        return cls.over_people(np.bincount(people, weights=wrong), np.bincount(people))

    def describe(self) -> Report:
        """Return it as the report holds it."""
        return {**asdict(self), "fewer_than_30_errors": self.errors < ENOUGH}

    @classmethod
    def over_pairs(cls, first: NDArray[np.int64], second: NDArray[np.int64], photos: NDArray[np.int64]) -> Self:
        """Of impostor pairs: the people of each false match (M,), (M,), and each person's photos (P,).

        Both people of a pair are resampled: a person that many resemble moves the interval as it should.
        """
        people, wrong = int((photos > 0).sum()), len(first)
        all_pairs = (float(photos.sum()) ** 2 - float((photos.astype(np.float64) ** 2).sum())) / 2
        if not wrong or all_pairs <= 0:
            return cls(0.0, 0.0, min(1.0, 3 / max(all_pairs, 3)), wrong, all_pairs, people)
        rng = np.random.default_rng(0)
        rates = []
        for _ in range(_RESAMPLES // 5):
            weights = rng.multinomial(len(photos), np.full(len(photos), 1 / len(photos))).astype(np.float64)
            weighted = weights * photos
            total = (weighted.sum() ** 2 - (weights * photos * weighted).sum()) / 2
            rates.append(float((weights[first] * weights[second]).sum()) / max(total, 1.0))
        low, high = np.quantile(rates, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        return cls(wrong / all_pairs, float(low), float(high), wrong, all_pairs, people)

"""The measurement itself: from templates to every figure of the report.

After ISO/IEC 19795-1:2021, technology evaluation of an offline corpus: failures to acquire are counted and kept
apart from comparisons; FMR and FNMR of verification, FPIR and FNIR of identification in an open set; figures that
rest on fewer than 30 errors are marked (rule of 30). Not followed: there is no scenario or operational test, no
volunteer crew, and attempts are single transactions.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.comparisons import (
    Comparisons,
    Draw,
    FusedComparisons,
    Subjects,
    all_pairs,
    draw,
    fused_pairs,
    squared_distances,
)
from facefare.evaluation.dataset import Photo
from facefare.evaluation.errors import TooFewPeopleError
from facefare.evaluation.extraction import FAILURES, MEASURES, STAGES, Extracted
from facefare.evaluation.metrics import Distances, Rate
from facefare.evaluation.thresholds import ImpostorCurve
from facefare.identification.calibration import Calibration
from facefare.identification.errors import IdentificationError
from facefare.identification.quantise import quantise

FMRS: Final = (1e-3, 1e-4, 1e-5, 1e-6)
FPIRS: Final = (1e-2, 3e-3, 1e-3)
VIEWS: Final = ((1, 1), (3, 1), (3, 3), (5, 1), (5, 3))
"""Views enrolled, views in a probe."""
SYSTEM: Final = (5, 3)
"""What enrolment station and gate do."""
_PAYERS: Final = (100, 300, 1000, 3000)
_MOST_A_PERSON = 10
"""Photos a person that single comparisons use: without a limit one statesman's photos would be the figure."""
_DRAWS = 20
_ROUNDINGS = 5
_ENOUGH = 30  # errors for a rate to be taken at its word (ISO/IEC 19795-1, rule of 30)
_MIN_PEOPLE = 10
_CURVE = np.geomspace(1e-6, 1, 121)
_INTEGER_TOP = 40_000.0  # above the largest squared distance that the guardians take

Report = dict[str, Any]
"""What the JSON file holds: plain dictionaries, lists, numbers and words."""


@dataclass(frozen=True, repr=False, eq=False)
class Study:
    """Measures one extracted folder; `calibration` says the centre and scale of the integers."""

    photos: Sequence[Photo]
    extracted: Extracted
    calibration: Calibration

    def run(self, on_step: Callable[[str], None]) -> Report:
        """Compute every figure but those of attacks; `on_step` hears what is being computed.

        Raises TooFewPeopleError where fewer than 10 people have two photos.
        """
        subjects, rows = self._subjects()
        on_step("single photos, all pairs")
        few = _at_most(subjects.people, _MOST_A_PERSON)
        single_subjects = subjects.only(few)
        single = all_pairs(single_subjects)
        on_step("several views")
        draws = {views: self._draws(subjects, *views, whole=True) for views in VIEWS}
        fused = {views: fused_pairs(drawn) for views, drawn in draws.items() if _drawable(drawn)}
        on_step("one to many")
        identification = [row for views in VIEWS for row in self._identification(subjects, *views)]
        on_step("private matching in integers")
        private = self._private(single_subjects, single, draws[SYSTEM], fused[SYSTEM]) if SYSTEM in fused else []
        on_step("groups and quality")
        report: Report = {
            "what": self._what(subjects),
            "verification": _verification(single, single_subjects),
            "views": [_views_row(views, comparisons) for views, comparisons in fused.items()],
            "identification": identification,
            "private": private,
            "private_identification": self._private_identification(subjects),
            "groups": self._groups(single_subjects, single, rows[few]),
            "quality": self._quality(single, rows[few]),
            "milliseconds": self._times(),
        }
        if SYSTEM in fused:
            curve = ImpostorCurve.of(fused[SYSTEM].impostor)
            report["recommended"] = curve.table(self.calibration.scale, _refused(fused[SYSTEM].genuine))
            report["impostor_curve"] = curve.describe()
            report["transfer"] = self._transfer(subjects)
        return report

    def _subjects(self) -> tuple[Subjects, NDArray[np.int64]]:
        usable = self.extracted.failures == 0
        plain = np.array([not photo.attack and not photo.presentation for photo in self.photos])
        rows = np.flatnonzero(usable & plain)
        people = np.array([self.photos[row].person for row in rows.tolist()], dtype=np.int64)
        if (np.bincount(people, minlength=1) >= 2).sum() < _MIN_PEOPLE:
            raise TooFewPeopleError(f"At least {_MIN_PEOPLE} people with two usable photos are needed.")
        sessions = np.array([self.photos[row].session for row in rows.tolist()], dtype=np.str_)
        return Subjects(self.extracted.vectors[rows], people, sessions), rows

    def _what(self, subjects: Subjects) -> Report:
        each = subjects.photos_each()
        return {
            "model": self.calibration.model,
            "photos": len(self.photos),
            "people": int((each > 0).sum()),
            "people_with_8_photos": int((each >= sum(SYSTEM)).sum()),
            "failure_to_acquire": {
                name: int((self.extracted.failures == number).sum()) for number, name in enumerate(FAILURES) if name
            },
            "photos_used_a_person_at_most": _MOST_A_PERSON,
            "draws": _DRAWS,
        }

    def _draws(self, subjects: Subjects, enrol: int, probe: int, *, whole: bool) -> list[Draw]:
        draws = _DRAWS if enrol + probe > 2 else 2  # single photos of everybody: pairs enough
        return [draw(subjects, enrol, probe, seed, whole) for seed in range(draws)]

    def _open_sets(self, subjects: Subjects, enrol: int, probe: int) -> list["_OpenSet"]:
        drawn = self._draws(subjects, enrol, probe, whole=False)
        sets = [_open_set(one, enrol, np.random.default_rng(seed)) for seed, one in enumerate(drawn)]
        return [one for one in sets if one is not None]

    def _identification(self, subjects: Subjects, enrol: int, probe: int) -> list[Report]:
        """Open-set identification: half of those who can be probed are strangers, everybody else is enrolled."""
        sets = self._open_sets(subjects, enrol, probe)
        rows = []
        for payers in _sizes(sets):
            found = _Search.of(sets, payers)
            row: Report = {"enrolled": enrol, "probe": probe, "payers": payers}
            row |= {"stranger_trials": len(found.strangers), "mated_trials": len(found.own), "at": []}
            for fpir in FPIRS:
                threshold = found.threshold_at(fpir)
                several = (found.own < threshold) & (found.others < threshold)
                row["at"].append(
                    {
                        "fpir": fpir,
                        "false_positives": int((found.strangers < threshold).sum()),
                        "fnir": rate_of(_over(found.people, found.missed(threshold))),
                        "several": float(several.mean()),
                    }
                )
            shares = np.geomspace(1 / len(found.strangers), 0.3, 60)
            fnir = [float(found.missed(found.threshold_at(float(share))).mean()) for share in shares]
            row["curve"] = {"fpir": shares.tolist(), "fnir": fnir}
            rows.append(row)
        return rows

    def _private_identification(self, subjects: Subjects) -> list[Report]:
        """FNIR in float and in integers at the same FPIR, as the system searches."""
        sets = self._open_sets(subjects, *SYSTEM)
        rows = []
        roundings = [
            [replace(one, drawn=_quantised_draw(one.drawn, calibration)) for one in sets]
            for calibration in self._roundings()
        ]
        for payers in _sizes(sets):
            found = _Search.of(sets, payers)
            rounded = [_Search.of(rounding, payers) for rounding in roundings]
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

    def _roundings(self) -> list[Calibration]:
        """The calibration with its centre moved by less than half a unit, in several ways.

        Rounding is a coin thrown once for each coordinate. Moving the centre changes nothing but how the coins fall,
        so that the mean over several shows what rounding costs.
        """
        rng = np.random.default_rng(0)
        shifts = [np.zeros(self.calibration.dimensions)]
        shifts += [rng.uniform(-0.5, 0.5, self.calibration.dimensions) for _ in range(_ROUNDINGS - 1)]
        centres = [(self.calibration.mean + shift / self.calibration.scale).astype(np.float32) for shift in shifts]
        return [replace(self.calibration, mean=centre) for centre in centres]

    def _private(
        self, subjects: Subjects, single: Comparisons, drawn: list[Draw], fused: FusedComparisons
    ) -> list[Report]:
        """FNMR of the same comparisons as the guardians make them, at the same FMR."""
        ones, manys = [], []
        for calibration in self._roundings():
            whole = replace(subjects, vectors=_quantised(subjects.vectors, calibration))
            ones.append(all_pairs(whole, 1.0, _INTEGER_TOP, 0))
            manys.append(fused_pairs([_quantised_draw(one, calibration) for one in drawn], 1.0, _INTEGER_TOP))
        rows = _loss("1 photo, 1 photo", single.impostor, single.genuine, subjects.people[single.pairs[:, 0]], ones)
        return rows + _loss(f"{SYSTEM[0]} views, {SYSTEM[1]} views", fused.impostor, fused.genuine, fused.people, manys)

    def _groups(self, subjects: Subjects, single: Comparisons, rows: NDArray[np.int64]) -> list[Report]:
        """FMR inside each stated group and FNMR, at the one threshold that gives FMR 1e-3 over all."""
        group = np.array([self.photos[row].group for row in rows.tolist()], dtype=np.str_)
        names = sorted(set(group.tolist()) - {""})
        threshold = single.impostor.threshold_at(1e-3)
        photos = subjects.photos_each()
        report = []
        for name in names:
            members = np.zeros(len(photos), bool)
            members[subjects.people[group == name]] = True
            close = single.close[single.close[:, 2] < threshold]
            first, second = close[:, 0].astype(np.int64), close[:, 1].astype(np.int64)
            inside = members[first] & members[second]
            own = members[subjects.people[single.pairs[:, 0]]]
            missed = _over(subjects.people[single.pairs[own, 0]], single.genuine[own] >= threshold)
            report.append(
                {
                    "group": name,
                    "people": int(members.sum()),
                    "fmr": rate_of(Rate.over_pairs(first[inside], second[inside], np.where(members, photos, 0))),
                    "fnmr": rate_of(missed),
                }
            )
        return report

    def _quality(self, single: Comparisons, rows: NDArray[np.int64]) -> list[Report]:
        """FNMR at FMR 1e-3 when the worst share of comparisons by one measure is discarded (ISO/IEC 29794-1)."""
        missed = single.genuine >= single.impostor.threshold_at(1e-3)
        report = []
        for number, name in enumerate(MEASURES):
            values = self.extracted.measures[rows, number].astype(np.float64)
            if name in ("yaw", "pitch", "roll", "under_exposure", "over_exposure", "mouth_closed"):
                values = -np.abs(values)  # less is better
            worse = np.minimum(*values[single.pairs].T)
            order = np.argsort(worse)
            kept = {
                f"{share:.2f}": float(missed[order[round(share * len(order)) :]].mean())
                for share in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
            }
            quantiles = np.quantile(np.abs(self.extracted.measures[rows, number]), [0.01, 0.05, 0.5, 0.95, 0.99])
            report.append(
                {"measure": name, "fnmr_after_discarding": kept, "quantiles": [float(value) for value in quantiles]}
            )
        return report

    def _times(self) -> dict[str, dict[str, float]]:
        spent = self.extracted.milliseconds[self.extracted.failures == 0]
        columns = [*zip(STAGES, spent.T, strict=True), ("total", spent.sum(axis=1))]
        return {
            name: {"median": float(np.median(column)), "p95": float(np.quantile(column, 0.95))}
            for name, column in columns
        }

    def _transfer(self, subjects: Subjects) -> list[Report]:
        """Do thresholds made on one half of the people hold on the other half? Both ways, for several FMR."""
        half = np.random.default_rng(0).permutation(int(subjects.people.max()) + 1) % 2
        halves = [subjects.only(np.flatnonzero(half[subjects.people] == side)) for side in (0, 1)]
        compared = [fused_pairs(self._draws(one, *SYSTEM, whole=True)) for one in halves]
        if any(one.impostor.total < 10_000 for one in compared):
            return []
        rows = []
        for made, tried in ((0, 1), (1, 0)):
            curve = ImpostorCurve.of(compared[made].impostor)
            for fmr in FMRS[:3]:
                share = float(compared[tried].impostor.share_below(curve.distance(fmr)))
                rows.append({"asked_fmr": fmr, "measured_fmr": share, "pairs": compared[tried].impostor.total})
        return rows


@dataclass(frozen=True, repr=False, eq=False)
class _OpenSet:
    drawn: Draw
    gallery: NDArray[np.int64]  # rows of references, those of mated probes first
    mated: NDArray[np.int64]  # rows of probes, in the order of their references
    strangers: NDArray[np.int64]


@dataclass(frozen=True, repr=False, eq=False)
class _Search:
    """Distances of stranger probes (S,) to the nearest reference, of mated ones (M,) to their own and to others."""

    strangers: NDArray[np.float32]
    own: NDArray[np.float32]
    others: NDArray[np.float32]
    people: NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[_OpenSet], payers: int) -> Self:
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


def _sizes(sets: Sequence[_OpenSet]) -> list[int]:
    """Numbers of payers to try: round ones, then all."""
    most = min((len(one.gallery) for one in sets), default=0)
    return [*(size for size in _PAYERS if size < most), most] if most else []


def _open_set(drawn: Draw, enrol: int, rng: np.random.Generator) -> _OpenSet | None:
    candidates = rng.permutation(len(drawn.by))
    strangers = candidates[: len(candidates) // 2]
    place = {int(person): row for row, person in enumerate(drawn.of)}
    mated = [row for row in candidates[len(strangers) :] if drawn.by[row] >= 0]
    mated = [row for row in mated if drawn.views[place[int(drawn.by[row])]] == enrol]
    if len(mated) < _MIN_PEOPLE or len(strangers) < _MIN_PEOPLE:
        return None
    own = [place[int(drawn.by[row])] for row in mated]
    outside = set(drawn.whose[strangers].tolist())
    rest = [row for person, row in place.items() if person not in outside and row not in set(own)]
    return _OpenSet(drawn, np.array([*own, *rng.permutation(rest)], np.int64), np.array(mated), strangers)


def _at_most(people: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of at most so many photos a person, chosen at random."""
    order = np.random.default_rng(0).permutation(len(people))
    order = order[np.argsort(people[order], kind="stable")]
    firsts = np.searchsorted(people[order], people[order])
    return np.sort(order[np.arange(len(order)) - firsts < most])


def _drawable(drawn: list[Draw]) -> bool:
    return all(len(one.references) >= _MIN_PEOPLE and (one.by >= 0).sum() >= _MIN_PEOPLE for one in drawn)


def _over(people: NDArray[np.int64], wrong: NDArray[np.bool_]) -> Rate:
    return Rate.over_people(np.bincount(people, weights=wrong), np.bincount(people))


def rate_of(rate: Rate) -> Report:
    """Return a rate as the report holds it."""
    return {
        "value": rate.value,
        "low": rate.low,
        "high": rate.high,
        "errors": rate.errors,
        "trials": rate.trials,
        "people": rate.people,
        "fewer_than_30_errors": rate.errors < _ENOUGH,
    }


def _curve(comparisons: Comparisons | FusedComparisons) -> Report:
    thresholds = [comparisons.impostor.threshold_at(float(fmr)) for fmr in _CURVE]
    ordered = np.sort(comparisons.genuine)
    fnmr = 1 - np.searchsorted(ordered, thresholds) / max(len(ordered), 1)
    return {"fmr": _CURVE.tolist(), "fnmr": fnmr.tolist()}


def _verification(single: Comparisons, subjects: Subjects) -> Report:
    whose = subjects.people[single.pairs[:, 0]]
    rows = []
    for fmr in FMRS:
        threshold = single.impostor.threshold_at(fmr)
        close = single.close[single.close[:, 2] < threshold]
        first, second = close[:, 0].astype(np.int64), close[:, 1].astype(np.int64)
        rows.append(
            {
                "fmr": fmr,
                "squared_distance": threshold,
                "cosine": 1 - threshold / 2,
                "fmr_measured": rate_of(Rate.over_pairs(first, second, subjects.photos_each())),
                "fnmr": rate_of(_over(whose, single.genuine >= threshold)),
            }
        )
    return {
        "genuine": len(single.genuine),
        "impostor": single.impostor.total,
        "at": rows,
        "curve": _curve(single),
    }


def _views_row(views: tuple[int, int], comparisons: FusedComparisons) -> Report:
    rows = []
    for fmr in FMRS:
        threshold = comparisons.impostor.threshold_at(fmr)
        missed = _over(comparisons.people, comparisons.genuine >= threshold)
        rows.append(
            {
                "fmr": fmr,
                "squared_distance": threshold,
                "false_matches": round(fmr * comparisons.impostor.total),
                "fnmr": rate_of(missed),
            }
        )
    return {
        "enrolled": views[0],
        "probe": views[1],
        "genuine": len(comparisons.genuine),
        "impostor": comparisons.impostor.total,
        "at": rows,
        "curve": _curve(comparisons),
    }


def _loss(
    label: str,
    impostor: Distances,
    genuine: NDArray[np.float64],
    people: NDArray[np.int64],
    in_integers: Sequence[Comparisons | FusedComparisons],
) -> list[Report]:
    """FNMR in float and in integers at the same FMR, and the relative loss with its interval over people."""
    rows = []
    for fmr in FMRS:
        if fmr * impostor.total < _ENOUGH:
            continue
        before, after, reached = [], [], []
        for integers in in_integers:
            # An integer threshold cannot be set finer than one unit: compare at the FMR that the integers reach.
            unit = integers.impostor.threshold_at(fmr)
            reached.append(float(integers.impostor.share_below(unit)))
            before.append(genuine >= impostor.threshold_at(reached[-1]))
            after.append(integers.genuine >= unit)
        figures = _relative(people, np.mean(before, axis=0), np.mean(after, axis=0))
        rows.append({"views": label, "fmr": float(np.mean(reached)), **figures})
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
        "fewer_than_30_errors": bool(float_errors.sum() < _ENOUGH),
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


def _refused(genuine: NDArray[np.float64]) -> Callable[[float], float]:
    """The share of genuine comparisons at or above a distance."""
    ordered = np.sort(genuine)
    return lambda distance: float(1 - np.searchsorted(ordered, distance) / max(len(ordered), 1))

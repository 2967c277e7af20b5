"""The measurement itself: from templates to every figure of the report.

After ISO/IEC 19795-1:2021, technology evaluation of an offline corpus: failures to acquire are counted and kept
apart from comparisons; FMR and FNMR of verification, FPIR and FNIR of identification in an open set; figures that
rest on fewer than 30 errors are marked (rule of 30). Not followed: there is no scenario or operational test, no
volunteer crew, and attempts are single transactions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.comparisons import Comparisons, Draw, FusedComparisons, Subjects, all_pairs, draw, fused_pairs
from facefare.evaluation.dataset import Photo
from facefare.evaluation.errors import TooFewPeopleError
from facefare.evaluation.extraction import FAILURES, MEASURES, STAGES, Extracted
from facefare.evaluation.integers import FMRS, pooled, private_identification, private_verification
from facefare.evaluation.metrics import Rate, Report
from facefare.evaluation.open_set import MIN_PEOPLE, identification, open_sets, stated_fpir
from facefare.evaluation.thresholds import (
    VERIFICATION_FMR,
    GroupCurve,
    ImpostorCurve,
    table_for_groups,
    worst_distance,
)
from facefare.identification.calibration import Calibration

VIEWS: Final = ((1, 1), (3, 1), (3, 3), (5, 1), (5, 3))
"""Views enrolled, views in a probe."""
SYSTEM: Final = (5, 3)
"""What enrolment station and gate do."""
_MOST_A_PERSON = 10
"""Photos a person that single comparisons use: without a limit one statesman's photos would be the figure."""
_DRAWS = 20
_GROUP_FMR = 1e-3
_SMALLEST_GROUP = 5  # people; the rates of fewer would be somebody's
_GROUPS = 20  # of people, each left out once
_ENOUGH_PAIRS = 10_000  # for a curve
_CURVE = np.geomspace(1e-6, 1, 121)


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
        sets = {views: open_sets(self._draws(subjects, *views, whole=False), views[0]) for views in VIEWS}
        on_step("private matching in integers")
        several = {views: draws[views] for views in fused if views != (1, 1)}
        private = private_verification(single_subjects, single, several, self.calibration)
        on_step("groups and quality")
        report: Report = {
            "what": self._what(subjects),
            "verification": _verification(single, single_subjects),
            "views": [_views_row(views, comparisons) for views, comparisons in fused.items()],
            "identification": [row for views in VIEWS for row in identification(sets[views], *views)],
            "private": [one.describe() for one in private],
            "private_pooled": pooled(private) if private else None,
            "private_identification": private_identification(sets[SYSTEM], self.calibration),
            "groups": self._groups(single_subjects, single, rows[few]),
            "quality": self._quality(single, rows[few]),
            "milliseconds": self._times(),
        }
        if SYSTEM in fused:
            curve = ImpostorCurve.of(fused[SYSTEM].impostor)
            on_step("thresholds")
            without = _leaving_out(draws[SYSTEM])
            report["recommended"] = curve.table(self.calibration, _refused(fused[SYSTEM].genuine), without)
            report["impostor_curve"] = curve.describe()
            if report["groups"]:
                on_step("thresholds for the worst group")
                report["recommended_for_groups"] = self._for_groups(draws[SYSTEM], rows, fused[SYSTEM])
            report["stated_fpir"] = stated_fpir(draws[SYSTEM], curve)
            report["transfer"] = self._transfer(subjects)
        return report

    def _subjects(self) -> tuple[Subjects, NDArray[np.int64]]:
        usable = self.extracted.failures == 0
        plain = np.array([not photo.attack and not photo.presentation for photo in self.photos])
        rows = np.flatnonzero(usable & plain)
        people = np.array([self.photos[row].person for row in rows.tolist()], dtype=np.int64)
        if (np.bincount(people, minlength=1) >= 2).sum() < MIN_PEOPLE:
            raise TooFewPeopleError(f"At least {MIN_PEOPLE} people with two usable photos are needed.")
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

    def _groups(self, subjects: Subjects, single: Comparisons, rows: NDArray[np.int64]) -> list[Report]:
        """FMR inside each stated group of some people and FNMR, at the one threshold that gives FMR 1e-3 over all."""
        group = np.array([self.photos[row].group for row in rows.tolist()], dtype=np.str_)
        names = sorted(set(group.tolist()) - {""})
        threshold = single.impostor.threshold_at(_GROUP_FMR)
        photos = subjects.photos_each()
        report = []
        for name in names:
            members = np.zeros(len(photos), bool)
            members[subjects.people[group == name]] = True
            if members.sum() < _SMALLEST_GROUP:
                continue
            close = single.close[single.close[:, 2] < threshold]
            first, second = close[:, 0].astype(np.int64), close[:, 1].astype(np.int64)
            inside = members[first] & members[second]
            own = members[subjects.people[single.pairs[:, 0]]]
            missed = Rate.of_trials(subjects.people[single.pairs[own, 0]], single.genuine[own] >= threshold)
            fmr = Rate.over_pairs(first[inside], second[inside], np.where(members, photos, 0))
            report.append(
                {
                    "group": name,
                    "people": int(members.sum()),
                    "fmr": fmr.describe(),
                    "fmr_times_all": fmr.value / _GROUP_FMR,
                    "fnmr": missed.describe(),
                }
            )
        return report

    def _for_groups(self, draws: Sequence[Draw], rows: NDArray[np.int64], fused: FusedComparisons) -> Report:
        """Thresholds that hold in every stated group, from the system's own comparisons inside each; too small ones
        are named, and held to nothing."""
        members = {}
        for name in sorted({self.photos[row].group for row in rows.tolist()} - {""}):
            members[name] = np.zeros(1 + max(photo.person for photo in self.photos), bool)
            members[name][[self.photos[row].person for row in rows.tolist() if self.photos[row].group == name]] = True
        groups = group_curves(draws, members)
        verification = worst_distance(groups, VERIFICATION_FMR) if groups else None
        return {
            "too_small": sorted(set(members) - {group.name for group in groups}),
            "rows": table_for_groups(groups, self.calibration, _refused(fused.genuine)) if groups else [],
            "verification": None if verification is None else verification[0],
        }

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
        if any(one.impostor.total < _ENOUGH_PAIRS for one in compared):
            return []
        rows = []
        for made, tried in ((0, 1), (1, 0)):
            curve = ImpostorCurve.of(compared[made].impostor)
            for fmr in FMRS[:3]:
                share = float(compared[tried].impostor.share_below(curve.distance(fmr)))
                rows.append({"asked_fmr": fmr, "measured_fmr": share, "pairs": compared[tried].impostor.total})
        return rows


def group_curves(draws: Sequence[Draw], members: Mapping[str, NDArray[np.bool_]]) -> list[GroupCurve]:
    """The curve of impostors inside each group of people, (P,) each; none for a group with too few comparisons."""
    groups = []
    for name, inside in members.items():
        own = [one.only(inside) for one in draws]
        impostor = fused_pairs(own).impostor
        without = _leaving_out(own) if impostor.total >= _ENOUGH_PAIRS else []
        if without:
            groups.append(GroupCurve(name, ImpostorCurve.of(impostor), tuple(without)))
    return groups


def _leaving_out(draws: Sequence[Draw]) -> list[ImpostorCurve]:
    """The curve without each group of people, in turn; none where there are too few comparisons."""
    group = np.random.default_rng(0).permutation(1 + max(int(one.whose.max()) for one in draws)) % _GROUPS
    curves = []
    for left_out in range(_GROUPS):
        impostor = fused_pairs([one.only(group != left_out) for one in draws]).impostor
        if impostor.total < _ENOUGH_PAIRS:
            return []
        curves.append(ImpostorCurve.of(impostor))
    return curves


def _at_most(people: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of at most so many photos a person, chosen at random."""
    order = np.random.default_rng(0).permutation(len(people))
    order = order[np.argsort(people[order], kind="stable")]
    firsts = np.searchsorted(people[order], people[order])
    return np.sort(order[np.arange(len(order)) - firsts < most])


def _drawable(drawn: list[Draw]) -> bool:
    return all(len(one.references) >= MIN_PEOPLE and (one.by >= 0).sum() >= MIN_PEOPLE for one in drawn)


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
                "fmr_measured": Rate.over_pairs(first, second, subjects.photos_each()).describe(),
                "fnmr": Rate.of_trials(whose, single.genuine >= threshold).describe(),
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
        missed = Rate.of_trials(comparisons.people, comparisons.genuine >= threshold)
        rows.append(
            {
                "fmr": fmr,
                "squared_distance": threshold,
                "false_matches": round(fmr * comparisons.impostor.total),
                "fnmr": missed.describe(),
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


def _refused(genuine: NDArray[np.float64]) -> Callable[[float], float]:
    """The share of genuine comparisons at or above a distance."""
    ordered = np.sort(genuine)
    return lambda distance: float(1 - np.searchsorted(ordered, distance) / max(len(ordered), 1))

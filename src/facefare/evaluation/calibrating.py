"""Thresholds for one site's cameras, from volunteers: their recordings, or themselves in front of the camera.

Some dozens of volunteers cannot show a false-match rate of one in a million. So the shape of the tail is taken from
the public set behind the calibration file that is built upon, and only its level from the site: how near strangers
come on these cameras, at rates that the recordings do show. The cautious end of the interval over people is used.

Everything stays in memory: no frame, template or score is written anywhere.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from facefare.biometrics import GATE, FacePipeline, fuse
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.frames import Frames, open_source
from facefare.biometrics.views import View, most_different
from facefare.evaluation.comparisons import squared_distances
from facefare.evaluation.errors import DatasetError, TooFewPeopleError
from facefare.evaluation.study import SYSTEM
from facefare.evaluation.thresholds import ImpostorCurve
from facefare.terminal.approach import Approach, Lane, SomeoneElseTooClose

Opening = Callable[[], AbstractContextManager[Frames]]
"""Begins one pass: a recording from its start, or the camera."""
MIN_VOLUNTEERS: Final = 20
PASSES: Final = 3
"""Of each volunteer in front of a camera: one for the reference, the others for probes."""
_MOST_FRAMES = 300
_HELD = 8
_ENOUGH = 30  # impostor comparisons below a rate's distance
_RESAMPLES = 400


@dataclass(frozen=True, repr=False, eq=False)
class Site:
    """One reference and some probes of each volunteer.

    distances: (V, V, most probes), NaN where there is no probe. missed: walks of which a gate makes no probe.
    """

    distances: NDArray[np.float64]
    missed: int

    @property
    def volunteers(self) -> int:
        """How many."""
        return len(self.distances)

    def genuine(self) -> NDArray[np.float64]:
        """Distances of volunteers to themselves."""
        everybody = np.arange(self.volunteers)
        own: NDArray[np.float64] = self.distances[everybody, everybody]
        return own[~np.isnan(own)]

    def refused(self, distance: float) -> float:
        """Which part of the volunteers' walks is not taken for them at this threshold, those without a probe too."""
        own = self.genuine()
        return float(((own >= distance).sum() + self.missed) / (len(own) + self.missed))

    def factor(self, curve: ImpostorCurve) -> tuple[float, float, float]:
        """Return how much nearer strangers are here than on `curve`: the rate compared at, the factor, and its
        cautious end (5 %, over people)."""
        strangers = self._impostor(np.arange(self.volunteers))
        fitting = [(rate, distance) for rate, distance in curve.bulk if rate * len(strangers) >= _ENOUGH]
        if not fitting:
            raise TooFewPeopleError("The recordings give too few comparisons; bring more volunteers.")
        rate, distance = min(fitting)
        rng = np.random.default_rng(0)
        resampled = [
            np.quantile(self._impostor(rng.integers(0, self.volunteers, self.volunteers)), rate)
            for _ in range(_RESAMPLES)
        ]
        return rate, float(np.quantile(strangers, rate)) / distance, float(np.quantile(resampled, 0.05)) / distance

    def _impostor(self, people: NDArray[np.int64]) -> NDArray[np.float64]:
        chosen = self.distances[np.ix_(people, people)]
        values: NDArray[np.float64] = chosen[people[:, None] != people]
        return values[~np.isnan(values)]


def measure_site(folder: Path, pipeline: FacePipeline, on_progress: Callable[[int, int], None]) -> Site:
    """Measure a folder with one folder a volunteer, in it two or more recordings (videos or folders of pictures).

    The first recording, in the order of names, stands for the enrolment, the others for walks up to a gate.
    Raises DatasetError, TooFewPeopleError.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. It has to hold one folder a volunteer.")
    people = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    volunteers = []
    for number, person in enumerate(people):
        recordings = sorted(entry for entry in person.iterdir() if not entry.name.startswith("."))
        volunteers.append(_Volunteer.of(pipeline, [partial(open_source, recording) for recording in recordings]))
        on_progress(number + 1, len(people))
    return _compared(volunteers)


def measure_live(open_camera: Opening, pipeline: FacePipeline, ready: Callable[[int, int], bool]) -> Site:
    """Measure volunteers who walk up to a camera, `PASSES` times each; nothing is recorded.

    `ready` is told the number of the volunteer and of the pass, from 0, waits for the person, and answers whether to go
    on; no ends it after the last volunteer. Raises TooFewPeopleError; SourceError where the camera cannot be opened.
    """
    with open_camera():
        pass
    volunteers: list[_Volunteer] = []
    while ready(number := len(volunteers), 0):
        others = (open_camera for later in range(1, PASSES) if ready(number, later))
        volunteers.append(_Volunteer.of(pipeline, chain([open_camera], others)))
    return _compared(volunteers)


@dataclass(frozen=True, repr=False, eq=False)
class _Volunteer:
    """A reference and probes, (D,) each, and walks without a probe; nothing where there is no reference."""

    reference: NDArray[np.float32] | None
    probes: list[NDArray[np.float32]]
    missed: int

    @classmethod
    def of(cls, pipeline: FacePipeline, passes: Iterable[Opening]) -> Self:
        """The reference from the first pass, a probe from each of the others."""
        one_by_one = iter(passes)
        reference = next((_reference(pipeline, first) for first in one_by_one), None)
        if reference is None:
            return cls(None, [], 0)
        walks = [_probe(pipeline, later) for later in one_by_one]
        probes = [probe for probe in walks if probe is not None]
        return cls(reference, probes, len(walks) - len(probes))


def _compared(volunteers: Sequence[_Volunteer]) -> Site:
    usable = [one for one in volunteers if one.reference is not None and one.probes]
    if len(usable) < MIN_VOLUNTEERS:
        raise TooFewPeopleError(
            f"{len(usable)} volunteers gave a reference and a probe; at least {MIN_VOLUNTEERS} are needed."
        )
    references = np.stack([one.reference for one in usable if one.reference is not None])
    distances = np.full((len(usable), len(usable), max(len(one.probes) for one in usable)), np.nan)
    for column, one in enumerate(usable):
        distances[:, column, : len(one.probes)] = squared_distances(references, np.stack(one.probes))
    return Site(distances, sum(one.missed for one in volunteers))


def _reference(pipeline: FacePipeline, opening: Opening) -> NDArray[np.float32] | None:
    """The most different good views of one pass, as one template; None if there are too few."""
    views: list[View] = []
    try:
        with opening() as frames:
            for frame in islice(frames, _MOST_FRAMES):
                faces = pipeline.observe_all(frame)
                if len(faces) == 1 and GATE.hint(faces[0].pose, faces[0].quality) is None:
                    views.append(View(frame, faces[0]))
                if len(views) > _HELD:
                    views = most_different(views, _HELD)
        if len(views) < SYSTEM[0]:
            return None
        return fuse([pipeline.embed(view.frame, view.face) for view in most_different(views, SYSTEM[0])]).vector
    except BiometricsError:
        return None


def _probe(pipeline: FacePipeline, opening: Opening) -> NDArray[np.float32] | None:
    """What a gate makes of one walk: of the frames up to the moment when it is ready; None if it never is."""
    approach = Approach(pipeline, Lane())
    try:
        with opening() as frames:
            for frame in islice(frames, _MOST_FRAMES):
                with suppress(SomeoneElseTooClose):
                    approach.offer(frame)
                if approach.ready:
                    return approach.probe().vector
    except BiometricsError:
        return None
    return None

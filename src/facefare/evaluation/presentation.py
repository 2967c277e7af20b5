"""How many presentation attacks pass, and how many people are refused: APCER and BPCER after ISO/IEC 30107-3.

APCER is stated for each species by itself, BPCER beside it. What the checks cannot tell (too little motion, no
usable views) is no pass: it counts for neither attack nor person as accepted, and is stated apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from facefare.biometrics import GATE
from facefare.biometrics.backdrop import FIRST, Backdrop, Behind
from facefare.biometrics.errors import BiometricsError
from facefare.biometrics.pad import Direction, Motion, MotionCheck, Turn, TurnCheck, blinked
from facefare.biometrics.screens import ScreenCheck
from facefare.biometrics.views import View as Seen
from facefare.biometrics.views import most_different
from facefare.evaluation.attacks import FILLS_THE_VIEW, Species, present
from facefare.evaluation.dataset import Photo
from facefare.evaluation.extraction import MEASURES, Extracted, central, read_picture
from facefare.evaluation.heads import Frame, Head, View, room, walk
from facefare.evaluation.metrics import Rate, Report
from facefare.evaluation.moving import obeys, replay
from facefare.evaluation.rooms import Place, Stand, peopled
from facefare.evaluation.workers import pipeline, workers

BONA_FIDE: Final = "bona fide"
GATE_ONLY_MOTION: Final = "motion alone at the gate"
GATE_ALL: Final = "motion, border and grid at the gate"
GATE_BACKDROP: Final = "motion, border, grid and backdrop at the gate"
HEAD_TURN: Final = "one head turn at enrolment"
BLINK: Final = "blink at enrolment"
MOVES: Final = "moves asked for at enrolment"
RECORDING: Final = "recording of other moves"
SIMULATED: Final = "simulated"
_ELSEWHERE = 1_000_000  # added to a person's seed: the place where a recording was made
_VIEWS = 3  # that a probe needs before it is judged
_CHALLENGES = 50  # for each head: angles only, so that rates below one in a hundred show


class Verdict(Enum):
    """What a check says of one presentation."""

    LIVE = "live"
    ATTACK = "attack"
    UNDECIDED = "cannot tell"


@dataclass(frozen=True)
class Judged:
    """One presentation of one subject, and what a check said."""

    check: str
    species: str
    source: str
    subject: int
    verdict: Verdict


def simulate(
    photos: Sequence[Photo], extracted: Extracted, heads: int, models: Path, on_progress: Callable[[int, int], None]
) -> list[Judged]:
    """Render up to `heads` people, bona fide and as every species, and judge each with both checks."""
    chosen = _frontal(photos, extracted, heads)
    judged: list[Judged] = []
    with workers(models, None) as pool:
        waiting = [pool.submit(_judge_head, photos[row].file, photos[row].person) for row in chosen]
        for done, future in enumerate(as_completed(waiting), start=1):
            judged += future.result()
            on_progress(done, len(waiting))
    return judged + [one for row in chosen for one in _judge_moves(photos[row].person)]


def recorded(photos: Sequence[Photo], models: Path, on_progress: Callable[[int, int], None]) -> list[Judged]:
    """Judge the presentations that the CSV labels, the frames of one `presentation` in order of their names."""
    presentations: dict[str, list[Photo]] = {}
    for photo in photos:
        if photo.presentation:
            presentations.setdefault(photo.presentation, []).append(photo)
    judged = []
    with workers(models, None) as pool:
        waiting = [pool.submit(_judge_files, [photo.file for photo in frames]) for frames in presentations.values()]
        for done, (frames, future) in enumerate(zip(presentations.values(), waiting, strict=True), start=1):
            species = frames[0].attack or BONA_FIDE
            judged.append(Judged(GATE_ALL, species, "recorded", frames[0].person, future.result()))
            on_progress(done, len(waiting))
    return judged


def rates(judged: Iterable[Judged]) -> list[Report]:
    """APCER for each check and species, BPCER for bona fide presentations."""
    kinds: dict[tuple[str, str, str], list[Judged]] = {}
    for one in judged:
        kinds.setdefault((one.check, one.species, one.source), []).append(one)
    rows = []
    for (check, species, source), group in sorted(kinds.items()):
        genuine = species == BONA_FIDE
        wrong = [(one.verdict is Verdict.LIVE) != genuine for one in group]
        _, subjects = np.unique([one.subject for one in group], return_inverse=True)
        rows.append(
            {
                "check": check,
                "species": species,
                "source": source,
                "measure": "BPCER" if genuine else "APCER",
                "rate": Rate.of_trials(subjects, np.array(wrong)).describe(),
                "undecided": float(np.mean([one.verdict is Verdict.UNDECIDED for one in group])),
            }
        )
    return rows


def good_views(frames: Iterable[Frame]) -> Iterator[Seen]:
    """The views of one walk that a gate would take, by their quality."""
    for frame in frames:
        face = central(frame, pipeline().observe_all(frame))
        if face is not None and GATE.hint(face.pose, face.quality) is None:
            yield Seen(frame, face)


def gate_verdict(good: Iterable[Seen], screen: ScreenCheck | None, backdrop: Backdrop | None = None) -> Verdict:
    """Judge the good views of one walk as a gate does, until they show a live head, or a screen.

    Without `screen` by motion alone; with `backdrop` only by views that show the place behind.
    """
    check, views = MotionCheck(), list[Seen]()
    verdict = Motion.TOO_LITTLE
    for view in good:
        if backdrop is not None and backdrop.behind(view.frame, view.face) is Behind.OTHER:
            continue
        views.append(view)
        if len(views) >= _VIEWS and (verdict := check.judge([view.face for view in views])) is Motion.LIVE:
            shown = screen is not None and screen.judge(most_different(views, _VIEWS))
            return Verdict.ATTACK if shown else Verdict.LIVE
    return Verdict.ATTACK if verdict is Motion.FLAT else Verdict.UNDECIDED


def _frontal(photos: Sequence[Photo], extracted: Extracted, heads: int) -> list[int]:
    """One sharp, frontal photo of each of as many people, at random."""
    pose = np.abs(extracted.measures[:, :3]).max(axis=1)
    sharp = extracted.measures[:, MEASURES.index("sharpness")] >= GATE.min_sharpness
    plain = np.array([not photo.attack and not photo.presentation for photo in photos])
    rows = np.random.default_rng(0).permutation(np.flatnonzero((extracted.failures == 0) & plain & sharp & (pose < 10)))
    people = np.array([photos[row].person for row in rows.tolist()])
    _, firsts = np.unique(people, return_index=True)
    return [int(rows[first]) for first in np.sort(firsts)[:heads]]


def _judge_files(files: list[Path]) -> Verdict:
    try:
        return gate_verdict(good_views(read_picture(file) for file in files), ScreenCheck())
    except BiometricsError:
        return Verdict.UNDECIDED


def _judge_head(file: Path, person: int) -> list[Judged]:
    """Judge one head, bona fide and as every species; nothing for a photo that shows no face any more."""
    picture = read_picture(file)
    face = central(picture, pipeline().observe_all(picture))
    if face is None:
        return []
    head = Head(picture, face.landmarks)
    seed = person
    judged = _judge_walks(head, seed)
    for species in (None, *(one for one in Species if one not in FILLS_THE_VIEW[1:])):
        name = species.value if species else BONA_FIDE
        judged.append(Judged(HEAD_TURN, name, SIMULATED, person, _turn_verdict(head, species, seed)))
        if species in (None, Species.PRINT, Species.SCREEN_STILL):  # a recording blinks whenever its maker did
            judged.append(Judged(BLINK, name, SIMULATED, person, _blink_verdict(head, species, seed)))
    return judged


def _judge_walks(head: Head, seed: int) -> list[Judged]:
    """Judge one head at a gate: as every species, and itself, also before a crowd and in another light."""
    rng = np.random.default_rng(seed)
    place = Place(seed)
    empty, motion = place.seen(), list(walk(seed))
    otherwise = place.seen(lamps=tuple(rng.choice([0.05, 0.5, 1.0, 2.0], 4).tolist()))
    beside = Stand(float(rng.uniform(0.3, 0.8)), float(rng.uniform(-0.4, 0.4)), -float(rng.uniform(6, 18)))
    shown = {Species.LARGE_SCREEN: Place(seed + _ELSEWHERE).seen(), Species.FILMED_HERE: place.seen(beside)}
    walks: list[tuple[str, str, Iterable[Frame]]] = [
        (one.value, SIMULATED, present(head, one, motion, seed, peopled(shown.get(one, empty), motion, 0, seed)))
        for one in Species
    ]
    for source, behind, crowd in (
        (SIMULATED, empty, 0),
        ("simulated, eight people behind", empty, 8),
        ("simulated, other lamps", otherwise, 0),
        ("simulated, other lamps and eight people behind", otherwise, 8),
    ):
        walls = peopled(behind, motion, crowd, seed)
        frames = (head.view(view, seed + n, wall) for n, (view, wall) in enumerate(zip(motion, walls, strict=True)))
        walks.append((BONA_FIDE, source, frames))
    judged, known = [], _learned(empty)
    for species, source, shots in walks:
        good = list(good_views(shots))
        for check, screen, backdrop in (
            (GATE_ONLY_MOTION, None, None),
            (GATE_ALL, ScreenCheck(), None),
            (GATE_BACKDROP, ScreenCheck(), known),
        ):
            judged.append(Judged(check, species, source, seed, gate_verdict(good, screen, backdrop)))
    return judged


def _learned(empty: Frame) -> Backdrop:
    """What a gate knows of its place after it was empty for long enough."""
    backdrop = Backdrop(clock=partial(next, count(0.0, 0.5)))
    for _ in range(int(2 * FIRST) + 2):
        backdrop.learn(empty)
    return backdrop


def _judge_moves(person: int) -> list[Judged]:
    """Judge somebody who does what is asked, and recordings that do not know it, by the angles of heads alone."""
    judged = []
    for number in range(_CHALLENGES):
        for species, passes in ((BONA_FIDE, obeys), (RECORDING, replay)):
            verdict = Verdict.LIVE if passes(Random(f"{person} {number}")) else Verdict.ATTACK  # noqa: S311
            judged.append(Judged(MOVES, species, "simulated angles", person, verdict))
    return judged


def _shown(head: Head, species: Species | None, motion: list[View], seed: int) -> Iterable[Frame]:
    if species is None:
        behind = room(np.random.default_rng(seed))
        return (head.view(view, seed + number, behind) for number, view in enumerate(motion))
    return present(head, species, motion, seed)


def _blink_verdict(head: Head, species: Species | None, seed: int) -> Verdict:
    """Twelve frames of somebody who holds nearly still, with the eyes closed for two of them, if they can be."""
    held = np.random.default_rng(seed).normal(0, 1, (12, 3)).tolist()
    views = [
        View(yaw, pitch, roll, face_width=200, closed=species is None and number in (5, 6), noise=1.5)
        for number, (yaw, pitch, roll) in enumerate(held)
    ]
    faces = [central(frame, pipeline().observe_all(frame)) for frame in _shown(head, species, views, seed)]
    eyes = [face.quality.eyes_open for face in faces if face is not None]
    return Verdict.LIVE if blinked(eyes) else Verdict.UNDECIDED


def _turn_verdict(head: Head, species: Species | None, seed: int) -> Verdict:
    """Ask for a turn; everybody obeys but a recording, which turns the way it was made."""
    rng = np.random.default_rng(seed)
    asked = Direction.LEFT if rng.random() < 0.5 else Direction.RIGHT
    turned = Direction.LEFT if rng.random() < 0.5 else Direction.RIGHT
    way = turned if species in (Species.SCREEN_VIDEO, Species.LARGE_SCREEN) else asked
    views = [View(noise=1.5), View(yaw=way.value * float(rng.uniform(15, 25)), noise=1.5)]
    faces = [central(frame, pipeline().observe_all(frame)) for frame in _shown(head, species, views, seed)]
    before, after = faces
    if before is None or after is None:
        return Verdict.UNDECIDED
    turn = TurnCheck(asked).judge(before, after)
    if turn is Turn.LIVE:
        return Verdict.LIVE
    return Verdict.UNDECIDED if turn is Turn.TOO_LITTLE else Verdict.ATTACK

"""Which templates are compared with which: all single photos, and fused views of one person against another's.

The templates are rows of a matrix: unit vectors, or quantised ones as whole numbers in float32 (their products
stay below 2^24 and are exact).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facefare.evaluation.metrics import FINE, Distances

Matrix = NDArray[np.float32]
_ROWS = 512


@dataclass(frozen=True, repr=False, eq=False)
class Subjects:
    """Templates (n, D), whose they are (n,), and in which session they were taken (n,), "" if unknown."""

    vectors: Matrix
    people: NDArray[np.int64]
    sessions: NDArray[np.str_]

    def only(self, rows: NDArray[np.int64]) -> "Subjects":
        """Return some of the rows."""
        return Subjects(self.vectors[rows], self.people[rows], self.sessions[rows])

    def photos_each(self) -> NDArray[np.int64]:
        """How many templates each person has, (P,)."""
        return np.bincount(self.people).astype(np.int64)


@dataclass(frozen=True, repr=False, eq=False)
class Comparisons:
    """Distances of one kind of comparison.

    genuine (G,) with rows `pairs` (G, 2) of the templates compared; impostor distances, counted; `close` (M, 3):
    the two people and the distance of the nearest impostor pairs.
    """

    genuine: NDArray[np.float64]
    pairs: NDArray[np.int64]
    impostor: Distances
    close: NDArray[np.float64]


def squared_distances(rows: Matrix, columns: Matrix) -> Matrix:
    """Return all squared distances (r, c) between the rows of two matrices."""
    lengths = (columns.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    own = (rows.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    distances: Matrix = own[:, None] + lengths - 2 * (rows @ columns.T)
    return np.maximum(distances, 0)


def all_pairs(subjects: Subjects, width: float = FINE, top: float = 4.0, closest: float = 1e-3) -> Comparisons:
    """Compare every template with every other one, once; genuine ones across sessions where these are known.

    `closest`: the share of impostor pairs that `close` keeps.
    """
    impostor = Distances(width, top)
    genuine, pairs = [], []
    for start, distances, ahead in _blocks(subjects.vectors):
        same = subjects.people[start : start + len(distances), None] == subjects.people
        impostor.add(distances[ahead & ~same])
        i, j = np.nonzero(ahead & same)
        sessions = subjects.sessions[i + start], subjects.sessions[j]
        apart = (sessions[0] != sessions[1]) | (sessions[0] == "")
        genuine.append(distances[i, j][apart])
        pairs.append(np.column_stack([i[apart] + start, j[apart]]))
    limit = impostor.threshold_at(closest)
    close = []
    for start, distances, ahead in _blocks(subjects.vectors):
        i, j = np.nonzero(ahead & (distances < limit))
        first, second = subjects.people[i + start], subjects.people[j]
        other = first != second
        close.append(np.column_stack([first[other], second[other], distances[i, j][other]]).astype(np.float64))
    return Comparisons(
        np.concatenate(genuine).astype(np.float64), np.concatenate(pairs), impostor, np.concatenate(close)
    )


def _blocks(vectors: Matrix) -> Iterator[tuple[int, Matrix, NDArray[np.bool_]]]:
    """Blocks of rows against all: the first row, the distances, and which pairs have not come before."""
    for start in range(0, len(vectors), _ROWS):
        distances = squared_distances(vectors[start : start + _ROWS], vectors)
        yield start, distances, np.arange(len(vectors)) > np.arange(start, start + len(distances))[:, None]


@dataclass(frozen=True, repr=False, eq=False)
class Draw:
    """One random choice of each person's views: fused references (R, D) of people `of` (R,), each of so many
    `views` (R,), and fused probes (Q, D) `by` (Q,) people.

    A probe that shares views with its person's reference, so that the two may never be compared, is by -1 - person.
    """

    references: Matrix
    of: NDArray[np.int64]
    views: NDArray[np.int64]
    probes: Matrix
    by: NDArray[np.int64]

    @property
    def whose(self) -> NDArray[np.int64]:
        """The person of each probe (Q,)."""
        return np.where(self.by < 0, -1 - self.by, self.by)

    def only(self, people: NDArray[np.bool_]) -> "Draw":
        """Return what is of some people, (P,)."""
        own, probes = people[self.of], people[self.whose]
        return Draw(self.references[own], self.of[own], self.views[own], self.probes[probes], self.by[probes])


def draw(subjects: Subjects, enrol: int, probe: int, seed: int, whole: bool) -> Draw:
    """Fuse up to `enrol` views of each person into a reference and `probe` other ones into a probe.

    Where sessions are known, a probe shares none with its reference. `whole` leaves out references of fewer than
    `enrol` views; a probe always has all its views. People with too few photos for both still give a probe: they
    can be strangers.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(subjects.people))
    if (subjects.sessions != "").any():
        _, session = np.unique(subjects.sessions, return_inverse=True)
        shuffled = rng.permutation(session.max() + 1)
        order = order[np.argsort(shuffled[session[order]], kind="stable")]
    order = order[np.argsort(subjects.people[order], kind="stable")]
    references, of, views, probes, by = [], [], [], [], []
    for own in np.split(order, np.flatnonzero(np.diff(subjects.people[order])) + 1):
        front = own[:enrol]
        rest = own[enrol:]
        known = subjects.sessions[rest] != ""
        rest = rest[~known | ~np.isin(subjects.sessions[rest], subjects.sessions[front])]
        person = int(subjects.people[own[0]])
        if len(front) == enrol or not whole:
            references.append(_fused(subjects.vectors[front]))
            of.append(person)
            views.append(len(front))
        if len(rest) >= probe:
            probes.append(_fused(subjects.vectors[rest[-probe:]]))
            by.append(person)
        elif len(own) >= probe:  # only ever compared with others
            probes.append(_fused(subjects.vectors[own[-probe:]]))
            by.append(-1 - person)
    return Draw(_stack(references, subjects), np.array(of), np.array(views), _stack(probes, subjects), np.array(by))


@dataclass(frozen=True, repr=False, eq=False)
class FusedComparisons:
    """Distances between fused views: genuine (G,) and of which person (G,); impostor distances, counted."""

    genuine: NDArray[np.float64]
    people: NDArray[np.int64]
    impostor: Distances


def fused_pairs(draws: Sequence[Draw], width: float = FINE, top: float = 4.0) -> FusedComparisons:
    """Compare the references with the probes of each draw."""
    impostor = Distances(width, top)
    genuine, people = [], []
    for one in draws:
        distances = squared_distances(one.references, one.probes)
        same = one.of[:, None] == one.whose
        impostor.add(distances[~same])
        i, j = np.nonzero(same & (one.by >= 0))
        genuine.append(distances[i, j].astype(np.float64))
        people.append(one.of[i])
    return FusedComparisons(np.concatenate(genuine), np.concatenate(people), impostor)


def _fused(views: Matrix) -> Matrix:
    total = views.sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)


def _stack(vectors: list[Matrix], subjects: Subjects) -> Matrix:
    return np.stack(vectors) if vectors else np.zeros((0, subjects.vectors.shape[1]), np.float32)

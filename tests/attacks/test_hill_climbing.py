"""Whoever owns a terminal's key climbs by match bits: how far, how fast, and what it leaves behind.

The climb is not a wild guess but the best we know (after Pagnin et al. 2014, who search for a sphere's centre): the
set of probes that match a reference is a ball whose radius everyone knows. Bisecting between a probe that matches and
ones that don't gives points on its surface; the differences of their equations are linear in the centre, which is
the reference. `docs/threat-model.md` states the figures.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facefare.guardian.errors import RefusalCode, Refused
from facefare.guardian.messages import SearchPayload, sha256
from facefare.guardian.policy import Limits, Policy
from facefare.guardian.registry import GalleryDefinition, Terminal
from facefare.identification.calibration import Calibration

CALIBRATION = Calibration.default()
DIRECTIONS = np.linalg.qr(CALIBRATION.directions.T.astype(np.float64))[0].T  # where faces differ at all
PAYERS, FPIR = 10_000, 1e-3
THRESHOLD = CALIBRATION.threshold(PAYERS, FPIR)
POINTS, STEPS = 120, 6
KEY = Ed25519PrivateKey.generate()
TERMINAL = Terminal("trm_stolen", KEY.public_key().public_bytes_raw(), ("gal_a",))
GALLERY = GalleryDefinition("gal_a", "live", CALIBRATION.model, 128, 1000, 8191, -4000, -100)
START = 1_800_000_000_000


def person(rng):
    vector = rng.normal(size=len(DIRECTIONS))
    vector *= rng.uniform(58, 66) / np.linalg.norm(vector)
    return np.rint(vector @ DIRECTIONS)


@dataclass
class Terminals:
    """The attacker's side of a gallery with one reference: every question passes a guardian's own policy first."""

    reference: np.ndarray
    policy: Policy = field(default_factory=lambda: Policy(Limits()))
    now: int = START
    asked: int = 0
    matched: int = 0
    refused: int = 0

    def matches(self, probe):
        while not self._accepted():
            self.refused += 1
            self.now += 500
        allowed = GALLERY.min_squared_norm <= probe @ probe <= GALLERY.max_squared_norm
        found = bool(allowed and -((self.reference - probe) ** 2).sum() >= THRESHOLD)
        self.matched += found
        return found

    def _accepted(self):
        self.asked += 1
        hashes = tuple(sha256(bytes([n])) for n in range(3))
        payload = SearchPayload(
            v=1, gallery="gal_a", model=CALIBRATION.model, terminal=TERMINAL.id, purpose="payment",
            query_id=self.asked.to_bytes(16, "big"), issued_at=self.now, sealed_sha256=hashes, component_sha256=hashes,
        ).to_bytes()  # fmt: skip
        try:
            self.policy.search(payload, KEY.sign(payload), bytes([0]), 0, TERMINAL, GALLERY, THRESHOLD, self.now)
        except Refused as refused:
            if refused.code is not RefusalCode.RATE_LIMITED:
                raise
            self.asked -= 1
            return False
        return True


def climb(rng, terminals, first, points=POINTS):
    """An estimate of the reference, in the directions that count, from `first`, which matches it."""
    surface = []
    while len(surface) < points:
        outside = person(rng)
        if terminals.matches(outside):
            continue
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            if terminals.matches(np.rint(first + middle * (outside - first))):
                low = middle
            else:
                high = middle
        surface.append((first + (low + high) / 2 * (outside - first)) @ DIRECTIONS.T)
    surface, start = np.array(surface), DIRECTIONS @ first
    equations = 2 * (surface[1:] - surface[0])
    right = (surface[1:] ** 2).sum(axis=1) - (surface[0] ** 2).sum()
    # ridge regression around where it began: rounding and bisection leave errors of about 80 in an equation, and the
    # reference is some 3.7 away in each direction
    ridge = equations.T @ equations + (80 / 3.7) ** 2 * np.eye(len(DIRECTIONS))
    return start + np.linalg.solve(ridge, equations.T @ (right - equations @ start))


def first_match(rng, reference):
    """What an attacker has who was matched by chance: a probe almost at the threshold's distance."""
    while True:
        away = rng.normal(size=len(DIRECTIONS))
        away *= 0.97 * np.sqrt(-THRESHOLD) / np.linalg.norm(away)
        probe = np.rint(reference + away @ DIRECTIONS)
        if probe @ probe < GALLERY.max_squared_norm and -((reference - probe) ** 2).sum() >= THRESHOLD:
            return probe


def likeness(estimate, reference):
    inside = DIRECTIONS @ reference
    return estimate @ inside / np.linalg.norm(estimate) / np.linalg.norm(inside)


def test_a_climb_rebuilds_a_reference_and_a_guardians_rates_only_slow_it_down():
    """The limit that the threat model states; the guardians can't count matches of a row that they never learn."""
    rng = np.random.default_rng(5)
    reached, asked, matched, minutes = [], [], [], []
    for _ in range(5):
        terminals = Terminals(person(rng))
        estimate = climb(rng, terminals, first_match(rng, terminals.reference))
        reached.append(likeness(estimate, terminals.reference))
        asked.append(terminals.asked)
        matched.append(terminals.matched)
        minutes.append((terminals.now - START) / 60_000)
        assert terminals.refused > 0, "it ran into the terminal's rate"
    print(f"asked {asked}, matched {matched}, cosine {np.round(reached, 3)}, minutes {np.round(minutes, 1)}")
    assert min(reached) > 0.95, "we say that it works: if it stops working, say so"
    limits = Limits()
    assert min(minutes) * 60 >= (min(asked) - limits.terminal_burst) / limits.terminal_rate - 1
    assert min(matched) > 200, "each of them a payment attempt of one payer, in the log, the accumulator and the wallet"


@pytest.mark.parametrize("points", [20, 40])
def test_before_a_payer_was_matched_a_hundred_times_a_climb_has_gained_little(points):
    """So a wallet that stops naming a payer after some dozens of attempts a day keeps a climb from getting anywhere."""
    rng = np.random.default_rng(6)
    began, reached, matched = [], [], []
    for _ in range(8):
        terminals = Terminals(person(rng), Policy(Limits(terminal_rate=1000, terminal_burst=10_000, overall_rate=1000)))
        first = first_match(rng, terminals.reference)
        estimate = climb(rng, terminals, first, points)
        began.append(likeness(DIRECTIONS @ first, terminals.reference))
        reached.append(likeness(estimate, terminals.reference))
        matched.append(terminals.matched)
    print(f"{points}: matched {np.median(matched)}, cosine {np.median(began):.3f} to {np.median(reached):.3f}")
    assert np.median(reached) < 0.95
    assert np.median(matched) < 150


def test_an_attacker_without_a_first_match_needs_a_thousand_searches_for_one():
    """By the calibrated FPIR: of strangers' probes one in a thousand matches anyone of 10,000 payers."""
    limits = Limits()
    seconds = (1 / FPIR - limits.terminal_burst) / limits.terminal_rate
    assert seconds > 480

"""Heads that move, as angles only: who does what is asked, and recordings that do not know what is asked.

For measuring the challenge at enrolment, many times over and without pictures. The angles are made up: people turn
within about half a second of hearing what to do, hold a move for a second, overshoot, tremble, and now and then take
left for right.
"""

from collections.abc import Iterator
from random import Random

from facefare.biometrics.pad import Challenge, Move

Angles = tuple[float, float]
"""Yaw and pitch off straight ahead, in degrees, one for each frame, 15 a second."""
_RATE = 15
_SPEED = 4.0  # degrees a frame
_TREMBLE = 1.2
_MISTAKEN = 0.03  # moves that a person gets wrong
_WHERE = {Move.LEFT: (18.0, 0.0), Move.RIGHT: (-18.0, 0.0), Move.UP: (2.0, -10.0), Move.DOWN: (-2.0, 10.0)}
_AHEAD = (0.0, 0.0)
_MOST_FRAMES = 60 * _RATE


def obeys(random: Random) -> bool:
    """Whether somebody who does what is asked passes the challenge."""
    challenge, at = Challenge(random), _AHEAD
    heard: Move | None = None
    target = _AHEAD
    for _ in range(_MOST_FRAMES):
        if challenge.asked is not heard:  # reacts, meanwhile as before
            heard = challenge.asked
            for _ in range(int(random.uniform(0.2, 0.8) * _RATE)):
                at = _towards(target, at, random)
                _see(challenge, at)
            if challenge.asked is not None:
                meant = random.choice(list(Move)) if random.random() < _MISTAKEN else challenge.asked
                target = _aim(meant, random)
        at = _towards(target, at, random)
        _see(challenge, at)
        if challenge.asked is None:
            break
    return challenge.asked is None and not challenge.lost


def replay(random: Random) -> bool:
    """Whether a recording of moves of somebody's own choosing passes the challenge."""
    challenge = Challenge(random)
    frames = _recording(random)
    for _, at in zip(range(_MOST_FRAMES), frames, strict=False):
        _see(challenge, at)
        if challenge.asked is None:
            break
    return challenge.asked is None and not challenge.lost


def _recording(random: Random) -> Iterator[Angles]:
    """Moves in any order, each held for some time, sometimes back to straight ahead in between."""
    at, back, hold = _AHEAD, random.random() < 0.5, random.uniform(0.4, 2.0)
    while True:
        for target in (_aim(random.choice(list(Move)), random), *([_AHEAD] if back else [])):
            for _ in range(int(hold * _RATE)):
                at = _towards(target, at, random)
                yield at


def _see(challenge: Challenge, at: Angles) -> None:
    if challenge.shows(*at):
        challenge.answered()


def _aim(move: Move, random: Random) -> Angles:
    yaw, pitch = _WHERE[move]
    share = random.uniform(0.8, 1.3)
    return yaw * share, pitch * share


def _towards(target: Angles, at: Angles, random: Random) -> Angles:
    yaw, pitch = (
        now + max(-_SPEED, min(_SPEED, aim - now)) + random.gauss(0, _TREMBLE) * 0.5
        for aim, now in zip(target, at, strict=True)
    )
    return yaw, pitch

"""What a phone measures and asks for is what a station does: the JavaScript beside the Python, on the same input, in
Chromium. Thousands of cases go over in one call each; nothing here needs a network of ours or a server."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.faces import Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.landmarks import COUNT, FaceMesh
from facefare.biometrics.pad import CLOSED, Challenge, Move, blinked, parallax
from facefare.biometrics.quality import ENROLMENT, HeadPose, Quality, eye_centres, head_pose, measure
from facefare.evaluation.heads import View, rotation
from facefare.settings import Settings
from facefare.web.pages.networks import Networks

NOT_ON_A_PHONE = {"mouth_closed", "luminance_variance", "dynamic_range"}
"""No hint follows from them."""

# How far the two may be apart, (relative, absolute): OpenCV counts with 32 bits, a browser with 64.
POSE_DEGREES = 0.02
MEASURES = {
    "inter_eye_distance": (1e-5, 1e-4),
    "eyes_open": (1e-4, 1e-6),
    "eyes_visible": (1e-6, 1e-6),
    "mouth_visible": (1e-5, 1e-6),
    "sharpness": (1e-3, 1e-3),
    "luminance_mean": (1e-5, 1e-6),
    "under_exposure": (0, 1e-9),
    "over_exposure": (0, 1e-9),
    "illumination_uniformity": (0, 1e-9),
}

LOAD = """async () => {
  const modules = ["quality", "liveness", "challenge", "pictures"].map((name) => import(`/face/${name}.js`));
  Object.assign(window, ...(await Promise.all(modules)));
  window.bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  window.floats = (text) => new Float32Array(bytes(text).buffer);
  window.rows = (values, width) =>
    Array.from({ length: values.length / width }, (_, row) => [...values.subarray(row * width, (row + 1) * width)]);
}"""


@pytest.fixture(scope="module")
def page(browser: Any, static: str) -> Iterator[Any]:
    page = browser.new_page()
    page.goto(f"{static}/icon.svg")
    page.evaluate(LOAD)
    yield page
    page.close()


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """The landmarks and limits that the server hands to phones."""
    found = Networks.find(Settings().cache_dir)
    assert found is not None
    return found.description


@pytest.fixture(scope="session")
def face(head: Sitter, pipeline: FacePipeline) -> NDArray[np.float32]:
    """The landmarks (468, 3) of a face that looks straight ahead, about its middle."""
    points = pipeline.observe(head.view(View())).landmarks
    return points - points.mean(axis=0, dtype=np.float32)


def sent(array: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def crops(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Pictures (192, 192, 3) BGR: flat, black, white, dark and bright noise, slopes, halves, stripes, blobs."""
    y, x = np.mgrid[:192, :192]
    grey = [np.full((192, 192), level) for level in (0, 1, 25, 26, 128, 246, 247, 255)]
    grey += [x * 255 / 191, y * 255 / 191, np.where(x < 96, 20, 230), np.where(y % 8 < 4, 20, 230)]
    grey += [128 + 100 * np.sin(x / wave) * np.cos(y / wave) for wave in (2, 9, 40)]
    coloured = [np.repeat(one[..., None], 3, axis=2) for one in grey]
    coloured += [rng.normal(level, spread, (192, 192, 3)) for level in (10, 60, 128, 245) for spread in (2, 25, 90)]
    return [np.clip(one, 0, 255).astype(np.uint8) for one in coloured]


def heads(face: NDArray[np.float32], rng: np.random.Generator) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Landmarks in a frame and in the crop: turned and distorted heads, landmarks at random, and degenerate ones."""
    for _ in range(150):
        turned = face @ rotation(*rng.uniform(-70, 70, 3)).T * rng.uniform(0.05, 4)
        yield turned + rng.normal(0, rng.choice([0, 1, 20]), face.shape) + rng.uniform(-50, 700, 3), crop_of(face, rng)
    for spread in (1e-4, 1, 100, 1e4):
        for _ in range(10):
            yield rng.normal(0, spread, (COUNT, 3)), rng.normal(96, spread, (COUNT, 2))
    for _ in range(30):  # on the borders between pixels, where two ways to round differ
        yield rng.integers(0, 900, (COUNT, 3)), rng.integers(-20, 400, (COUNT, 2)) / 2
    for where in (0, 5, 191.5, -1e6):
        yield np.full((COUNT, 3), where), np.full((COUNT, 2), where)
    for line in (np.eye(3)[0], np.eye(3)[1], np.eye(3)[2], np.ones(3)):
        yield np.outer(np.arange(COUNT), line), np.outer(np.arange(COUNT), line[:2])


def crop_of(face: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
    placed = face[:, :2] * rng.uniform(0.3, 1.6) + 96
    return placed + rng.normal(0, rng.choice([0, 2, 30]), placed.shape)


def test_every_measure_of_a_view_is_the_station_s(page: Any, shared: dict[str, Any], face: NDArray[Any]) -> None:
    rng = np.random.default_rng(7)
    pictures = crops(rng)
    cases = [
        (a.astype(np.float32), b.astype(np.float32), int(rng.integers(len(pictures)))) for a, b in heads(face, rng)
    ]
    cases += [(face + 300, face[:, :2] + 96, number) for number in range(len(pictures))]
    found = page.evaluate(
        """([pictures, cases, mesh, policy]) => {
          const crops = pictures.map((data) => ({ width: 192, height: 192, data: bytes(data) }));
          return cases.map(([points, inCrop, picture]) => {
            const seen = { points: rows(floats(points), 3), inCrop: rows(floats(inCrop), 2), crop: crops[picture] };
            const pose = headPose(seen.points, mesh);
            const quality = measure(seen, pose, mesh);
            return [pose, quality, hint(pose, quality, policy), eyeDistance(seen.points, mesh)];
          });
        }""",
        [
            [sent(picture[:, :, ::-1]) for picture in pictures],
            [[sent(points), sent(in_crop), picture] for points, in_crop, picture in cases],
            shared["mesh"],
            shared["policy"],
        ],
    )
    assert set(found[0][1]) == {field.name for field in fields(Quality)} - NOT_ON_A_PHONE == set(MEASURES)
    hints = set()
    for number, ((points, in_crop, picture), (pose, quality, hint, eyes)) in enumerate(zip(cases, found, strict=True)):
        there = head_pose(points)
        for angle in ("yaw", "pitch", "roll"):
            apart = (pose[angle] - getattr(there, angle) + 180) % 360 - 180  # -180 is 180
            assert abs(apart) < POSE_DEGREES, (number, angle)
        station = measure(FaceMesh(points, 1.0, pictures[picture], in_crop), there)
        for name, (relative, absolute) in MEASURES.items():
            expected = pytest.approx(getattr(station, name), rel=relative, abs=absolute)
            assert quality[name] == expected, (number, name)
        said = ENROLMENT.hint(there, station)
        assert hint == (said and said.value), number
        assert eyes == pytest.approx(float(np.linalg.norm(np.subtract(*eye_centres(points)))), rel=1e-5, abs=1e-4)
        hints.add(hint)
    assert len(hints) >= 6, "the cases show what can be wrong"


def test_the_one_thing_to_change_is_the_station_s_at_every_limit(page: Any, shared: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    limits = {"under_exposure": 0.5, "over_exposure": 0.3, "illumination_uniformity": 0.25, "eyes_visible": 0.3}
    limits |= {"inter_eye_distance": 45.0, "sharpness": 0.075, "mouth_visible": 0.045, "eyes_open": 0.03}
    limits |= {"luminance_mean": 0.15}
    good = {name: 0.0 if name.endswith("exposure") else 2 * limit for name, limit in limits.items()}
    angles = {"yaw": ENROLMENT.max_yaw, "pitch": ENROLMENT.max_pitch, "roll": ENROLMENT.max_roll}
    cases = []
    for _ in range(1500):
        changed = rng.random(len(limits)) < 0.15
        shift = rng.choice([-1e-9, 0.0, 1e-9, -0.5, 0.5], len(limits))
        quality = {
            name: limit * (1 + shift[n]) if changed[n] else good[name] for n, (name, limit) in enumerate(limits.items())
        }
        pose = {name: limit * rng.choice([-1.1, -1, 0, 0, 0, 0, 1, 1.0001]) for name, limit in angles.items()}
        cases.append((pose, quality))
    found = page.evaluate(
        "([cases, policy]) => cases.map(([pose, quality]) => hint(pose, quality, policy))", [cases, shared["policy"]]
    )
    rest = dict.fromkeys(NOT_ON_A_PHONE, 0.0)
    said = [ENROLMENT.hint(HeadPose(**pose), Quality(**quality, **rest)) for pose, quality in cases]
    assert found == [one and one.value for one in said]
    assert len(set(found)) == 10, "each thing to change, and nothing"


def test_the_depth_of_a_turn_is_the_station_s(page: Any, face: NDArray[Any]) -> None:
    rng = np.random.default_rng(9)
    pairs = []
    for _ in range(60):
        poses = (rotation(*rng.uniform(-25, 25, 3)) for _ in range(2))
        pairs.append(tuple(face @ pose.T * rng.uniform(0.3, 2) + rng.uniform(0, 500, 3) for pose in poses))
    before = face[:, :2] + 200
    plane = np.eye(2) + rng.normal(0, 0.2, (2, 2))
    seen_aslant = (before @ plane.T) / (1 + before @ np.array([[3e-4], [-2e-4]]))
    pairs += [(before, before), (before, before @ plane.T + 40), (before, seen_aslant)]
    pairs += [(before, np.full_like(before, 7)), (np.full_like(before, 7), before)]
    given = [(a[:, :2].astype(np.float32), b[:, :2].astype(np.float32)) for a, b in pairs]
    eyes = [float(np.linalg.norm(np.subtract(*eye_centres(one)))) for one, _ in given]
    found = page.evaluate(
        """(pairs) => {
          const flat = (points) => rows(floats(points), 2);
          return pairs.map(([before, after, eyes]) => parallax(flat(before), flat(after), eyes));
        }""",
        [(sent(before), sent(after), distance) for (before, after), distance in zip(given, eyes, strict=True)],
    )
    assert found == pytest.approx([parallax(before, after) for before, after in given], rel=0.01, abs=1e-3)
    assert max(found) > 0.1


def test_a_blink_is_the_station_s(page: Any) -> None:
    rng = np.random.default_rng(10)
    series = [[5, 5, 5], [5, 5, 3, 5, 5], [5, 5, 3], [3, 5, 5], [], [5, 4.4, 5], [0, 0, 0], [5, 4, 5], [5, 4.5, 3, 4.5]]
    for _ in range(500):
        opening = rng.normal(0.1, rng.choice([0.002, 0.01, 0.03]), rng.integers(1, 40))
        opening[rng.random(len(opening)) < 0.1] *= rng.uniform(0.5, 1)
        series.append(opening.tolist())
    found = page.evaluate("([series, closed]) => series.map((open) => blinked(open, closed))", [series, CLOSED])
    assert found == [blinked(one) for one in series]
    assert 50 < sum(found) < len(series) - 50


def walked(drawn: Any, chance: bytes, angles: Sequence[tuple[float, float]]) -> list[Any]:
    """What a station's challenge does with these frames."""
    challenge = Challenge(drawn(chance))
    trace = []
    for yaw, pitch in angles:
        shown = challenge.shows(yaw, pitch)
        trace.append([shown, challenge.asked and challenge.asked.value, challenge.lost])
        if shown:
            challenge.answered()
    return trace


def test_the_moves_asked_for_and_the_mistakes_are_the_station_s(page: Any, shared: dict[str, Any], drawn: Any) -> None:
    rng = np.random.default_rng(11)
    rules = shared["asks"]["challenge"]
    limits = [0, rules["tilt"], rules["clear_tilt"], rules["turn"]]
    runs = []
    for number in range(120):
        chance = rng.bytes(4000)
        if number % 3:  # mostly obeys: the angles that are asked for next, and sometimes others
            obeying, angles = Challenge(drawn(chance)), []
            while obeying.asked and len(angles) < 200:
                right = {Move.LEFT: (18, 0), Move.RIGHT: (-18, 0), Move.UP: (4, -9), Move.DOWN: (-4, 9)}[obeying.asked]
                shown = right if rng.random() < 0.7 else (0, 0) if rng.random() < 0.7 else (12, 3)
                angles.append(shown)
                if obeying.shows(*shown):
                    obeying.answered()
        else:
            still = rng.random() < 0.3
            count = 400 if still else 60
            off = (
                np.zeros((count, 2))
                if still
                else rng.choice(limits, (count, 2)) + rng.choice([-0.1, 0, 0.1], (count, 2))
            )
            angles = (off * rng.choice([-1, 1], (count, 2))).tolist()
        runs.append((chance, [(float(yaw), float(pitch)) for yaw, pitch in angles]))
    found = page.evaluate(
        """([runs, rules]) => runs.map(([chance, angles]) => {
          const [values, real] = [bytes(chance).values(), crypto.getRandomValues];
          crypto.getRandomValues = (array) => array.map(() => values.next().value);
          try {
            const challenge = new Challenge(rules);
            return angles.map(([yaw, pitch]) => {
              const shown = challenge.shows(yaw, pitch);
              const seen = [shown, challenge.asked, challenge.lost];
              if (shown) challenge.answered();
              return seen;
            });
          } finally {
            crypto.getRandomValues = real;
          }
        })""",
        [[(sent(np.frombuffer(chance, np.uint8)), angles) for chance, angles in runs], rules],
    )
    assert found == [walked(drawn, chance, angles) for chance, angles in runs]
    ended = [trace[-1][2] for trace in found]
    assert True in ended
    assert False in ended

"""The face is read in the browser: as a station would read it, and without anything of it leaving."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.networks import OnnxNetwork
from facefare.biometrics.pad import CLOSED, blinked, parallax
from facefare.biometrics.quality import eye_centres
from facefare.evaluation.heads import View
from facefare.settings import Settings
from facefare.terminal.station import Ask

MODELS = Settings().cache_dir / "models"

LOAD = """async () => {
  const { Reader } = await import("/app/static/face/reader.js");
  const face = await (await fetch("/app/assets/face.json")).json();
  const bytes = async ({ url }) => (await fetch(url)).arrayBuffer();
  const { wasm, detector, mesher, embedder } = face.files;
  const models = { detector: await bytes(detector), mesher: await bytes(mesher), embedder: await bytes(embedder) };
  window.models = models;
  window.reader = await Reader.load({ wasm: await bytes(wasm), models, face });
}"""


@pytest.fixture(scope="session")
def pipeline() -> FacePipeline:
    return FacePipeline.load(MODELS)


@pytest.fixture(scope="session")
def head(pipeline: FacePipeline) -> Sitter:
    return Sitter(Person.EILEEN_COLLINS, pipeline)


@pytest.fixture
def page(site: Any, visit: Any) -> Any:
    """A page of ours in which the networks are loaded."""
    with visit(site.url) as page:
        page.goto("/app/")
        page.evaluate(LOAD)
        yield page


OBEYED = {
    Ask.LOOK_AHEAD: View(),
    Ask.TURN_LEFT: View(yaw=18),
    Ask.TURN_RIGHT: View(yaw=-18),
    Ask.TILT_UP: View(pitch=-9),
    Ask.TILT_DOWN: View(pitch=9),
    Ask.BLINK: View(),
}
KEPT = "import('/app/static/held/keeping.js').then(({ phone }) => phone()).then((kept) => kept ?? null)"


def agree(page: Any) -> None:
    page.goto("/app/consent")
    page.get_by_label("I am 16 years old or more.").first.check()
    page.get_by_role("button", name="Yes, on my phone").click()
    page.wait_for_url("**/app/phone/setup")


def in_page(page: Any, frame: Any) -> np.ndarray:
    """The template that the browser makes of a BGR frame."""
    height, width = frame.shape[:2]
    rgba = np.dstack([frame[:, :, ::-1], np.full((height, width), 255, np.uint8)])
    vector = page.evaluate(
        """async ([data, width, height]) => {
          const { rgb } = await import("/app/static/face/pictures.js");
          const bytes = Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0));
          const frame = rgb({ width, height, data: bytes });
          const [found] = await reader.observe(frame);
          return Array.from(await reader.template(frame, found));
        }""",
        [base64.b64encode(rgba.tobytes()).decode(), width, height],
    )
    return np.array(vector)


def test_each_network_gives_what_it_gives_at_a_station(page: Any) -> None:
    for name, file, shape in (
        ("detector", "blazeface.onnx", (1, 3, 128, 128)),
        ("mesher", "facemesh.onnx", (1, 3, 192, 192)),
        ("embedder", "dlib-resnet-v1.onnx", (2, 3, 150, 150)),
    ):
        numbers = np.arange(int(np.prod(shape)), dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
        tensor = (numbers / 2**32).astype(np.float32).reshape(shape)
        expected = OnnxNetwork.pinned(MODELS, file).run(tensor)
        outputs = page.evaluate(
            """async ([name, shape]) => {
              const { load } = await import("/app/static/face/networks.js");
              const size = shape.reduce((one, other) => one * other);
              const number = (_, i) => Number((BigInt(i) * 2654435761n) % 4294967296n) / 4294967296;
              const numbers = Float32Array.from({ length: size }, number);
              const network = await load(models[name]);
              return (await network(numbers, shape)).map(({ data }) => Array.from(data));
            }""",
            [name, list(shape)],
        )
        for one, other in zip(sorted(outputs, key=len), sorted(expected, key=lambda array: array.size), strict=True):
            scale = max(1.0, float(np.abs(other).max()))
            halved = name == "embedder"  # half-precision weights: less to load
            assert np.abs(np.array(one) - other.reshape(-1)).max() / scale < (1e-3 if halved else 1e-5)


@pytest.mark.parametrize(
    "view",
    [View(), View(yaw=16, pitch=-6, face_width=120, light=0.7), View(yaw=-14, roll=12, face_width=230, noise=4)],
    ids=["frontal", "small and dark", "large and tilted"],
)
def test_a_template_made_in_the_browser_equals_one_made_at_a_station(
    page: Any, pipeline: FacePipeline, head: Sitter, view: View
) -> None:
    frame = head.view(view)
    at_station = pipeline.embed(frame, pipeline.observe(frame)).vector
    assert float(np.linalg.norm(in_page(page, frame) - at_station)) < 0.01


def test_depth_in_a_turn_is_measured_as_at_a_station(page: Any, pipeline: FacePipeline, head: Sitter) -> None:
    ahead, turned = (pipeline.observe(head.view(view)) for view in (View(), View(yaw=18)))
    flat = ahead.landmarks[:, :2] @ np.array([[0.9, 0.05], [-0.02, 1.1]]) + 7
    eyes = float(np.linalg.norm(np.subtract(*eye_centres(ahead.landmarks))))
    for other in (turned.landmarks[:, :2], flat):
        in_browser = page.evaluate(
            "(given) => import('/app/static/face/liveness.js').then(({ parallax }) => parallax(...given))",
            [ahead.landmarks[:, :2].tolist(), other.tolist(), eyes],
        )
        assert in_browser == pytest.approx(parallax(ahead.landmarks, other.astype(np.float32)), rel=0.01, abs=1e-3)


@pytest.mark.parametrize("series", [[5, 5, 5], [5, 5, 3, 5, 5], [5, 5, 3], [3, 5, 5], [], [5, 4.4, 5], [0, 0, 0]])
def test_a_blink_is_seen_as_at_a_station(page: Any, series: list[float]) -> None:
    script = "([open, closed]) => import('/app/static/face/liveness.js').then(({ blinked }) => blinked(open, closed))"
    assert page.evaluate(script, [series, CLOSED]) == blinked(series)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({ask: View() for ask in Ask}, "That was not what was asked for"),
        ({**OBEYED, Ask.TURN_LEFT: View(yaw=-18), Ask.TURN_RIGHT: View(yaw=18)}, "That was not what was asked for"),
    ],
    ids=["a picture held still", "other moves than were asked for"],
)
def test_who_does_not_do_what_is_asked_is_not_kept(
    site: Any, visit: Any, head: Sitter, sits: Any, shown: dict[Ask, View], told: str
) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        agree(page)
        views = {ask.value: [head.view(replace(view, face_width=170))] for ask, view in shown.items()}
        sits(page, views)
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_role("status")).to_contain_text(told, timeout=100_000)
        expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
        assert page.evaluate(KEPT) is None


def test_one_face_for_another_view_ends_the_capture(
    site: Any, visit: Any, head: Sitter, sits: Any, pipeline: Any
) -> None:
    other = Sitter(Person.GRACE_HOPPER, pipeline)
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        agree(page)
        sits(page, {ask.value: (head if ask is Ask.LOOK_AHEAD else other).obey(ask) for ask in Ask})
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_role("status")).to_contain_text("do not look like one person", timeout=60_000)
        assert page.evaluate(KEPT) is None


def test_the_worker_that_sees_the_pictures_may_reach_no_server(site: Any, visit: Any) -> None:
    with visit(site.url) as page:
        response = page.request.get("/app/static/face/worker.js")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src" not in policy


def test_a_refused_camera_is_explained_and_nothing_is_kept(site: Any, visit: Any) -> None:
    site.payer("ada")
    with visit(site.url) as page:
        site.sign_in(page, "ada")
        agree(page)
        page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", "NotAllowedError"); };
            }"""
        )
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_role("status")).to_contain_text("The camera is not allowed")
        assert page.evaluate(KEPT) is None


def test_without_the_files_from_npm_the_page_says_so(tmp_path: Path) -> None:
    from facefare.web.pages.networks import Networks

    assert Networks.find(tmp_path) is None

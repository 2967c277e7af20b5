"""The face is read in the browser: as a station would read it, and without anything of it leaving."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.networks import OnnxNetwork
from facefare.evaluation.heads import View
from facefare.settings import Settings

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
            assert np.abs(np.array(one) - other.reshape(-1)).max() / scale < 1e-5


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


def test_capture_keeps_the_face_on_the_phone_and_sends_nothing_of_it(
    site: Any, visit: Any, browser_with_camera: Any, head: Sitter
) -> None:
    site.payer("ada")
    frames = [frame for frame in head.enrolment_views() for _ in range(8)]
    with browser_with_camera(frames) as browser, visit(site.url, browser, permissions=["camera"]) as page:
        site.sign_in(page, "ada")
        page.goto("/app/face/capture")
        site.received.clear()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_text("kept on this phone, and nowhere else")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("status")).to_have_text("Done. It is locked to this browser")
        kept = page.evaluate("import('/app/static/face/keeping.js').then((m) => m.recall()).then((r) => Array.from(r))")
        assert abs(np.linalg.norm(kept) - 1) < 1e-5
        page.get_by_role("button", name="Forget it").click()
        assert page.evaluate("import('/app/static/face/keeping.js').then((m) => m.recall())") is None
    assert site.received
    assert {(method, size) for method, _, size in site.received} == {("GET", 0)}
    assert all(len(path) < 64 for _, path, _ in site.received)


@pytest.mark.parametrize(("prf", "told"), [(True, "with your passkey"), (False, "to this browser")])
def test_a_passkey_that_can_locks_the_reference(
    site: Any, visit: Any, browser_with_camera: Any, head: Sitter, authenticator: Any, prf: bool, told: str
) -> None:
    frames = [frame for frame in head.enrolment_views() for _ in range(8)]
    with browser_with_camera(frames) as browser, visit(site.url, browser, permissions=["camera"]) as page:
        authenticator(page, prf=prf)
        page.goto("/app/sign-up")
        page.get_by_role("button", name="Make my passkey").click()
        page.wait_for_url("**/app/")
        page.goto("/app/face/capture")
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_role("status")).to_contain_text(told, timeout=60_000)
        kept = page.evaluate("import('/app/static/face/keeping.js').then((m) => m.recall()).then((r) => Array.from(r))")
        assert abs(np.linalg.norm(kept) - 1) < 1e-5
    # What a passkey gives may not reach us either: the bodies were a passkey's public answers only.
    assert sum(size for method, _, size in site.received if method == "POST") < 4096


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
        page.goto("/app/face/capture")
        page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", "NotAllowedError"); };
            }"""
        )
        page.get_by_role("button", name="Start the camera").click()
        expect(page.get_by_role("status")).to_contain_text("The camera is not allowed", timeout=20_000)
        assert page.evaluate("import('/app/static/face/keeping.js').then((m) => m.recall())") is None


def test_without_the_files_from_npm_the_page_says_so(tmp_path: Path) -> None:
    from facefare.web.pages.networks import Networks

    assert Networks.find(tmp_path) is None

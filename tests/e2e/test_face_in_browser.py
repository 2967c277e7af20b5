"""The face is read in the browser: as a station would read it, and without anything of it leaving."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import expect
from starlette.staticfiles import StaticFiles

from demo.faces import Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.errors import NoFaceError, SeveralFacesError
from facefare.biometrics.networks import OnnxNetwork
from facefare.biometrics.pad import Challenge
from facefare.biometrics.quality import ENROLMENT, Hint
from facefare.evaluation.heads import View
from facefare.settings import Settings
from facefare.terminal import station
from facefare.terminal.station import Ask
from facefare.web.pages.languages import Language, language
from facefare.web.pages.networks import Networks
from facefare.web.pages.static_files import FOLDER
from facefare.web.pages.words import CAPTURE

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


@pytest.fixture(scope="module")
def page(browser: Any, served: Any) -> Iterator[Any]:
    """A page of ours in which the networks are loaded."""
    networks = Networks.find(Settings().cache_dir)
    assert networks is not None
    app = FastAPI()
    app.mount("/app/static", StaticFiles(directory=FOLDER))
    app.mount("/app/assets", networks.app())
    with served(app) as url:
        page = browser.new_page(base_url=url)
        page.goto("/app/static/icon.svg")
        page.evaluate(LOAD)
        yield page
        page.close()


OBEYED = {
    Ask.LOOK_AHEAD: View(),
    Ask.TURN_LEFT: View(yaw=18),
    Ask.TURN_RIGHT: View(yaw=-18),
    Ask.TILT_UP: View(pitch=-9),
    Ask.TILT_DOWN: View(pitch=9),
    Ask.BLINK: View(),
}
MOVES = (Ask.TURN_LEFT, Ask.TURN_RIGHT, Ask.TILT_UP, Ask.TILT_DOWN)
KEPT = "import('/app/static/held/keeping.js').then(({ phone }) => phone()).then((kept) => kept ?? null)"


def agree(page: Any) -> None:
    page.goto("/app/consent")
    page.get_by_label("I am 16 years old or more.").first.check()
    page.get_by_role("button", name="Yes, on my phone").click()
    page.wait_for_url("**/app/phone/setup")


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


def raw(frame: Any) -> str:
    """A BGR frame as a page gets it from its camera."""
    return base64.b64encode(cv2.cvtColor(frame, cv2.COLOR_BGR2RGBA).tobytes()).decode()


def seen_in_page(page: Any, frames: list[Any]) -> list[list[dict[str, Any]]]:
    """Of every face in each BGR frame the pose, the measures, the hint and, of a good view, the template."""
    return page.evaluate(
        """async (frames) => {
          const { rgb } = await import("/app/static/face/pictures.js");
          const { headPose, hint, measure } = await import("/app/static/face/quality.js");
          const { mesh, policy } = reader.face;
          const seen = [];
          for (const frame of frames) {
            const data = Uint8ClampedArray.from(atob(frame), (letter) => letter.charCodeAt(0));
            const picture = rgb({ width: 640, height: 480, data });
            seen.push([]);
            for (const face of await reader.observe(picture)) {
              const pose = headPose(face.points, mesh);
              const quality = measure(face, pose, mesh);
              const told = hint(pose, quality, policy);
              const template = told ? null : Array.from(await reader.template(picture, face));
              seen.at(-1).push({ points: face.points, pose, quality, hint: told, template });
            }
          }
          return seen;
        }""",
        [raw(frame) for frame in frames],
    )


def covered(frame: Any, landmarks: Any, rim: list[int], colour: tuple[int, int, int]) -> Any:
    """A frame whose face has something before it: the hull of these landmarks, in one colour."""
    hull = cv2.convexHull(np.rint(landmarks[rim, :2]).astype(np.int32))
    return cv2.fillConvexPoly(frame.copy(), hull, colour, cv2.LINE_AA)


MOUTH = [2, 152, 172, 397, 234, 454, 136, 365]
EYES = [70, 300, 50, 280, 127, 356]

# What a camera sees, and what has to be said of it.
SEEN = {
    "good": (View(), None),
    "tilted": (View(yaw=-14, roll=12, face_width=230, noise=4), None),
    "small and darkish": (View(yaw=16, pitch=-6, face_width=120, light=0.7), None),
    "too small": (View(face_width=70), Hint.COME_CLOSER),
    "turned": (View(yaw=-45), Hint.LOOK_AT_THE_CAMERA),
    "too dark": (View(light=0.15), Hint.MORE_LIGHT),
    "too bright": (View(light=1.7), Hint.LESS_LIGHT),
    "blurred": (View(blur=5), Hint.HOLD_STILL),
}


def test_a_picture_is_measured_judged_and_embedded_as_at_a_station(
    page: Any, pipeline: FacePipeline, head: Sitter
) -> None:
    frames = {name: head.view(view) for name, (view, _) in SEEN.items()}
    hints = {name: hint for name, (_, hint) in SEEN.items()}
    landmarks = pipeline.observe(frames["good"]).landmarks
    shadow = np.where(np.arange(640) < landmarks[1, 0], 0.2, 1)[:, None]
    frames["lit from one side"] = (frames["good"] * shadow).astype(np.uint8)
    frames["masked"] = covered(frames["good"], landmarks, MOUTH, (200, 190, 180))
    frames["dark glasses"] = covered(frames["good"], landmarks, EYES, (12, 12, 12))
    hints |= {
        "lit from one side": Hint.EVEN_LIGHT,
        "masked": Hint.UNCOVER_THE_MOUTH,
        "dark glasses": Hint.TAKE_OFF_GLASSES,
    }
    frames["two people"] = np.hstack([head.view(View(face_width=120))[:, 160:480]] * 2)
    frames["nobody"] = np.full((480, 640, 3), 90, np.uint8)
    for name, faces in zip(frames, seen_in_page(page, list(frames.values())), strict=True):
        there = pipeline.observe_all(frames[name])
        assert len(faces) == len(there), name
        for here, seen in zip(faces, there, strict=True):
            eyes = seen.inter_eye_distance
            assert np.abs(np.array(here["points"]) - seen.landmarks).max() < 0.01 * eyes, name
            for angle, degrees in here["pose"].items():
                assert degrees == pytest.approx(getattr(seen.pose, angle), abs=0.2), (name, angle)
            for measure, value in here["quality"].items():
                assert value == pytest.approx(getattr(seen.quality, measure), rel=0.02, abs=5e-3), (name, measure)
            said = ENROLMENT.hint(seen.pose, seen.quality)
            assert here["hint"] == (said and said.value), name
            if said is None:
                template = pipeline.embed(frames[name], seen).vector
                assert float(np.linalg.norm(np.array(here["template"]) - template)) < 0.01, name
            if name in hints:
                assert said is hints[name], name
    assert len(pipeline.observe_all(frames["two people"])) == 2


SAYS = {
    NoFaceError: Hint.LOOK_AT_THE_CAMERA.value,
    SeveralFacesError: "one person at a time",
}


def test_a_capture_asks_and_says_frame_by_frame_what_a_station_s_does(
    page: Any, pipeline: FacePipeline, head: Sitter, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {ask.value: frames for ask, frames in ((ask, head.obey(ask)) for ask in Ask)}
    pictures["small"] = [head.view(View(face_width=70))]
    pictures["dark"] = [head.view(View(face_width=170, light=0.15))]
    pictures["two"] = [np.hstack([head.view(View(face_width=120))[:, 160:480]] * 2)]
    pictures["nobody"] = [np.full((480, 640, 3), 90, np.uint8)]
    chance = np.random.default_rng(5).bytes(200)
    monkeypatch.setattr(station, "Challenge", lambda: Challenge(drawn(chance)))
    capture, shown, trace = station.Capture(pipeline), [], []
    while capture.asked:
        wrong = Ask.TURN_LEFT if capture.asked is Ask.TURN_RIGHT else Ask.TURN_RIGHT
        disturbed = ["nobody", "two", "small", "dark"] if capture.asked in (Ask.LOOK_AHEAD, Ask.BLINK) else []
        mistaken = [wrong.value] if len(trace) == 5 else []
        for name in [*disturbed, *mistaken, *([] if mistaken else [capture.asked.value])]:
            for number, frame in enumerate(pictures[name]):
                shown.append((name, number))
                try:
                    hint = capture.offer(frame).hint
                    trace.append([hint and hint.value, capture.asked and capture.asked.value])
                except tuple(SAYS) as error:
                    trace.append([SAYS[type(error)], capture.asked.value])
    found = page.evaluate(
        """async ([pictures, shown, chance]) => {
          const { Capture } = await import("/app/static/face/reader.js");
          const bytes = (text) => Uint8ClampedArray.from(atob(text), (letter) => letter.charCodeAt(0));
          const [values, real] = [bytes(chance).values(), crypto.getRandomValues];
          crypto.getRandomValues = (array) => array.map(() => values.next().value);
          const capture = new Capture(reader);
          const images = {};
          for (const name in pictures) images[name] = pictures[name].map(bytes);
          const trace = [];
          for (const [name, number] of shown) {
            const { hint, asked } = await capture.offer({ width: 640, height: 480, data: images[name][number] });
            trace.push([hint, asked]);
          }
          crypto.getRandomValues = real;
          return [trace, Array.from(capture.finish())];
        }""",
        [
            {name: [raw(frame) for frame in frames] for name, frames in pictures.items()},
            shown,
            base64.b64encode(chance).decode(),
        ],
    )
    assert found[0] == trace
    assert float(np.linalg.norm(np.array(found[1]) - capture.reference().vector)) < 0.01
    assert {hint for hint, _ in trace} == {None, *SAYS.values(), Hint.COME_CLOSER.value, Hint.MORE_LIGHT.value}


def agree_in(say: Language, site: Any, page: Any) -> None:
    """Ada signs in and agrees, in the page's language."""
    own = {"Sec-Fetch-Site": "same-origin"}
    page.request.post("/app/sign-in/token", form={"token": site.tokens["ada"]}, headers=own)
    page.goto("/app/consent")
    page.get_by_label(say("I am {years} years old or more.", years=16)).first.check()
    page.get_by_role("button", name=say("Yes, on my phone")).click()
    page.wait_for_url("**/app/phone/setup")


HEARD = """() => {
  const told = document.getElementById("told");
  window.heard = [];
  new MutationObserver(() => heard.push(told.textContent)).observe(told, { childList: true, characterData: true });
}"""
"""Keeps what the live region announces."""


def test_the_camera_s_page_tells_the_one_thing_to_change_and_goes_on_when_it_is_right(
    site: Any, visit: Any, pipeline: FacePipeline, head: Sitter, sits: Any
) -> None:
    say = language("de")
    ahead = head.view(View(face_width=170))
    views = {ask.value: head.obey(ask) for ask in Ask}
    wrong = {
        Hint.COME_CLOSER.value: head.view(View(face_width=75)),
        Hint.MORE_LIGHT.value: head.view(View(face_width=170, light=0.15)),
        Hint.UNCOVER_THE_MOUTH.value: covered(ahead, pipeline.observe(ahead).landmarks, MOUTH, (200, 190, 180)),
        "one person at a time": np.hstack([head.view(View(face_width=120))[:, 160:480]] * 2),
        Hint.LOOK_AT_THE_CAMERA.value: head.view(View(face_width=170, yaw=-45)),
    }
    site.payer("ada")
    with visit(site.url, locale="de") as page:
        agree_in(say, site, page)
        sits(page, views | {name: [frame] for name, frame in wrong.items()})
        page.evaluate(HEARD)
        status, done = page.get_by_role("status"), page.get_by_label(say("Done so far"))
        page.evaluate("shown = 'come closer'")
        page.get_by_role("button", name=say("Start the camera")).click()
        for name in wrong:
            page.evaluate("(name) => (shown = name)", name)
            expect(status).to_have_text(say(CAPTURE[name]), timeout=60_000)
            assert done.evaluate("(bar) => bar.value") == 0
        page.evaluate("shown = null")  # looks ahead now, as asked
        expect(status).to_have_text(re.compile("|".join(say(CAPTURE[ask.value]) for ask in MOVES)), timeout=60_000)
        assert done.evaluate("(bar) => bar.value") == 1
        page.evaluate("(name) => (shown = name)", Hint.MORE_LIGHT.value)
        expect(status).to_have_text(say(CAPTURE[Hint.MORE_LIGHT.value]), timeout=60_000)
        page.evaluate("shown = null")
        expect(done).not_to_have_js_property("value", 1, timeout=60_000)
        page.get_by_role("button", name=say("Stop")).click()
        expect(status).to_have_text(say(CAPTURE["stopped"]))
        heard = page.evaluate("heard")
        assert set(heard) <= {say(sentence) for sentence in CAPTURE.values()}, "one sentence at a time, in German"
        assert all(one != other for one, other in pairwise(heard)), "and none twice in a row"
        assert page.evaluate(KEPT) is None


SCRIPTED = """const looks = %s;
const next = () => (looks.length > 1 ? looks.shift() : looks[0]);
self.onmessage = ({ data: { id, ask } }) => {
  const [hint, asked] = ask === "look" ? next() : [];
  setTimeout(() => self.postMessage({ id, hint, asked, ended: null, left: 8 }), 30);
};"""


def test_every_hint_is_announced_once_it_holds_and_what_flickers_is_not(
    site: Any, visit: Any, sits: Any, head: Sitter
) -> None:
    say, asked = language("ar"), Ask.LOOK_AHEAD.value
    names = [*(hint.value for hint in Hint), "one person at a time"]
    looks = [[None, asked], *([name, asked] for name in names for _ in range(2))]
    looks += [[name, asked] for name in ("hold still", "come closer") * 3] + [[None, asked]] * 2
    looks += [[None, Ask.BLINK.value]]
    site.payer("ada")
    with visit(site.url, locale="ar", service_workers="block") as page:
        page.route(
            "**/face/worker.js",
            lambda route: route.fulfill(body=SCRIPTED % json.dumps(looks), content_type="text/javascript"),
        )
        agree_in(say, site, page)
        sits(page, {asked: [head.view(View())]})
        page.evaluate(HEARD)
        page.get_by_role("button", name=say("Start the camera")).click()
        expect(page.get_by_role("status")).to_have_text(say(CAPTURE[Ask.BLINK.value]), timeout=60_000)
        heard = page.evaluate("heard")
        page.get_by_role("button", name=say("Stop")).click()
    assert heard == [say(CAPTURE[name]) for name in ("loading", asked, *names, asked, Ask.BLINK.value)]


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
    assert Networks.find(tmp_path) is None

"""The way from a frame to a template on one core, stage by stage, beside open-source peers in the same run.

The peers need a Python of their own: name it with `--peers-python`. In it, all or some of
`pip install face-recognition dlib-bin deepface tf-keras insightface`. Each finds, aligns and embeds the faces of the
same frames:
  face_recognition  HOG detector, five points, dlib's ResNet
  deepface          the same three networks in its own pipeline (detector and model "dlib"), the only ones of its models
                    whose weights can be had without a download at run time
  insightface       buffalo_l, where its weights (not free for business) already lie in ~/.insightface; else left out
"""

import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from rich.console import Console
from rich.table import Table

from demo.faces import Frame, Person, Sitter, save
from facefare.biometrics import FacePipeline
from facefare.settings import Settings
from facefare.terminal.approach import Approach, Lane

_TIMED = """
import os, statistics, sys, time
os.environ.update(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
from pathlib import Path
import numpy as np
from PIL import Image
frames = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(Path(sys.argv[1]).iterdir())]
def timed(embed):
    times = []
    for number in range(int(sys.argv[2]) + 1):
        frame = frames[number % len(frames)]
        started = time.perf_counter()
        embed(frame)
        times.append(time.perf_counter() - started)
    print(1000 * statistics.median(times[1:]))
"""
_PEERS = {
    "face_recognition": """
import face_recognition
timed(lambda frame: face_recognition.face_encodings(frame, model="small"))
""",
    "deepface": """
import tempfile
import face_recognition_models as models
home = tempfile.TemporaryDirectory()
os.environ["DEEPFACE_HOME"] = home.name
weights = Path(home.name) / ".deepface" / "weights"
weights.mkdir(parents=True)
for file in (models.face_recognition_model_location(), models.pose_predictor_five_point_model_location()):
    (weights / Path(file).name).symlink_to(file)
from deepface import DeepFace
timed(lambda frame: DeepFace.represent(frame[:, :, ::-1], model_name="Dlib", detector_backend="dlib"))
""",
    "insightface": """
if not (Path.home() / ".insightface" / "models" / "buffalo_l").is_dir():
    sys.exit("its weights are not on this machine")
from insightface.app import FaceAnalysis
app = FaceAnalysis("buffalo_l", allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"])
app.prepare(ctx_id=-1)
timed(lambda frame: app.get(frame[:, :, ::-1]))
""",
}
_PEER_ROUNDS = 20


class Stopwatch:
    """Stands in for a network's session and adds up the time spent in it."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.seconds = 0.0

    def run(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.session.run(*arguments)
        finally:
            self.seconds += time.perf_counter() - started


def median_ms(work: Callable[[Frame], object], frames: list[Frame], rounds: int) -> float:
    """Return the median time of one call in milliseconds, after one round to warm up."""
    for frame in frames:
        work(frame)
    times = []
    for number in range(rounds):
        started = time.perf_counter()
        work(frames[number % len(frames)])
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def networks(pipeline: FacePipeline, frames: list[Frame], rounds: int) -> tuple[dict[str, float], float]:
    """Mean milliseconds inside each network, and outside all of them."""
    watches = {}
    for name in ("detector", "mesher", "embedder"):
        network = getattr(pipeline, f"_{name}")._network
        watches[name] = network._session = Stopwatch(network._session)
    started = time.perf_counter()
    for number in range(rounds):
        frame = frames[number % len(frames)]
        pipeline.embed(frame, pipeline.observe(frame))
    mean = (time.perf_counter() - started) * 1000 / rounds
    inside = {name: watch.seconds * 1000 / rounds for name, watch in watches.items()}
    return inside, mean - sum(inside.values())


def growth_mb(pipeline: FacePipeline, frames: list[Frame], count: int) -> float:
    """How much the most memory ever used grows over so many frames at a gate, after a tenth of them."""
    approach, before = Approach(pipeline, Lane()), 0
    for number in range(count):
        approach.offer(frames[number % len(frames)])
        if approach.ready:
            approach.probe()
        if number == count // 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def peers(python: Path, frames: list[Frame], rounds: int) -> tuple[dict[str, float], dict[str, str]]:
    """Median milliseconds of each peer, in its own Python on the same frames, and why others are left out."""
    times, left_out = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        save(frames, Path(folder))
        for name, script in _PEERS.items():
            command = [str(python), "-c", _TIMED + script, folder, str(min(rounds, _PEER_ROUNDS))]
            try:
                done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
                times[name] = float(done.stdout.split()[-1])
            except subprocess.CalledProcessError as error:
                left_out[name] = (error.stderr.strip().splitlines() or ["it failed"])[-1]
            except subprocess.TimeoutExpired:
                left_out[name] = "it took more than ten minutes"
    return times, left_out


def face(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures.")] = None,
    rounds: Annotated[int, typer.Option(help="Frames to time.", min=10)] = 60,
    endurance: Annotated[int, typer.Option(help="Frames to watch memory over.", min=0)] = 1000,
    peers_python: Annotated[Path | None, typer.Option(help="A Python that has the peers.")] = None,
) -> None:
    """Time the way from a frame to a template, beside peers."""
    cv2.setNumThreads(1)
    pipeline = FacePipeline.load(Settings.read().cache_dir / "models")
    frames = Sitter(Person.GRACE_HOPPER, pipeline).walk_up(seed=1)
    whole = median_ms(lambda frame: pipeline.embed(frame, pipeline.observe(frame)), frames, rounds)
    observe = median_ms(pipeline.observe, frames, rounds)
    beside, left_out = peers(peers_python, frames, rounds) if peers_python else ({}, {})
    grown = growth_mb(pipeline, frames, endurance) if endurance else None
    inside, outside = networks(pipeline, frames, rounds)
    result = {
        "frame_to_template_ms": whole,
        "observe_ms": observe,
        "networks_ms": inside,
        "outside_networks_ms": outside,
        "memory_growth_mb": grown,
        "endurance_frames": endurance,
        "peers": beside,
        "peers_left_out": left_out,
    }
    table = Table(title="640x480, one core, milliseconds")
    table.add_column("what")
    table.add_column("ms", justify="right")
    rows = {"frame to template, median": whole, "  of it observe, median": observe}
    rows |= {f"  network: {name}, mean": value for name, value in inside.items()}
    rows |= {"  outside the networks, mean": outside}
    rows |= {f"peer: {name}, median": value for name, value in beside.items()}
    for what, value in rows.items():
        table.add_row(what, f"{value:.1f}")
    console = Console()
    console.print(table)
    if grown is not None:
        console.print(f"memory over {endurance:,} frames: grew by {grown:.1f} MB")
    for name, why in left_out.items():
        console.print(f"peer left out: {name}: {why}", highlight=False)
    if not peers_python:
        console.print("peers: not timed (see --peers-python)")
    if json_file:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(face)

"""Times the way from a frame to a template on one core, stage by stage, and peers where they are installed.

    python bench/face.py [--json FILE] [--rounds 50]

The peer `face_recognition` (dlib) is timed in the same run if it can be imported.
"""

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from demo.faces import Frame, Person, Sitter
from facefare.biometrics import FacePipeline
from facefare.biometrics.models.install import install


class Stopwatch:
    """Stands in for a network's session and adds up the time spent in it."""

    def __init__(self, session):
        self.session = session
        self.seconds = 0.0

    def run(self, *arguments):
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


def peers(frames: list[Frame], rounds: int) -> dict[str, float]:
    """Time `face_recognition`: detect (HOG), five points, embed."""
    try:
        face_recognition = importlib.import_module("face_recognition")
    except ImportError:
        return {}
    return {
        "face_recognition": median_ms(
            lambda frame: face_recognition.face_encodings(np.ascontiguousarray(frame[:, :, ::-1]), model="small"),
            frames,
            rounds,
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--models", type=Path, default=Path.home() / ".cache" / "facefare" / "models")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    install(options.models)
    pipeline = FacePipeline.load(options.models)
    frames = Sitter(Person.GRACE_HOPPER, pipeline).walk_up(seed=1)

    whole = median_ms(lambda frame: pipeline.embed(frame, pipeline.observe(frame)), frames, options.rounds)
    observe = median_ms(pipeline.observe, frames, options.rounds)
    watches = {}
    for name in ("detector", "mesher", "embedder"):
        network = getattr(pipeline, f"_{name}")._network
        watches[name] = network._session = Stopwatch(network._session)
    started = time.perf_counter()
    for number in range(options.rounds):
        frame = frames[number % len(frames)]
        pipeline.embed(frame, pipeline.observe(frame))
    mean = (time.perf_counter() - started) * 1000 / options.rounds
    networks = {name: watch.seconds * 1000 / options.rounds for name, watch in watches.items()}

    result = {
        "frame_to_template_ms": whole,
        "observe_ms": observe,
        "networks_ms": networks,
        "outside_networks_ms": mean - sum(networks.values()),
        "peers": peers(frames, options.rounds),
    }
    print(f"frame 640x480 to template, one core, median of {options.rounds}: {whole:.1f} ms")
    print(f"  of it observe (detect, landmarks, quality): {observe:.1f} ms")
    for name, value in networks.items():
        print(f"  network of the {name}: {value:.1f} ms")
    print(f"  outside the networks: {result['outside_networks_ms']:.1f} ms")
    for name, value in result["peers"].items():
        print(f"peer {name}: {value:.1f} ms")
    if not result["peers"]:
        print("peer face_recognition: not installed, not timed")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

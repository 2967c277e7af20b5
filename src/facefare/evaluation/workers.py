"""The processes that run the networks: one a core, each with a pipeline of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2

from facefare.biometrics import FacePipeline

COUNT = 2
_own: list[FacePipeline] = []


def workers(models: Path, embedder: Path | None) -> ProcessPoolExecutor:
    """Start the processes; inside them `pipeline` gives the networks of the folder `models` (and the `embedder`)."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(COUNT, mp_context=spawn, initializer=_start, initargs=(models, embedder))


def pipeline() -> FacePipeline:
    """Return this process's pipeline."""
    return _own[0]


def _start(models: Path, embedder: Path | None) -> None:
    cv2.setNumThreads(1)
    _own[:] = [FacePipeline.load(models, embedder)]

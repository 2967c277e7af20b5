"""Makes what a phone has to load small, once, beside the originals: half-precision weights, and compressed copies.

A compressed copy's name has the hash of what it is made of, so one of an older file is never served.
"""

import gzip
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CODINGS = ("br", "gzip")
"""Content codings (RFC 9110, RFC 7932), the better one first."""

_SMALL = 1024
"""Values below which a tensor stays as it is."""


def best(accept_encoding: str) -> str | None:
    """The coding to answer a browser with; None where it takes neither."""
    accepted = {part.partition(";")[0].strip() for part in accept_encoding.split(",")}
    return next((coding for coding in CODINGS if coding in accepted), None)


def compressed(data: bytes, coding: str, quality: int = 9) -> bytes:
    """In this coding; some 3 MB a second at the highest quality."""
    return brotli.compress(data, quality=quality) if coding == "br" else gzip.compress(data, quality, mtime=0)


def packed(folder: Path, file: Path, coding: str) -> Path:
    """Where the compressed copy of a file is, or would be."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return folder / f"{file.stem}-{digest}{file.suffix}.{coding}"


def pack(folder: Path, files: Iterable[Path], on_step: Callable[[str], None]) -> None:
    """Compress the files into `folder` where that is not done yet; older copies are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = set()
    for file in files:
        for coding in CODINGS:
            target = packed(folder, file, coding)
            wanted.add(target)
            if not target.exists():
                on_step(f"Compressing {file.name} ({coding})")
                partial = target.with_suffix(".partial")
                partial.write_bytes(compressed(file.read_bytes(), coding))
                partial.replace(target)
    for old in set(folder.iterdir()) - wanted:
        old.unlink()


def halved(model: bytes) -> bytes:
    """An ONNX model with its large float32 tensors stored as float16, and cast back when it is loaded."""
    proto = onnx.load_from_string(model)
    graph, casts = proto.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < _SMALL:
            continue
        half, name = values.astype(np.float16), tensor.name
        if not np.isfinite(half).all():
            continue  # too large for float16
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    stored = {cast.output[0] for cast in casts}
    inputs = [one for one in graph.input if one.name not in stored]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    smaller: bytes = proto.SerializeToString()
    return smaller

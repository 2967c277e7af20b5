"""The networks for the browser: the files that a page needs to read a face by itself, and their description.

The description carries the landmarks, limits and alignment of the Python side, so that they are written down once.
"""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from fastapi import FastAPI, Header
from starlette.responses import FileResponse, JSONResponse, Response

from facefare.biometrics import landmarks as mesh
from facefare.biometrics import quality
from facefare.biometrics.embedder import Description
from facefare.biometrics.models.install import EMBEDDER_FILE
from facefare.biometrics.pad import CLOSED, Challenge, Direction, TurnCheck
from facefare.terminal import station
from facefare.terminal.station import Ask
from facefare.web.pages import assets, packing
from facefare.web.pages.rendering import PREFIX

_PACKED = "packed"
_SMALL_EMBEDDER = "embedder-half.onnx"


@dataclass(frozen=True)
class Networks:
    """Where the files are, by the name in their URL, and what the page is told about them."""

    files: dict[str, Path]
    description: dict[str, Any]
    copies: dict[tuple[str, str], Path]
    """Name and content coding -> the compressed copy, of those that were made."""

    @classmethod
    def find(cls, cache_dir: Path) -> Self | None:
        """Those in the cache; None where something is not installed."""
        models, web = cache_dir / "models", cache_dir / "web"
        try:
            embedder = _embedder(models)
            files = _files(models, web, embedder)
            urls = {
                "wasm": _described("ort.wasm", files),
                "detector": _described("blazeface.onnx", files),
                "mesher": _described("facemesh.onnx", files),
                "embedder": _described("embedder.onnx", files),
            }
        except (OSError, ValueError):
            return None
        if assets.missing(web, for_tests=False):
            return None
        copies = {
            (name, coding): copy
            for name, file in files.items()
            for coding in packing.CODINGS
            if (copy := packing.packed(web / _PACKED, file, coding)).exists()
        }
        return cls(files, {"files": urls, **_shared(embedder)}, copies)

    def app(self) -> FastAPI:
        """Serves the files and `face.json`."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/face.json")
        async def description() -> Response:
            return JSONResponse(self.description, headers={"Cache-Control": "no-cache"})

        @app.get("/{name}")
        async def file(name: str, v: str = "", accept_encoding: Annotated[str, Header()] = "") -> Response:
            found = self.files.get(name)
            if found is None:
                return Response(status_code=404)
            headers = {
                "Cache-Control": "public, max-age=31536000, immutable" if v else "no-cache",
                "Vary": "Accept-Encoding",
            }
            coding = packing.best(accept_encoding)
            copy = self.copies.get((name, coding)) if coding else None
            if coding and copy:
                headers["Content-Encoding"] = coding
            kind = {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(found.suffix)
            return FileResponse(copy or found, media_type=kind or "application/octet-stream", headers=headers)

        return app


def pack(cache_dir: Path, on_step: Callable[[str], None]) -> None:
    """Make the small copies of what phones load; OSError or ValueError where something is not installed."""
    models, web = cache_dir / "models", cache_dir / "web"
    embedder = _embedder(models)
    original = (models / embedder.file).read_bytes()
    small = web / _SMALL_EMBEDDER
    made = packing.halved(original)
    if not small.exists() or small.read_bytes() != made:
        on_step("Halving the weights of the embedder")
        small.write_bytes(made)
    packing.pack(web / _PACKED, _files(models, web, embedder).values(), on_step)


def _embedder(models: Path) -> Description:
    return Description.model_validate(tomllib.loads((models / EMBEDDER_FILE).read_text("utf-8")))


def _files(models: Path, web: Path, embedder: Description) -> dict[str, Path]:
    small = web / _SMALL_EMBEDDER
    return {
        "ort.mjs": web / "ort.mjs",
        "ort.wasm": web / "ort.wasm",
        "blazeface.onnx": models / "blazeface.onnx",
        "facemesh.onnx": models / "facemesh.onnx",
        "embedder.onnx": small if small.exists() else models / embedder.file,
    }


def _described(name: str, files: dict[str, Path]) -> dict[str, Any]:
    data = files[name].read_bytes()
    version = hashlib.sha256(data).hexdigest()[:12]
    return {"url": f"{PREFIX}/assets/{name}?v={version}", "bytes": len(data)}


def _shared(embedder: Description) -> dict[str, Any]:
    return {
        "embedder": embedder.model_dump(include={"model_id", "input", "alignment", "output"}),
        "policy": asdict(quality.ENROLMENT),
        "mesh": {
            "right_eye_corners": mesh.RIGHT_EYE_CORNERS,
            "left_eye_corners": mesh.LEFT_EYE_CORNERS,
            "right_eye_lids": mesh.RIGHT_EYE_LIDS,
            "left_eye_lids": mesh.LEFT_EYE_LIDS,
            "right_cheek": mesh.RIGHT_CHEEK,
            "left_cheek": mesh.LEFT_CHEEK,
            "inner_lips": mesh.INNER_LIPS,
            "mouth_corners": mesh.MOUTH_CORNERS,
            "nose_base": mesh.NOSE_BASE,
            "forehead": mesh.FOREHEAD,
            "chin": mesh.CHIN,
            "neutral_pitch": quality.NEUTRAL_PITCH,
        },
        "same_person": station.SAME_PERSON,
        "asks": _asks(),
    }


def _asks() -> dict[str, Any]:
    """What a capture asks for, with the station's own limits."""
    return {
        "ahead": Ask.LOOK_AHEAD.value,
        "moves": {move.value: ask.value for move, ask in station._ASKS.items()},
        "blink": Ask.BLINK.value,
        "challenge": {
            "moves": Challenge.MOVES,
            "mistakes": Challenge.MISTAKES,
            "turn": Challenge.TURN,
            "tilt": Challenge.TILT,
            "clear_tilt": Challenge.CLEAR_TILT,
            "patience": Challenge.PATIENCE,
        },
        "straight": station._STRAIGHT,
        "parallax": TurnCheck(Direction.LEFT).threshold,
        "flat_turns": station._FLAT_TURNS,
        "most_blink_frames": station._MOST_BLINK_FRAMES,
        "closed": CLOSED,
    }

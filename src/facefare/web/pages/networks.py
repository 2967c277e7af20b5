"""The networks for the browser: the files that a page needs to read a face by itself, and their description.

The description carries the landmarks, limits and alignment of the Python side, so that they are written down once.
"""

import hashlib
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI
from starlette.responses import FileResponse, JSONResponse, Response

from facefare.biometrics import landmarks as mesh
from facefare.biometrics import quality
from facefare.biometrics.embedder import Description
from facefare.biometrics.models.install import EMBEDDER_FILE
from facefare.biometrics.pad import CLOSED, Challenge, Direction, TurnCheck
from facefare.terminal import station
from facefare.terminal.station import Ask
from facefare.web.pages import assets
from facefare.web.pages.rendering import PREFIX


@dataclass(frozen=True)
class Networks:
    """Where the files are, by the name in their URL, and what the page is told about them."""

    files: dict[str, Path]
    description: dict[str, Any]

    @classmethod
    def find(cls, cache_dir: Path) -> Self | None:
        """Those in the cache; None where something is not installed."""
        models, web = cache_dir / "models", cache_dir / "web"
        try:
            embedder = Description.model_validate(tomllib.loads((models / EMBEDDER_FILE).read_text("utf-8")))
            files = {
                "ort.mjs": web / "ort.mjs",
                "ort.wasm": web / "ort.wasm",
                "blazeface.onnx": models / "blazeface.onnx",
                "facemesh.onnx": models / "facemesh.onnx",
                "embedder.onnx": models / embedder.file,
            }
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
        return cls(files, {"files": urls, **_shared(embedder)})

    def app(self) -> FastAPI:
        """Serves the files and `face.json`."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/face.json")
        async def description() -> Response:
            return JSONResponse(self.description, headers={"Cache-Control": "no-cache"})

        @app.get("/{name}")
        async def file(name: str, v: str = "") -> Response:
            found = self.files.get(name)
            if found is None:
                return Response(status_code=404)
            kept = "public, max-age=31536000, immutable" if v else "no-cache"
            kind = {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(found.suffix)
            return FileResponse(found, media_type=kind or "application/octet-stream", headers={"Cache-Control": kept})

        return app


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

"""Our own style, scripts and pictures; a URL that names its content's hash is kept by the browser for ever."""

from functools import cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from facefare.web.pages import packing

FOLDER = Path(__file__).parent / "static"


_WORKER = "face/worker.js"
_WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
"""The worker that sees the camera's pictures can load our scripts and talk to nobody."""


_TEXT = (".js", ".css", ".svg", ".json")


@cache
def _compressed(file: Path, changed: int, coding: str) -> bytes:  # noqa: ARG001 - a file that changed is read anew
    return packing.compressed(file.read_bytes(), coding)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        coding = packing.best(Headers(scope=scope).get("accept-encoding", ""))
        if coding and isinstance(response, FileResponse) and response.status_code == 200 and path.endswith(_TEXT):
            file = Path(response.path)
            answer = Response(_compressed(file, file.stat().st_mtime_ns, coding), media_type=response.media_type)
            answer.headers["Content-Encoding"] = coding
            answer.headers["ETag"] = f'{response.headers["etag"][:-1]}-{coding}"'
            response = answer
        response.headers["Vary"] = "Accept-Encoding"
        named_by_hash = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if named_by_hash else "no-cache"
        if path == _WORKER:
            response.headers["Content-Security-Policy"] = _WORKER_POLICY
        return response


def service_worker() -> Response:
    """The service worker, which has to be served from the folder that it serves."""
    return FileResponse(FOLDER / "sw.js", media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def app() -> StaticFiles:
    """The ASGI app of the folder."""
    return _Files(directory=FOLDER)

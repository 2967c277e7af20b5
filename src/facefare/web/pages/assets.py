"""Gets what the pages need from npm, once, into the cache: pinned archives, pinned files, nothing executed.

Without these files every page works but one: the face can't be read in the browser, and that page says so.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from facefare.web.pages.errors import AssetChanged, AssetUnavailable


@dataclass(frozen=True)
class File:
    """One file of a package, the name it gets here, and its SHA-256 in hex."""

    member: str
    output: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """An npm package, pinned by its integrity value (Subresource Integrity, SHA-512)."""

    name: str
    version: str
    integrity: str
    licence: str
    for_tests: bool
    files: tuple[File, ...]


def packages() -> list[Package]:
    """What is pinned in assets.toml."""
    text = resources.files(__package__).joinpath("assets.toml").read_text("utf-8")
    return [
        Package(**{**entry, "files": tuple(File(**file) for file in entry["files"])})
        for entry in tomllib.loads(text)["package"]
    ]


def missing(folder: Path, *, for_tests: bool) -> list[Package]:
    """The packages of which some file is not in `folder` as pinned; those for tests only if asked for."""
    return [
        package
        for package in packages()
        if (for_tests or not package.for_tests) and not all(_there(folder / f.output, f.sha256) for f in package.files)
    ]


def install(folder: Path, *, for_tests: bool, on_step: Callable[[str], None]) -> list[Package]:
    """Bring what is missing into `folder`; the packages that were new. `on_step` hears of each step.

    Raises AssetUnavailable where npm is missing or can't get a package, AssetChanged where bytes differ from
    what is pinned; nothing of that package is written then.
    """
    absent = missing(folder, for_tests=for_tests)
    for package in absent:
        on_step(f"Downloading {package.name} {package.version} ({package.licence})")
        with tempfile.TemporaryDirectory(prefix="facefare-assets-") as downloads:
            found = _taken_out(_packed(package, Path(downloads)), package)
        folder.mkdir(parents=True, exist_ok=True)
        for output, data in found.items():
            _write(folder / output, data)
    return absent


def _there(file: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _packed(package: Package, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise AssetUnavailable(
            f"npm is needed once, to get {package.name}. Install it (for example: sudo apt install npm) and run"
            " again: facefare web assets"
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--silent", "--ignore-scripts"]
    result = subprocess.run(  # noqa: S603 - npm itself, with pinned arguments
        [*command, "--pack-destination", str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    archives = list(folder.glob("*.tgz"))
    if result.returncode != 0 or len(archives) != 1:
        reason = (result.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise AssetUnavailable(
            f"npm could not get {package.name} {package.version}. Check the network and npm's registry, then run"
            f" again: facefare web assets. npm says: {reason}"
        )
    return archives[0]


def _taken_out(archive: Path, package: Package) -> dict[str, bytes]:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise AssetChanged(
            f"{package.name} {package.version} does not have the pinned checksum; nothing was installed."
        )
    found = {}
    with tarfile.open(archive) as opened:
        for file in package.files:
            member = opened.extractfile(f"package/{file.member}")
            data = member.read() if member else b""
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise AssetChanged(f"{file.member} of {package.name} does not have the pinned checksum.")
            found[file.output] = data
    return found


def _write(target: Path, data: bytes) -> None:
    """Write whole or not at all, so that an interrupted run leaves no half a file."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)

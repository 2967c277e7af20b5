"""Private keys in files: PKCS #8 PEM, for the owner alone, and never over another one."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from facefare.files import UnreadableFile


def write_new(path: Path, key: PrivateKeyTypes) -> None:
    """Write the key to a new file of mode 0600; raises OSError, FileExistsError where there is one already."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def read(path: Path) -> PrivateKeyTypes:
    """The key that a file holds; raises OSError, UnreadableFile."""
    try:
        return load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnreadableFile(path, "This is not a private key (PEM, without a password)") from None


def read_ed25519(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key that a file holds; raises OSError, UnreadableFile."""
    key = read(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise UnreadableFile(path, "This is not an Ed25519 private key")
    return key

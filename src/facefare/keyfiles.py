"""Private keys in files: PKCS #8 PEM, for the owner alone, and never over another one."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def write_new(path: Path, key: PrivateKeyTypes) -> None:
    """Write the key to a new file of mode 0600; raises OSError, FileExistsError where there is one already."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)

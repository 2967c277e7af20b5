"""A terminal's file: who it is, whom it asks, what a passage costs.

```toml
wallet = "http://127.0.0.1:8080"
guardians = ["guardian-0.json", "guardian-1.json", "guardian-2.json"]
id = "trm_…"
key = "terminal.pem"
gallery = "gal_…"
fare = { amount = 280, currency = "EUR" }
lane = { left = 0.2, right = 0.8 }          # optional
calibration = "calibration.json"            # optional
```
Paths are relative to the file.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from facefare.guardian.messages import GuardianIdentity
from facefare.identification.calibration import Calibration
from facefare.terminal.approach import Lane
from facefare.terminal.errors import ConfigurationError
from facefare.terminal.gate import Fare


@dataclass(frozen=True, repr=False)
class Configuration:
    """What a terminal needs to know; `key` is its own Ed25519 key."""

    id: str
    key: Ed25519PrivateKey
    wallet: str
    guardians: tuple[GuardianIdentity, ...]
    gallery: str
    fare: Fare
    lane: Lane
    calibration: Calibration

    @classmethod
    def load(cls, path: Path) -> "Configuration":
        """Read a terminal's file.

        Raises:
            ConfigurationError: something is missing, or a file it names can't be used.
        """
        try:
            document: dict[str, Any] = tomllib.loads(path.read_text())
            key = load_pem_private_key((path.parent / document["key"]).read_bytes(), None)
            if not isinstance(key, Ed25519PrivateKey):
                raise ConfigurationError(f"{path}: key has to be an Ed25519 private key.")
            calibration = document.get("calibration")
            return cls(
                id=document["id"],
                key=key,
                wallet=document["wallet"],
                guardians=tuple(
                    GuardianIdentity.from_json((path.parent / name).read_text()) for name in document["guardians"]
                ),
                gallery=document["gallery"],
                fare=Fare(**document["fare"]),
                lane=Lane(**document.get("lane", {})),
                calibration=Calibration.from_file(path.parent / calibration) if calibration else Calibration.default(),
            )
        except KeyError as error:
            raise ConfigurationError(f"{path}: {error.args[0]} is missing.") from error
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: {error}") from error

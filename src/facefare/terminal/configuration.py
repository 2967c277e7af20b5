"""A terminal's file: who it is, whom it asks, what a passage costs.

```toml
wallet = "http://127.0.0.1:8080"
guardians = ["guardian-0.json", "guardian-1.json", "guardian-2.json"]   # not for codes only; nor is the gallery
id = "trm_…"
key = "terminal.pem"
gallery = "gal_…"
fare = { amount = 280, currency = "EUR" }   # a gate's; a till has its section [till] instead; or where it stands:
# fare = { currency = "EUR", stop = "Central", kind = "entry", network = "metro" }   # kind: entry, exit or flat
lane = { left = 0.2, right = 0.8 }          # optional
codes = "https://pay.example/app/pay"       # optional: show a code for who pays without a face; it leads there
backdrop = true                             # optional: false in vehicles, where what is behind people changes
calibration = "calibration.json"            # optional
embedder = "embedder.toml"                  # optional: your own; the gallery and the calibration have to be of it

[held]                                      # optional: take codes of payers who hold their own reference
operator_key = "64 hex digits"              # raw Ed25519 key, as `facefare wallet operator-key` prints it
store = "held.sqlite"                       # keys, deny list and payments not handed in yet
codes_only = true                           # false: faces without a code are searched
self_made_limit = 1000                      # and offline_limit, in minor units; offline_self_made = false
deny_list_max_age = 86400                   # seconds; and passback = 60

[till]
currency = "EUR"
largest = 100000                            # minor units; what nobody types on purpose
tips = [5, 10, 15]                          # percent that are offered; [] asks for none
receipts = "https://pay.example"            # where payers reach the wallet's pages; "" shows no code
```
Paths are relative to the file.
"""

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from facefare.guardian.identity import GuardianIdentity
from facefare.identification.calibration import Calibration
from facefare.terminal.approach import Lane
from facefare.terminal.errors import ConfigurationError
from facefare.terminal.fares import FixedFare, Place
from facefare.terminal.held import HeldTerms
from facefare.terminal.till import TillTerms


@dataclass(frozen=True, repr=False)
class HeldSection:
    """How codes are taken: whose word on devices counts, where state is kept, on what terms."""

    operator_key: Ed25519PublicKey
    store: Path
    codes_only: bool
    terms: HeldTerms

    @classmethod
    def read(cls, section: dict[str, Any], folder: Path) -> "HeldSection":
        """From the file's section; raises KeyError, ValueError, TypeError."""
        terms: dict[str, Any] = {
            key: timedelta(seconds=value) if key in ("deny_list_max_age", "passback") else value
            for key, value in section.items()
            if key not in ("operator_key", "store", "codes_only")
        }
        return cls(
            operator_key=Ed25519PublicKey.from_public_bytes(bytes.fromhex(section["operator_key"])),
            store=folder / section["store"],
            codes_only=bool(section.get("codes_only", True)),
            terms=HeldTerms(**terms),
        )


@dataclass(frozen=True, repr=False)
class Configuration:
    """What a terminal needs to know; `key` is its own Ed25519 key, `passage` is a gate's, `till` a till's."""

    id: str
    key: Ed25519PrivateKey
    wallet: str
    guardians: tuple[GuardianIdentity, ...]
    gallery: str
    passage: FixedFare | Place | None
    lane: Lane
    calibration: Calibration
    embedder: Path | None
    held: HeldSection | None
    till: TillTerms | None
    codes: str | None
    backdrop: bool

    @property
    def fare(self) -> FixedFare | Place:
        """What a passage costs, or where the tariff says it; raises ConfigurationError where the file says none."""
        if self.passage is None:
            raise ConfigurationError("fare is missing: a gate's file says what a passage costs.")
        return self.passage

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
            calibration, embedder = document.get("calibration"), document.get("embedder")
            held = HeldSection.read(document["held"], path.parent) if "held" in document else None
            if held is not None and held.codes_only:  # it searches nobody
                document = {"guardians": [], "gallery": "", **document}
            return cls(
                id=document["id"],
                key=key,
                wallet=document["wallet"],
                guardians=tuple(GuardianIdentity.from_file(path.parent / name) for name in document["guardians"]),
                gallery=document["gallery"],
                passage=_fare(document["fare"]) if "fare" in document else None,
                lane=Lane(**document.get("lane", {})),
                calibration=Calibration.from_file(path.parent / calibration) if calibration else Calibration.default(),
                embedder=path.parent / embedder if embedder else None,
                held=held,
                till=TillTerms.read(document["till"]) if "till" in document else None,
                codes=_page(document["codes"]) if "codes" in document else None,
                backdrop=_switch(document.get("backdrop", True)),
            )
        except KeyError as error:
            raise ConfigurationError(f"{path}: {error.args[0]} is missing.") from error
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: {error}") from error


def _page(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("codes has to be the address of a page: https://….")
    return url


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("backdrop has to be true or false.")
    return value


def _fare(section: dict[str, Any]) -> FixedFare | Place:
    return FixedFare(**section) if "amount" in section else Place(**section)

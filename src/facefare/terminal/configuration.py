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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    PlainValidator,
    StrictBool,
    Tag,
    ValidationError,
)

from facefare.files import explained, read_toml, sentence
from facefare.guardian.errors import MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import GUARDIANS, REGISTRY_IDS
from facefare.identification.calibration import Calibration
from facefare.keyfiles import read_ed25519
from facefare.terminal.approach import Lane
from facefare.terminal.errors import ConfigurationError
from facefare.terminal.fares import FixedFare, Place
from facefare.terminal.held import HeldTerms
from facefare.terminal.till import TillTerms


def _public_key(text: object) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(text)))
    except ValueError:
        raise ValueError("a public key is written as 64 hex digits") from None


def _address(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("an address begins with https:// or http://")
    return url


def _fare_kind(section: object) -> Literal["amount", "stop"]:
    return "amount" if isinstance(section, dict) and "amount" in section else "stop"


_Priced = Annotated[FixedFare, Tag("amount")]
_Placed = Annotated[Place, Tag("stop")]
PublicKey = Annotated[Ed25519PublicKey, PlainValidator(_public_key)]
Address = Annotated[str, AfterValidator(_address)]


class Document(BaseModel):
    """A file that an operator writes: what nobody knows in it is a slip of the pen."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, repr=False, kw_only=True)
class HeldSection(HeldTerms):
    """How codes are taken: on what terms, whose word on devices counts, where state is kept."""

    operator_key: PublicKey
    store: Path
    codes_only: bool = True


class _Terminal(Document):
    id: Annotated[str, AfterValidator(REGISTRY_IDS["terminal"])]
    key: Path
    wallet: Address
    guardians: tuple[Path, ...] | None = None
    gallery: Annotated[str, AfterValidator(REGISTRY_IDS["gallery"])] | None = None
    lane: Lane = Lane()
    codes: Address | None = None
    backdrop: StrictBool = True
    calibration: Path | None = None
    embedder: Path | None = None
    held: HeldSection | None = None
    till: TillTerms | None = None
    fare: Annotated[_Priced | _Placed, Discriminator(_fare_kind)] | None = None


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
            CalibrationError: the calibration can't.
        """
        said = read_document(path, _Terminal)
        searches = said.held is None or not said.held.codes_only
        if searches:
            for name in ("guardians", "gallery"):
                if getattr(said, name) is None:
                    raise ConfigurationError(f"{path}: {name} is missing.")
        folder = path.parent
        return cls(
            id=said.id,
            key=read_key(folder / said.key),
            wallet=said.wallet,
            guardians=read_guardians(folder, said.guardians or ()),
            gallery=said.gallery or "",
            passage=said.fare,
            lane=said.lane,
            calibration=read_calibration(folder, said.calibration),
            embedder=folder / said.embedder if said.embedder else None,
            held=replace(said.held, store=folder / said.held.store) if said.held else None,
            till=said.till,
            codes=said.codes,
            backdrop=said.backdrop,
        )


Read = TypeVar("Read", bound=Document)


def read_document(path: Path, kind: type[Read]) -> Read:
    """What a TOML file of this kind says; raises ConfigurationError with everything that is wrong in it."""
    try:
        return kind.model_validate(read_toml(path))
    except OSError as error:
        raise ConfigurationError(sentence(error)) from None
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {explained(error)}.") from None


def read_key(file: Path) -> Ed25519PrivateKey:
    """The own key of a terminal or station; raises ConfigurationError."""
    try:
        return read_ed25519(file)
    except OSError as error:
        raise ConfigurationError(sentence(error)) from None


def read_guardians(folder: Path, files: Sequence[Path]) -> tuple[GuardianIdentity, ...]:
    """The three guardians of these identity files, or none; raises ConfigurationError."""
    if len(files) not in (0, GUARDIANS):
        raise ConfigurationError("guardians has to name three identity files, in their order.")
    try:
        return tuple(GuardianIdentity.from_file(folder / file) for file in files)
    except OSError as error:
        raise ConfigurationError(sentence(error)) from None
    except MessageError as error:
        raise ConfigurationError(str(error)) from None


def read_calibration(folder: Path, file: Path | None) -> Calibration:
    """The calibration of this file, or the default one; raises CalibrationError."""
    return Calibration.from_file(folder / file) if file else Calibration.default()

"""The key ceremony: what an organisation does once to become a guardian, and whom it lets in.

Job: the folder of one guardian. Each organisation makes its own on its own machine and gives away only
`identity.json`; peers, relays, terminals, stations and galleries are registered at each guardian by its own
operator.

    DIR/identity.json         public: to be exchanged
    DIR/certificate.pem       public: TLS
    DIR/keys/*.pem            private: tls, signing, sealing, log, witness (0600)
    DIR/keys/next/*.pem       while keys are rotated: the announced next tls, signing and sealing keys
    DIR/keys/old/sealing.pem  after it: what terminals with the old identity still seal to
    DIR/keys/backups/*.key    private: a key for each backup; destroyed, it ends that backup
    DIR/peers/guardian-J.json the other two
    DIR/relays/NAME.pem       certificates of relays (wallets) that may call it
    DIR/limits.json           optional: fields of `policy.Limits`
    DIR/shares.db             share store and registry
    DIR/requests.db           ids and rates of the last minutes
    DIR/log/                  public: its transparency log, any web server may publish `checkpoint` and `entries`
    DIR/sums/                 accumulators; in no backup
    DIR/witness/              what it has co-signed of the others' logs
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from facefare.audit.notes import KeyKind, NoteSigner
from facefare.files import read_text
from facefare.guardian.errors import CeremonyError, MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.links import knows
from facefare.guardian.messages import GUARDIANS
from facefare.guardian.policy import Limits
from facefare.guardian.registry import GalleryDefinition, Registry, Station, Terminal
from facefare.keyfiles import write_new

_VALID_FOR = datetime.timedelta(days=825)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Folder:
    """Paths and keys of one guardian's folder."""

    def __init__(self, path: Path) -> None:
        if not (path / "identity.json").is_file():
            raise CeremonyError(f"{path} is no guardian's folder; run `facefare guardian init` first.")
        self.path = path
        self.certificate = path / "certificate.pem"
        self.tls_key = path / "keys" / "tls.pem"
        self.shares = path / "shares.db"
        self.requests = path / "requests.db"
        self.log = path / "log"
        self.witness = path / "witness"
        self.sums = path / "sums"
        self.identity = _read_identity(path / "identity.json")

    def check_rotation(self) -> None:
        """Raise `CeremonyError` where a change to the next keys broke off in the middle."""
        if _changing_over(self.path).exists():
            raise CeremonyError(
                "A change to the next keys is unfinished; run `facefare guardian rotate-keys --change-over` again."
            )

    def joined(self) -> list[GuardianIdentity]:
        """Those of the other two guardians that have joined."""
        return [_read_identity(file) for file in sorted((self.path / "peers").glob("guardian-*.json"))]

    def peers(self) -> dict[int, GuardianIdentity]:
        """The other two guardians by index; raises `CeremonyError` while one has not joined."""
        peers = {identity.index: identity for identity in self.joined()}
        missing = set(range(GUARDIANS)) - peers.keys() - {self.identity.index}
        if missing:
            raise CeremonyError(f"Guardian {min(missing)} has not joined; run `facefare guardian join` first.")
        return peers

    def relays(self) -> list[str]:
        """PEM certificates of the relays."""
        return [read_text(self.path / "relays" / f"{name}.pem") for name in self.relay_names()]

    def relay_names(self) -> list[str]:
        """Names of the relays, as they were registered."""
        return sorted(file.stem for file in (self.path / "relays").glob("*.pem"))

    def limits(self) -> Limits:
        """Its limits; raises `CeremonyError` when the file has other fields."""
        file = self.path / "limits.json"
        try:
            said = json.loads(read_text(file)) if file.exists() else {}
        except json.JSONDecodeError as error:
            raise CeremonyError(f"{file} is no JSON (line {error.lineno}).") from error
        unknown = sorted(set(said) - {one.name for one in fields(Limits)}) if isinstance(said, dict) else ["no object"]
        if unknown:
            raise CeremonyError(f"{file} must hold limits by name: {', '.join(unknown)} is none.")
        if not all(type(value) in (int, float) for value in said.values()):
            raise CeremonyError(f"{file}: limits are numbers.")
        try:
            return Limits(**said)
        except ValueError as error:
            raise CeremonyError(f"{file}: {error}") from None

    def signing_key(self) -> Ed25519PrivateKey:
        """Signs confirmations."""
        return cast(Ed25519PrivateKey, _read_key(self.path / "keys" / "signing.pem", Ed25519PrivateKey))

    def sealing_key(self) -> X25519PrivateKey:
        """Opens sealed shares."""
        return cast(X25519PrivateKey, _read_key(self.path / "keys" / "sealing.pem", X25519PrivateKey))

    def sealing_keys(self) -> list[X25519PrivateKey]:
        """The present one, the announced next one and the one before, as far as there are any."""
        others = [self.path / "keys" / name / "sealing.pem" for name in ("next", "old")]
        read = [_read_key(file, X25519PrivateKey) for file in others if file.exists()]
        return [self.sealing_key(), *(cast(X25519PrivateKey, key) for key in read)]

    def log_signer(self) -> NoteSigner:
        """Signs the checkpoints of its transparency log."""
        return self._note_signer("log", KeyKind.LOG, self.identity.log_key)

    def witness_signer(self) -> NoteSigner:
        """Co-signs the checkpoints of the other two."""
        return self._note_signer("witness", KeyKind.WITNESS, self.identity.witness_key)

    def _note_signer(self, name: str, kind: KeyKind, public: str) -> NoteSigner:
        private = cast(Ed25519PrivateKey, _read_key(self.path / "keys" / f"{name}.pem", Ed25519PrivateKey))
        signer = NoteSigner(public.partition("+")[0], kind, private)
        if str(signer.key) != public:
            raise CeremonyError(f"keys/{name}.pem of {self.path} is not the key that identity.json names.")
        return signer

    def registry(self) -> Registry:
        """A connection of its own to the registrations."""
        registry = Registry(self.shares)
        self.shares.chmod(0o600)
        return registry


def init(
    path: Path, *, index: int, name: str, host: str, http_port: int, link_port: int, public_port: int = 0
) -> GuardianIdentity:
    """Make a guardian's folder and keys; `identity.json` in it is for the other two, terminals and relays."""
    if not 0 <= index < GUARDIANS:
        raise CeremonyError("The index of a guardian is 0, 1 or 2.")
    if (path / "identity.json").exists():
        raise CeremonyError(f"{path} has keys already; a new guardian takes a new folder.")
    if not name.strip():
        raise CeremonyError("A guardian says who runs it: a name that payers can read.")
    ports = [http_port, link_port, *([public_port] if public_port else [])]
    if len({*ports}) != len(ports) or not all(0 < port < 65536 for port in ports):
        raise CeremonyError("The ports of a guardian are different numbers from 1 to 65535.")
    for folder in (path, path / "keys", path / "peers", path / "relays"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    signing, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    write_key(path / "keys" / "signing.pem", signing)
    write_key(path / "keys" / "sealing.pem", sealing)
    # Log keys have a name of their own in every installation: a log's name must never mean two logs.
    origin = f"facefare/guardian-{index}/{signing.public_key().public_bytes_raw().hex()[:16]}"
    log, witness = (
        NoteSigner(f"{origin}/{kind.name.lower()}", kind, Ed25519PrivateKey.generate())
        for kind in (KeyKind.LOG, KeyKind.WITNESS)
    )
    write_key(path / "keys" / "log.pem", log.private)
    write_key(path / "keys" / "witness.pem", witness.private)
    certificate = _make_certificate(path / "keys" / "tls.pem", f"guardian-{index}.facefare.invalid", host)
    (path / "certificate.pem").write_text(certificate)
    identity = GuardianIdentity(
        index=index,
        name=name,
        host=host,
        http_port=http_port,
        link_port=link_port,
        certificate=certificate,
        signing_key=signing.public_key().public_bytes_raw(),
        sealing_key=sealing.public_key().public_bytes_raw(),
        log_key=str(log.key),
        witness_key=str(witness.key),
        public_port=public_port,
    )
    (path / "identity.json").write_text(identity.to_json())
    return identity


def join(path: Path, peer: GuardianIdentity) -> None:
    """Let another guardian in. Compare the file with its operator over another channel before."""
    folder = Folder(path)
    if peer.index == folder.identity.index:
        raise CeremonyError(f"This folder is guardian {peer.index} itself.")
    file = path / "peers" / f"guardian-{peer.index}.json"
    if file.exists():
        known = [replace(one, succession=None) for one in _read_identity(file).valid]
        if replace(peer, succession=None) not in known:
            raise CeremonyError(f"Guardian {peer.index} has joined with other keys; remove {file} to replace them.")
    _put(file, peer.to_json())


def announce_keys(path: Path) -> GuardianIdentity:
    """Make the next TLS, signing and sealing keys; the identity, which names them now, signed by the present key."""
    folder = Folder(path)
    following = path / "keys" / "next"
    if folder.identity.succession is not None:
        raise CeremonyError("The next keys were announced already; `--change-over` begins to use them.")
    shutil.rmtree(following, ignore_errors=True)
    aside = path / "keys" / "next.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    signing, sealing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    write_key(aside / "signing.pem", signing)
    write_key(aside / "sealing.pem", sealing)
    certificate = _make_certificate(aside / "tls.pem", folder.identity.server_name, folder.identity.host)
    successor = replace(
        folder.identity,
        certificate=certificate,
        signing_key=signing.public_key().public_bytes_raw(),
        sealing_key=sealing.public_key().public_bytes_raw(),
    )
    identity = folder.identity.announce(successor, folder.signing_key())
    aside.rename(following)
    _put(path / "identity.json", identity.to_json())
    return identity


def who_knows_next_keys(path: Path) -> dict[int, bool | None]:
    """Of each running peer, whether it takes the announced next keys; None: it doesn't answer. Raises CeremonyError.

    None of them is asked about a change that was begun already.
    """
    folder = Folder(path)
    successor = folder.identity.successor
    if successor is None or _changing_over(path).exists():
        return {}
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as certificate:
        certificate.write(successor.certificate)
        certificate.flush()
        key = path / "keys" / "next" / "tls.pem"
        return {index: knows(peer, Path(certificate.name), key) for index, peer in sorted(folder.peers().items())}


def change_over(path: Path) -> GuardianIdentity:
    """Begin to use the announced keys; the guardian must not run. Killed in the middle it is to be run again.

    The old TLS and signing keys are destroyed. The old sealing key stays, for terminals and stations that have the old
    identity still, until `forget_old_keys`.
    """
    folder = Folder(path)
    keys, following = path / "keys", path / "keys" / "next"
    under_way = _changing_over(path)
    successor = folder.identity.successor or (folder.identity if under_way.exists() else None)
    if successor is None:
        raise CeremonyError("No next keys were announced; run `facefare guardian rotate-keys` first.")
    under_way.touch()
    (keys / "old").mkdir(mode=0o700, exist_ok=True)
    if (following / "sealing.pem").exists() and (keys / "sealing.pem").exists():
        (keys / "sealing.pem").replace(keys / "old" / "sealing.pem")
    for name in ("tls", "signing", "sealing"):
        if (following / f"{name}.pem").exists():
            destroy(keys / f"{name}.pem")
            (following / f"{name}.pem").replace(keys / f"{name}.pem")
    _put(folder.certificate, successor.certificate)
    _put(path / "identity.json", successor.to_json())
    shutil.rmtree(following, ignore_errors=True)
    under_way.unlink()
    return successor


def forget_old_keys(path: Path) -> None:
    """Destroy the sealing key from before the last rotation: what is sealed to it can't be opened any more."""
    old = Folder(path).path / "keys" / "old" / "sealing.pem"
    if not old.exists():
        raise CeremonyError("There is no old key.")
    destroy(old)


def destroy(key: Path) -> None:
    """Overwrite a key's file and remove it, if there is one."""
    if not key.exists():
        return
    with key.open("r+b") as file:
        file.write(os.urandom(key.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    key.unlink()


def create_relay(path: Path, name: str) -> Path:
    """Make a relay's key (`relay-key.pem`) and certificate (`relay.pem`, to be given to the guardians)."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate = path / "relay.pem"
    certificate.write_text(_make_certificate(path / "relay-key.pem", f"{name}.relay.facefare.invalid", None))
    return certificate


def register_relay(path: Path, name: str, certificate: bytes) -> None:
    """Let a relay (a wallet) call this guardian; counts from the next start."""
    folder = Folder(path)
    if not _NAME.fullmatch(name):
        raise CeremonyError("A relay's name has letters, digits, - and _ only.")
    try:
        x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise CeremonyError("That is no PEM certificate.") from None
    (folder.path / "relays" / f"{name}.pem").write_bytes(certificate)


def write_trust(path: Path, identities: Sequence[GuardianIdentity]) -> None:
    """Write the file by which anyone checks the three logs: each guardian's log key and witness key, a line each."""
    ordered = sorted(identities, key=lambda identity: identity.index)
    if [identity.index for identity in ordered] != list(range(GUARDIANS)):
        raise CeremonyError("A trust file takes the identities of guardians 0, 1 and 2.")
    path.write_text("".join(f"{identity.log_key} {identity.witness_key}\n" for identity in ordered))


def set_limits(path: Path, limits: Limits) -> None:
    """Write `limits.json`; counts from the next start."""
    (Folder(path).path / "limits.json").write_text(json.dumps(limits.__dict__, indent=2))


def perform_on_one_machine(
    base: Path,
    *,
    ports: Sequence[int],
    galleries: Sequence[GalleryDefinition],
    terminals: Sequence[Terminal] = (),
    stations: Sequence[Station] = (),
    limits: Limits | None = None,
) -> list[GuardianIdentity]:
    """The whole ceremony in one go, for a demo or a test: folders guardian-0 to -2, `relay` and `trust`, in `base`.

    Each guardian's folder holds its own private keys only. `ports` are six free ones, or nine to publish the
    logs too. Real guardians are run by organisations that do not trust each other and never share a machine.
    """
    folders = [base / f"guardian-{index}" for index in range(GUARDIANS)]
    identities = [
        init(
            folder,
            index=index,
            name=f"Guardian {index}",
            host="127.0.0.1",
            http_port=ports[2 * index],
            link_port=ports[2 * index + 1],
            public_port=ports[6 + index] if len(ports) > 6 else 0,
        )
        for index, folder in enumerate(folders)
    ]
    write_trust(base / "trust", identities)
    relay = create_relay(base / "relay", "wallet").read_bytes()
    for folder in folders:
        for identity in identities:
            if identity.index != Folder(folder).identity.index:
                join(folder, identity)
        register_relay(folder, "wallet", relay)
        if limits is not None:
            set_limits(folder, limits)
        registry = Folder(folder).registry()
        for gallery in galleries:
            registry.add_gallery(gallery)
        for terminal in terminals:
            registry.add_terminal(terminal)
        for station in stations:
            registry.add_station(station)
        registry.close()
    return identities


def write_key(path: Path, key: Ed25519PrivateKey | X25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """Write a private key to a new file; raises CeremonyError where there is one already."""
    try:
        write_new(path, key)
    except FileExistsError:
        raise CeremonyError(f"{path} exists already; keys are never overwritten.") from None


def _changing_over(path: Path) -> Path:
    return path / "keys" / "changing-over"


def _put(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text)
    aside.replace(path)


def _read_key(path: Path, kind: type[PrivateKeyTypes]) -> PrivateKeyTypes:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CeremonyError(f"{path} can't be read as a private key: {type(error).__name__}.") from None
    if not isinstance(key, kind):
        raise CeremonyError(f"{path} holds a key of another kind.")
    return key


def _read_identity(path: Path) -> GuardianIdentity:
    try:
        return GuardianIdentity.from_file(path)
    except (OSError, MessageError) as error:
        raise CeremonyError(f"{path} is no guardian identity file.") from error


def _make_certificate(key_path: Path, dns_name: str, host: str | None) -> str:
    """A self-signed certificate, to be pinned by whoever trusts it; its key goes to `key_path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(key_path, key)
    names: list[x509.GeneralName] = [x509.DNSName(dns_name)]
    if host is not None:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    # A name of its own, so that two certificates of one guardian can be trusted side by side.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{dns_name} {os.urandom(8).hex()}")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()

"""`facefare guardian …`: the key ceremony and the service."""

from __future__ import annotations

import ssl
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, cast

import httpx
import structlog
import typer

from facefare.audit.errors import AuditError
from facefare.guardian import backups, ceremony
from facefare.guardian.errors import CeremonyError, GuardianError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.links import client_context
from facefare.guardian.messages import Status, sha256
from facefare.guardian.registry import GalleryDefinition, Registry, Station, Terminal

app = typer.Typer(help="One of the three guardians: keys, registrations, service.", no_args_is_help=True)

_POLL = 0.2
_PATIENCE, _ROWS_A_SECOND = 120.0, 2_000.0  # how long a refresh may take, at the very least
_Dir = Annotated[Path, typer.Argument(help="The guardian's folder.")]
_Key = Annotated[str, typer.Option(help="Its Ed25519 public key, 64 hex digits.")]
_Galleries = Annotated[list[str], typer.Option("--gallery", help="A gallery it may use; can be repeated.")]


@app.command()
def init(
    folder: _Dir,
    index: Annotated[int, typer.Option(help="0, 1 or 2, as the three agreed.")],
    name: Annotated[str, typer.Option(help="Who runs it.")],
    host: Annotated[str, typer.Option(help="Address that the others reach.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="For relays.")] = 7100,
    link_port: Annotated[int, typer.Option(help="For the other guardians.")] = 7101,
    public_port: Annotated[int, typer.Option(help="For everyone: its transparency log (plain HTTP). 0: none.")] = 7102,
) -> None:
    """Make keys and the public identity file."""
    with _plain_errors():
        identity = ceremony.init(
            folder,
            index=index,
            name=name,
            host=host,
            http_port=http_port,
            link_port=link_port,
            public_port=public_port,
        )
    typer.echo(f"Give {folder / 'identity.json'} to the other guardians, the relay and the terminals.")
    typer.echo(f"Read them its fingerprint by another way: {identity.fingerprint()}")


@app.command()
def join(folder: _Dir, identity: Annotated[Path, typer.Argument(help="identity.json of a peer.")]) -> None:
    """Let another guardian in, or take its announced next keys."""
    with _plain_errors():
        peer = GuardianIdentity.from_file(identity)
        ceremony.join(folder, peer)
    typer.echo(f"Guardian {peer.index}, {peer.name}, has joined. Its fingerprint must be: {peer.fingerprint()}")
    if peer.successor is not None:
        typer.echo(f"It has announced its next keys: {peer.successor.fingerprint()}. Counts from the next start.")


@app.command()
def rotate_keys(
    folder: _Dir,
    change_over: Annotated[bool, typer.Option(help="Use the announced keys; the guardian must not run.")] = False,
    although: Annotated[
        bool,
        typer.Option("--although-no-peer-answered", help="Change over though a peer may not know the next keys."),
    ] = False,
    forget: Annotated[bool, typer.Option(help="Destroy the old sealing key, once nobody seals to it.")] = False,
) -> None:
    """Announce the next TLS, signing and sealing keys, signed by the present one; then change over to them."""
    with _plain_errors():
        if forget:
            ceremony.forget_old_keys(folder)
            typer.echo("The old sealing key is destroyed, from the next start on.")
        elif change_over:
            with backups.serving_alone(ceremony.Folder(folder)):
                if not although:
                    _check_peers_follow(folder)
                identity = ceremony.change_over(folder)
            typer.echo(f"The new keys are in use from the next start. Fingerprint: {identity.fingerprint()}")
            typer.echo(f"Give {folder / 'identity.json'} to the same people again.")
        else:
            successor = ceremony.announce_keys(folder).successor
            typer.echo(f"Give {folder / 'identity.json'} to the other guardians, relays, terminals and stations.")
            typer.echo(f"Fingerprint of the next keys: {successor.fingerprint() if successor else ''}")


def _check_peers_follow(folder: Path) -> None:
    peers = ceremony.Folder(folder).peers()
    said = {True: "", False: "does not take the next keys", None: "does not answer"}
    missing = [
        f"Guardian {index}, {peers[index].name}, {said[known]}."
        for index, known in ceremony.who_knows_next_keys(folder).items()
        if not known
    ]
    if missing:
        raise CeremonyError(
            f"{' '.join(missing)} After a change-over it could not be met. Have it `join` identity.json and start "
            "again; or say --although-no-peer-answered. Nothing was changed."
        )


@app.command("list")
def list_registered(folder: _Dir) -> None:
    """What is registered at this guardian: peers, relays, galleries, terminals, stations, limits; no shares."""
    with _plain_errors():
        home = ceremony.Folder(folder)
        registry = home.registry()
        lines = [f"guardian {home.identity.index}  {home.identity.name}  {home.identity.fingerprint()}"]
        for peer in home.joined():
            following = "  next keys announced" if peer.succession is not None else ""
            lines.append(f"guardian {peer.index}  {peer.name}  {peer.fingerprint()}{following}")
        lines += [f"relay  {name}" for name in home.relay_names()]
        for one in registry.galleries():
            norms = f"squared norms {one.min_squared_norm} to {one.max_squared_norm}"
            thresholds = f"thresholds {one.min_threshold} to {one.max_threshold}"
            what = (one.id, one.kind, one.model, f"{one.dimensions} dimensions", norms, thresholds)
            lines.append("  ".join(("gallery", *what)))
        for terminal in registry.terminals():
            limits = [f"{terminal.rate:g} a second"] if terminal.rate is not None else []
            limits += [f"{terminal.daily} a day"] if terminal.daily is not None else []
            lines.append(_registered("terminal", terminal, *limits))
        for station in registry.stations():
            lines.append(_registered("station", station, *(["demo only"] if station.demo_only else [])))
        lines += [f"limit  {name} {value}" for name, value in asdict(home.limits()).items()]
    typer.echo("\n".join(lines))


def _registered(kind: str, one: Terminal | Station, *more: str) -> str:
    return "  ".join((kind, one.id, ", ".join(one.galleries), f"key {one.public_key.hex()}", *more))


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(help="The trust file to be written, for `facefare audit verify`.")],
    identities: Annotated[list[Path], typer.Argument(help="identity.json of all three guardians.")],
) -> None:
    """Write the keys by which anyone checks the three transparency logs."""
    with _plain_errors():
        ceremony.write_trust(file, [GuardianIdentity.from_file(path) for path in identities])
        digest = sha256(file.read_bytes()).hex()
    typer.echo(f"Publish {file}, and put its SHA-256 on paper: {digest}")


@app.command()
def create_relay(folder: Annotated[Path, typer.Argument(help="The relay's folder.")], name: str) -> None:
    """Make a relay's key and certificate (run by the wallet's operator)."""
    with _plain_errors():
        typer.echo(f"Give {ceremony.create_relay(folder, name)} to the three guardians.")


@app.command()
def register_relay(folder: _Dir, name: str, certificate: Path) -> None:
    """Let a relay call this guardian, from its next start."""
    with _plain_errors():
        ceremony.register_relay(folder, name, certificate.read_bytes())
    typer.echo(f"Relay {name} may call this guardian from its next start.")


@app.command()
def register_terminal(
    folder: _Dir,
    terminal: str,
    key: _Key,
    gallery: _Galleries,
    rate: Annotated[float | None, typer.Option(help="Searches a second, if fewer than the guardian's limits.")] = None,
    daily: Annotated[int | None, typer.Option(help="Searches a day (UTC), the same.", min=1)] = None,
) -> None:
    """Let a gate or till search, at once."""
    with _plain_errors():
        registry = _registry(folder, gallery)
        registry.add_terminal(Terminal(terminal, _hex(key), tuple(gallery), rate, daily))
    typer.echo(f"{terminal} may search in {', '.join(gallery)}.")


@app.command()
def register_station(
    folder: _Dir,
    station: str,
    key: _Key,
    gallery: _Galleries,
    demo_only: Annotated[bool, typer.Option(help="May enrol into demo galleries only.")] = False,
) -> None:
    """Let an enrolment station enrol, at once."""
    with _plain_errors():
        registry = _registry(folder, gallery)
        registry.add_station(Station(station, _hex(key), tuple(gallery), demo_only))
    typer.echo(f"{station} may enrol into {', '.join(gallery)}{' if they are demos' if demo_only else ''}.")


@app.command()
def remove(folder: _Dir, name: Annotated[str, typer.Argument(help="trm_… or stn_…")]) -> None:
    """Take a terminal or a station out, at once."""
    with _plain_errors():
        kind: Literal["terminals", "stations"] = "terminals" if name.startswith("trm_") else "stations"
        ceremony.Folder(folder).registry().remove(kind, name)
    typer.echo(f"{name} is taken out.")


@app.command()
def create_gallery(
    folder: _Dir,
    gallery: Annotated[str, typer.Argument(help="gal_…, the same at all three.")],
    kind: Annotated[str, typer.Option(help="live or demo.")],
    model: Annotated[str, typer.Option(help="The embedder.")],
    dimensions: int = 128,
    min_squared_norm: int = 1000,
    max_squared_norm: int = 8191,
    min_threshold: int = -4000,
    max_threshold: int = -1,
) -> None:
    """Make a gallery; its definition must be the same at all three guardians."""
    with _plain_errors():
        registry = ceremony.Folder(folder).registry()
        definition = GalleryDefinition(
            gallery,
            cast(Literal["live", "demo"], kind),
            model,
            dimensions,
            min_squared_norm,
            max_squared_norm,
            min_threshold,
            max_threshold,
        )
        registry.add_gallery(definition)
    typer.echo(
        f"{gallery} is there. The other two must see the same: {sha256(definition.to_json().encode()).hex()[:16]}"
    )


@app.command()
def serve(folder: _Dir) -> None:
    """Run the guardian until SIGINT or SIGTERM."""
    from facefare.guardian.http import serve as run  # the kernels take a moment to import

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ]
    )
    with _plain_errors():
        run(folder)


@app.command()
def status(folder: _Dir) -> None:
    """Ask the running guardian of this folder how it is."""
    with _plain_errors():
        report = _ask(folder, "GET", "status")
    typer.echo("in session" if report.connected else f"waiting for guardian {report.missing}")
    for gallery in report.galleries:
        typer.echo(
            f"{gallery.gallery} ({gallery.kind}): version {gallery.version}, {gallery.live} live rows, "
            f"refreshed {gallery.epoch} times"
        )


@app.command()
def refresh(
    folder: _Dir,
    wait: Annotated[bool, typer.Option(help="Until all shares are fresh.")] = True,
) -> None:
    """Replace all shares, at all three guardians, while they serve: older copies no longer fit to newer ones."""
    with _plain_errors():
        report = _ask(folder, "POST", "refresh")
        before = {gallery.gallery: gallery.epoch for gallery in report.galleries}
        deadline = time.monotonic() + _PATIENCE + sum(one.rows for one in report.galleries) / _ROWS_A_SECOND
        while wait:
            report = _ask(folder, "GET", "status")
            if all(one.epoch > before.get(one.gallery, -1) for one in report.galleries if one.rows):
                break
            if time.monotonic() > deadline:
                raise CeremonyError("Not all shares were refreshed yet; the three go on when they are in session.")
            time.sleep(_POLL)
    typer.echo("All shares were refreshed." if wait else "The three refresh all shares.")


@app.command()
def backup(folder: _Dir, to: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Write a sealed copy of the share store; the guardian may run. Its key stays in keys/backups."""
    with _plain_errors():
        header = backups.back_up(ceremony.Folder(folder), to)
    typer.echo(f"Backup {header['name']}: {header['galleries']}")


@app.command()
def restore(folder: _Dir, source: Annotated[Path, typer.Argument(help="A backup of this guardian.")]) -> None:
    """Put a backup in the store's place. The guardian then answers nothing until it has caught up."""
    with _plain_errors():
        header = backups.restore(ceremony.Folder(folder), source)
    typer.echo(f"Restored backup {header['name']}; the guardian catches up when it meets the other two.")


@app.command()
def prune_backups(
    folder: _Dir, keep: Annotated[int, typer.Option(help="How many of the newest stay restorable.", min=0)]
) -> None:
    """End older backups wherever they lie, by destroying their keys: deletions reach backups this way."""
    with _plain_errors():
        ended = backups.prune(ceremony.Folder(folder), keep)
    typer.echo(f"{len(ended)} backups can't be opened any more.")


@app.command()
def compact(folder: _Dir) -> None:
    """Drop changes nobody can need any more and give the space back; the guardian must not run."""
    with _plain_errors():
        dropped, won = backups.compact(ceremony.Folder(folder))
    typer.echo(f"{dropped} changes dropped, {won:,} bytes won.")


def _ask(folder: Path, method: str, path: str) -> Status:
    """Call the running guardian of this folder with its own certificate."""
    home = ceremony.Folder(folder)
    identity = home.identity
    context: ssl.SSLContext = client_context(home.certificate, home.tls_key, identity.certificate)
    try:
        with httpx.Client(verify=context, timeout=5) as client:
            response = client.request(
                method,
                f"https://{identity.host}:{identity.http_port}/v1/{path}",
                extensions={"sni_hostname": identity.server_name},
            )
    except httpx.HTTPError as error:
        at = f"{identity.host}:{identity.http_port}"
        raise CeremonyError(
            f"No guardian of this folder answers at {at} ({type(error).__name__}): is it served?"
        ) from error
    return Status.from_bytes(response.content)


def _registry(folder: Path, galleries: list[str]) -> Registry:
    """Where who may use these galleries is written down; raises CeremonyError where there is none of that id."""
    registry = ceremony.Folder(folder).registry()
    for gallery in galleries:
        if registry.gallery(gallery) is None:
            raise CeremonyError(
                f"This guardian has no gallery {gallery}: run `facefare guardian create-gallery` first."
            )
    return registry


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise CeremonyError("A public key is written as 64 hex digits.") from None


class _plain_errors:  # noqa: N801 - used like a function
    """Our own errors end a command with one sentence instead of a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, GuardianError | AuditError):
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error

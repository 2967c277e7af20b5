"""`facefare wallet …` and `facefare ledger …`: run the service, register who may use it, check the books."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from psycopg.errors import ForeignKeyViolation, UndefinedColumn, UndefinedTable
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from facefare import keyfiles
from facefare.fares.errors import FaresError
from facefare.guardian.errors import MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import GUARDIANS
from facefare.identification.calibration import Calibration
from facefare.identification.errors import IdentificationError
from facefare.identification.none import NoGuardians
from facefare.identification.relay import Guardians
from facefare.ledger import verify
from facefare.ledger.currency import check_currency
from facefare.ledger.database import embedded_postgres, make_engine
from facefare.ledger.errors import LedgerError
from facefare.payments import merchants, webhooks
from facefare.payments.decision import Law, Rules, Stated
from facefare.payments.errors import PaymentsError
from facefare.payments.held import HeldRules
from facefare.payments.merchants import Terminal
from facefare.payments.processor import Processor
from facefare.payments.top_ups import Funding
from facefare.payments.verify import INVARIANTS as PAYMENT_INVARIANTS
from facefare.serving import listening, run
from facefare.settings import Settings
from facefare.wallet import galleries, stations
from facefare.wallet.consents import Notice, Profile
from facefare.wallet.errors import WalletError
from facefare.wallet.pending_keys import PendingKeys
from facefare.web.api import create_app
from facefare.web.migrations import upgrade
from facefare.web.pages import mount_pages
from facefare.web.pages.console_evidence import Accuracy
from facefare.web.pages.errors import PageError
from facefare.web.pages.notifying import Mail, Notifier, Push
from facefare.web.pages.rendering import PREFIX

app = typer.Typer(help="The wallet: payers, payments and the HTTP API.", no_args_is_help=True)
ledger = typer.Typer(help="The books.", no_args_is_help=True)

_log = structlog.get_logger()

_Key = Annotated[str, typer.Option(help="Raw Ed25519 public key, 64 hex digits.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
) -> None:
    """Migrate the database and serve the API until SIGINT or SIGTERM."""
    settings = Settings.read()
    _log_as_json()
    with plain_errors(), listening(host, port) as listener, database(settings) as engine:
        if settings.origin and settings.operator == Settings.model_fields["operator"].default:
            raise WalletError(
                "Set FACEFARE_OPERATOR, _OPERATOR_CONTACT and _NOTICE_URL: payers consent to who you are."
            )
        check_currency(settings.currency)
        if settings.accuracy_report is not None and Accuracy.read(settings.accuracy_report) is None:
            raise PageError(
                f"FACEFARE_ACCURACY_REPORT: {settings.accuracy_report} is no report of `facefare evaluate --json`."
            )
        upgrade(engine)
        port = listener.getsockname()[1]
        origin = settings.origin or f"http://localhost:{port}"
        guardians = _guardians(settings)
        app = create_app(
            engine=engine,
            guardians=guardians,
            calibration=Calibration.from_file(settings.calibration) if settings.calibration else Calibration.default(),
            fpir=settings.fpir,
            lookalike_fpir=settings.lookalike_fpir or settings.fpir,
            receipt_key=receipt_key(settings),
            notice=Notice(
                version=settings.notice_version,
                language="en",
                url=settings.notice_url,
                operator=settings.operator,
                contact=settings.operator_contact,
                retention_days=settings.retention_days,
            ),
            rules=Rules(
                passback=timedelta(seconds=settings.passback_seconds),
                ride_risk=settings.ride_risk,
                travel_on_account=settings.travel_on_account,
            ),
            face_alone=Stated(settings.face_alone, settings.face_alone_accepted, Law(settings.second_factor_law)),
            funding=Funding(settings.funding_source),
            processor=_processor(settings, origin),
            notifier=_notifier(settings),
            pending_keys=PendingKeys(settings.data_dir / "wallet" / "pending"),
            held_rules=HeldRules(self_made_limit=settings.self_made_limit),
            limits=settings.limits,
            profiles=[Profile.HELD, *([Profile.HANDS_FREE] if settings.hands_free else [])],
        )
        mount_pages(
            app,
            origin=origin,
            currency=settings.currency,
            cache_dir=settings.cache_dir,
            staff_token=settings.staff_token.get_secret_value() if settings.staff_token else None,
            passkeys_only=settings.staff_passkeys_only,
            accuracy=settings.accuracy_report,
        )
        run(
            app,
            listener,
            lambda: _log.info("wallet_listening", at=f"http://{host}:{port}", payers_reach_it_at=origin),
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
        )


@app.command()
def migrate() -> None:
    """Bring the database to the newest shape."""
    with plain_errors(), database(Settings.read()) as engine:
        upgrade(engine)
    typer.echo("The database is of the newest shape.")


@app.command()
def register_merchant(name: str) -> None:
    """Let someone be paid; prints the new id (mer_…)."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        typer.echo(merchants.register_merchant(connection, name))


@app.command()
def register_terminal(
    terminal: Annotated[str, typer.Argument(help="trm_…, as at the guardians.")],
    merchant: Annotated[str, typer.Option(help="mer_…")],
    place: Annotated[str, typer.Option(help="As the receipt shows it.")],
    key: _Key,
    kind: Annotated[str, typer.Option(help="gate (unattended transport) or till.")] = "gate",
) -> None:
    """Let a gate or till take payments for a merchant."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        merchants.register_terminal(connection, Terminal(terminal, merchant, place, _raw_key(key), kind))
    typer.echo(f"{terminal} may take payments for {merchant}.")


@app.command()
def register_webhook(
    merchant: Annotated[str, typer.Argument(help="mer_…")], url: Annotated[str, typer.Argument(help="https://…")]
) -> None:
    """Send a merchant's events somewhere; prints the endpoint's id and its signing secret, this once."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        typer.echo("\n".join(webhooks.register(connection, merchant, url)))


@app.command()
def revoke_terminal(terminal: str) -> None:
    """Refuse a gate or till, at once."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        merchants.revoke_terminal(connection, terminal)
    typer.echo(f"{terminal} is refused from now on.")


@app.command()
def register_station(station: Annotated[str, typer.Argument(help="stn_…, as at the guardians.")], key: _Key) -> None:
    """Let an enrolment station bring faces."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        stations.register(connection, station, _raw_key(key))
    typer.echo(f"{station} may bring faces.")


@app.command()
def open_gallery(
    gallery: Annotated[str, typer.Argument(help="gal_…, as at the guardians, still empty there.")],
    kind: Annotated[str, typer.Option(help="live or demo.")],
) -> None:
    """Use a gallery that the guardians have made."""
    with plain_errors(), database(Settings.read()) as engine, engine.begin() as connection:
        galleries.open_gallery(connection, gallery, kind=kind)
    typer.echo(f"{gallery} is in use.")


@app.command()
def operator_key() -> None:
    """Print the operator's public key, 64 hex digits: terminals that take codes need it."""
    with plain_errors():
        typer.echo(receipt_key(Settings.read()).public_key().public_bytes_raw().hex())


@ledger.command("verify")
def verify_ledger(json_file: Annotated[Path | None, typer.Option("--json")] = None) -> None:
    """Check every money invariant on the live books; exit code 1 if one is broken."""
    with plain_errors(), database(Settings.read()) as engine:
        findings = verify(engine, PAYMENT_INVARIANTS)
    for finding in findings:
        typer.echo(f"BROKEN: {finding.invariant}: {', '.join(finding.broken_by)}")
    if json_file:
        json_file.write_text(json.dumps([vars(finding) for finding in findings]))
    if findings:
        raise typer.Exit(1)
    typer.echo("Every money invariant holds.")


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    """The database that the settings name, or the embedded one, started for as long as it is used."""
    if settings.database_url:
        engine = make_engine(settings.database_url)
        yield engine
        engine.dispose()
        return
    folder = settings.data_dir / "postgres"
    if not folder.exists():
        typer.echo(f"Making a PostgreSQL in {folder.resolve()} (FACEFARE_DATABASE_URL names none) ...", err=True)
    with embedded_postgres(folder) as url:
        engine = make_engine(url)
        try:
            yield engine
        finally:
            engine.dispose()


def receipt_key(settings: Settings) -> Ed25519PrivateKey:
    """The operator's key for consent receipts, passes and announcements, made when it is first needed."""
    path = settings.data_dir / "wallet" / "receipt-key.pem"
    key = _kept_key(path, Ed25519PrivateKey.generate)
    if not isinstance(key, Ed25519PrivateKey):
        raise WalletError(f"{path} is not an Ed25519 private key.")
    return key


def _push_key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """The operator's key for web push, made when it is first needed."""
    path = settings.data_dir / "wallet" / "push-key.pem"
    key = _kept_key(path, lambda: ec.generate_private_key(ec.SECP256R1()))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise WalletError(f"{path} is no key for web push.")
    return key


def _kept_key(path: Path, make: Callable[[], PrivateKeyTypes]) -> PrivateKeyTypes:
    """The private key in this file, made when it is first needed."""
    if path.exists():
        return keyfiles.read(path)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keyfiles.write_new(path, made)
    return made


def _guardians(settings: Settings) -> Guardians | NoGuardians:
    """The three, or none where only payers' own phones are offered; raises IdentificationError, MessageError."""
    if not settings.guardians and not settings.hands_free:
        return NoGuardians()
    if len(settings.guardians) != GUARDIANS:
        raise IdentificationError("FACEFARE_GUARDIANS has to name three identity files; see the operator guide.")
    return Guardians(
        [GuardianIdentity.from_file(path) for path in settings.guardians],
        certificate=settings.relay_dir / "relay.pem",
        key=settings.relay_dir / "relay-key.pem",
    )


def _processor(settings: Settings, origin: str) -> Processor | None:
    """The card processor, where its secrets are set; raises PaymentsError if cards can't do without."""
    if settings.stripe_secret_key is None or settings.stripe_webhook_secret is None:
        if settings.funding_source != "stripe":
            return None
        raise PaymentsError("Set FACEFARE_STRIPE_SECRET_KEY and FACEFARE_STRIPE_WEBHOOK_SECRET to take cards.")
    return Processor(
        settings.stripe_secret_key.get_secret_value(),
        settings.stripe_webhook_secret.get_secret_value(),
        api_base=settings.stripe_api,
        return_to=None if settings.stripe_api else f"{origin}{PREFIX}/card/",  # a stand-in has no pages to return from
    )


def _notifier(settings: Settings) -> Notifier:
    """Tells payers of payments: by web push, and by e-mail where there is a mail server."""
    mail = None
    if settings.smtp_host:
        mail = Mail(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_sender or settings.operator_contact,
            settings.smtp_security,
            settings.smtp_user,
            settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        )
    return Notifier(settings.operator, mail, Push(_push_key(settings), settings.operator_contact))


def _raw_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise WalletError("A public key is written as 64 hex digits.")
    return key


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ]
    )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Our own errors end a command with one sentence instead of a traceback."""
    try:
        yield
    except (
        FaresError,
        LedgerError,
        WalletError,
        PaymentsError,
        IdentificationError,
        MessageError,
        PageError,
    ) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except IntegrityError as error:
        if not isinstance(error.orig, ForeignKeyViolation):
            raise
        typer.echo(f"Nothing was changed. {error.orig.diag.message_detail}", err=True)  # which id is not known
        raise typer.Exit(1) from error
    except (OperationalError, ProgrammingError) as error:
        if isinstance(error.orig, UndefinedTable | UndefinedColumn):
            said = "The database has another shape than this version: run `facefare wallet migrate`."
        elif isinstance(error, OperationalError):
            said = f"The database can't be used: {str(error.orig).strip()}"
        else:
            raise
        typer.echo(said, err=True)
        raise typer.Exit(1) from error

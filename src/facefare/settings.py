"""Typed settings from the environment (prefix FACEFARE_) and an optional .env file."""

import difflib
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic_settings
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from facefare.errors import SettingsError

_ELSEWHERE = {"PAYER_TOKEN"}
"""Read by a command of its own."""


class Limits(BaseModel):
    """How often somebody may ask; who asks more often waits. An address: IPv4, or a network of IPv6 (/64)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: int = Field(default=6000, ge=1, description="Requests to the API a minute, from one address.")
    token: int = Field(default=1200, ge=1, description="Requests a minute by a payer's token, or by an API key.")
    terminal: int = Field(default=1200, ge=1, description="Requests a minute that one gate or till signed.")
    accounts: int = Field(default=60, ge=1, description="Accounts opened in an hour, from one address.")
    sign_ins: int = Field(default=40, ge=1, description="Passkeys made or used in ten minutes, from one address.")
    tokens: int = Field(default=20, ge=1, description="Tokens and invitations typed in ten minutes, from one address.")
    emails: int = Field(default=5, ge=1, description="E-mail addresses a payer may have us write to in a day.")


class Settings(BaseSettings):
    """What a machine's operator may set; everything has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="FACEFARE_", env_file=".env", env_ignore_empty=True, extra="ignore")

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL URL; embedded PostgreSQL where none is given.",
    )
    data_dir: Path = Field(default=Path("run"), description="Where services keep their own data.")
    cache_dir: Path = Field(
        default=Path.home() / ".cache" / "facefare", description="Models and downloads; safe to delete."
    )
    log_level: str = "INFO"
    guardians: list[Path] = Field(default=[], description="identity.json of guardians 0, 1 and 2 (JSON list of paths).")
    relay_dir: Path = Field(default=Path("run/relay"), description="Where relay.pem and relay-key.pem are.")
    calibration: Path | None = Field(default=None, description="Calibration file; the default one if none.")
    fpir: float = Field(default=0.001, gt=0, lt=1, description="Strangers taken for a payer, at most.")
    lookalike_fpir: float | None = Field(
        default=None, gt=0, lt=1, description="New payers taken for an enrolled one at a station; none: as `fpir`."
    )
    operator: str = Field(default="facefare demo", description="Who the payer gives consent to.")
    operator_contact: str = "privacy@localhost"
    notice_version: str = Field(default="1", description="Version of the privacy notice in force.")
    notice_url: str = "http://localhost/privacy"
    retention_days: int = Field(default=395, ge=1, description="A face is kept this long after the last use.")
    passback_seconds: int = Field(default=60, ge=0, description="A payment covers the payer this long.")
    ride_risk: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={}, description="JSON, by currency: minor units of travel that a payer without the money may make."
    )
    travel_on_account: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default={}, description="JSON, by currency: minor units up to which rides are gathered for one card charge."
    )
    face_alone: dict[str, Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="JSON, by currency: minor units a face alone may pay; what was measured if none."
    )
    face_alone_accepted: str | None = Field(
        default=None, min_length=8, description="Who accepts, and when, that this is more than was measured."
    )
    second_factor_law: Literal["eu", "elsewhere"] = Field(
        default="eu",
        description="Under the EU's rules a face alone never pays more than 50.00 EUR, nor 150.00 in a row.",
    )
    hands_free: bool = Field(
        default=False,
        description="Offer payers to be found by three guardians as well; else a code on their own phone is the way.",
    )
    self_made_limit: int = Field(
        default=10_00, ge=0, description="Minor units a reference pays that no station attested; 0: none is taken."
    )
    funding_source: Literal["none", "test", "stripe"] = Field(
        default="none", description="Where payers' money comes from; `test` gives money away, for demos only."
    )
    stripe_secret_key: SecretStr | None = Field(default=None, description="sk_…; needed for `stripe`.")
    stripe_webhook_secret: SecretStr | None = Field(default=None, description="whsec_…; needed for `stripe`.")
    stripe_api: str | None = Field(default=None, description="Base URL of a stand-in for Stripe's API.")
    smtp_host: str | None = Field(default=None, description="Mail server; without one payers are told by push only.")
    smtp_port: int = 587
    smtp_security: Literal["tls", "starttls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_sender: str | None = Field(default=None, description="From whom mails come; the operator's contact if none.")
    origin: str | None = Field(
        default=None,
        description="Where payers reach the pages; https://… in service, http://localhost:PORT if none.",
    )
    trusted_proxies: list[str] = Field(
        default=[],
        description="JSON list of addresses or networks whose X-Forwarded-For says where a request comes from.",
    )
    limits: Limits = Field(default=Limits(), description="JSON: how often somebody may ask, by what is limited.")
    currency: str = Field(default="EUR", description="Of new payers who sign up on the pages.")
    staff_token: SecretStr | None = Field(
        default=None,
        description="At least 32 characters; lets a manager into the console before there is staff.",
    )
    staff_passkeys_only: bool = Field(
        default=False, description="Let no token into the console: once a manager has a passkey."
    )
    accuracy_report: Path | None = Field(default=None, description="JSON of `facefare evaluate`, for the console.")

    @classmethod
    def read(cls) -> "Settings":
        """The settings of this process's environment; raises SettingsError, also for a name that is none of ours."""
        cls._check_names()
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError("\n".join(_sentence(one["loc"], one["msg"]) for one in error.errors())) from None
        except pydantic_settings.SettingsError as error:
            field = re.search(r'"(\w+)"', str(error))
            raise SettingsError(_sentence(field.groups() if field else (), "that is not JSON")) from None

    @classmethod
    def _check_names(cls) -> None:
        """A mistyped name would leave a limit or a key at its default, and nobody would see it."""
        prefix, known = "FACEFARE_", {field.upper() for field in cls.model_fields}
        named = {name.upper() for kind in (EnvSettingsSource, DotEnvSettingsSource) for name in kind(cls).env_vars}
        ours = {name.removeprefix(prefix) for name in named if name.startswith(prefix)}
        for name in sorted(ours - known - _ELSEWHERE):
            near = difflib.get_close_matches(name, known, 1)
            raise SettingsError(f"{prefix}{name} is no setting{f'; did you mean {prefix}{near[0]}?' if near else '.'}")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"postgres(ql)?(\+psycopg)?://", url):
            raise ValueError("the address of a PostgreSQL database begins with postgresql://")
        return url

    @field_validator("staff_token")
    @classmethod
    def _is_long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 32:
            raise ValueError("a token of 32 characters or more, such as `openssl rand -hex 32` makes")
        return token

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError("each is an address, or a network such as 10.0.0.0/8") from None
        return proxies

    @field_validator("origin")
    @classmethod
    def _is_origin(cls, url: str | None) -> str | None:
        """Passkeys need https; a path or a last slash would be in every link and in no browser's origin."""
        if url is not None and not re.fullmatch(r"https://[^/?#@\s]+|http://(localhost|127\.0\.0\.1)(:\d+)?", url):
            raise ValueError("write https:// and the host, without a path or a slash at the end")
        return url


def _sentence(place: tuple[int | str, ...], message: str) -> str:
    name = f"FACEFARE_{str(place[0]).upper()}" if place else "The settings"
    return f"{name}: {message.removeprefix('Value error, ')}."

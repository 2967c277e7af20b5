"""Typed settings from the environment (prefix FACEFARE_) and an optional .env file."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a machine's operator may set; everything has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="FACEFARE_", env_file=".env", extra="ignore")

    database_url: str | None = Field(
        default=None, description="PostgreSQL URL; embedded PostgreSQL where none is given."
    )
    data_dir: Path = Field(default=Path("run"), description="Where services keep their own data.")
    cache_dir: Path = Field(
        default=Path.home() / ".cache" / "facefare", description="Models and downloads; safe to delete."
    )
    log_level: str = "INFO"

"""The galleries that this wallet keeps payers' rows of: what a search must name, and among how many it looks."""

from dataclasses import dataclass

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.postgresql import insert as upsert

from facefare.wallet import tables
from facefare.wallet.errors import UnknownGallery, WalletError


@dataclass(frozen=True)
class Gallery:
    """A gallery as the wallet knows it now; `version` is the guardians', `live` how many rows are searched."""

    id: str
    version: int
    live: int


def open_gallery(connection: Connection, gallery_id: str, *, kind: str) -> None:
    """Know a gallery (`live` or `demo`) that is still empty at the guardians; once is enough.

    Raises WalletError for another kind than these, or than it had.
    """
    if kind not in ("live", "demo"):
        raise WalletError("A gallery is of kind live or demo.")
    connection.execute(
        upsert(tables.gallery)
        .values(id=gallery_id, kind=kind, version=0, next_row=0, live=0)
        .on_conflict_do_nothing(index_elements=["id"])
    )
    known = select(tables.gallery.c.kind).where(tables.gallery.c.id == gallery_id)
    if connection.execute(known).scalar_one() != kind:
        raise WalletError(f"{gallery_id} is there already, of the other kind; that can't be changed.")


def gallery(connection: Connection, gallery_id: str) -> Gallery:
    """The gallery now; raises UnknownGallery."""
    row = connection.execute(select(tables.gallery).where(tables.gallery.c.id == gallery_id)).one_or_none()
    if row is None:
        raise _unknown(gallery_id)
    return Gallery(row.id, row.version, row.live)


def locked(connection: Connection, gallery_id: str) -> Row[tuple[object, ...]]:
    """The gallery's row of the table, which nobody else changes until the transaction ends; raises UnknownGallery."""
    row = connection.execute(
        select(tables.gallery).where(tables.gallery.c.id == gallery_id).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        raise _unknown(gallery_id)
    return row


def all_ids(connection: Connection) -> list[str]:
    """Every gallery there is."""
    return list(connection.execute(select(tables.gallery.c.id).order_by(tables.gallery.c.id)).scalars())


def _unknown(gallery_id: str) -> UnknownGallery:
    return UnknownGallery(f"This wallet has no gallery {gallery_id}.")

"""Everything that is kept about one payer, for that payer (GDPR, articles 15 and 20).

The tables are asked, not a list of ours: every table with a payer in it is part of the export, also one that is
added later; what hangs on a payer's faces, devices and account is followed from there. Left out are secrets (hashes
of token and PIN, sealed bytes): the export says that they exist.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from sqlalchemy import Connection, Table, or_, select

from facefare.ledger.tables import metadata, transfer
from facefare.payments.held_tables import held_payment
from facefare.wallet import device_tables
from facefare.wallet import tables as wallet
from facefare.wallet.payers import Payer

_SECRET = {
    ("payer", "token_sha256"),
    ("payer_pin", "hash"),
    ("notification_target", "code_sha256"),
    ("gallery_change", "sealed_request"),
    ("lookalike", "other_id"),
}
_WITHHELD = "kept, not shown: a secret"

Rows = list[dict[str, object]]


def everything(connection: Connection, payer: Payer) -> dict[str, Rows]:
    """Table -> the payer's rows, each column -> a JSON value (times ISO 8601, bytes base64)."""
    found = {"payer": _rows(connection, wallet.payer, wallet.payer.c.id == payer.id)}
    for table in metadata.sorted_tables:
        if "payer_id" in table.c:
            found[table.name] = _rows(connection, table, table.c.payer_id == payer.id)
    changes = wallet.change.c.face_id.in_(select(wallet.face.c.id).where(wallet.face.c.payer_id == payer.id))
    found["gallery_change"] = _rows(connection, wallet.change, changes)
    found["change_confirmation"] = _rows(
        connection, wallet.confirmation, wallet.confirmation.c.change_id.in_(select(wallet.change.c.id).where(changes))
    )
    # Of a lookalike the payer is told that there is one, never who.
    found["lookalike"] = _rows(
        connection,
        wallet.lookalike,
        wallet.lookalike.c.face_id.in_(select(wallet.face.c.id).where(wallet.face.c.payer_id == payer.id)),
    )
    mine = select(device_tables.device.c.id).where(device_tables.device.c.payer_id == payer.id)
    found["held_payment"] = _rows(connection, held_payment, held_payment.c.device_id.in_(mine))
    accounts = (payer.account_id, f"{payer.account_id}_debt")
    found["ledger_transfer"] = _rows(
        connection, transfer, or_(transfer.c.debit_account.in_(accounts), transfer.c.credit_account.in_(accounts))
    )
    return found


def as_json(found: Mapping[str, Rows], payer_id: str) -> str:
    """The export as JSON text."""
    return json.dumps(
        {"payer": payer_id, "exported_at": datetime.now(UTC).isoformat(), "tables": found}, indent=1, ensure_ascii=False
    )


def as_html(found: Mapping[str, Rows], payer_id: str) -> str:
    """The export as one page that any browser shows without a network."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>What is kept about you</title>",
        "<style>body{font:16px system-ui;margin:2rem}table{border-collapse:collapse}"
        "td,th{border:1px solid #999;padding:.3rem;text-align:left;vertical-align:top;overflow-wrap:anywhere;"
        "max-width:24rem}</style>",
        f"<h1>What is kept about you</h1><p>Account {html.escape(payer_id)}. Amounts are in the smallest unit of the"
        " currency. There is no picture and no template of your face in here, because the wallet has none: three"
        " guardians keep shares that mean nothing one by one. A column named row says which row theirs is.</p>",
    ]
    for name, rows in found.items():
        title = html.escape(_TITLES.get(name, name.replace("_", " ")))
        parts.append(f"<h2>{title}</h2>")
        parts.append(_table(rows) if rows else "<p>Nothing.</p>")
    return "\n".join([*parts, "</html>"])


_TITLES = {
    "payer": "Your account",
    "consent": "Your consents",
    "face": "Your face: which row of which gallery",
    "lookalike": "Somebody enrolled who looks like you",
    "gallery_change": "Changes of your face's row",
    "change_confirmation": "What the guardians signed about them",
    "payment_intent": "Payments, and attempts at one",
    "tap": "Rides",
    "access_log": "Who had you recognised",
    "ledger_transfer": "Your account's movements",
    "held_payment": "Payments by your devices",
}


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{'' if value is None else html.escape(str(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _rows(connection: Connection, table: Table, condition: object) -> Rows:
    query = select(table).where(condition).order_by(*table.primary_key.columns)  # type: ignore[arg-type]
    return [
        {name: _WITHHELD if (table.name, name) in _SECRET else _plain(value) for name, value in row.items()}
        for row in connection.execute(query).mappings()
    ]


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value

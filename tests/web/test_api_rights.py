"""A payer's rights, through the API: see, take away, take back, leave; fares and what is owed for them."""

import base64
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from typer.testing import CliRunner

from facefare.cli import command_line
from facefare.client import ApiError
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.guardian.messages import Confirmation
from facefare.ledger import verify
from facefare.ledger.tables import metadata
from facefare.payments import closing, retention, staff, tariffs, webhooks
from facefare.payments.disputes import WINDOW
from facefare.payments.errors import UnknownPayOut, WrongState
from facefare.payments.tariffs import FarePoint
from facefare.payments.verify import INVARIANTS
from facefare.wallet import consents, pseudonyms
from facefare.web.rights_commands import delete_unused


def get(world: Any, payer: Any, path: str, method: str = "GET", **more: Any) -> Any:
    response = world.http.request(method, f"/v1{path}", auth=payer._auth, **more)
    assert response.status_code < 300, response.text
    return response


def flat(world: Any) -> None:
    tariff = Tariff(
        id="bus",
        currency="EUR",
        versions=(
            TariffVersion(
                effective_from=date(2026, 1, 1),
                products=(Product(id="single", amounts={"": 150}),),
                rules=(LegRule(id="any", bands=(Band(product="single"),)),),
            ),
        ),
    )
    with world.engine.begin() as connection:
        tariffs.import_tariff(connection, tariff)
        tariffs.assign(connection, "trm_gate", FarePoint("bus", "Market Square", "flat"))


# --- access and portability ---


def test_the_export_holds_every_table_that_knows_the_payer_and_no_secret(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    ada.set_pin("1234")
    world.look("ada")
    world.look("ben")
    exported = get(world, ada, "/payers/me/export")
    tables = exported.json()["tables"]
    with_payers = {table.name for table in metadata.sorted_tables if "payer_id" in table.c}
    reached = {"payer", "gallery_change", "change_confirmation", "held_payment", "ledger_transfer", "lookalike"}
    assert with_payers | reached == set(tables)
    assert [row["by"] for row in tables["access_log"]] == ["trm_gate"]
    assert len(tables["change_confirmation"]) == 3
    assert {row["reason"] for row in tables["ledger_transfer"]} == {"top_up", "payment"}
    readable = get(world, ada, "/payers/me/export.html").text
    with world.engine.connect() as connection:
        secrets = connection.execute(
            text("SELECT encode(token_sha256, 'base64') FROM payer UNION SELECT hash FROM payer_pin")
        ).scalars()
        others = get(world, ben, "/payers/me").json()["id"]
        for hidden in [*secrets, others]:
            assert hidden not in exported.text
            assert hidden not in readable
    assert "Who had you recognised" in readable


def test_a_consent_receipt_is_downloaded_and_verified_by_the_command(world: Any, tmp_path: Path) -> None:
    ada = world.payer("ada")
    given = get(world, ada, "/payers/me/consents").json()[0]
    jws = get(world, ada, f"/payers/me/consents/{given['id']}/receipt")
    assert jws.text == given["receipt"]
    receipt, keys = tmp_path / "receipt.jws", tmp_path / "keys.json"
    receipt.write_text(jws.text)
    keys.write_text(world.http.get("/v1/consent_keys").text)
    said = CliRunner().invoke(command_line(), ["consent", "verify", str(receipt), "--keys", str(keys)])
    assert said.exit_code == 0
    assert json.loads(said.output)["record_id"] == given["id"]
    assert "16 years" in said.output
    header, _, signature = jws.text.split(".")
    forged = json.loads(said.output)
    forged["pii_principal_id"] = "pay_other"
    body = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode()
    receipt.write_text(f"{header}.{body}.{signature}")
    assert CliRunner().invoke(command_line(), ["consent", "verify", str(receipt), "--keys", str(keys)]).exit_code == 1
    other = consents.jwk(Ed25519PrivateKey.generate().public_key())
    receipt.write_text(jws.text)
    keys.write_text(json.dumps({"keys": [other]}))
    assert CliRunner().invoke(command_line(), ["consent", "verify", str(receipt), "--keys", str(keys)]).exit_code == 1


def test_another_payers_receipts_do_not_exist(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    given = get(world, ada, "/payers/me/consents").json()[0]["id"]
    money = ada.receipts()[0]["id"]

    def asked(path: str, auth: Any) -> tuple[int, str]:
        response = world.http.get(f"/v1/payers/me{path}", auth=auth)
        return response.status_code, response.text

    for path in ("/consents/{}/receipt", "/receipts/{}"):
        id = given if "consents" in path else money
        there, another = asked(path.format(id), ben._auth), asked(path.format(f"{id[:4]}{'0' * 26}"), ben._auth)
        assert there == another  # as if it did not exist
        assert there[0] in (404, 409)
        assert [asked(path.format(id), auth)[0] for auth in (ada._auth, None)] == [200, 401]


def test_nobody_agrees_below_the_minimum_age(world: Any) -> None:
    ada = world.payer()
    with pytest.raises(ApiError) as refused:
        ada.consent("2026-11", of_age=False)
    assert refused.value.code == "too-young"
    assert get(world, ada, "/payers/me/consents").json() == []


# --- withdrawal and erasure ---


def test_taking_consent_back_erases_the_face_and_leaves_three_signed_confirmations(world: Any) -> None:
    ada = world.payer("ada")
    (face,) = get(world, ada, "/payers/me/consents", "DELETE").json()
    assert face["state"] == "deleted"
    assert world.look("ada").outcome == "use_card"
    said = get(world, ada, "/payers/me/face/confirmations").json()
    assert [word["operation"] for word in said] == ["enrol"] * 3 + ["delete"] * 3
    for word in said:
        confirmation = Confirmation.from_bytes(base64.b64decode(word["signed"]))
        key = world.guardians.keys[word["guardian"]].public_key()
        key.verify(confirmation.signature, confirmation.payload)
    assert get(world, ada, "/payers/me/consents", "DELETE").json() == []


def test_an_account_is_closed_with_its_money_on_the_way_to_the_payer(world: Any) -> None:
    ada = world.payer("ada")
    refused = world.http.request("DELETE", "/v1/payers/me", auth=ada._auth)
    assert refused.status_code == 409  # a face is enrolled
    ada.delete_face()
    pay_out = get(world, ada, "/payers/me", "DELETE").json()["pay_out"]
    assert (pay_out["amount"], ada.account().available) == (1000, 0)
    assert get(world, ada, "/payers/me", "DELETE").json()["pay_out"] is None
    with pytest.raises(ApiError) as closed:
        ada.consent("2026-11")
    assert closed.value.code == "account-closed"
    with world.engine.begin() as connection:
        closing.paid(connection, pay_out["id"])
    with pytest.raises(UnknownPayOut), world.engine.begin() as connection:
        closing.paid(connection, pay_out["id"])
    assert get(world, ada, "/payers/me/pay_outs").json()[0]["paid_at"] is not None
    assert verify(world.engine, INVARIANTS) == []


# --- fares ---


def test_a_gate_asks_for_the_fare_and_the_payer_sees_why_it_is_what_it_is(world: Any) -> None:
    flat(world)
    ada = world.payer("ada")
    reply = world.look("ada", amount=None)
    assert (reply.outcome, reply.amount) == ("accepted", 150)
    assert ada.receipt(reply.receipt)["explained"] == ["fare: 1.50"]
    (ride,) = get(world, ada, "/payers/me/rides").json()["data"]
    assert (ride["stop"], ride["cost"], ride["under_way"]) == ("Market Square", 150, False)
    assert get(world, ada, "/payers/me/travel").json() == {
        "standing": "good", "owed": 0, "at_risk": 0, "currency": "EUR", "charged_by": None,
    }  # fmt: skip
    with pytest.raises(ApiError) as refused:
        world.till.attempt(
            amount=None, currency="EUR", search=world.requests.search("ada", terminal="trm_till").to_bytes()
        )
    assert refused.value.code == "no-fare-point"


def test_a_gate_is_told_where_it_stands_and_what_its_screen_may_say(world: Any) -> None:
    with pytest.raises(ApiError) as unknown:
        world.gate.fare()
    assert unknown.value.code == "no-fare-point"
    flat(world)
    said = world.gate.fare()
    assert (said.stop, said.kind, said.network, said.currency) == ("Market Square", "flat", "", "EUR")
    assert (said.least, said.most) == (150, 150)
    assert datetime.now(UTC) < datetime.fromisoformat(said.until) <= datetime.now(UTC) + timedelta(days=1)


def test_what_is_owed_is_seen_and_cleared_by_paying(world: Any) -> None:
    ada = world.payer("ada", funds=100)
    with world.engine.begin() as connection:
        account = connection.execute(text("SELECT account_id FROM payer")).scalar_one()
        connection.execute(
            text(
                "INSERT INTO ledger_account (id, currency, kind) VALUES (:debt, 'EUR', 'asset'),"
                " ('acc_m', 'EUR', 'liability')"
            ),
            {"debt": f"{account}_debt"},
        )
        connection.execute(
            text(
                "INSERT INTO ledger_transfer (id, kind, debit_account, credit_account, currency, amount, reason)"
                " VALUES ('x', 'posted', :debt, 'acc_m', 'EUR', 250, 'debt')"
            ),
            {"debt": f"{account}_debt"},
        )
    flat(world)
    assert world.look("ada", amount=None).reason == "owing"  # and what there is was taken towards it
    assert get(world, ada, "/payers/me/travel").json()["owed"] == 150
    ada.top_up(400, "second")
    assert get(world, ada, "/payers/me/debt/pay", "POST").json() == {"owed": 0}
    assert world.look("ada", amount=None).outcome == "accepted"
    assert ada.account().available == 100


# --- who sees what ---


def test_a_pseudonym_is_another_one_next_door_and_cannot_be_made_again_after_its_day(world: Any) -> None:
    now = datetime.now(UTC)
    with world.engine.begin() as connection:
        mine = pseudonyms.of(connection, "pay_a", "mer_a", now)
        assert mine == pseudonyms.of(connection, "pay_a", "mer_a", now)
        others = {pseudonyms.of(connection, "pay_b", "mer_a", now), pseudonyms.of(connection, "pay_a", "mer_b", now)}
        assert mine not in others
        assert len(others) == 2
        assert pseudonyms.of(connection, "pay_a", "mer_a", now - timedelta(days=1)) is None
        connection.execute(text("UPDATE pseudonym_key SET day = day - 1"))
        assert pseudonyms.of(connection, "pay_a", "mer_a", now) != mine
        retention.forget(connection, now)
        assert pseudonyms.of(connection, "pay_a", "mer_a", now - timedelta(days=1)) is None


def test_staff_see_a_payers_details_in_an_open_dispute_only_and_the_payer_reads_who_looked(world: Any) -> None:
    ada = world.payer("ada", funds=9000)
    ada.set_pin("1234")
    refunded = world.look("ada", amount=100).payment_intent
    asked = world.till.attempt(
        amount=6000, currency="EUR", search=world.requests.search("ada", terminal="trm_till").to_bytes()
    )
    world.till.confirm(asked.payment_intent, "1234")
    assert (ada.dispute(refunded), ada.dispute(asked.payment_intent)) == ("refunded", "under_review")
    with world.engine.connect() as connection:
        ids = {row.state: row.id for row in connection.execute(text("SELECT state, id FROM dispute"))}
    with pytest.raises(WrongState), world.engine.begin() as connection:
        staff.details(connection, ids["refunded"], staff="Kim", why="curious")
    with world.engine.begin() as connection:
        assert staff.details(connection, ids["under_review"], staff="Kim", why="call").payer == ada.account().id
    entry = ada.access_log()[0]
    assert (entry["by"], entry["purpose"], entry["identification"]) == ("staff: Kim", "dispute: call", None)


# --- retention ---


def age(world: Any, table: str, column: str, days: int) -> None:
    with world.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '{days} days'"))


def columns_that_say(world: Any, words: str) -> set[str]:
    """The columns of the wallet's database, whatever their type, in which some row says these words."""
    kinds = ("text", "character varying", "json", "jsonb", "bytea", "ARRAY")
    with world.engine.connect() as connection:
        columns = connection.execute(
            text(
                "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c"
                " JOIN information_schema.tables t USING (table_schema, table_name)"
                " WHERE table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.data_type = ANY (:kinds)"
            ),
            {"kinds": list(kinds)},
        ).all()
        assert len(columns) > 100
        found = set()
        for table, column, kind in columns:
            raw = f'"{column}"' if kind == "bytea" else f"convert_to(\"{column}\"::text, 'UTF8')"
            said = text(f"SELECT count(*) FROM \"{table}\" WHERE position(convert_to(:words, 'UTF8') IN {raw}) > 0")
            if connection.execute(said, {"words": words}).scalar_one():
                found.add(f"{table}.{column}")
        return found


INSTALLATION = {"terminal.place", "fare_point.stop"}
"""Where terminals stand, which is not where anybody was."""


def test_after_the_window_for_disputes_amounts_stay_and_places_go(world: Any) -> None:
    flat(world)
    with world.engine.begin() as connection:
        merchant = connection.execute(text("SELECT id FROM merchant")).scalar_one()
        webhooks.register(connection, merchant, "https://merchant.example/hook")
    ada = world.payer("ada")
    world.look("ada", amount=None)
    merchants_system = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204)))
    assert webhooks.deliver_due(world.engine, merchants_system) == 1
    world.payer("ben")
    world.look("ben", amount=70)  # an event of this one never gets through
    assert {"webhook_event.body", "payment_intent.place"} < columns_that_say(world, "place of trm_gate")
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    with world.engine.begin() as connection:
        assert set(retention.forget(connection, now).values()) == {0}
    age(world, "webhook_event", "created_at", webhooks.KEPT.days + 1)
    with world.engine.begin() as connection:
        early = {kind: count for kind, count in retention.forget(connection, now).items() if count}
    assert early == {"events for merchants": 1}  # the one that still waits is sent first
    for table, column in (
        ("tap", "at"),
        ("receipt", "at"),
        ("payment_intent", "created_at"),
        ("access_log", "at"),
        ("webhook_event", "created_at"),
    ):
        age(world, table, column, WINDOW.days + 1)
    with world.engine.begin() as connection:
        counts = retention.forget(connection, now)
        run = retention.record(connection, counts, late=(), key=key, now=now)
    for place in ("Market Square", "place of trm_gate"):
        assert columns_that_say(world, place) <= INSTALLATION
    exported = get(world, ada, "/payers/me/export").text
    for place in ("Market Square", "place of trm_gate", "trm_gate"):
        assert place not in exported
    receipts = get(world, ada, "/payers/me/receipts").json()["data"]
    assert [(one["kind"], one["amount"], one["place"]) for one in receipts] == [
        ("payment", 150, "Example Transit"), ("top_up", 1000, None),
    ]  # fmt: skip
    assert receipts[0]["explained"] == ["fare: 1.50"]
    said = consents.verified(run.record, key.public_key())
    assert said["forgotten"]["stops of rides"] == said["forgotten"]["events for merchants"] == 1
    assert said["forgotten"]["places of payments"] == 2
    (listed,) = world.http.get("/v1/retention_runs").json()
    assert listed["record"] == run.record
    with world.engine.begin() as connection:
        assert set(retention.forget(connection, now).values()) == {0}
    assert verify(world.engine, INVARIANTS) == []


def test_a_face_is_kept_as_long_as_its_payer_agreed_and_no_longer_than_the_operator_keeps_faces(world: Any) -> None:
    ada, ben = world.payer("ada"), world.payer("ben")
    with world.engine.begin() as connection:
        agreed = "UPDATE consent SET retention_days = :days WHERE payer_id = :payer"
        connection.execute(text(agreed), {"days": 30, "payer": ada.account().id})
    age(world, "face", "created_at", 100)

    def unused(retention_days: int) -> list[str]:
        with world.engine.connect() as connection:
            return retention.unused_faces(connection, retention_days=retention_days, now=datetime.now(UTC))

    assert unused(395) == [ada.account().id]
    assert sorted(unused(90)) == sorted([ada.account().id, ben.account().id])
    world.look("ada")
    assert unused(395) == []


async def _deleted(world: Any, unused: list[str]) -> Any:
    return await delete_unused(world.app.state.services.changes, unused)


def test_a_face_that_was_not_used_for_so_long_is_deleted_at_all_three(world: Any) -> None:
    import asyncio

    ada, ben = world.payer("ada"), world.payer("ben")
    age(world, "face", "created_at", 400)
    world.look("ben")
    with world.engine.connect() as connection:
        unused = retention.unused_faces(connection, retention_days=395, now=datetime.now(UTC))
    assert unused == [ada.account().id]
    world.guardians.down = True
    assert asyncio.run(_deleted(world, unused)) == (0, ["a face could not be deleted: ChangeUnconfirmed"])
    world.guardians.down = False
    assert asyncio.run(_deleted(world, unused)) == (1, [])
    assert world.guardians.rows["gal_town"] == {1: world.requests.search("ben").sealed[0]}
    assert ben.account().faces[0].state == "active"


# --- when the answer is lost ---


@pytest.mark.parametrize("amount", [280, None])
def test_an_attempt_whose_answer_was_lost_is_taken_back_once(world: Any, amount: int | None) -> None:
    flat(world)
    ada = world.payer("ada")
    query = os.urandom(16)
    world.look("ada", amount=amount, query_id=query)
    assert ada.account().available < 1000
    for _ in range(2):
        assert world.gate.undo(query).refunded > 0
        assert ada.account().available == 1000
    assert get(world, ada, "/payers/me/rides").json()["data"] == []
    with pytest.raises(ApiError) as refused:
        world.till.undo(query)
    assert refused.value.code == "unknown-payment"
    assert verify(world.engine, INVARIANTS) == []


def test_what_is_held_or_awaits_a_confirmation_is_let_go(world: Any) -> None:
    ada = world.payer("ada", funds=9000)
    for more in ({"capture_later": True, "amount": 100}, {"amount": 6000}):
        query = os.urandom(16)
        search = world.requests.search("ada", terminal="trm_till", query_id=query).to_bytes()
        world.till.attempt(currency="EUR", search=search, **more)
        assert world.till.undo(query).state == world.till.undo(query).state == "canceled"
    assert (ada.account().available, ada.account().on_hold) == (9000, 0)

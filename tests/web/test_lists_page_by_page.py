"""Every list of the API, page by page: all of it once, in one order, and nothing by another's cursor."""

import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from facefare.client import MerchantClient, TerminalClient
from facefare.fares.tariff import Band, LegRule, Product, Tariff, TariffVersion
from facefare.payments import api_keys, merchants, settlements, tariffs
from facefare.payments.api_keys import Scope
from facefare.payments.tariffs import FarePoint

FEWEST = 4
"""Items of each list: a first, a last and two between."""

PAYERS = ("/v1/payers/me/access_log", "/v1/payers/me/payments", "/v1/payers/me/receipts", "/v1/payers/me/rides")
OPERATORS = ("/v1/operator/disputes", "/v1/operator/events", "/v1/operator/payments", "/v1/operator/settlements")
TERMINALS = "/v1/terminal_keys"


class Books:
    """Two payers and two merchants with some of everything."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.keys = {"own": self._key(self._merchant()), "rival": self._key(self._new_merchant("Rival"))}
        self.payers = {name: world.payer(name, funds=50_000) for name in ("ada", "eve")}
        self._gates_with_a_fare()
        MerchantClient(world.http, self.keys["own"]).add_webhook_endpoint("https://shop.example/hook")
        for _ in range(FEWEST):
            bought = {name: self._buy(name) for name in self.payers}
            self.payers["ada"].dispute(bought["ada"])
            self.payers["ada"].resume_face()
            self._a_day_goes_by()
        for gate in self.gates:
            for name in self.payers:
                search = world.requests.search(name, terminal=gate).to_bytes()
                client = TerminalClient(world.http, gate, world.requests.terminal_key)
                assert client.attempt(amount=None, currency="EUR", search=search).outcome == "accepted"
        with world.engine.begin() as connection:
            for days in range(FEWEST, 0, -1):
                settlements.settle(connection, datetime.now(UTC).date() - timedelta(days=days))

    def _merchant(self) -> str:
        with self.world.engine.begin() as connection:
            return str(connection.execute(text("SELECT id FROM merchant")).scalar_one())

    def _new_merchant(self, name: str) -> str:
        with self.world.engine.begin() as connection:
            return merchants.register_merchant(connection, name)

    def _key(self, merchant: str) -> str:
        with self.world.engine.begin() as connection:
            return api_keys.create(connection, merchant, "reads", set(Scope))[1]

    def _gates_with_a_fare(self) -> None:
        flat = TariffVersion(
            effective_from=date(2026, 1, 1),
            products=(Product(id="single", amounts={"": 200}),),
            rules=(LegRule(id="any", bands=(Band(product="single"),)),),
        )
        self.gates = [f"trm_ride{number}" for number in range(FEWEST)]
        public = self.world.requests.terminal_key.public_key().public_bytes_raw()
        with self.world.engine.begin() as connection:
            own = connection.execute(text("SELECT merchant_id FROM terminal LIMIT 1")).scalar_one()
            tariffs.import_tariff(connection, Tariff(id="bus", currency="EUR", versions=(flat,)))
            for gate in self.gates:
                merchants.register_terminal(connection, merchants.Terminal(gate, own, gate, public))
                tariffs.assign(connection, gate, FarePoint("bus", gate, "flat"))
        for gate in self.gates:
            TerminalClient(self.world.http, gate, self.world.requests.terminal_key).announce(os.urandom(32), 86_400)

    def _buy(self, name: str) -> str:
        search = self.world.requests.search(name, terminal="trm_till").to_bytes()
        reply = self.world.till.attempt(amount=300, currency="EUR", search=search)
        assert reply.outcome == "accepted"
        return str(reply.payment_intent)

    def _a_day_goes_by(self) -> None:
        with self.world.engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for table in ("ledger_transfer", "payment_intent"):
                connection.execute(text(f"UPDATE {table} SET created_at = created_at - interval '1 day'"))

    def get(self, path: str, whose: str, **query: Any) -> Any:
        token = self.keys.get(whose) or self.payers[whose]._auth._token
        return self.world.http.get(path, params=query, headers={"Authorization": f"Bearer {token}"})


def name_of(item: dict[str, Any], path: str) -> str:
    """By which the next page is asked for."""
    return str(item.get("id") or item["terminal" if path == TERMINALS else "payment_intent"])


@pytest.fixture
def books(world: Any) -> Books:
    return Books(world)


def test_every_list_comes_whole_page_by_page_and_to_whom_it_belongs_only(books: Books) -> None:
    described = books.world.app.openapi()["paths"]
    paged = {
        path
        for path, methods in described.items()
        if any(one["name"] == "starting_after" for one in methods.get("get", {}).get("parameters", ()))
    }
    assert paged == {*PAYERS, *OPERATORS, TERMINALS}, "a list without a test here"
    for path in sorted(paged):
        own, other = ("own", "rival") if path in OPERATORS else ("ada", "eve")
        whole = books.get(path, own, limit=100).json()
        names = [name_of(item, path) for item in whole["data"]]
        assert len(names) >= FEWEST, path
        assert not whole["has_more"], path
        assert len(set(names)) == len(names), path
        for size in (1, 3):
            walked: list[Any] = []
            more = True
            while more:
                after = {"starting_after": name_of(walked[-1], path)} if walked else {}
                page = books.get(path, own, limit=size, **after).json()
                assert 0 < len(page["data"]) <= size, (path, size)
                walked += page["data"]
                more = page["has_more"]
            assert [name_of(item, path) for item in walked] == names, (path, size)
        assert books.get(path, own, starting_after=names[-1]).json() == {"data": [], "has_more": False}, path
        if path != TERMINALS:  # anyone reads these
            theirs = books.get(path, other, limit=100).json()["data"]
            assert not {name_of(item, path) for item in theirs} & set(names), path
            foreign = books.get(path, other, starting_after=names[1], limit=100)
            assert foreign.status_code < 500, path
            seen = foreign.json().get("data", [])
            assert all(item in theirs for item in seen), path
        for wrong in ("0", "101", "x"):
            assert books.get(path, own, limit=wrong).status_code == 422, path
        assert books.get(path, own, starting_after="' OR 1=1").status_code == 422, path

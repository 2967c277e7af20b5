"""What holds for every route there is, found by walking the app: whoever adds one is asked the same."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

from facefare.web.pages import staff
from facefare.web.pages.guard import FILES, MAX_BODY
from facefare.web.pages.staff import Role

OWN = {"Sec-Fetch-Site": "same-origin"}
FOREIGN = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
)
FOREIGNS_ANSWER = "not sent from our own page"
NAMED = {
    *("span", "state", "terminal", "before", "first", "last", "limit", "starting_after", "expand", "again", "to"),
    "v",  # of a file: the start of its hash
    "key",  # the public half of a payer's check key
    "number",  # of a payment's code, as somebody typed it
    "session",  # by the card processor, which sends payers back with it: worth nothing without its secret key
}
IDS = {
    "intent_id": "pi_" + "0" * 26,
    "receipt_id": "rcp_" + "0" * 26,
    "dispute_id": "dsp_" + "0" * 26,
    "member_id": "stf_" + "0" * 26,
    "device_id": "dev_" + "0" * 26,
    "passkey_id": "0" * 16,
    "terminal_id": "trm_nobody",
    "change": "pause",
}


def walked(routes: Any) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif inner := getattr(getattr(route, "original_router", route), "routes", None):
            yield from walked(inner)


def pages(site: Any, method: str) -> list[tuple[str, APIRoute]]:
    """Every route of the pages with this method, and its path with its ids filled in."""
    (mounted,) = [route for route in site.app.routes if getattr(route, "path", "") == "/app"]
    routes = list(walked(mounted.app._app.routes))
    assert len(routes) > 100
    assert {method for route in routes for method in route.methods} <= {"GET", "HEAD", "POST"}
    return [(f"/app{filled(route.path)}", route) for route in routes if method in route.methods]


def filled(path: str) -> str:
    return re.sub(r"{(\w+)(:\w+)?}", lambda name: IDS.get(name[1], "x"), path)


@pytest.fixture
def cookies(site: Any) -> dict[str, str]:
    """Of a payer and of a manager, both signed in, in one browser."""
    site.payer("ada")
    with site.engine.begin() as connection:
        _, token = staff.add(connection, "Sam", Role.MANAGER)
    found = []
    for path, secret in (("sign-in/token", site.tokens["ada"]), ("console/sign-in", token)):
        answer = httpx.post(f"{site.url}/app/{path}", data={"token": secret}, headers=OWN)
        found.append(answer.headers["set-cookie"].partition(";")[0])
    return {"Cookie": "; ".join(found)}


def everything(site: Any) -> dict[str, Any]:
    """A digest of every table."""
    with site.engine.connect() as connection:
        names = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'tries'")
        ).scalars()
        digest = "SELECT count(*), sum(hashtext(t::text)) FROM {} t"
        return {name: tuple(connection.exec_driver_sql(digest.format(name)).one()) for name in names.all()}


def test_another_sites_page_can_change_nothing_by_any_route(site: Any, cookies: dict[str, str]) -> None:
    changing = [path for path, _ in pages(site, "POST")]
    before = everything(site)
    let_in = []
    for path in changing:
        for foreign in FOREIGN:
            headers = {name: site.url if value == "OWN" else value for name, value in foreign.items()}
            answer = site.http.post(path, headers={**cookies, **headers}, data={"amount": "5", "key": "k" * 16})
            if answer.status_code != 403 or FOREIGNS_ANSWER not in answer.text:
                let_in.append((path, foreign))
    assert let_in == []
    assert everything(site) == before
    for path in changing:  # each is a route that our own page reaches
        answer = site.http.post(path, headers={**cookies, "Origin": site.url})
        assert FOREIGNS_ANSWER not in answer.text
        assert answer.status_code not in (404, 405) or path.endswith(tuple(IDS.values())) or "0" * 26 in path


def test_no_form_takes_more_than_it_needs(site: Any, cookies: dict[str, str]) -> None:
    form = {**cookies, **OWN, "Content-Type": "application/x-www-form-urlencoded"}
    taken = []
    for path, route in pages(site, "POST"):
        most = FILES.get(path, MAX_BODY)
        if site.http.post(path, content=b"x" * (most + 1), headers=form).status_code != 413:
            taken.append(path)
        without_a_length = iter([b"x" * most, b"x"])
        answer = site.http.post(path, content=without_a_length, headers=form)
        if route.body_field is not None and answer.status_code not in (400, 413, 422):
            taken.append(f"{path}, in parts")
    assert taken == []


def test_the_api_never_reads_a_cookie(site: Any, cookies: dict[str, str]) -> None:
    open_to_all = {"/v1/payers", "/v1/enrolments", "/v1/processor_events"}
    answered = []
    for path, methods in site.app.openapi()["paths"].items():
        for method in set(methods) & {"post", "put", "patch", "delete"}:
            if path not in open_to_all:
                status = site.http.request(method, filled(path), json={}, headers={**cookies, **OWN}).status_code
                if status not in (401, 404, 422):
                    answered.append((method, path, status))
    assert answered == []


def test_no_route_takes_a_secret_or_a_person_in_its_address(site: Any) -> None:
    routes = [*walked(site.app.routes), *(route for _, route in pages(site, "GET"))]
    named = {parameter.name for route in routes for parameter in route.dependant.query_params}
    assert named == NAMED

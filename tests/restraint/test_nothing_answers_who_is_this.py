"""No route, command, table or view answers "who is this", "where was this person", with scores or candidates."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from sqlalchemy import inspect

from facefare.cli import command_line
from facefare.guardian import messages
from facefare.guardian.messages import SearchPayload
from facefare.guardian.wire import Message
from facefare.mpc import answers

_GIVES_AWAY = re.compile(
    r"score|similarit|distance|candidate|embedding|descriptor|(^|_)templates?($|_)|probe|vector|rank(s|ing)?$|photo|image"
)
_ASKS_FOR_A_PERSON = re.compile(
    r"identify|who[-_]?is|recogni[sz]e|watch[-_]?list|blacklist|lookup|face[-_]?search|find[-_]?person"
)


def commands(app, path=()):
    group = typer.main.get_group(app) if path == () else app
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def properties(schema):
    if isinstance(schema, dict):
        for name, value in schema.get("properties", {}).items():
            yield name
            yield from properties(value)
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


def test_no_command_asks_for_a_person():
    names = [name for name, _ in commands(command_line())]
    assert len(names) > 20
    assert [name for name in names if _ASKS_FOR_A_PERSON.search(name)] == []


def test_no_route_asks_for_a_person_or_answers_with_scores_candidates_or_templates(world):
    api = world.app.openapi()
    assert [path for path in api["paths"] if _ASKS_FOR_A_PERSON.search(path)] == []
    answered = set(properties(api["components"]["schemas"]))
    assert {name for name in answered if _GIVES_AWAY.search(name)} == set()


def test_payments_and_places_of_a_person_are_listed_to_that_person_only(world):
    listing = re.compile(r"payments|access_log|receipts|rides|travel|export|consents|pay_outs")
    for path, methods in world.app.openapi()["paths"].items():
        if "get" in methods and path.startswith("/v1/operator/"):
            asked = {parameter["name"] for parameter in methods["get"].get("parameters", ())}
            assert not {name for name in asked if re.search("payer|person|face|device", name)}, f"GET {path} by person"
        elif "get" in methods and listing.search(path):
            assert path.startswith("/v1/payers/me"), f"GET {path} lists what belongs to one payer"
        assert not re.search(r"/payers/\{", path), f"{path} names a payer who is not the caller"
    ada, eve = world.payer("ada"), world.payer("eve")
    world.look("ada")
    assert len(ada.payments()) == 1
    assert eve.payments() == []


def test_the_wallets_database_has_no_view_and_no_column_for_a_face(world):
    inspector = inspect(world.engine)
    assert inspector.get_view_names() == []
    assert inspector.get_materialized_view_names() == []
    columns = [f"{t}.{c['name']}" for t in inspector.get_table_names() for c in inspector.get_columns(t)]
    assert [column for column in columns if _GIVES_AWAY.search(column.partition(".")[2])] == []


def test_an_answer_of_the_guardians_is_none_one_row_or_several_and_has_no_room_for_more():
    assert {answers.NoMatch, answers.Match, answers.Several} == set(answers.Answer.__args__)
    assert set(answers.Match.__dataclass_fields__) == {"row", "tag"}
    assert set(answers.AnswerShare.__dataclass_fields__) == {"guardian", "several", "own", "following", "tag"}
    for name in messages.__all__:
        kind = getattr(messages, name)
        if isinstance(kind, type) and issubclass(kind, Message):
            assert [field for field in kind._FIELDS if _GIVES_AWAY.search(field)] == []


@pytest.mark.parametrize("purpose", ["identification", "investigation", "advertising", "presence"])
def test_a_search_for_anything_but_a_payment_is_refused_by_the_guardians(trio, purpose):
    import asyncio

    from three_guardians import DEMO, TERMINAL, synthetic_templates

    from facefare.guardian.messages import SearchRequest
    from facefare.identification.errors import RequestRefused

    async def ask():
        honest = trio.search_request(synthetic_templates(1, seed=5)[0])
        payload = SearchPayload(**{**honest.fields().__dict__, "purpose": purpose}).to_bytes()
        request = SearchRequest(payload, trio.keys[TERMINAL].sign(payload), honest.sealed)
        async with trio.relay() as guardians:
            with pytest.raises(RequestRefused, match="payments only"):
                await guardians.search(request, trio.version[DEMO], -2000)

    asyncio.run(ask())


def test_a_guardians_process_has_no_code_that_could_see_a_face():
    program = (
        "import sys, facefare.cli, facefare.guardian.http\n"
        "facefare.cli.command_line(['guardian'])\n"
        "banned = ('cv2', 'onnx', 'PIL', 'facefare.biometrics', 'facefare.identification', 'facefare.wallet',\n"
        "          'facefare.payments', 'facefare.terminal', 'facefare.web')\n"
        "print([name for name in sys.modules if name.startswith(banned)])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_no_source_line_of_the_guardian_names_a_detector():
    import facefare.guardian

    folder = Path(facefare.guardian.__file__).parent
    for file in folder.glob("*.py"):
        assert not re.search(r"import (cv2|onnx|PIL)|from (cv2|onnx|PIL|facefare\.biometrics)", file.read_text())

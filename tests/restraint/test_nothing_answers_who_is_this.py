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


# Every command, its arguments and its options. A new one belongs here once somebody saw that it asks for nobody's face
# and answers nothing about a person to anyone but that person; `wallet dispute` has a reason that its payer reads.
_COMMANDS = """
audit fetch URLS --to
audit my-log FOLDER --trust --logs
audit reconcile LOGS WALLET SITES --checks --html
audit verify PATH --trust --tolerance --json
audit verify-receipt RECEIPT --trust
calibrate RECORDINGS --camera --out --costs --embedder --calibration --cache-dir
consent verify FILE --keys
evaluate FOLDER --csv --out --json --simulate-attacks --write-calibration --source
    --pooled --costs --embedder --calibration --cache-dir
fares assign TERMINAL --tariff --stop --kind --network
fares grant PAYER --tariff --category --through
fares import PATH --tariff --effective-from --fare-medium --tap-out
fares list
gate new-key FILE
gate serve CONFIGURATION --camera --source --follow
guardian backup FOLDER TO
guardian compact FOLDER
guardian create-gallery FOLDER GALLERY --kind --model --dimensions --min-squared-norm
    --max-squared-norm --min-threshold --max-threshold
guardian create-relay FOLDER NAME
guardian init FOLDER --index --name --host --http-port --link-port --public-port
guardian join FOLDER IDENTITY
guardian list FOLDER
guardian prune-backups FOLDER --keep
guardian refresh FOLDER --wait
guardian register-relay FOLDER NAME CERTIFICATE
guardian register-station FOLDER STATION --key --gallery --demo-only
guardian register-terminal FOLDER TERMINAL --key --gallery --rate --daily
guardian remove FOLDER NAME
guardian restore FOLDER SOURCE
guardian rotate-keys FOLDER --change-over --although-no-peer-answered --forget
guardian serve FOLDER
guardian status FOLDER
guardian trust FILE IDENTITIES
ledger export FILE --from --to --format
ledger reconcile REPORT --from --to --json
ledger settle --day
ledger verify --json
models check DESCRIPTION
models install --cache-dir
payer new-key FILE
payer open-log WALLET --to --key --token --face
station enrol CONFIGURATION --camera --source --code --picture
till serve CONFIGURATION --camera --source --follow --port --language --mute
wallet api-keys create MERCHANT NAME --scope --auditor
wallet api-keys list MERCHANT
wallet api-keys revoke KEY
wallet assessment FILE
wallet dispute DISPUTE --staff --why
wallet key-proof KEY --merchant --terminal
wallet migrate
wallet open-gallery GALLERY --kind
wallet operator-key
wallet pay-outs paid PAY_OUT
wallet register-merchant NAME
wallet register-station STATION --key
wallet register-terminal TERMINAL --merchant --place --key --kind
wallet register-webhook MERCHANT URL
wallet retention list
wallet retention run
wallet revoke-terminal TERMINAL
wallet searches FILE --from --to
wallet serve --host --port
wallet staff add NAME --role
wallet staff invite MEMBER
wallet staff list
wallet staff revoke MEMBER
web assets --for-tests
web screen --host --port --language --mute
"""


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif command.callback.__module__.startswith("facefare."):  # not those of measuring and of the demo
            words = [one.opts[0] if one.param_type_name == "option" else one.name.upper() for one in command.params]
            yield " ".join((*path, name, *words))


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


def test_every_command_and_option_was_looked_at_and_none_asks_for_a_person():
    seen = _COMMANDS.replace("\n    ", " ").strip().splitlines()
    assert sorted(commands(typer.main.get_group(command_line()))) == seen
    assert [line for line in seen if _ASKS_FOR_A_PERSON.search(line.lower())] == []


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

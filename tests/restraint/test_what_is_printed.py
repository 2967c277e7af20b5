"""Nothing of a face, a key or a person in what a process of ours prints: log lines, representations, answers."""

import dataclasses
import importlib
import logging
import pkgutil
import re

import pytest

import facefare
from facefare.client import ApiError
from facefare.wallet import access

_SECRET = re.compile(r"(^|_)(templates?|reference|probes?|shares?|sealed|salts?|vector|components?|private)$")
_BYTES = re.compile(r"bytes|NDArray|PrivateKey")
_WORD = re.compile(r"(^|_)(pin|token|secret|password)$")
_ROOMS = ("audit", "biometrics", "guardian", "identification", "mpc", "payments", "terminal", "wallet", "web")


def dataclasses_of_ours():
    for module in pkgutil.walk_packages(facefare.__path__, "facefare."):
        if module.name.split(".")[1] in _ROOMS and not re.search(r"migrations|commands$|__main__", module.name):
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.name:
                    yield kind


def test_no_representation_of_ours_shows_what_is_secret():
    shown = [
        f"{kind.__module__}.{kind.__name__}.{field.name}"
        for kind in dataclasses_of_ours()
        if kind.__repr__ is not object.__repr__
        for field in dataclasses.fields(kind)
        if field.repr and (_WORD.search(field.name) or (_SECRET.search(field.name) and _BYTES.search(str(field.type))))
    ]
    assert shown == []


@pytest.fixture
def printed(capfd, caplog):
    """All that this process printed or logged, at the most talkative level, but for the tests' own HTTP client."""
    caplog.set_level(logging.DEBUG)

    def everything():
        records = [one.getMessage() for one in caplog.records if not one.name.startswith("http")]
        return "\n".join([*capfd.readouterr(), *records])

    return everything


def test_the_wallets_log_names_no_payer_and_holds_no_token_pin_tag_or_query(world, guardians, printed, monkeypatch):
    ada = world.payer("ada")
    ada.set_pin("4711")
    paid = world.look("ada")
    world.look("a stranger")
    with pytest.raises(Exception, match="well-formed"):
        ada.open_row(b"\xa2gpayload")
    (entry,) = ada.access_log()
    (face,) = ada.account().faces
    ada.dispute(paid.payment_intent)

    async def broken(*arguments):
        raise RuntimeError(f"{ada.account().id} 4711 {arguments!r}")  # what nobody foresaw, with all there is in it

    def broken_too(*arguments, **more):
        raise RuntimeError(f"4711 {arguments!r} {more!r}")

    monkeypatch.setattr(guardians, "search", broken)
    assert world.look("ada").reason == "identification_unavailable"
    monkeypatch.setattr(access, "of_payer", broken_too)
    with pytest.raises(ApiError) as caught:
        ada.access_log()
    assert caught.value.code == "internal-error"
    assert "4711" not in str(caught.value)
    said = printed()
    assert "RuntimeError" in said
    secrets = [ada.account().id, face.id, "4711", "ptk_", entry["identification"]["tag"], "stranger"]
    secrets.append(entry["identification"]["query_id"])
    assert [one for one in secrets if one in said] == []


def test_the_terminal_of_a_stranger_hears_as_much_as_that_of_anyone_who_does_not_pay(world):
    world.payer("ada", funds=0)
    ben = world.payer("ben")
    ben.pause_face()
    replies = [world.look(label) for label in ("a stranger", "ben")]
    assert {(reply.outcome, reply.reason) for reply in replies} == {("use_card", "not_recognised")}
    assert len({len(str(reply).replace(reply.payment_intent, "")) for reply in replies}) == 1

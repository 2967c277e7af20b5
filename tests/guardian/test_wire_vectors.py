"""The wire format is the one in `wire_vectors.json`: a change that another implementation would notice fails here."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from facefare.audit.openings import Opening, SealedPart
from facefare.guardian.messages import (
    Confirmation,
    EnrolCall,
    EnrolPayload,
    OpenAnswer,
    OpenRequest,
    RowCall,
    SearchAnswer,
    SearchCall,
    SearchRequest,
    verify,
)
from facefare.guardian.sealing import SealedFor, Share, open_sealed
from facefare.mpc.answers import AnswerShare, Match, NoMatch, Several
from facefare.mpc.answers import combine as combine_answers
from facefare.mpc.errors import ShareMismatch
from facefare.mpc.recheck import RecheckShare, confirm

_spec = importlib.util.spec_from_file_location("wire_vectors", Path(__file__).with_name("wire_vectors.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
VECTORS = json.loads(made.FILE.read_text())


def test_the_code_still_makes_these_bytes():
    assert made.vectors(VECTORS["sealed"]) == VECTORS


def test_signatures_and_hashes_are_over_the_exact_payloads():
    request = SearchRequest.from_bytes(bytes.fromhex(VECTORS["search request"]))
    public = bytes.fromhex(VECTORS["keys"]["ed25519 terminal"]["public"])
    verify(public, request.signature, request.payload)
    assert request.payload.hex() == VECTORS["search payload"]
    call = SearchCall.from_bytes(bytes.fromhex(VECTORS["search call"]))
    assert (call.payload, call.version, call.threshold) == (request.payload, 3, -2000)
    enrol = EnrolCall.from_bytes(bytes.fromhex(VECTORS["enrol call"]))
    verify(bytes.fromhex(VECTORS["keys"]["ed25519 station"]["public"]), enrol.signature, enrol.payload)
    without, with_key = (EnrolPayload.from_bytes(bytes.fromhex(p)) for p in VECTORS["enrol payloads"].values())
    assert without.payer_key is None
    assert with_key.payer_key.hex() == VECTORS["keys"]["ed25519 payer"]["public"]
    opening = OpenRequest.from_bytes(bytes.fromhex(VECTORS["open request"]))
    verify(with_key.payer_key, opening.signature, opening.payload)
    Confirmation.from_bytes(bytes.fromhex(VECTORS["confirmation"]))
    assert RowCall.from_bytes(bytes.fromhex(VECTORS["row call"])).row == 7


@pytest.mark.parametrize(("use", "request_id"), [("search", "query"), ("enrol", "enrolment")])
def test_sealed_shares_open_to_shares_that_add_up_to_the_coordinates(use, request_id):
    total = np.zeros(len(VECTORS["coordinates"]), np.uint32)
    for index, sealed in enumerate(VECTORS["sealed"][use]):
        plain = open_sealed(
            bytes.fromhex(sealed), made.sealing(index), index, SealedFor(use), made.GALLERY, made.named(request_id)[:16]
        )
        assert plain.hex() == VECTORS["shares"][index]
        share = Share.from_bytes(plain)
        assert share.fits(index, [bytes.fromhex(digest) for digest in VECTORS["component_sha256"]])
        total += np.frombuffer(share.own, "<u4")
    assert total.view(np.int32).tolist() == VECTORS["coordinates"]


def test_answers_combine_to_what_they_are_named():
    expected = {"row 7": Match(7), "none": NoMatch(), "several": Several()}
    for name, parts in VECTORS["answers"].items():
        shares = [AnswerShare.from_bytes(SearchAnswer.from_bytes(bytes.fromhex(part)).share) for part in parts]
        assert combine_answers(shares) == expected[name]


def test_rechecked_answers_are_confirmed_and_not_each_by_the_other_s_recheck():
    rechecks = {
        name: [RecheckShare.from_bytes(SearchAnswer.from_bytes(bytes.fromhex(part)).recheck) for part in parts]
        for name, parts in VECTORS["rechecked answers"].items()
    }
    confirm(Match(7), rechecks["row 7"])
    confirm(NoMatch(), rechecks["none"])
    for answer, name in ((NoMatch(), "row 7"), (Match(7), "none"), (Match(6), "row 7")):
        with pytest.raises(ShareMismatch):
            confirm(answer, rechecks[name])


def test_an_opened_row_is_the_xor_of_three_components():
    recipient = made.X25519PrivateKey.from_private_bytes(made.named("recipient"))
    answers = [OpenAnswer.from_bytes(bytes.fromhex(part)) for part in VECTORS["sealed"]["opened"]]
    parts = tuple(SealedPart(answer.sealed, answer.signature) for answer in answers)
    opening = Opening(made.GALLERY, made.named("opening")[:16], recipient, parts)
    assert opening.read([made.log(n).key for n in range(3)]).value == 0x1234

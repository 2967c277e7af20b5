"""The guardians themselves refuse a reference that no registered station vouches for, whatever the relay says."""

import asyncio
import os
from dataclasses import replace

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from three_guardians import DEMO, DEMO_STATION, LIVE, TERMINAL, synthetic_templates

from facefare.guardian.messages import EnrolCall, EnrolRequest
from facefare.identification.errors import RequestRefused

FACE = synthetic_templates(1, seed=808)[0]


def resigned(trio, request, key, **changes):
    payload = replace(request.fields(), **changes).to_bytes()
    return EnrolRequest(payload, key.sign(payload), request.sealed)


def without_consent(trio):
    honest = trio.enrol_request(FACE)
    fields = cbor2.loads(honest.payload)
    del fields["consent_sha256"]
    payload = cbor2.dumps(fields)
    return EnrolRequest(payload, trio.keys[DEMO_STATION].sign(payload), honest.sealed)


TRIED = {
    "nobody signed": lambda trio: EnrolRequest(
        trio.enrol_request(FACE).payload, bytes(64), trio.enrol_request(FACE).sealed
    ),
    "an unknown station signed": lambda trio: trio.enrol_request(
        FACE, station="stn_van", key=Ed25519PrivateKey.generate()
    ),
    "a gate signed": lambda trio: resigned(trio, trio.enrol_request(FACE), trio.keys[TERMINAL]),
    "there is no consent in it": without_consent,
    "the consent was changed afterwards": lambda trio: EnrolRequest(
        replace(trio.enrol_request(FACE).fields(), consent_sha256=os.urandom(32)).to_bytes(),
        trio.enrol_request(FACE).signature,
        trio.enrol_request(FACE).sealed,
    ),
    "another face was put in": lambda trio: EnrolRequest(
        trio.enrol_request(FACE).payload, trio.enrol_request(FACE).signature, trio.enrol_request(FACE).sealed
    ),
    "a demo station enrols for real": lambda trio: trio.enrol_request(FACE, gallery=LIVE),
}


@pytest.mark.parametrize("attempt", TRIED)
def test_the_guardians_refuse_an_enrolment_when(trio, attempt):
    async def scene():
        async with trio.relay() as guardians:
            before = await guardians.status()
            request = TRIED[attempt](trio)
            # past the relay's own checks: what the operator could do with its own code
            bodies = [
                EnrolCall(request.payload, request.signature, part, trio.rows[DEMO], trio.version[DEMO]).to_bytes()
                for part in request.sealed
            ]
            with pytest.raises(RequestRefused):
                await guardians._call_all("enrolments", bodies, 60.0)
            after = await guardians.status()
            assert [s.galleries for s in after if s] == [s.galleries for s in before if s]

    asyncio.run(scene())

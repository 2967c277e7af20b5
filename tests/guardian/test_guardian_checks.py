"""The comparison before an enrolment, at three real guardians: what it finds, and that it is no way to ask at will."""

from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from three_guardians import (
    DEMO,
    DEMO_STATION,
    LIVE,
    STATION,
    TERMINAL,
    THRESHOLD,
    Trio,
    run,
    synthetic_templates,
    three_guardians,
)

from facefare.audit.entries import Entry, entry_of_search
from facefare.audit.log import read_frames
from facefare.guardian.messages import EnrolRequest, SearchCall, sha256
from facefare.guardian.policy import Limits
from facefare.identification.errors import RequestRefused, StaleGallery
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Answer, Match, NoMatch, Several


async def check(trio: Trio, guardians: Guardians, request: EnrolRequest) -> Answer:
    return await guardians.check(request, trio.version[request.fields().gallery], THRESHOLD)


async def enrolled(trio: Trio, guardians: Guardians, request: EnrolRequest) -> int:
    """Make the enrolment; its row."""
    gallery = request.fields().gallery
    done = await guardians.enrol(request, trio.rows[gallery], trio.version[gallery])
    trio.follow(done)
    return done[0].fields.row


async def refused(reason: str, asking: Awaitable[object]) -> None:
    with pytest.raises(RequestRefused) as caught:
        await asking
    assert caught.value.reason == reason


def test_a_face_that_is_enrolled_again_is_found_before_it_is_live_and_never_finds_itself(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        ada, ben = synthetic_templates(2, seed=61)
        first = trio.enrol_request(ada)
        assert await check(trio, guardians, first) == NoMatch()
        row = await enrolled(trio, guardians, first)
        again = trio.enrol_request(ada + 0.01 * ben)
        assert await check(trio, guardians, again) == Match(row)
        await enrolled(trio, guardians, again)
        assert await check(trio, guardians, trio.enrol_request(ada)) == Several()
        assert await check(trio, guardians, trio.enrol_request(ben)) == NoMatch()

    run(trio, scene)


def test_a_paused_face_is_found_by_an_enrolment_but_by_no_search_and_a_deleted_one_by_neither(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (ada,) = synthetic_templates(1, seed=67)
        row = await enrolled(trio, guardians, trio.enrol_request(ada))
        trio.follow(await guardians.pause(DEMO, row, trio.version[DEMO]))
        assert await trio.search(guardians, ada) == NoMatch()
        assert await check(trio, guardians, trio.enrol_request(ada)) == Match(row)
        trio.follow(await guardians.delete(DEMO, row, trio.version[DEMO]))
        assert await check(trio, guardians, trio.enrol_request(ada)) == NoMatch()

    run(trio, scene)


def test_one_enrolment_is_compared_once_whatever_the_threshold_and_after_a_restart(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        request = trio.enrol_request(synthetic_templates(1, seed=62)[0])
        await check(trio, guardians, request)
        await refused("replayed", check(trio, guardians, request))
        await refused("replayed", guardians.check(request, trio.version[DEMO], THRESHOLD - 500))
        trio.stop(0, 1, 2)
        for index in range(3):
            trio.start(index)
        await trio.ready()
        await refused("replayed", check(trio, guardians, request))
        await enrolled(trio, guardians, request)
        await refused("replayed", check(trio, guardians, request))

    run(trio, scene)


FACE = synthetic_templates(1, seed=63)[0]
NOT_A_STATIONS = {
    "a gate's key": lambda trio: trio.enrol_request(FACE, key=trio.keys[TERMINAL]),
    "another station's key": lambda trio: trio.enrol_request(FACE, key=trio.keys[STATION]),
    "an unregistered station": lambda trio: trio.enrol_request(
        FACE, station="stn_van", key=Ed25519PrivateKey.generate()
    ),
    "a demo station in a live gallery": lambda trio: trio.enrol_request(FACE, gallery=LIVE),
    "another face than was signed": lambda trio: EnrolRequest(
        *(lambda one: (one.payload, one.signature, trio.enrol_request(FACE).sealed))(trio.enrol_request(FACE))
    ),
}


@pytest.mark.parametrize("attempt", NOT_A_STATIONS)
def test_nothing_is_compared_for(trio: Trio, attempt: str) -> None:
    async def scene(guardians: Guardians) -> None:
        with pytest.raises(RequestRefused) as caught:
            await check(trio, guardians, NOT_A_STATIONS[attempt](trio))
        assert caught.value.reason in {
            "bad-signature",
            "unknown-station",
            "demo-key-on-live-gallery",
            "sealed-mismatch",
        }

    run(trio, scene)


def test_a_search_is_no_comparison_and_an_enrolment_is_no_search(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        search, enrolment = trio.search_request(FACE), trio.enrol_request(FACE)
        as_station = trio.search_request(FACE, key=trio.keys[DEMO_STATION])
        await refused("bad-signature", guardians.search(as_station, trio.version[DEMO], THRESHOLD))
        for path, request in (("checks", search), ("searches", enrolment)):
            bodies = [
                SearchCall(request.payload, request.signature, part, trio.version[DEMO], THRESHOLD).to_bytes()
                for part in request.sealed
            ]
            with pytest.raises(RequestRefused) as caught:
                await guardians._call_all(path, bodies, 10.0)
            assert caught.value.reason == "malformed-message"

    run(trio, scene)


def test_several_templates_at_once_are_not_compared(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        request = trio.enrol_request(np.stack([FACE, FACE]))
        await refused("not-openable", check(trio, guardians, request))

    run(trio, scene)


def test_the_comparison_is_in_all_three_public_logs_with_station_and_purpose(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        request = trio.enrol_request(synthetic_templates(1, seed=64)[0])
        await check(trio, guardians, request)
        fields = request.fields()
        entry = entry_of_search(
            terminal=DEMO_STATION,
            purpose="enrolment",
            issued_at=fields.issued_at,
            gallery=DEMO,
            query_id=fields.enrolment_id,
            request_sha256=sha256(request.payload),
        ).to_bytes()
        for index in range(3):
            with (trio.folder(index) / "log" / "entries").open("rb") as file:
                assert list(read_frames(file))[-1] == entry
        assert Entry.from_bytes(entry).purpose == "enrolment"

    run(trio, scene)


def test_a_station_that_asks_without_enrolling_gets_no_more_answers_also_after_a_restart(tmp_path: Path) -> None:
    limits = Limits(unfinished_checks=2, station_rate=1, station_burst=100)
    with three_guardians(tmp_path, limits) as trio:

        async def scene(guardians: Guardians) -> None:
            requests = [trio.enrol_request(face) for face in synthetic_templates(8, seed=65)]
            for _ in range(3):  # no answer, so it is not counted
                with pytest.raises(StaleGallery):
                    await guardians.check(trio.enrol_request(FACE), trio.version[DEMO] + 1, THRESHOLD)
            for request in requests[:2]:
                await check(trio, guardians, request)
            await refused("rate-limited", check(trio, guardians, requests[2]))
            trio.stop(0, 1, 2)
            for index in range(3):
                trio.start(index)
            await trio.ready()
            await refused("rate-limited", check(trio, guardians, requests[3]))
            await enrolled(trio, guardians, requests[0])
            await check(trio, guardians, requests[4])
            await refused("rate-limited", check(trio, guardians, requests[5]))

        run(trio, scene)


def test_a_station_that_enrols_too_often_is_refused_before_anything_is_compared(tmp_path: Path) -> None:
    with three_guardians(tmp_path, Limits(station_rate=0.01, station_burst=2)) as trio:

        async def scene(guardians: Guardians) -> None:
            first, second, third, fourth = (trio.enrol_request(face) for face in synthetic_templates(4, seed=66))
            await check(trio, guardians, first)
            await enrolled(trio, guardians, first)
            await enrolled(trio, guardians, second)
            await refused("rate-limited", check(trio, guardians, third))
            await refused("rate-limited", enrolled(trio, guardians, fourth))
            assert trio.rows[DEMO] == 2

        run(trio, scene)

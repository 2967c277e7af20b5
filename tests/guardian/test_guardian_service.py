"""Three real guardians, over real TLS: what they answer and what they refuse."""

import asyncio
import sqlite3
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
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
    D,
    Trio,
    run,
    synthetic_templates,
    three_guardians,
)

from facefare.guardian.ceremony import Folder, create_relay
from facefare.guardian.messages import EnrolRequest, RowCall, SearchRequest, Status
from facefare.guardian.policy import Limits
from facefare.guardian.registry import Registry, Terminal
from facefare.guardian.request_log import RequestLog
from facefare.identification.errors import (
    GuardianUnavailable,
    IdentificationError,
    RequestRefused,
    StaleGallery,
)
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Match, NoMatch, Several


def test_answers_none_one_and_several(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        known, unknown, twin = synthetic_templates(3, seed=11)
        (confirmation, *_) = await trio.enrol(guardians, known)
        row = confirmation.fields.row
        assert await trio.search(guardians, known + 0.01 * unknown) == Match(row)
        assert await trio.search(guardians, unknown) == NoMatch()
        await trio.enrol(guardians, np.stack([twin, twin]))
        assert await trio.search(guardians, twin) == Several()

    run(trio, scene)


def test_searches_that_arrive_together_are_answered_each_by_its_own_answer(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        people = synthetic_templates(12, seed=12)
        (confirmation, *_) = await trio.enrol(guardians, people[:8])
        first = confirmation.fields.row
        answers = await asyncio.gather(*(trio.search(guardians, person) for person in people))
        assert answers == [Match(first + n) for n in range(8)] + [NoMatch()] * 4

    run(trio, scene)


def test_a_deleted_payer_is_a_stranger_and_the_deletion_is_signed_by_all_three(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=13)
        (confirmation, *_) = await trio.enrol(guardians, person)
        row = confirmation.fields.row
        deleted = await guardians.delete(DEMO, row, trio.version[DEMO])
        assert [word.fields.guardian for word in deleted] == [0, 1, 2]
        again = await guardians.delete(DEMO, row, trio.version[DEMO])
        assert [w.fields for w in again] == [w.fields for w in deleted]
        trio.follow(deleted)
        assert await trio.search(guardians, person) == NoMatch()
        with pytest.raises(RequestRefused) as refused:
            await guardians.resume(DEMO, row, trio.version[DEMO])
        assert refused.value.reason == "row-not-enrolled"

    run(trio, scene)


def test_a_paused_payer_matches_again_only_when_resumed(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=14)
        (confirmation, *_) = await trio.enrol(guardians, person)
        row = confirmation.fields.row
        trio.follow(await guardians.pause(DEMO, row, trio.version[DEMO]))
        assert await trio.search(guardians, person) == NoMatch()
        trio.follow(await guardians.resume(DEMO, row, trio.version[DEMO]))
        assert await trio.search(guardians, person) == Match(row)

    run(trio, scene)


def test_the_same_enrolment_sent_again_enrols_once(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=15)
        request = trio.enrol_request(person)
        row, version = trio.rows[DEMO], trio.version[DEMO]
        first = await guardians.enrol(request, row, version)
        second = await guardians.enrol(request, row, version)
        assert [w.fields for w in first] == [w.fields for w in second]
        trio.follow(first)
        assert await trio.search(guardians, person) == Match(row)
        with pytest.raises(RequestRefused) as refused:
            await guardians.enrol(trio.enrol_request(person), row, trio.version[DEMO])
        assert refused.value.reason == "row-taken"

    run(trio, scene)


def altered(request: SearchRequest, **changes: object) -> SearchRequest:
    return SearchRequest(**{**request.__dict__, **changes})


BAD_SEARCHES: dict[str, Callable[[Trio, np.ndarray], SearchRequest]] = {
    "bad-signature": lambda trio, face: altered(trio.search_request(face), signature=bytes(64)),
    "unknown-terminal": lambda trio, face: trio.search_request(face, terminal="trm_nobody"),
    "unknown-gallery": lambda trio, face: trio.search_request(face, gallery="gal_nowhere"),
    "stale-request": lambda trio, face: trio.search_request(face, now=datetime.now(UTC) - timedelta(hours=1)),
    "sealed-mismatch": lambda trio, face: altered(trio.search_request(face), sealed=trio.search_request(face).sealed),
}


@pytest.mark.parametrize("reason", BAD_SEARCHES)
def test_a_bad_search_is_refused_with_its_reason(trio: Trio, reason: str) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=16)
        request = BAD_SEARCHES[reason](trio, face)
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(request, trio.version[DEMO], THRESHOLD)
        assert refused.value.reason == reason
        assert await trio.search(guardians, face) == NoMatch()

    run(trio, scene)


def test_a_replayed_search_is_never_answered_twice_not_even_after_a_restart(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=17)
        request = trio.search_request(face)
        assert await guardians.search(request, trio.version[DEMO], THRESHOLD) == NoMatch()
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(request, trio.version[DEMO], THRESHOLD)
        assert refused.value.reason == "replayed"
        trio.stop(0, 1, 2)
        for index in range(3):
            trio.start(index)
        await trio.ready()
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(request, trio.version[DEMO], THRESHOLD)
        assert refused.value.reason == "replayed"

    run(trio, scene)


def test_a_search_based_on_another_gallery_version_is_refused(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=18)
        with pytest.raises(StaleGallery):
            await guardians.search(trio.search_request(face), trio.version[DEMO] + 1, THRESHOLD)

    run(trio, scene)


def test_a_threshold_outside_the_gallerys_range_is_refused(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=19)
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(trio.search_request(face), trio.version[DEMO], -4001)
        assert refused.value.reason == "threshold-out-of-range"

    run(trio, scene)


def test_a_demo_stations_key_is_refused_on_a_live_gallery(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=20)
        request = trio.enrol_request(face, gallery=LIVE)
        with pytest.raises(RequestRefused) as refused:
            await guardians.enrol(request, 0, trio.version[LIVE])
        assert refused.value.reason == "demo-key-on-live-gallery"
        proper = trio.enrol_request(face, gallery=LIVE, station=STATION, key=trio.keys[STATION])
        trio.follow(await guardians.enrol(proper, trio.rows[LIVE], trio.version[LIVE]))
        forged = trio.enrol_request(face, gallery=LIVE, station=STATION, key=trio.keys[DEMO_STATION])
        with pytest.raises(RequestRefused) as refused:
            await guardians.enrol(forged, trio.rows[LIVE], trio.version[LIVE])
        assert refused.value.reason == "bad-signature"

    run(trio, scene)


def test_an_enrolment_shifted_to_look_like_another_is_refused(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=21)
        request = trio.enrol_request(face)
        swapped = EnrolRequest(request.payload, request.signature, request.sealed[::-1])  # type: ignore[arg-type]
        with pytest.raises(RequestRefused) as refused:
            await guardians.enrol(swapped, trio.rows[DEMO], trio.version[DEMO])
        assert refused.value.reason == "sealed-mismatch"

    run(trio, scene)


def test_one_guardian_that_does_not_know_the_terminal_is_enough_to_refuse(trio: Trio) -> None:
    key = Ed25519PrivateKey.generate()
    for index in (0, 2):
        registry = Registry(Folder(trio.folder(index)).shares)
        registry.add_terminal(Terminal("trm_new", key.public_key().public_bytes_raw(), (DEMO,)))
        registry.close()

    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=22)
        request = trio.search_request(face, terminal="trm_new", key=key)
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(request, trio.version[DEMO], THRESHOLD)
        assert (refused.value.reason, refused.value.guardian) == ("unknown-terminal", 1)

    run(trio, scene)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_killed_guardian_is_a_clear_error_and_comes_back_by_itself(trio: Trio, index: int) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=30 + index)
        (confirmation, *_) = await trio.enrol(guardians, person)
        trio.stop(index)
        with pytest.raises(GuardianUnavailable) as gone:
            await trio.search(guardians, person)
        assert gone.value.index == index
        statuses = await guardians.status()
        assert statuses[index] is None
        trio.start(index)
        await trio.ready()
        assert await trio.search(guardians, person) == Match(confirmation.fields.row)

    run(trio, scene)


def test_the_request_logs_hold_terminal_time_purpose_and_a_hash_and_nothing_else(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        await trio.search(guardians, synthetic_templates(1, seed=40)[0])

    run(trio, scene)
    for index in range(3):
        log = RequestLog(Folder(trio.folder(index)).requests)
        entry = log.since(0)[-1]
        log.close()
        assert (entry.asker, entry.purpose) == (TERMINAL, "payment")
        assert len(entry.leaf()) < 100


def test_no_guardians_folder_holds_the_template_or_what_it_received_in_the_clear(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        (person,) = synthetic_templates(1, seed=41)
        await trio.enrol(guardians, person)

    run(trio, scene)
    shares = []
    for index in range(3):
        database = sqlite3.connect(Folder(trio.folder(index)).shares)
        rows = [
            np.frombuffer(blob, np.uint16).reshape(-1, D + 2)[: trio.rows[DEMO]]
            for (blob,) in database.execute("SELECT shares FROM chunk_shares ORDER BY id")
        ]
        database.close()
        shares.append(max(rows, key=len))
    for share in shares:
        # Values of a template are small; of a share every bit of 16 is as often set as not.
        bits = np.unpackbits(share[:, :D].copy().view(np.uint8)).mean()
        assert abs(bits - 0.5) < 0.02


def test_only_a_registered_relay_may_call(trio: Trio) -> None:
    stranger = trio.base / "stranger"
    create_relay(stranger, "stranger")

    async def scene(_: Guardians) -> None:
        async with Guardians(
            trio.identities, certificate=stranger / "relay.pem", key=stranger / "relay-key.pem"
        ) as other:
            with pytest.raises(GuardianUnavailable):
                await other.delete(DEMO, 0, trio.version[DEMO])

    run(trio, scene)


def test_a_guardians_own_certificate_reads_status_and_metrics_and_changes_nothing(trio: Trio) -> None:
    folder = Folder(trio.folder(0))
    context = ssl.create_default_context(cafile=folder.certificate)
    context.load_cert_chain(folder.certificate, folder.tls_key)
    url = f"https://127.0.0.1:{folder.identity.http_port}"
    with httpx.Client(verify=context) as client:
        assert Status.from_bytes(client.get(f"{url}/v1/status").content).connected
        assert client.get(f"{url}/readyz").status_code == 200
        assert client.get(f"{url}/healthz").status_code == 200
        metrics = client.get(f"{url}/metrics").text
        assert "facefare_guardian_requests_total" in metrics
        assert TERMINAL not in metrics
        answer = client.post(f"{url}/v1/deletions", content=RowCall(DEMO, 0, 0).to_bytes())
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"


def test_garbage_is_answered_with_a_problem_and_the_service_goes_on(trio: Trio) -> None:
    relay = trio.base / "relay"

    async def scene(guardians: Guardians) -> None:
        identity = trio.identities[0]
        context = ssl.create_default_context(cafile=Folder(trio.folder(0)).certificate)
        context.load_cert_chain(relay / "relay.pem", relay / "relay-key.pem")
        async with httpx.AsyncClient(verify=context) as client:
            for body in (b"", b"\xff", bytes(100_000), b"\xa1\x61a\x01"):
                answer = await client.post(f"https://127.0.0.1:{identity.http_port}/v1/searches", content=body)
                assert answer.status_code == 400
                assert answer.json()["type"].endswith("malformed-message")
        assert await trio.search(guardians, synthetic_templates(1, seed=42)[0]) == NoMatch()

    run(trio, scene)


def test_a_template_that_no_gallery_allows_is_refused_by_the_protocol(trio: Trio) -> None:
    calibration = trio.calibration
    lax = type(calibration)(calibration.model, calibration.mean, 40.0, 1, 8191, calibration.thresholds)

    async def scene(guardians: Guardians) -> None:
        (face,) = synthetic_templates(1, seed=43)
        honest, trio.calibration = trio.calibration, lax
        try:
            # A scale of 40 keeps the squared norm near 270; nearer to the centre it falls below the rule.
            near = trio.calibration.mean / np.linalg.norm(trio.calibration.mean)
            request = trio.search_request(near + 0.05 * face)
            enrolment = trio.enrol_request(near + 0.05 * face)
        finally:
            trio.calibration = honest
        with pytest.raises(RequestRefused) as refused:
            await guardians.search(request, trio.version[DEMO], THRESHOLD)
        assert refused.value.reason == "not-well-formed"
        with pytest.raises(RequestRefused) as refused:
            await guardians.enrol(enrolment, trio.rows[DEMO], trio.version[DEMO])
        assert refused.value.reason == "not-well-formed"

    run(trio, scene)


def test_logs_hold_no_secret_and_no_id_of_a_person(trio: Trio) -> None:
    for index in range(3):
        text = trio.log(index)
        assert "Traceback" not in text
        assert "shares" not in text
        assert TERMINAL not in text


def test_ten_thousand_strangers_are_enrolled_and_searched(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        await trio.enrol_many(guardians, 10_000)
        (person, stranger) = synthetic_templates(2, seed=50)
        (confirmation, *_) = await trio.enrol(guardians, person)
        assert await trio.search(guardians, person) == Match(confirmation.fields.row)
        assert await trio.search(guardians, stranger) == NoMatch()

    run(trio, scene)


@pytest.mark.parametrize("limits", [Limits(terminal_rate=0.01, terminal_burst=2), Limits(terminal_daily=2)])
def test_a_terminal_that_asks_too_often_is_refused_also_across_a_restart(tmp_path: Path, limits: Limits) -> None:
    with three_guardians(tmp_path, limits) as trio:

        async def scene(guardians: Guardians) -> None:
            (face,) = synthetic_templates(1, seed=44)
            for _ in range(2):
                assert await trio.search(guardians, face) == NoMatch()
            for attempt in range(2):
                with pytest.raises(RequestRefused) as refused:
                    await trio.search(guardians, face)
                assert refused.value.reason == "rate-limited"
                if attempt == 0:
                    trio.stop(0, 1, 2)
                    for index in range(3):
                        trio.start(index)
                    await trio.ready()

        run(trio, scene)


def test_every_failure_is_an_error_of_this_room() -> None:
    assert issubclass(StaleGallery, RequestRefused)
    assert issubclass(GuardianUnavailable, IdentificationError)

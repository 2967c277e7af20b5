"""Payers' accumulators: a wallet that identified someone and kept silent is caught; nobody else learns anything."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from three_guardians import DEMO, Trio, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.audit.commands import app as audit
from facefare.audit.errors import OpeningError
from facefare.audit.notes import KeyKind, NoteKey, NoteSigner
from facefare.audit.openings import Components, Opened, Opening, SealedPart
from facefare.audit.own_log import Access, Before, Comparison, Shown, compare, remember
from facefare.guardian.accumulators import Accumulators
from facefare.guardian.ceremony import write_trust
from facefare.guardian.commands import app as operator
from facefare.guardian.errors import Refused
from facefare.guardian.messages import OpenRequest, sha256
from facefare.guardian.openings import Openings
from facefare.guardian.policy import Limits
from facefare.identification.errors import IdentificationError, RequestRefused
from facefare.identification.relay import Guardians
from facefare.identification.requests import prepare_opening
from facefare.mpc.answers import Match, NoMatch


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    with three_guardians(tmp_path_factory.mktemp("openings")) as running:
        yield running


class Payer:
    """A payer with a key of their own, and what an honest wallet would show them."""

    def __init__(self, trio: Trio, seed: int) -> None:
        self.trio = trio
        (self.face,) = synthetic_templates(1, seed=seed)
        self.key = Ed25519PrivateKey.generate()
        self.accesses: list[Access] = []
        self.row = -1

    async def enrol(self, guardians: Guardians) -> None:
        request = self.trio.enrol_request(self.face, payer_key=self.key.public_key().public_bytes_raw())
        done = await guardians.enrol(request, self.trio.rows[DEMO], self.trio.version[DEMO])
        self.trio.follow(done)
        self.row = done[0].fields.row

    async def pay(self, guardians: Guardians) -> None:
        request = self.trio.search_request(self.face)
        answer = await guardians.search(request, self.trio.version[DEMO], -2000)
        assert answer == Match(self.row)
        fields = request.fields()
        access = Access(fields.issued_at, answer.tag, fields.terminal, DEMO, fields.query_id, sha256(request.payload))
        self.accesses.append(access)

    async def open(self, guardians: Guardians) -> Opened:
        return read(self.trio, await self.asked(guardians))

    async def asked(self, guardians: Guardians) -> Opening:
        request, recipient = prepare_opening(DEMO, self.row, key=self.key, now=datetime.now(UTC))
        parts = tuple(SealedPart(one.sealed, one.signature) for one in await guardians.open_row(request))
        return Opening(DEMO, request.fields().opening_id, recipient, parts)


def read(trio: Trio, opening: Opening) -> Opened:
    return opening.read([NoteKey.parse(identity.log_key) for identity in trio.identities])


def test_a_wallet_that_identified_a_payer_and_kept_silent_is_caught(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        one, other = Payer(trio, 300), Payer(trio, 301)
        for payer in (one, other):
            await payer.enrol(guardians)
        stranger = synthetic_templates(1, seed=302)[0]
        for _ in range(3):
            await one.pay(guardians)
            await other.pay(guardians)
            assert await trio.search(guardians, stranger) == NoMatch()
        for payer in (one, other):
            result = compare(await payer.open(guardians), Shown(tuple(payer.accesses)))
            assert (result.complete, result.compared) == (True, 3)
        opened = await one.open(guardians)
        for hidden in range(3):
            shown = Shown(tuple(access for n, access in enumerate(one.accesses) if n != hidden))
            result = compare(opened, shown)
            assert not result.complete
            assert result.unexplained == one.accesses[hidden].tag
        invented = Shown((*one.accesses, other.accesses[0]))
        assert not compare(opened, invented).complete

    run(trio, scene)


def test_the_payers_own_command_says_complete_or_not(trio: Trio, tmp_path) -> None:
    payer, opening = Payer(trio, 310), []
    write_trust(tmp_path / "trust", trio.identities)

    async def scene(guardians: Guardians) -> None:
        await payer.enrol(guardians)
        await payer.pay(guardians)
        await payer.pay(guardians)
        opening.append(await payer.asked(guardians))

    run(trio, scene)

    def check(accesses: list[Access]) -> tuple[int, str]:
        shown = [
            {
                "at": access.at,
                "tag": f"{access.tag:016x}",
                "terminal": access.terminal,
                "gallery": access.gallery,
                "query_id": access.query_id.hex(),
                "request_sha256": access.request_sha256.hex(),
                "purpose": access.purpose,
            }
            for access in accesses
        ]
        document = {"accesses": shown, "lost": [], **opening[0].fields()}
        (tmp_path / "own-log.json").write_text(json.dumps(document))
        for guardian in range(3):
            (tmp_path / str(guardian)).mkdir(exist_ok=True)
            entries = (trio.folder(guardian) / "log" / "entries").read_bytes()
            (tmp_path / str(guardian) / "entries").write_bytes(entries)
        (tmp_path / "last-comparison.json").unlink(missing_ok=True)
        result = CliRunner().invoke(
            audit, ["my-log", str(tmp_path), "--trust", str(tmp_path / "trust"), "--logs", str(tmp_path)]
        )
        return result.exit_code, result.output

    assert check(payer.accesses)[0] == 0
    code, output = check(payer.accesses[1:])
    assert code == 1
    assert "INCOMPLETE" in output
    code, output = check([payer.accesses[0], replace(payer.accesses[1], at=payer.accesses[1].at - 1)])
    assert code == 1
    assert "NOT IN EVERY LOG" in output


def test_only_the_rows_own_payer_may_have_it_opened_and_only_that_payer_can_read_it(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        payer, thief = Payer(trio, 320), Payer(trio, 321)
        await payer.enrol(guardians)
        await thief.enrol(guardians)
        await payer.pay(guardians)
        now = datetime.now(UTC)
        request, _ = prepare_opening(DEMO, payer.row, key=thief.key, now=now)
        with pytest.raises(RequestRefused, match="own payer"):
            await guardians.open_row(request)
        opening = await payer.asked(guardians)
        with pytest.raises(OpeningError, match="can't be opened with this key"):
            read(trio, replace(opening, key=X25519PrivateKey.generate()))
        with pytest.raises(OpeningError, match="not signed"):
            read(trio, replace(opening, parts=opening.parts[::-1]))
        without_key = await trio.enrol(guardians, synthetic_templates(1, seed=322)[0])
        request, _ = prepare_opening(DEMO, without_key[0].fields.row, key=payer.key, now=now)
        with pytest.raises(RequestRefused):
            await guardians.open_row(request)
        altered = OpenRequest(request.payload, bytes(64))
        with pytest.raises(RequestRefused):
            await guardians.open_row(altered)
        trio.follow(await guardians.delete(DEMO, payer.row, trio.version[DEMO]))
        request, _ = prepare_opening(DEMO, payer.row, key=payer.key, now=datetime.now(UTC))
        with pytest.raises(RequestRefused):
            await guardians.open_row(request)

    run(trio, scene)


def test_a_wallet_that_makes_up_what_the_guardians_opened_is_caught(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 325)
        await payer.enrol(guardians)
        await payer.pay(guardians)
        await payer.pay(guardians)
        shown = Shown(tuple(payer.accesses[:1]))  # it keeps silent about the second, and knows the one-time key
        opening = await payer.asked(guardians)
        words = (1, 2, shown.accesses[0].tag ^ 1 ^ 2)
        liar = NoteSigner("wallet.example", KeyKind.LOG, Ed25519PrivateKey.generate())
        made_up = tuple(
            Components(n, 1, 0, 9, words[n], words[(n + 1) % 3]).give(
                opening.key.public_key().public_bytes_raw(), DEMO, opening.opening_id, liar
            )
            for n in range(3)
        )
        forged = replace(opening, parts=made_up)
        assert compare(forged.read([liar.key] * 3), shown).complete, "it would fit"
        with pytest.raises(OpeningError, match="made up"):
            read(trio, forged)
        earlier = await payer.asked(guardians)
        with pytest.raises(OpeningError, match="made up"):
            read(trio, replace(opening, parts=earlier.parts))

    run(trio, scene)


MINUTE = 60_000
START = 1_790_000_000_000


@pytest.fixture
def ask():
    """`ask(openings, row, now)`: a payer asks for a row; which of two payers it is, `row` says."""
    key = Ed25519PrivateKey.generate()

    def asked(openings: Openings, row: int, now: int, *, signer: Ed25519PrivateKey = key) -> str:
        request, _ = prepare_opening(DEMO, row, key=signer, now=datetime.fromtimestamp(now / 1000, UTC))
        try:
            openings.judge(request, key.public_key().public_bytes_raw(), now)
        except Refused as refused:
            return refused.code.value
        return "opened"

    return asked


def test_a_row_is_opened_a_few_times_in_a_minute_and_no_other_payer_waits_for_it(ask) -> None:
    openings, now = Openings(Limits(), START), START + 10 * MINUTE
    assert [ask(openings, 1, now) for _ in range(6)] == ["opened"] * 5 + ["rate-limited"]
    assert ask(openings, 2, now) == "opened"
    assert ask(openings, 1, now + 9_000) == "rate-limited"
    assert ask(openings, 1, now + 10_000) == "opened"
    assert [ask(openings, 1, now + MINUTE * 2) for _ in range(6)] == ["opened"] * 5 + ["rate-limited"], (
        "no more than that"
    )


def test_after_a_restart_openings_begin_at_none(ask) -> None:
    openings = Openings(Limits(), START)
    assert ask(openings, 1, START) == "rate-limited"
    assert [ask(openings, 1, START + 10_000) for _ in range(2)] == ["opened", "rate-limited"]


def test_what_others_sign_uses_up_nobodys_openings(ask) -> None:
    openings, now, thief = Openings(Limits(), START), START + 10 * MINUTE, Ed25519PrivateKey.generate()
    assert {ask(openings, 1, now, signer=thief) for _ in range(100)} == {"bad-signature"}
    assert [ask(openings, 1, now) for _ in range(5)] == ["opened"] * 5


def test_all_openings_together_are_limited_however_many_rows_ask(ask) -> None:
    openings, now = Openings(Limits(openings_rate=1.0, openings_burst=20.0), START), START + 10 * MINUTE
    assert [ask(openings, row, now) for row in range(25)] == ["opened"] * 20 + ["rate-limited"] * 5


def test_rows_that_rested_are_forgotten(ask) -> None:
    openings, now = Openings(Limits(openings_rate=500, openings_burst=500), START), START + 10 * MINUTE
    for row in range(100):
        ask(openings, row, now + row)
    ask(openings, 1000, now + MINUTE)
    assert len(openings._rows) == 1


def test_two_guardians_hold_noise_for_every_row_whether_it_was_identified_or_not(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 330)
        await payer.enrol(guardians)
        for _ in range(4):
            await payer.pay(guardians)
        states = [np.fromfile(trio.folder(n) / "sums" / f"{DEMO}.sums", np.uint64) for n in range(3)]
        for state in states:
            active = int(state[2])
            own, following = state[512:].reshape(2, 2, int(state[1]))[active, :, : trio.rows[DEMO]]
            assert len(np.unique(own)) > len(own) - 3, "a word for each row, all different: one guardian sees no row"
            assert len(np.unique(own ^ following)) > len(own) - 3

    run(trio, scene)


_DIE = """
import os
from facefare.guardian.accumulators import Accumulators
from facefare.guardian.ceremony import write_trust
from facefare.guardian.commands import app as operator
{point} = Accumulators.{point}
calls = []
def die(*arguments):
    result = {point}(*arguments)
    calls.append(1)
    if len(calls) == 2:
        os._exit(9)
    return result
Accumulators.{point} = die
"""


@pytest.mark.parametrize(("index", "point"), [(0, "keep"), (1, "begin"), (2, "keep"), (0, "begin")])
def test_dying_in_the_middle_of_a_search_keeps_all_payers_logs_intact(trio: Trio, index: int, point: str) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 340 + 10 * index + (point == "keep"))
        await payer.enrol(guardians)
        await payer.pay(guardians)
        before = await payer.open(guardians)
        trio.stop(index)
        trio.start(index, _DIE.format(point=point))
        await trio.ready()
        await payer.pay(guardians)
        with pytest.raises(IdentificationError) as failed:
            await payer.pay(guardians)
        process = trio.processes[index]
        assert process is not None
        assert process.wait(timeout=20) == 9
        trio.start(index)
        await trio.ready()
        await payer.pay(guardians)
        opened = await payer.open(guardians)
        assert opened.era == before.era, "nothing was lost"
        lost = () if failed.value.lost_tag is None else (failed.value.lost_tag,)
        result = compare(opened, Shown(tuple(payer.accesses), lost))
        assert result.complete, "taken back by those who had taken it in, or known to the wallet as lost on the way"
        assert bool(result.lost) == (point == "keep"), "all three had taken it in"

    run(trio, scene)


_DIE_IN_REFRESH = """
import os
from facefare.mpc.party import Party
refresh = Party.refresh_sums
def die(*arguments):
    if {late}:
        refresh(*arguments)
    os._exit(9)
Party.refresh_sums = die
"""


def sums_of(trio: Trio, index: int) -> np.ndarray:
    words = np.fromfile(trio.folder(index) / "sums" / f"{DEMO}.sums", np.uint64)
    return words[512:].reshape(2, 2, int(words[1]))[int(words[2]), :, : trio.rows[DEMO]]


def test_a_refresh_replaces_the_accumulators_shares_too_and_payers_logs_stay_complete(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 380)
        await payer.enrol(guardians)
        await payer.pay(guardians)
        before, era = [sums_of(trio, n).copy() for n in range(3)], (await payer.open(guardians)).era
        done = await asyncio.to_thread(CliRunner().invoke, operator, ["refresh", str(trio.folder(1))])
        assert done.exit_code == 0, done.output
        for old, new in zip(before, [sums_of(trio, n) for n in range(3)], strict=True):
            assert not (old == new).any(), "nothing in common with what a thief took before"
        await payer.pay(guardians)
        opened = await payer.open(guardians)
        assert opened.era == era
        assert compare(opened, Shown(tuple(payer.accesses), ())).complete

    run(trio, scene)


@pytest.mark.parametrize(("index", "late"), [(0, False), (1, True), (2, False)])
def test_dying_in_the_middle_of_their_refresh_keeps_all_payers_logs_intact(trio: Trio, index: int, late: bool) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 400 + index)
        await payer.enrol(guardians)
        await payer.pay(guardians)
        era = (await payer.open(guardians)).era
        trio.stop(index)
        trio.start(index, _DIE_IN_REFRESH.format(late=late))
        await trio.ready()
        CliRunner().invoke(operator, ["refresh", str(trio.folder(0)), "--no-wait"])
        process = trio.processes[index]
        assert process is not None
        assert await asyncio.to_thread(process.wait, 20) == 9
        trio.start(index)
        await trio.ready()
        await payer.pay(guardians)
        opened = await payer.open(guardians)
        assert opened.era == era
        assert compare(opened, Shown(tuple(payer.accesses), ())).complete

    run(trio, scene)


def test_a_lost_stretch_is_stated_and_what_comes_after_it_is_complete(trio: Trio) -> None:
    async def scene(guardians: Guardians) -> None:
        payer = Payer(trio, 390)
        await payer.enrol(guardians)
        await payer.pay(guardians)
        before = await payer.open(guardians)
        trio.stop(1)
        (trio.folder(1) / "sums" / f"{DEMO}.sums").unlink()
        trio.start(1)
        await trio.ready()
        after = await payer.open(guardians)
        assert after.era > before.era
        assert abs(after.since - time.time() * 1000) < 120_000
        payer.accesses = []  # from before `since`, if the clock says so; the next ones count
        await payer.pay(guardians)
        assert compare(await payer.open(guardians), Shown(tuple(payer.accesses))).complete

    run(trio, scene)


def test_an_answer_that_was_lost_on_the_way_explains_a_difference_but_only_if_the_wallet_named_it() -> None:
    def access(at: int, tag: int) -> Access:
        return Access(at, tag, "trm_a", "gal_a", bytes(16), bytes(32))

    shown = tuple(access(1000 * n, 7919**n) for n in range(1, 5))
    value = 0
    for one in shown:
        value ^= one.tag
    opened = Opened(value ^ 0xABCDEF, 1, 0)
    assert not compare(opened, Shown(shown)).complete
    result = compare(opened, Shown(shown, lost=(5, 0xABCDEF)))
    assert (result.complete, result.lost) == (True, (0xABCDEF,))
    assert compare(Opened(shown[3].tag, 1, 0), Shown(shown[3:])).complete


def test_what_was_compared_once_must_stay_and_only_the_rest_is_compared_again() -> None:
    def access(at: int) -> Access:
        return Access(at, at * 7919, "trm_a", "gal_a", bytes(16), bytes(32))

    shown, lost = Shown(tuple(access(at) for at in (1, 2, 3)), lost=(0xABCDEF,)), 0xABCDEF
    opened = Opened(shown.accesses[0].tag ^ shown.accesses[1].tag ^ shown.accesses[2].tag ^ lost, 1, 0)
    first = compare(opened, shown)
    assert (first.complete, first.compared, first.lost) == (True, 3, (lost,))
    before = Before.from_json(remember(opened, shown, first, None).to_json())
    later = Shown((*shown.accesses, access(4)), lost=shown.lost)
    then = Opened(opened.value ^ access(4).tag, 1, 0)
    assert compare(then, later, before) == Comparison(True, 1, (), 0, 0)
    assert not compare(then, shown, before).complete
    taken_out = compare(then, Shown(later.accesses[1:], shown.lost), before)
    assert (taken_out.complete, taken_out.gone) == (False, 1)
    twice = Opened(then.value ^ lost, 1, 0)
    assert not compare(twice, later, before).complete, "a lost answer explains one difference, not two"
    new_era = compare(Opened(access(4).tag, 2, 4), later, before)
    assert (new_era.complete, new_era.compared) == (True, 1), "what came before the era counts no more"


def test_accesses_around_the_start_of_an_era_may_count_or_not() -> None:
    def access(at: int) -> Access:
        return Access(at, at * 7919, "trm_a", "gal_a", bytes(16), bytes(32))

    shown = Shown(tuple(access(at) for at in (1_000, 990_000, 995_000, 1_010_000)))
    since = 1_000_000
    for counted in ((1_010_000,), (995_000, 1_010_000), (990_000, 995_000, 1_010_000)):
        value = 0
        for at in counted:
            value ^= at * 7919
        assert compare(Opened(value, 1, since), shown).complete
    assert not compare(Opened(990_000 * 7919 ^ 1_010_000 * 7919, 1, since), shown).complete


def test_accumulators_survive_growth_undo_and_reopening(tmp_path) -> None:
    path = tmp_path / "sums" / "gal_a.sums"
    sums = Accumulators(path)
    state = sums.begin(10)
    state[:, 3] = (5, 6)
    sums.keep()
    first = sums.position
    state = sums.begin(10)
    state[:, 3] ^= np.uint64(1)
    assert sums.components(3) == (5, 6), "not before keep"
    sums.keep()
    assert sums.components(3) == (4, 7)
    sums.undo()
    assert sums.components(3) == (5, 6)
    assert sums.position.taken == first.taken
    assert not sums.position.undoable
    sums.prepare()
    assert sums.components(3) == (5, 6)
    state = sums.begin(200_000)
    assert tuple(state[:, 3]) == (5, 6)
    sums.begin(200_000)[:, 150_000] = (8, 9)
    sums.keep()
    sums.prepare()
    assert not sums.position.undoable, "the others have it"
    sums.begin(200_000)[:, 150_000] ^= np.uint64(99)
    sums.begin(200_000)
    sums.keep()
    again = Accumulators(path)
    assert again.components(150_000) == (8, 9)
    assert again.components(10**9) == (0, 0)
    again.clear(np.array([3]))
    assert again.components(3) == (0, 0)
    again._header[7] = 12345  # another boot's, not closed: power was lost
    assert Accumulators(path).position.era == 0

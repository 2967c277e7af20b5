"""Rotation of a guardian's keys: announced under the old ones, both valid for a while, never half done."""

import asyncio
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from three_guardians import DEMO, THRESHOLD, Trio, run, synthetic_templates, three_guardians
from typer.testing import CliRunner

from facefare.guardian import ceremony
from facefare.guardian.ceremony import Folder
from facefare.guardian.commands import app
from facefare.guardian.errors import CeremonyError, MessageError
from facefare.guardian.identity import GuardianIdentity
from facefare.identification.errors import IdentificationError
from facefare.identification.relay import Guardians
from facefare.mpc.answers import Match

PEOPLE = synthetic_templates(3, seed=31)


def facefare_guardian(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def restart(trio: Trio, *indices: int) -> None:
    trio.stop(*indices)
    for index in indices:
        trio.start(index)
    asyncio.run(trio.ready())


def searched(trio: Trio, sealed_to: list[GuardianIdentity]) -> object:
    """Ask as a terminal that knows these identities; the answer, or the error."""
    outcome: list[object] = []

    async def scene(guardians: Guardians) -> None:
        relayed, trio.identities = trio.identities, sealed_to
        request = trio.search_request(PEOPLE[1])
        trio.identities = relayed
        try:
            outcome.append(await guardians.search(request, trio.version[DEMO], THRESHOLD))
        except IdentificationError as error:
            outcome.append(error)

    run(trio, scene)
    return outcome[0]


def test_keys_are_rotated_while_wallet_terminals_and_peers_follow_one_by_one(tmp_path: Path) -> None:
    with three_guardians(tmp_path) as trio:

        async def enrol(guardians: Guardians) -> None:
            await trio.enrol(guardians, PEOPLE)

        run(trio, enrol)
        before = list(trio.identities)
        facefare_guardian("rotate-keys", trio.folder(1))
        announced = Folder(trio.folder(1)).identity
        trio.stop(1)
        refused = CliRunner().invoke(app, ["rotate-keys", str(trio.folder(1)), "--change-over"])
        assert refused.exit_code == 1
        for peer in (0, 2):
            assert f"Guardian {peer}, Guardian {peer}, does not take the next keys." in refused.output
        assert Folder(trio.folder(1)).identity == announced, "a change-over that would lock it out is not begun"
        for peer in (0, 2):
            facefare_guardian("join", trio.folder(peer), trio.folder(1) / "identity.json")
        restart(trio, 0, 1, 2)
        assert searched(trio, before) == Match(1), "nothing has changed for anyone yet"
        assert searched(trio, [before[0], announced.successor, before[2]]) == Match(1)

        trio.identities[1] = announced  # the wallet has it
        trio.stop(1)
        facefare_guardian("rotate-keys", trio.folder(1), "--change-over")
        restart(trio, 1)
        after = Folder(trio.folder(1)).identity
        assert after == announced.successor
        assert (after.signing_key, after.certificate) != (before[1].signing_key, before[1].certificate)
        assert searched(trio, before) == Match(1), "a terminal that has not followed yet"
        assert searched(trio, [before[0], after, before[2]]) == Match(1)

        async def change(guardians: Guardians) -> None:
            done = await guardians.pause(DEMO, 0, trio.version[DEMO])
            after.check(done[1])
            trio.follow(done)

        run(trio, change)
        trio.identities[1] = after
        for peer in (0, 2):
            facefare_guardian("join", trio.folder(peer), trio.folder(1) / "identity.json")
        facefare_guardian("rotate-keys", trio.folder(1), "--forget")
        restart(trio, 0, 1, 2)
        assert searched(trio, [before[0], after, before[2]]) == Match(1)
        assert isinstance(searched(trio, before), IdentificationError), "the old sealing key is gone"
        log = (trio.folder(1) / "log" / "entries").read_bytes()
        assert log == (trio.folder(0) / "log" / "entries").read_bytes(), "the log goes on under its own key"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ceremony.init(tmp_path / "g", index=1, name="Bank", host="127.0.0.1", http_port=1, link_port=2)
    return tmp_path / "g"


@pytest.fixture
def peer(tmp_path: Path, folder: Path) -> Path:
    ceremony.init(tmp_path / "p", index=0, name="Council", host="127.0.0.1", http_port=3, link_port=4)
    ceremony.join(tmp_path / "p", Folder(folder).identity)
    return tmp_path / "p"


def test_a_succession_counts_only_under_the_present_signing_key_and_for_the_same_guardian(
    folder: Path, peer: Path, tmp_path: Path
) -> None:
    identity, own = Folder(folder).identity, Folder(folder).signing_key()
    other = ceremony.init(tmp_path / "o", index=1, name="Bank", host="127.0.0.1", http_port=1, link_port=2)
    same_log = dataclasses.replace(other, log_key=identity.log_key, witness_key=identity.witness_key)
    forged = identity.announce(same_log, Ed25519PrivateKey.generate())
    with pytest.raises(MessageError):
        GuardianIdentity.from_json(forged.to_json())
    for wrong in (other, dataclasses.replace(same_log, index=0)):
        with pytest.raises(MessageError):
            GuardianIdentity.from_json(identity.announce(wrong, own).to_json())
    for wrong_form in (["x"], [], None, "", {}, ["{}", "zz"], [1, 2], ["{}", "00" * 64, 3]):
        with pytest.raises(MessageError):
            GuardianIdentity.from_json(json.dumps({**json.loads(identity.to_json()), "succession": wrong_form}))
    good = GuardianIdentity.from_json(identity.announce(same_log, own).to_json())
    with pytest.raises(CeremonyError):
        ceremony.join(peer, same_log)
    ceremony.join(peer, good)
    ceremony.join(peer, same_log)
    with pytest.raises(CeremonyError, match="other keys"):
        ceremony.join(peer, identity)


def test_a_change_over_that_no_peer_has_followed_takes_an_explicit_word(
    folder: Path, peer: Path, tmp_path: Path
) -> None:
    ceremony.join(folder, Folder(peer).identity)
    third = ceremony.init(tmp_path / "t", index=2, name="Union", host="127.0.0.1", http_port=5, link_port=6)
    ceremony.join(folder, third)
    facefare_guardian("rotate-keys", folder)
    refused = CliRunner().invoke(app, ["rotate-keys", str(folder), "--change-over"])
    assert refused.exit_code == 1
    assert "Guardian 0, Council, does not answer. Guardian 2, Union, does not answer." in refused.output
    following = Folder(folder).identity.successor
    assert following is not None
    facefare_guardian("rotate-keys", folder, "--change-over", "--although-no-peer-answered")
    assert Folder(folder).identity == following


def test_what_is_registered_is_listed_and_no_share_or_private_key(folder: Path, peer: Path) -> None:
    ceremony.join(folder, Folder(peer).identity)
    ceremony.register_relay(folder, "wallet", ceremony.create_relay(peer / "relay", "wallet").read_bytes())
    facefare_guardian("create-gallery", folder, "gal_metro", "--kind", "live", "--model", "m")
    key, other = "ab" * 32, "cd" * 32
    limits = ("--rate", "0.5", "--daily", "5000")
    facefare_guardian("register-terminal", folder, "trm_gate1", "--key", key, "--gallery", "gal_metro", *limits)
    facefare_guardian("register-station", folder, "stn_desk1", "--key", other, "--gallery", "gal_metro", "--demo-only")
    said = facefare_guardian("list", folder).splitlines()
    assert said[:2] == [
        f"guardian 1  Bank  {Folder(folder).identity.fingerprint()}",
        f"guardian 0  Council  {Folder(peer).identity.fingerprint()}",
    ]
    assert said[2:6] == [
        "relay  wallet",
        "gallery  gal_metro  live  m  128 dimensions  squared norms 1000 to 8191  thresholds -4000 to -1",
        f"terminal  trm_gate1  gal_metro  key {key}  0.5 a second  5000 a day",
        f"station  stn_desk1  gal_metro  key {other}  demo only",
    ]
    assert "limit  recheck_permille 1000" in said
    private = [Folder(folder).signing_key(), Folder(folder).sealing_key()]
    assert not any(one.private_bytes_raw().hex() in "".join(said) for one in private)


def test_a_peer_that_has_the_succession_knows_both_fingerprints(folder: Path, peer: Path) -> None:
    said = facefare_guardian("rotate-keys", folder)
    heard = facefare_guardian("join", peer, folder / "identity.json")
    successor = Folder(folder).identity.successor
    assert successor is not None
    for text in (said, heard):
        assert successor.fingerprint() in text
    assert Folder(folder).identity.fingerprint() in heard
    with pytest.raises(CeremonyError, match="announced already"):
        ceremony.announce_keys(folder)


@pytest.mark.parametrize("survived", range(10))
def test_killed_in_the_middle_of_a_change_over_it_is_finished_by_running_it_again(
    folder: Path, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    successor = ceremony.announce_keys(folder).successor
    steps = []

    def step(real):
        def stepped(*arguments, **named):
            if len(steps) == survived:
                raise Killed
            steps.append(1)
            return real(*arguments, **named)

        return stepped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", step(Path.replace))
        patch.setattr(shutil, "rmtree", step(shutil.rmtree))
        patch.setattr(ceremony, "destroy", step(ceremony.destroy))
        with pytest.raises(Killed):
            ceremony.change_over(folder)
    with pytest.raises(CeremonyError, match="unfinished"):
        Folder(folder).check_rotation()
    assert ceremony.change_over(folder) == successor
    Folder(folder).check_rotation()
    after = Folder(folder)
    assert after.identity == successor
    assert after.signing_key().public_key().public_bytes_raw() == successor.signing_key
    sealing = [key.public_key().public_bytes_raw() for key in after.sealing_keys()]
    assert sealing[0] == successor.sealing_key
    assert len(sealing) == 2
    assert after.certificate.read_text() == successor.certificate
    assert sorted(file.name for file in (folder / "keys").iterdir()) == [
        "log.pem", "old", "sealing.pem", "signing.pem", "tls.pem", "witness.pem",
    ]  # fmt: skip
    ceremony.forget_old_keys(folder)
    assert len(Folder(folder).sealing_keys()) == 1
    with pytest.raises(CeremonyError):
        ceremony.change_over(folder)

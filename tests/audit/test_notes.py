import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from facefare.audit.checkpoints import Checkpoint, open_checkpoint
from facefare.audit.errors import NoteError, SignatureInvalid
from facefare.audit.notes import KeyKind, NoteKey, NoteSigner, Signature, SignedNote

# The published example of Go's golang.org/x/mod/sumdb/note: seed, verifier key, text, signed note.
PETER_SEED = bytes.fromhex("810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173")
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)

# A checkpoint that a public log published, with its signature and a public witness's cosignature.
PUBLIC_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
PUBLIC_CHECKPOINT = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3ur\
bllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75M\
dhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5Xe\
U/zZ0WBxtqB0DrAWfBw==
"""

# The example of the tlog-cosignature specification; it publishes no keys, so only its form can be checked.
SPECIFICATION_EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGk\
u9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nP\
Zqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""


def test_gos_published_note_verifies_and_is_signed_to_the_same_bytes():
    key = NoteKey.parse(PETER)
    assert str(key) == PETER
    note = SignedNote.parse(f"{PETER_TEXT}\n{PETER_LINE}\n".encode())
    assert (note.text, note.time_signed_by(key)) == (PETER_TEXT, 0)
    signer = NoteSigner("PeterNeumann", KeyKind.LOG, Ed25519PrivateKey.from_private_bytes(PETER_SEED))
    assert signer.key == key
    assert str(signer.sign(PETER_TEXT, 0)) == PETER_LINE


def test_a_public_logs_checkpoint_and_a_public_witnesss_cosignature_verify():
    note = SignedNote.parse(PUBLIC_CHECKPOINT.encode())
    checkpoint = open_checkpoint(note, NoteKey.parse(PUBLIC_LOG))
    assert checkpoint.size == 1432088532
    assert note.time_signed_by(NoteKey.parse(PUBLIC_WITNESS)) == 1779573024
    assert note.to_bytes() == PUBLIC_CHECKPOINT.encode()
    changed = SignedNote.parse(PUBLIC_CHECKPOINT.replace("1432088532", "1432088533").encode())
    for vkey in (PUBLIC_LOG, PUBLIC_WITNESS):
        with pytest.raises(SignatureInvalid):
            changed.time_signed_by(NoteKey.parse(vkey))


def test_the_specifications_example_parses_to_the_time_it_states():
    note = SignedNote.parse(SPECIFICATION_EXAMPLE.encode())
    assert Checkpoint.parse(note.text).size == 20852163
    assert int.from_bytes(note.signatures[1].blob[:8], "big") == 1679315147
    assert note.to_bytes() == SPECIFICATION_EXAMPLE.encode()


def witness(name="w.example", seed=7):
    return NoteSigner(name, KeyKind.WITNESS, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def test_a_cosignature_does_not_pass_for_another_time_or_a_plain_signature():
    signer = witness()
    signed = signer.sign("a\n1\nb\n", 1000)
    later = Signature(signed.name, signed.key_id, (1001).to_bytes(8, "big") + signed.blob[8:])
    assert signer.key.verify("a\n1\nb\n", signed.blob) == 1000
    with pytest.raises(SignatureInvalid):
        signer.key.verify("a\n1\nb\n", later.blob)
    plain = NoteKey(signer.name, KeyKind.LOG, signer.key.public)
    with pytest.raises(SignatureInvalid):
        plain.verify("a\n1\nb\n", signed.blob[8:])


def test_a_signature_by_a_key_nobody_gave_us_is_ignored():
    note = SignedNote("text\n", (witness().sign("text\n", 5),))
    assert note.time_signed_by(witness(seed=8).key) is None
    assert note.time_signed_by(witness("other.example").key) is None


def test_one_wrong_signature_under_a_known_key_is_not_outweighed_by_a_right_one():
    good = witness().sign("text\n", 5)
    bad = Signature(good.name, good.key_id, good.blob[:-1] + bytes([good.blob[-1] ^ 1]))
    with pytest.raises(SignatureInvalid):
        SignedNote("text\n", (good, bad)).time_signed_by(witness().key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\nnot a signature\n",
        f"text\n\n{PETER_LINE}".encode(),  # no final newline
        f"text\n{PETER_LINE}\n".encode(),  # no empty line
        f"te\rxt\n\n{PETER_LINE}\n".encode(),
        b"te\xffxt\n\n" + PETER_LINE.encode() + b"\n",
        f"text\n\n{PETER_LINE}=\n".encode(),
        "text\n\n— a+b AAAAAAAA\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        "text\n\n— name AAAAAAB=\n".encode(),  # bits beyond the end
        f"text\n\n{PETER_LINE}\n".encode() * 1000,
    ],
)
def test_what_is_not_a_note_is_refused(data):
    with pytest.raises(NoteError):
        SignedNote.parse(data)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER.replace("Peter", "Peter "),
        PETER + "=",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # a kind not known
        PETER[:-4],
    ],
)
def test_what_is_not_a_verifier_key_is_refused(vkey):
    with pytest.raises(NoteError):
        NoteKey.parse(vkey)


@pytest.mark.parametrize(
    "text",
    [
        "log\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n1\nCsUYapGG\n",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nmore\n",
        "log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_or_written_back_as_they_came(data):
    try:
        note = SignedNote.parse(data)
    except NoteError:
        return
    assert note.to_bytes() == data


@given(st.integers(0, 2**62), st.binary(min_size=32, max_size=32), st.integers(0, 2**40))
def test_a_signed_and_cosigned_checkpoint_survives_its_bytes(size, root, time):
    log = NoteSigner("log.example", KeyKind.LOG, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    checkpoint = Checkpoint("log.example", size, root)
    note = checkpoint.sign(log)
    note = note.with_signatures([witness().sign(note.text, time)])
    again = SignedNote.parse(note.to_bytes())
    assert open_checkpoint(again, log.key) == checkpoint
    assert again.time_signed_by(witness().key) == time
    assert len(again.with_signatures(again.signatures).signatures) == 2

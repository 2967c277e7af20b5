import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefare.audit.entries import Entry, entry_of, opening_of
from facefare.audit.errors import EntryError

SALT = bytes(range(16))
VALUES = {"query": bytes(16), "gallery": b"gal_x", "request": bytes(32)}


def entry(**changes):
    parts = {"terminal": "trm_gate1", "purpose": "payment", "time": 1, "values": VALUES, "request_salt": SALT}
    return entry_of(**parts | changes)


def test_an_entry_survives_its_bytes():
    assert Entry.from_bytes(entry().to_bytes()) == entry()


def test_who_knows_salt_and_value_can_prove_one_commitment_and_no_other():
    entry().check(opening_of("query", VALUES["query"], SALT))
    for wrong in (
        opening_of("query", b"another query id", SALT),
        opening_of("query", VALUES["query"], bytes(16)),
        opening_of("gallery", VALUES["query"], SALT),
    ):
        with pytest.raises(EntryError):
            entry().check(wrong)
    query = opening_of("query", VALUES["query"], SALT)
    assert query.salt != opening_of("gallery", VALUES["gallery"], SALT).salt


def test_without_the_salt_a_commitment_to_a_known_value_cannot_be_recognised():
    known = {"gallery": b"gal_x"}
    assert (
        entry(values=known).commitments["gallery"] != entry(values=known, request_salt=bytes(16)).commitments["gallery"]
    )


def test_neither_salt_nor_value_is_in_the_entry():
    data = entry(values={"gallery": b"gal_known", "query": b"q" * 16}).to_bytes()
    assert SALT not in data
    assert b"gal_known" not in data
    assert b"q" * 16 not in data


@pytest.mark.parametrize("field", ["payer", "score", "outcome", "row", "matched"])
def test_an_entry_with_a_payer_a_score_or_an_outcome_is_refused(field):
    fields = cbor2.loads(entry().to_bytes()) | {field: 1}
    with pytest.raises(EntryError):
        Entry.from_bytes(cbor2.dumps(fields, canonical=True))
    with pytest.raises(EntryError):
        entry(values={field: b"x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"terminal": "Anna"},
        {"terminal": "trm_" + "x" * 41},
        {"purpose": "who is this?"},
        {"time": -1},
        {"time": True},
        {"time": 1.5},
        {"request_salt": b"short"},
    ],
)
def test_a_field_that_holds_something_else_is_refused(changes):
    with pytest.raises(EntryError):
        entry(**changes)


def test_another_encoding_of_the_same_entry_is_refused():
    fields = cbor2.loads(entry().to_bytes())
    reordered = cbor2.dumps(dict(sorted(fields.items(), reverse=True)))
    assert reordered != entry().to_bytes()
    for data in (reordered, entry().to_bytes() + b"\x00", b""):
        with pytest.raises(EntryError):
            Entry.from_bytes(data)


@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_refused_with_our_error(data):
    with pytest.raises(EntryError):
        Entry.from_bytes(data)


@given(st.recursive(st.integers() | st.text(max_size=5) | st.none(), lambda inner: st.lists(inner, max_size=4)))
def test_fields_of_any_type_are_taken_only_if_they_fit(value):
    for field in ("terminal", "purpose", "time", "commitments"):
        fields = cbor2.loads(entry().to_bytes()) | {field: value}
        try:
            taken = Entry.from_bytes(cbor2.dumps(fields, canonical=True))
        except EntryError:
            continue
        assert (field, type(value)) in {("time", int), ("purpose", str)}
        assert getattr(taken, field) == value

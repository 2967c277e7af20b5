from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefare.audit.errors import ProofInvalid
from facefare.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    frontier_of,
    inclusion_proof,
    leaf_hash,
    node_hash,
    stored_count,
    stored_index,
    verify_consistency,
    verify_inclusion,
)

# The reference tree of the Certificate Transparency project: entries, and the root after each.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Its published proofs: (leaf, size) -> audit path; (old, new) -> consistency path.
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def mth(leaves):
    """The tree hash as RFC 9162, 2.1.1 defines it, on leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(mth(leaves[:split]), mth(leaves[split:]))


class Stored:
    """A tree whose subtree hashes are in one flat list."""

    def __init__(self, leaves):
        self.frontier, self.flat = Frontier(), []
        for leaf in leaves:
            self.flat += self.frontier.add(leaf)

    def read(self, level, index):
        return self.flat[stored_index(level, index)]


def leaves(count):
    return [leaf_hash(str(n).encode()) for n in range(count)]


def test_the_reference_tree_has_its_published_roots():
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for entry, root in zip(ENTRIES, ROOTS, strict=True):
        frontier.add(leaf_hash(entry))
        assert frontier.root().hex() == root


def test_the_reference_tree_has_its_published_proofs():
    read = Stored([leaf_hash(entry) for entry in ENTRIES]).read
    for (index, size), path in INCLUSION.items():
        assert [part.hex() for part in inclusion_proof(index, size, read)] == path
    for (old, new), path in CONSISTENCY.items():
        assert [part.hex() for part in consistency_proof(old, new, read)] == path


sizes = st.integers(1, 130)


@settings(deadline=None)
@given(sizes)
def test_appending_gives_the_root_of_the_definition_and_stores_every_complete_subtree(size):
    tree = Stored(leaves(size))
    assert tree.frontier.root() == mth(leaves(size))
    assert len(tree.flat) == stored_count(size)
    assert frontier_of(size, tree.read).root() == tree.frontier.root()
    for level in range(size.bit_length()):
        for index in range(size >> level):
            assert tree.read(level, index) == mth(leaves(size)[index << level : (index + 1) << level])


@settings(deadline=None)
@given(st.data(), sizes, sizes)
def test_every_leaf_of_every_tree_can_be_proved_and_nothing_else(data, size, more):
    index = data.draw(st.integers(0, size - 1))
    every = leaves(size + more)
    proof = inclusion_proof(index, size, Stored(every).read)
    root = mth(every[:size])
    verify_inclusion(index, size, every[index], proof, root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        with pytest.raises(ProofInvalid):
            verify_inclusion(index, size, every[other], proof, root)
        with pytest.raises(ProofInvalid):
            verify_inclusion(other, size, every[index], proof, root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(index, size, every[index], proof, mth(every))
    with pytest.raises(ProofInvalid):
        verify_inclusion(index, size, every[index], [*proof, root], root)
    if proof:
        with pytest.raises(ProofInvalid):
            verify_inclusion(index, size, every[index], proof[:-1], root)
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        with pytest.raises(ProofInvalid):
            verify_inclusion(index, size, every[index], proof, root)


@settings(deadline=None)
@given(st.data(), sizes, st.integers(0, 130))
def test_growth_can_be_proved_for_any_two_sizes_and_nothing_else_can(data, old, more):
    new = old + more
    every = leaves(new)
    before, after = mth(every[:old]), mth(every)
    proof = consistency_proof(old, new, Stored(every).read)
    verify_consistency(old, new, before, after, proof)
    changed = [*every]
    place = data.draw(st.integers(0, old - 1))
    changed[place] = leaf_hash(b"changed")
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, mth(changed[:old]), after, proof)
    forged = consistency_proof(old, new, Stored(changed).read)
    with pytest.raises(ProofInvalid):  # not even with the proof the changed tree would give
        verify_consistency(old, new, before, mth(changed), forged)
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, before, after, [*proof, after])
    if proof:
        with pytest.raises(ProofInvalid):
            verify_consistency(old, new, before, after, proof[:-1])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 4), (5, 4)])
def test_a_leaf_outside_the_tree_cannot_be_proved(index, size):
    with pytest.raises(ProofInvalid):
        verify_inclusion(index, size, EMPTY_ROOT, [], EMPTY_ROOT)
    with pytest.raises(ValueError):
        inclusion_proof(index, size, Stored(leaves(4)).read)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (3, 2), (-1, 2)])
def test_a_tree_cannot_grow_from_nothing_or_shrink(old, new):
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, EMPTY_ROOT, EMPTY_ROOT, [])
    with pytest.raises(ValueError):
        consistency_proof(old, new, Stored(leaves(4)).read)

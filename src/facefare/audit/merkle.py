"""The Merkle tree of RFC 9162, section 2.1, with SHA-256.

Job: roots, inclusion and consistency proofs, made from stored subtree hashes and checked without them. No I/O:
whoever makes a proof hands in `read(level, index)`, the hash over leaves [index·2^level, (index+1)·2^level).

`Frontier` appends with O(log n) state; `stored_index` says where a flat file has each subtree's hash if every
append writes the hashes it completes, so that any proof takes O(log n) reads.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from facefare.audit.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Read = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees as their parent."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree of `size` leaves, as the roots of its complete subtrees, largest first."""

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if len(roots) != size.bit_count():
            raise ValueError("A frontier has one root for each bit set in its size.")
        self.size = size
        self._roots = list(roots)

    def add(self, leaf: bytes) -> list[bytes]:
        """Append a leaf hash; return the hashes it completes, from the leaf upwards."""
        completed = [leaf]
        for _ in range(_trailing_ones(self.size)):
            leaf = node_hash(self._roots.pop(), leaf)
            completed.append(leaf)
        self._roots.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the root hash of the whole tree."""
        if not self._roots:
            return EMPTY_ROOT
        *rest, root = self._roots
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


def frontier_of(size: int, read: Read) -> Frontier:
    """Return the frontier of a tree whose subtree hashes are stored."""
    roots, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            roots.append(read(level, start >> level))
            start += 1 << level
    return Frontier(size, roots)


def stored_count(size: int) -> int:
    """Return how many hashes a flat file has after `size` appends: every subtree that is complete."""
    return 2 * size - size.bit_count()


def stored_index(level: int, index: int) -> int:
    """Return where in the flat file the hash of subtree (level, index) is, counted in hashes.

    It is written by the append of its last leaf, `level` places after that leaf's own hash.
    """
    last_leaf = ((index + 1) << level) - 1
    return stored_count(last_leaf) + level


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """Return the audit path of leaf `index` in a tree of `size` (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError("The leaf must be inside the tree.")
    path, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, read))
            high = middle
        else:
            path.append(_range_hash(low, middle, read))
            low = middle
    return path[::-1]


def consistency_proof(old: int, new: int, read: Read) -> list[bytes]:
    """Return the proof that a tree of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.1)."""
    if not 0 < old <= new:
        raise ValueError("The old tree must not be empty, nor larger than the new one.")
    path, low, high = [], 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_hash(middle, high, read))
            high = middle
        else:
            path.append(_range_hash(low, middle, read))
            low = middle
    if low:  # otherwise the last piece is the old root, which the verifier has
        path.append(_range_hash(low, high, read))
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check an audit path (RFC 9162, 2.1.3.2). `leaf` is the leaf's hash. Raises ProofInvalid."""
    if not 0 <= index < size:
        raise ProofInvalid("The proof is for a leaf outside the tree.")
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("The inclusion proof is too long.")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofInvalid("The inclusion proof is too short.")
    if found != root:
        raise ProofInvalid("The inclusion proof leads to another root.")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that a tree only grew (RFC 9162, 2.1.4.2). Raises ProofInvalid."""
    if not 0 < old <= new:
        raise ProofInvalid("Consistency runs from a tree that is not empty to one at least as large.")
    if old == new:
        if proof or old_root != new_root:
            raise ProofInvalid("Two trees of one size must have one root and need no proof.")
        return
    hashes = list(proof)
    if old & (old - 1) == 0:  # a full tree is a node of the new one: it starts the path itself
        hashes.insert(0, old_root)
    if not hashes:
        raise ProofInvalid("The consistency proof is empty.")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    was = now = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofInvalid("The consistency proof is too long.")
        if node & 1 or node == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofInvalid("The consistency proof is too short.")
    if was != old_root or now != new_root:
        raise ProofInvalid("The consistency proof leads to other roots.")


def _range_hash(low: int, high: int, read: Read) -> bytes:
    """Hash of leaves [low, high), where `low` is a multiple of every subtree in it."""
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, low >> level)
    middle = low + _split(size)
    return node_hash(_range_hash(low, middle, read), _range_hash(middle, high, read))


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _trailing_ones(number: int) -> int:
    return (~number & (number + 1)).bit_length() - 1

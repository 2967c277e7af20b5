"""Attempts whose answer never came: nobody passed, so whatever came of them is taken back, for certain and once.

Invariants:
  - a query's id is on the disk before the wallet is asked, and goes when its answer is here;
  - ids that are left, also from before a crash, are sent as `undo` until the wallet answers;
  - nothing but the ids is kept: no search, sealed or not.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facefare.client import ApiError

STALE_AFTER = 60.0
"""Seconds after which guardians and wallet refuse a search that was still on its way."""
_EVERY = 2.0


class LostAnswers:
    """One folder, one empty file for each query that waits for its answer."""

    def __init__(self, folder: Path, undo: Callable[[bytes], object]) -> None:
        """`undo` takes back the attempt with this query id; raises ApiError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._undo = undo
        self._asked: set[str] = set()

    @contextmanager
    def waiting(self, query_id: bytes) -> Iterator[None]:
        """Ask inside. An answer, also a refusal, forgets the query; silence leaves it to `settle`."""
        self.begin(query_id)
        try:
            yield
        except ApiError as error:
            if error.is_answer:
                self.answered(query_id)
            raise
        else:
            self.answered(query_id)
        finally:
            self.take_back(query_id)

    def begin(self, query_id: bytes) -> None:
        """Before the wallet is asked; `answered` or `take_back` follows."""
        self._asked.add(query_id.hex())
        (self._folder / query_id.hex()).touch()

    def answered(self, query_id: bytes) -> None:
        """The answer is here, and counts."""
        (self._folder / query_id.hex()).unlink(missing_ok=True)

    def take_back(self, query_id: bytes) -> None:
        """Nobody waits for it any more: unless it was answered, what came of it is taken back."""
        self._asked.discard(query_id.hex())

    def settle(self) -> int:
        """Send what is left once; returns how many are left then."""
        left = [file for file in sorted(self._folder.iterdir()) if file.name not in self._asked]
        for file in list(left):
            try:
                self._undo(bytes.fromhex(file.name))
            except ApiError as error:
                if not error.is_answer:
                    break
                on_its_way = time.time() - file.stat().st_mtime < STALE_AFTER
                if error.code == "unknown-payment" and on_its_way:
                    continue  # the search may still arrive
            file.unlink(missing_ok=True)
            left.remove(file)
        return len(left)

    def settle_until(self, stopped: threading.Event) -> None:
        """Settle every two seconds, for a thread of its own."""
        while not stopped.wait(_EVERY):
            self.settle()

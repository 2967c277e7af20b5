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
        file = self._folder / query_id.hex()
        self._asked.add(file.name)
        file.touch()
        try:
            yield
        except ApiError as error:
            if _is_answer(error):
                file.unlink()
            raise
        else:
            file.unlink()
        finally:
            self._asked.discard(file.name)

    def settle(self) -> int:
        """Send what is left once; returns how many are left then."""
        left = [file for file in sorted(self._folder.iterdir()) if file.name not in self._asked]
        for file in list(left):
            try:
                self._undo(bytes.fromhex(file.name))
            except ApiError as error:
                if not _is_answer(error):
                    break
                on_its_way = time.time() - file.stat().st_mtime < STALE_AFTER
                if error.code == "unknown-payment" and on_its_way:
                    continue  # the search may still arrive
            file.unlink()
            left.remove(file)
        return len(left)

    def settle_until(self, stopped: threading.Event) -> None:
        """Settle every two seconds, for a thread of its own."""
        while not stopped.wait(_EVERY):
            self.settle()


def _is_answer(error: ApiError) -> bool:
    """Whether the wallet decided something: not where it was out of reach or broke down on the way."""
    return 400 <= error.status < 500

"""What a terminal does in a thread beside the frames, for as long as it serves."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(run: Callable[[threading.Event], object], *, patience: float) -> Iterator[None]:
    """Have `run` going while this is open; it ends soon after its event is set, and is waited for so many seconds."""
    stopped = threading.Event()
    thread = threading.Thread(target=run, args=(stopped,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(patience)

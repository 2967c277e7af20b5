"""A program that makes guardians of itself by forking, so that a start takes no imports: for `three_guardians.Nursery`.

A line of JSON in for each: folder, log, and code that runs in the new process before it serves. Lines out: that it was
started, that it ended. What is started is a process like any other: its own memory from then on, killed by its own id.
"""

import json
import os
import select
import signal
import sys
from typing import Any


def _say(*said: Any) -> None:
    print(json.dumps(said), flush=True)


def _serve(folder: str, log: str, prelude: str) -> None:
    from facefare.guardian.commands import app

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, descriptor in enumerate((nothing, file, file)):
        os.dup2(descriptor, number)
    os.closerange(3, 64)
    code: Any = 1
    try:
        exec(prelude, {"__name__": "__main__"})
        app(["serve", folder])
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def main() -> None:
    import facefare.guardian.http  # noqa: F401 - what a guardian loads
    from facefare.mpc.compile import compile_all

    compile_all()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive: set[int] = set()
    asked = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            while alive:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                alive.discard(pid)
                _say("ended", pid, os.waitstatus_to_exitcode(status))
        if 0 in ready:
            more = os.read(0, 65_536)
            if not more:  # the tests are over
                for pid in alive:
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, asked = (asked + more).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _serve(*json.loads(line))
                alive.add(pid)
                _say("started", pid, 0)


if __name__ == "__main__":
    main()

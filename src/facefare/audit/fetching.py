"""Copy the three logs as the guardians publish them, into a folder that `verifier` checks.

Nothing is trusted on the way: what is copied is signed. A copy made before is continued, so that a guardian that
has rewritten its past since is found; every checkpoint ever copied stays in `seen`.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import httpx

from facefare.audit.errors import BundleError
from facefare.audit.log import replace_file
from facefare.audit.notes import MAX_NOTE_BYTES

GUARDIANS = 3


def fetch(urls: Sequence[str], folder: Path) -> None:
    """Copy or continue the logs at three addresses into `folder`; raises BundleError where one can't be read."""
    if len(urls) != GUARDIANS:
        raise BundleError("There are three guardians, so give three addresses, in their order.")
    (folder / "seen").mkdir(parents=True, exist_ok=True)
    with httpx.Client(timeout=30) as client:
        for index, url in enumerate(urls):
            try:
                _fetch_one(client, url.rstrip("/"), folder / str(index), folder / "seen")
            except httpx.HTTPError as error:
                raise BundleError(f"The log at {url} can't be read: {type(error).__name__}.") from error


def _fetch_one(client: httpx.Client, url: str, to: Path, seen: Path) -> None:
    to.mkdir(exist_ok=True)
    note = client.get(f"{url}/checkpoint").raise_for_status().content
    if len(note) > MAX_NOTE_BYTES:
        raise BundleError(f"The checkpoint at {url} is too long to be one.")
    before = to / "checkpoint"
    if before.exists():
        old = before.read_bytes()
        (seen / sha256(old).hexdigest()[:32]).write_bytes(old)
    entries = to / "entries"
    have = entries.stat().st_size if entries.exists() else 0
    with client.stream("GET", f"{url}/entries", headers={"range": f"bytes={have}-"}) as response:
        if response.status_code == httpx.codes.OK:
            have = 0  # it does not know ranges: all of it comes
        elif response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            response.raise_for_status()
        if response.is_success:
            with entries.open("r+b" if entries.exists() else "wb") as file:
                file.seek(have)
                for part in response.iter_raw():
                    file.write(part)
    entries.touch()
    replace_file(before, note)

"""In the place of three guardians, where payers keep their references themselves: it answers nothing.

Invariant: whatever is asked here ends as when guardians are away, so nobody is identified and nothing is changed.
"""

from typing import NoReturn

from facefare.guardian.messages import EnrolRequest, OpenRequest, SearchRequest
from facefare.identification.errors import GuardianUnavailable


class NoGuardians:
    """Has the methods of `Guardians`; all but `status` raise GuardianUnavailable."""

    log_keys: tuple[str, ...] = ()

    async def status(self) -> tuple[None, None, None]:
        """None is there to say anything."""
        return None, None, None

    async def search(self, request: SearchRequest, gallery_version: int, threshold: int) -> NoReturn:
        """Nobody is found."""
        self._refuse(request, gallery_version, threshold)

    async def check(self, request: EnrolRequest, version: int, threshold: int) -> NoReturn:
        """Nothing is compared."""
        self._refuse(request, version, threshold)

    async def enrol(self, request: EnrolRequest, row: int, version: int) -> NoReturn:
        """Nobody is enrolled."""
        self._refuse(request, row, version)

    async def delete(self, gallery: str, row: int, version: int) -> NoReturn:
        """There is nothing to erase."""
        self._refuse(gallery, row, version)

    async def pause(self, gallery: str, row: int, version: int) -> NoReturn:
        """There is nothing to pause."""
        self._refuse(gallery, row, version)

    async def resume(self, gallery: str, row: int, version: int) -> NoReturn:
        """There is nothing to resume."""
        self._refuse(gallery, row, version)

    async def open_row(self, request: OpenRequest) -> NoReturn:
        """There is no row."""
        self._refuse(request)

    def _refuse(self, *_: object) -> NoReturn:
        raise GuardianUnavailable(0, "This wallet has no guardians: payers keep their references themselves.")

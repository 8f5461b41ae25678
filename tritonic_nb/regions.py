"""The regions that one session has made and registered with its server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from tritonic_nb.errors import (
    NoReplyError,
    NoSpaceError,
    RegionInUseError,
    TritonicError,
)
from tritonic_nb.memory import Region, SharedMemoryType, create_region
from tritonic_nb.transport import Transport

__all__ = ["RegionSet", "answered"]

_PAGE_NBYTES = 4096
_LAST_WAIT_S = 2.0  # for requests that still use a region when the session closes

_log = logging.getLogger("tritonic_nb.session")


class RegionSet:
    """A region for each tensor, made and registered together, removed together.

    Not safe to share between threads: its session has the lock.

    Parameters
    ----------
    transport
        The way to the server.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._regions: dict[tuple[str, str], Region] = {}
        # Names whose region is gone here and may still be registered there: a
        # request that was given up used them, or the server was away.
        self._owed: list[str] = []

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions.values())

    def __len__(self) -> int:
        return len(self._regions)

    def get(self, direction: str, tensor: str) -> Region | None:
        """Return the region of a tensor, if it has one."""
        return self._regions.get((direction, tensor))

    def ensure(
        self, direction: str, tensor: str, nbytes: int, kind: SharedMemoryType, device: int = 0
    ) -> Region:
        """Return a registered region with at least `nbytes`, made or grown as needed.

        A region that is too small, or that a view still uses, is replaced.
        The new one is made and registered before the old one goes, so that a
        failure leaves things as they were.

        Raises
        ------
        NoSpaceError
            If there is too little memory, even without the old region.
        SharedMemoryError
            If the server does not take the region.
        """
        old = self.get(direction, tensor)
        if old is not None and old.slot_nbytes >= nbytes and not old.pinned():
            return old
        self.settle()
        slot_nbytes = -(-nbytes // _PAGE_NBYTES) * _PAGE_NBYTES
        try:
            region = self._make(direction, tensor, slot_nbytes, kind, device)
        except NoSpaceError:
            if old is None:
                raise
            self.retire([old])
            region = self._make(direction, tensor, slot_nbytes, kind, device)
        else:
            if old is not None:
                self.retire([old])
        self._regions[direction, tensor] = region
        return region

    def register_again(self) -> None:
        """Register every region anew, at a server that was restarted."""
        for region in self:
            self._transport.unregister_system(region.name)
            self._register(region)

    def retire(self, regions: Iterable[Region]) -> None:
        """Unregister and remove regions; what the server will not let go of yet is owed."""
        for region in list(regions):
            self._forget(region)
            self._owed.append(region.name)
        self.settle()

    def abandon(self, regions: Iterable[Region]) -> None:
        """Remove regions of a request that was given up.

        The server may still read or write them, in its own mapping, which it
        keeps until it is done: never use them again.
        """
        for region in list(regions):
            _log.info("region %s is given up with its request", region.name)
            self._forget(region)
            self._owed.append(region.name)

    def settle(self) -> bool:
        """Unregister what is owed, as far as the server lets it go. Never raises for it.

        Returns
        -------
        bool
            Whether the server answered.
        """
        still_owed = []
        answers = True
        for index, name in enumerate(self._owed):
            try:
                self._transport.unregister_system(name)
                _log.debug("unregistered %s", name)
            except NoReplyError as error:
                _log.debug("region %s stays owed: %s", name, error)
                still_owed += self._owed[index:]
                answers = False
                break
            except RegionInUseError:
                still_owed.append(name)
            except TritonicError as error:
                _log.warning("region %s could not be unregistered: %s", name, error)
        self._owed = still_owed
        return answers

    def close(self) -> None:
        """Unregister and remove everything; never stops half-way."""
        self.retire(self)
        give_up = time.monotonic() + _LAST_WAIT_S
        while self._owed and time.monotonic() < give_up and self.settle():
            time.sleep(0.05)
        if self._owed:
            _log.info("still registered at %s: %s", self._transport.url, ", ".join(self._owed))

    def _make(
        self, direction: str, tensor: str, slot_nbytes: int, kind: SharedMemoryType, device: int
    ) -> Region:
        region = create_region(kind, tensor, direction, slot_nbytes, device=device)
        try:
            self._register(region)
        except BaseException as error:
            region.close()
            if not answered(error):  # the server may have taken it
                self._owed.append(region.name)
            raise
        return region

    def _register(self, region: Region) -> None:
        key = region.describe().key
        self._transport.register_system(region.name, key, region.nbytes)
        region.state = "registered"
        _log.debug(
            "registered %s: %s %s, %d bytes", region.name, region.direction, region.tensor,
            region.nbytes,
        )  # fmt: skip

    def _forget(self, region: Region) -> None:
        self._regions = {k: r for k, r in self._regions.items() if r is not region}
        region.close()


def answered(error: BaseException) -> bool:
    """Whether an error is the server's own answer, so that it is done with the request."""
    return isinstance(error, TritonicError) and not isinstance(error, NoReplyError)

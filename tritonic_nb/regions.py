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
        # Of each tensor the region in use, and perhaps one that a view still uses.
        self._regions: dict[tuple[str, str], list[Region]] = {}
        # Names whose region is gone here and may still be registered there: a
        # request that was given up used them, or the server was away.
        self._owed: list[str] = []

    def __iter__(self) -> Iterator[Region]:
        return iter([region for regions in list(self._regions.values()) for region in regions])

    def get(self, direction: str, tensor: str) -> Region | None:
        """Return the region that a tensor uses now, if it has one."""
        regions = self._regions.get((direction, tensor))
        return regions[0] if regions else None

    def ensure(
        self,
        direction: str,
        tensor: str,
        nbytes: int,
        kind: SharedMemoryType,
        device: int = 0,
        *,
        timeout_s: float,
    ) -> Region:
        """Return a registered region with at least `nbytes`, made or grown as needed.

        One that is too small is replaced: the new one is made and registered
        before the old one goes, so that a failure leaves things as they were.
        One that a view still uses is put by, and used again when the view is
        gone: results without a copy alternate between two regions.

        Parameters
        ----------
        direction, tensor
            What the region is for.
        nbytes
            At least so many, at least 1.
        kind, device
            Where it lies.
        timeout_s
            The time limit for registering it, in seconds.

        Raises
        ------
        NoSpaceError
            If there is too little memory, even without the old region.
        SharedMemoryError
            If the server does not take the region.
        """
        had = self._regions.get((direction, tensor), [])
        fitting = [region for region in had if region.slot_nbytes >= nbytes]
        free = [region for region in fitting if not region.pinned()]
        if free:
            if free[0] is not had[0]:
                self._use(free[0], had)
            return free[0]
        slot_nbytes = -(-nbytes // _PAGE_NBYTES) * _PAGE_NBYTES

        def make() -> Region:
            made = create_region(kind, tensor, direction, slot_nbytes, device=device)
            return self._registered(made, timeout_s)

        try:
            region = make()
        except NoSpaceError:
            if not had:
                raise
            self.retire(had)
            region = make()
        self._use(region, fitting[:1])
        self.retire([old for old in had if old not in fitting[:1]])
        return region

    def _use(self, region: Region, others: list[Region]) -> None:
        """Put a region first of its tensor's."""
        rest = [other for other in others if other is not region and other.state != "closed"]
        self._regions[region.direction, region.tensor] = [region, *rest]

    def register_again(self, timeout_s: float) -> None:
        """Register every region anew, at a server that was restarted."""
        for region in self:
            self._transport.unregister_system(region.name)
            self._register(region, timeout_s)

    def retire(self, regions: Iterable[Region]) -> bool:
        """Unregister and remove regions; what the server will not let go of yet is owed.

        Returns
        -------
        bool
            Whether the server answered.
        """
        for region in list(regions):
            self._remove(region)
        return self.settle()

    def abandon(self, regions: Iterable[Region]) -> None:
        """Remove regions of a request that was given up.

        The server may still read or write them, in its own mapping, which it
        keeps until it is done: never use them again.
        """
        for region in list(regions):
            _log.info("region %s is given up with its request", region.name)
            self._remove(region)

    def settle(self) -> bool:
        """Unregister what is owed, as far as the server lets it go. Never raises for it.

        Returns
        -------
        bool
            Whether the server answered.
        """
        if not self._owed:
            return True
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
        answers = self.retire(self)
        give_up = time.monotonic() + _LAST_WAIT_S
        while self._owed and answers and time.monotonic() < give_up:
            time.sleep(0.05)
            answers = self.settle()
        if self._owed and answers:
            _log.warning(
                "the server at %s still works on a request that was given up, and keeps the memory "
                "of these regions until somebody unregisters them: %s",
                self._transport.url,
                ", ".join(self._owed),
            )
        elif self._owed:
            _log.info("%s is away, with %s", self._transport.url, ", ".join(self._owed))

    def _registered(self, region: Region, timeout_s: float) -> Region:
        """Register a new region, or remove it again."""
        try:
            self._register(region, timeout_s)
        except BaseException as error:
            if not answered(error):  # the server may have taken it
                self._owed.append(region.name)
            region.close()
            raise
        return region

    def _register(self, region: Region, timeout_s: float) -> None:
        key = region.describe().key
        self._transport.register_system(region.name, key, region.nbytes, timeout_s)
        region.state = "registered"
        _log.debug(
            "registered %s: %s %s, %d bytes",
            region.name,
            region.direction,
            region.tensor,
            region.nbytes,
        )

    def _remove(self, region: Region) -> None:
        # In this order, so that an interrupt between two steps loses nothing.
        if region.name not in self._owed:
            self._owed.append(region.name)
        region.close()
        key = (region.direction, region.tensor)
        rest = [other for other in self._regions.get(key, ()) if other is not region]
        if rest:
            self._regions[key] = rest
        else:
            self._regions.pop(key, None)


def answered(error: BaseException) -> bool:
    """Whether an error is the server's own answer, so that it is done with the request."""
    return isinstance(error, TritonicError) and not isinstance(error, NoReplyError)

"""The regions that one session has made and registered with its server."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from tritonic_nb.errors import (
    NoReplyError,
    NoSpaceError,
    RegionInUseError,
    RegionNotVisibleError,
    ServerBusyError,
    SharedMemoryError,
    TritonicError,
)
from tritonic_nb.memory import (
    CopyStream,
    DeviceArray,
    Region,
    RegionDescriptor,
    SharedMemoryType,
    Tensor,
    create_region,
    lifeline,
    region_nbytes,
)
from tritonic_nb.transport import MemoryKind, RegionSlice, Transport

__all__ = ["Need", "RegionSet", "Slot", "answered"]

_MOST_REFUSALS = 3
_MOST_IDLE_COPIES = 4  # each has 8 MiB of page-locked memory
_REFUSED = "Connection refused"
_LAST_WAIT_S = 2.0  # for requests that still use a region when the session closes

# Device memory that a server still used when its session closed. Freeing it then would be
# undefined (``cudaIpcOpenMemHandle``); it goes with the process.
_kept_for_good: list[Region] = []

_log = logging.getLogger("tritonic_nb.session")


@dataclass(frozen=True)
class Need:
    """What a request needs a region for.

    Attributes
    ----------
    direction, tensor
        ``"input"`` or ``"output"``, and the tensor's name.
    nbytes
        The room that it takes, at least 1 byte.
    kind, device
        Where it is to lie.
    """

    direction: str
    tensor: str
    nbytes: int
    kind: SharedMemoryType
    device: int = 0

    def met_by(self, region: Region) -> bool:
        """Whether a region of this tensor will do."""
        device = self.device if self.kind is SharedMemoryType.CUDA else None
        where = (region.kind, region.device_id)
        fits = region.slot_nbytes >= self.nbytes and where == (self.kind, device)
        return fits and region.state == "registered"


class RegionSet:
    """The regions of a session, and which request in flight uses which.

    Safe to share between threads. No lock is held while the server is asked or
    memory is reserved, so that a slow one delays nobody else.

    Parameters
    ----------
    transport
        The way to the server.
    mode
        The permissions of the regions' files.
    holders
        Tells, for the message of an error, who holds the most of the memory of a kind, on
        a device.
    note
        Is told what happens to a region: ``"register"``, ``"grow"`` or ``"unregister"``,
        which one, and its bytes.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        mode: int = 0o600,
        holders: Callable[[SharedMemoryType, int], str] | None = None,
        note: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self._transport = transport
        self._mode = mode
        self._holders = holders
        self._note = note
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)  # a slot has ended
        self._ends = 0
        self._crowd: Slot | None = None  # the one that waits for room
        self._regions: dict[tuple[str, str], list[Region]] = {}  # by direction and tensor
        self._leaving: list[Region] = []  # being removed
        self._taken: dict[str, Slot] = {}  # by the region's name
        self._in_flight: list[Slot] = []  # those of requests that have taken a region
        self._stale: set[str] = set()  # to be removed once their slot has ended
        # What is gone here and may still be registered there: a request that was
        # given up used it, or the server was away.
        self._owed: dict[str, RegionDescriptor] = {}
        # Those of them whose memory has to stay until the server has let go of it.
        self._parked: dict[str, Region] = {}
        self._renewing: list[Region] = []  # being registered anew, and not to be freed meanwhile
        self._process_gone = False  # the server's, as it seemed when it was asked last
        self._idle_copies: list[CopyStream] = []
        self._refusals: dict[str, int] = {}  # how often the server would not, by name
        self._most_slots = 0
        self._closed = False
        self._left = False  # and closed to the end

    @property
    def closed(self) -> bool:
        """Whether all are removed, and each that is made goes with its request."""
        return self._closed

    def describe(self) -> tuple[RegionDescriptor, ...]:
        """Return the regions as they are now, with those that the server still keeps."""
        with self._lock:
            return (*(region.describe() for region in self._all()), *self._owed.values())

    def _all(self) -> list[Region]:
        return [region for regions in self._regions.values() for region in regions]

    def slot(self, *, held: bool = False) -> Slot:
        """Return the place for one request's regions.

        Parameters
        ----------
        held
            It is not a request's, and lives until it is ended.
        """
        return Slot(self, None if held else threading.get_ident())

    # What a slot does

    def take(self, slot: Slot, need: Need, timeout_s: float) -> Region:
        """Give a slot a registered region; see :meth:`Slot.place`."""
        had = slot.regions.get((need.direction, need.tensor))
        with self._lock:
            if not slot.begun:
                self._begin(slot)
            spare = self._spare(need.direction, need.tensor)
            fitting = [region for region in spare if need.met_by(region)]
            if fitting:
                region = min(fitting, key=lambda each: each.slot_nbytes)
                self._give(region, slot)
                return region

        def make() -> Region:
            made = create_region(
                need.kind,
                need.tensor,
                need.direction,
                region_nbytes(need.kind, need.nbytes),
                device=need.device,
                mode=self._mode,
                holders=self._holders,
            )
            return self._added(made, slot, timeout_s)

        try:
            region = make()
        except NoSpaceError:
            with self._lock:
                unused = [region for key in self._regions for region in self._spare(*key)]
            if not unused:
                raise
            self.retire(unused)
            region = make()
        replaced = spare if had is None else [*spare, had]
        grown = any(each.kind is region.kind for each in replaced)
        self._tell("grow" if grown else "register", region)
        self.retire(spare)  # they are too small, or lie elsewhere
        return region

    def _tell(self, what: str, region: Region | RegionDescriptor) -> None:
        if self._note is not None:
            self._note(what, f"{region.direction} {region.tensor}", region.nbytes)

    def retake(self, slot: Slot, regions: Mapping[tuple[str, str], Region]) -> bool:
        """Give a slot the very regions that another one had; see :meth:`Slot.retake`."""
        with self._lock:
            if not slot.begun:
                self._begin(slot)  # first: it may remove what was half removed
            for region in regions.values():
                if region.name in self._taken or region.state != "registered" or region.pinned():
                    return False
            for key, region in regions.items():
                slot.regions[key] = region
                self._taken[region.name] = slot
        return True

    def _spare(self, direction: str, tensor: str) -> list[Region]:
        """Return the regions of a tensor that no request and no view uses."""
        return [
            region
            for region in self._regions.get((direction, tensor), ())
            if region.name not in self._taken and not region.pinned()
        ]

    def spare_nbytes(self, direction: str, tensor: str) -> int:
        """Return the room in the largest region of a tensor that is free to use; 0 for none."""
        with self._lock:
            return max((r.slot_nbytes for r in self._spare(direction, tensor)), default=0)

    def count(self, direction: str, tensor: str, nbytes: int) -> int:
        """Return how many regions of a tensor with that room are free to use."""
        with self._lock:
            return sum(r.slot_nbytes >= nbytes for r in self._spare(direction, tensor))

    def _begin(self, slot: Slot) -> None:
        """Count a request as in flight."""
        if self._leaving:
            self._finish_removals()
        if self._in_flight or self._crowd is not None:
            self._abandon_lost(slot)
        slot.begun = True
        if slot.thread is not None:
            self._in_flight.append(slot)
            self._most_slots = max(self._most_slots, len(self._in_flight))

    def _end(self, slot: Slot) -> None:
        """Count a request as in flight no longer."""
        slot.regions.clear()
        if slot in self._in_flight:
            self._in_flight.remove(slot)
        slot.begun = False
        self._ends += 1
        self._ended.notify_all()

    def leave(self, slot: Slot) -> None:
        """End a request: others may have its regions, unless the server still uses them."""
        slot.return_copies()
        if slot.sent:
            self.abandon(slot)
        else:
            self.give_back(slot)
        self.leave_crowd(slot)

    def _give(self, region: Region, slot: Slot) -> None:
        self._taken[region.name] = slot
        slot.regions[region.direction, region.tensor] = region

    def _added(self, region: Region, slot: Slot, timeout_s: float) -> Region:
        """Register a new region for a slot, or remove it again."""
        with self._lock:
            # Known from here on, so that an interrupt loses nothing.
            self._regions.setdefault((region.direction, region.tensor), []).append(region)
            self._give(region, slot)
        try:
            self.register(region, timeout_s)
        except BaseException as error:
            with self._lock:
                self._remove(region, slot)
            if answered(error):  # else the server may have taken it
                self._forget(region.name)
            raise
        return region

    def register(self, region: Region, timeout_s: float) -> None:
        """Register a region."""
        call = self._transport.unregister_call(region.name, _kind_of(region))
        lifeline.registered(region.name, call)
        if region.state == "created":
            region.state = "registered"
        if region.device_id is None:
            self._transport.register_system(region.name, region.key, region.nbytes, timeout_s)
        else:
            self._transport.register_cuda(
                region.name, region.handle, region.device_id, region.nbytes, timeout_s
            )
        _log.debug(
            "registered %s: %s %s, %d bytes",
            region.name, region.direction, region.tensor, region.nbytes,
        )  # fmt: skip

    def renew(self, slot: Slot, region: Region, timeout_s: float) -> None:
        """Register a slot's region anew.

        One that was removed meanwhile, or whose file has vanished, leaves the slot:
        its tensor goes over the wire.
        """
        key = (region.direction, region.tensor)
        with self._lock:
            if region.state != "registered":  # another thread, which had lent it, removed it
                slot.regions.pop(key, None)
                return
            self._renewing.append(region)
        try:
            self.register(region, timeout_s)
            self._tell("register", region)
        except RegionNotVisibleError:
            if region.exists():
                raise
            _log.warning(
                "%s has vanished from /dev/shm; %s %r goes over the wire", region.name, *key
            )
            with self._lock:
                self._remove(region, self._taken.get(region.name))
            self._forget(region.name)
            slot.regions.pop(key, None)
        finally:
            with self._lock:
                self._renewing.remove(region)
                if region.state == "quarantined":  # it was removed meanwhile
                    self._owed[region.name] = region.describe()

    def discard(self, region: Region) -> None:
        """Remove a region that its slot needs no longer."""
        with self._lock:
            self._taken.pop(region.name, None)
        self.retire([region])

    def give_back(self, slot: Slot) -> None:
        """Take a slot's regions back, to be used again."""
        with self._lock:
            regions = self._own(slot)
            for region in regions:
                self._taken.pop(region.name, None)
            gone = self._surplus(regions)
            if self._stale or self._closed:
                gone += [r for r in regions if r.name in self._stale or self._closed]
            self._end(slot)
        if gone:
            self.retire(gone)
        self._after_close()

    def abandon(self, slot: Slot) -> None:
        """Remove the regions of a request that was given up.

        The server may still read or write them, in its own mapping, which it
        keeps until it is done: never use them again.
        """
        with self._lock:
            for region in self._own(slot):
                _log.info("region %s is given up with its request", region.name)
                self._remove(region, slot)
                lifeline.owed(region.name)
            self._end(slot)
        self._after_close()

    def _after_close(self) -> None:
        """Do for a request that ends after all is closed what closing does for the others."""
        if self._left:
            self.settle()
            self._leave_parked()
        if self._closed:
            self._transport.close()

    def _own(self, slot: Slot) -> list[Region]:
        """Return the regions that a slot has taken; those it has borrowed are another's."""
        taken = self._taken
        own = [region for region in slot.regions.values() if taken.get(region.name) is slot]
        lost = len(own) < len(taken) and len(own) < sum(t is slot for t in taken.values())
        if lost:  # after an interrupt
            own = [region for region in self._all() if self._taken.get(region.name) is slot]
        return own

    def _surplus(self, regions: list[Region]) -> list[Region]:
        """Return what need not be kept: more spares than requests were ever in flight.

        One more is kept, because a result without a copy still holds its
        region while the next request is on its way.
        """
        surplus: list[Region] = []
        enough = max(1, self._most_slots) + 1
        for region in regions:  # one of each tensor
            if len(self._regions.get((region.direction, region.tensor), ())) > enough:
                surplus += self._spare(region.direction, region.tensor)[:-enough]
        return surplus

    def _abandon_lost(self, slot: Slot) -> None:
        """Give up what an interrupted slot of this thread left taken.

        A request's slot belongs to its thread, and a thread has one at a time:
        another one was interrupted in the middle of its end.
        """
        for other in list(self._in_flight):
            if other is not slot and other.thread == threading.get_ident():
                self.abandon(other)
        if self._crowd not in (None, slot) and self._crowd.thread == threading.get_ident():
            self._crowd = None

    # All of them

    @property
    def ends(self) -> int:
        """How many requests have ended, or given back their regions, so far."""
        return self._ends

    def enter_crowd(self, slot: Slot, timeout_s: float) -> bool:
        """Wait until no other request is waiting for room; one at a time tries again.

        Returns
        -------
        bool
            Whether it is this one's turn, in time.
        """
        with self._lock:
            turn = self._ended.wait_for(lambda: self._crowd in (None, slot), timeout_s)
            if turn:
                self._crowd = slot
            return turn

    def leave_crowd(self, slot: Slot) -> None:
        """Let another request wait for room, if this one did."""
        if self._crowd is slot:
            with self._lock:
                self._crowd = None
                self._ended.notify_all()

    def wait_for_room(self, slot: Slot, ends: int, timeout_s: float) -> bool:
        """Wait until another request has ended, since there were so many ends.

        Returns
        -------
        bool
            Whether one has; False at once where none is in flight.
        """
        with self._lock:
            others = any(other is not slot for other in self._in_flight)
            return self._ends != ends or (
                others and self._ended.wait_for(lambda: self._ends != ends, timeout_s)
            )

    def retire_all(self) -> bool:
        """Remove every region; one that a request uses goes when the request has ended.

        Returns
        -------
        bool
            Whether the server answered.
        """
        with self._lock:
            self._most_slots = 0
            copies, self._idle_copies = self._idle_copies, []
        for each in copies:
            _close_copies(each)
        return self.retire_some(lambda _: True)

    def retire_some(self, wanted: Callable[[Region], bool]) -> bool:
        """Remove regions; one that a request uses goes when the request has ended.

        Parameters
        ----------
        wanted
            Tells of each whether it is to go.

        Returns
        -------
        bool
            Whether the server answered.
        """
        with self._lock:
            regions = [region for region in self._all() if wanted(region)]
            self._stale |= {region.name for region in regions if region.name in self._taken}
            free = [region for region in regions if region.name not in self._taken]
        return self.retire(free)

    def retire(self, regions: Iterable[Region]) -> bool:
        """Unregister and remove regions; what the server will not let go of yet is owed.

        Returns
        -------
        bool
            Whether the server answered.
        """
        with self._lock:
            self._finish_removals()
            for region in regions:
                if region.name not in self._taken and region.state != "closed":
                    self._remove(region, None)
        return self.settle()

    def settle(self) -> bool:
        """Unregister what is owed, as far as the server lets it go. Never raises for it.

        Returns
        -------
        bool
            Whether the server answered.
        """
        for name, owed in list(self._owed.items()):
            try:
                self._unregister(name, _kind_of(owed))
                _log.debug("unregistered %s", name)
                self._tell("unregister", owed)
                self._forget(name)
            except (NoReplyError, ServerBusyError) as error:
                _log.debug("region %s stays owed: %s", name, error)
                unsent = isinstance(error, NoReplyError) and not error.sent
                self._process_gone = unsent and _REFUSED in error.message
                return False
            except RegionInUseError:
                lifeline.owed(name)
            except TritonicError as error:
                _log.warning("region %s could not be unregistered: %s", name, error)
                self._refusals[name] = self._refusals.get(name, 0) + 1
                if self._refusals[name] == _MOST_REFUSALS:
                    self._keep_for_good(name)
                    self._forget(name)
            self._process_gone = False
        return True

    def _unregister(self, name: str, kind: MemoryKind) -> None:
        """Unregister a region.

        Raises
        ------
        RegionInUseError
            If a request still uses it. Servers since 2.53 say that it is done, and list a
            region of a device until it is.
        """
        self._transport.unregister(name, kind)
        if kind == "cuda":
            listed = self._transport.registered_regions(kind)
            if any(region.get("name") == name for region in listed):
                raise RegionInUseError(f"region {name!r} is still in use")

    def close(self) -> None:
        """Unregister and remove everything; never stops half-way.

        A request of another thread is given a moment. One that takes longer
        removes its regions itself when it ends.
        """
        give_up = time.monotonic() + _LAST_WAIT_S
        with self._lock:
            self._closed = True
            self._abandon_lost(self.slot())
            while self._in_flight and (left := give_up - time.monotonic()) > 0:
                self._ended.wait(left)
            held = {id(slot): slot for slot in self._taken.values() if slot.thread is None}
        for slot in held.values():
            self.give_back(slot)
        answers = self.retire_all()
        while self._owed and answers and time.monotonic() < give_up:
            time.sleep(0.05)
            answers = self.settle()
        with self._lock:
            self._finish_removals()
        for name in list(self._owed):
            lifeline.owed(name)
        self._left = True
        self._leave_parked()
        if self._owed and answers:
            _log.info(
                "the server at %s still works on a request that was given up, and keeps the memory "
                "of these regions until it is done: %s",
                self._transport.url,
                ", ".join(self._owed),
            )
        elif self._owed:
            _log.info("%s is away, with %s", self._transport.url, ", ".join(self._owed))

    def _leave_parked(self) -> None:
        """Do at the end with device memory what can be done while the server has it."""
        for name in list(self._parked):
            if self._process_gone:  # and its mapping with it
                self._forget(name)
            else:
                self._keep_for_good(name)

    def _remove(self, region: Region, slot: Slot | None) -> None:
        """Take a region out; one whose removal was interrupted is finished later."""
        if region not in self._leaving:
            self._leaving.append(region)
        if region.state == "registered":
            self._owed[region.name] = replace(
                region.describe(), state="quarantined", fd=None, address=0, held=False
            )
        self._stale.discard(region.name)
        if slot is not None:
            slot.regions.pop((region.direction, region.tensor), None)
        self._taken.pop(region.name, None)
        of_tensor = self._regions.get((region.direction, region.tensor), [])
        if region in of_tensor:
            of_tensor.remove(region)
        if region.needs_unregistering_first and region.name in self._owed:
            region.state = "quarantined"
            self._parked[region.name] = region
            self._leaving.remove(region)
        else:
            self._close_region(region)

    def _close_region(self, region: Region) -> None:
        try:
            region.close()
        except SharedMemoryError as error:
            _log.warning("%s", error)
        else:
            with contextlib.suppress(ValueError):
                self._leaving.remove(region)

    def _finish_removals(self) -> None:
        """Remove what an interrupt, or an error, left half removed."""
        for region in list(self._leaving):
            self._remove(region, self._taken.get(region.name))

    def _forget(self, name: str) -> None:
        """Owe a region no longer: the server does not have it."""
        with self._lock:
            region = self._parked.get(name)
            if region is not None:
                if region in self._renewing:  # the server is about to have it again
                    return
                self._leaving.append(region)
                del self._parked[name]
        self._owed.pop(name, None)
        self._refusals.pop(name, None)
        lifeline.unregistered(name)
        if region is not None:  # without the lock: a device first does what it has to do
            self._close_region(region)

    def _keep_for_good(self, name: str) -> None:
        """Leave a region's memory, if it is a device's, to the end of this process."""
        with self._lock:
            region = self._parked.pop(name, None)
            if region is not None:
                _kept_for_good.append(region)
                _log.warning(
                    "the server keeps region %s, and so do %d bytes of CUDA device %s until this "
                    "process ends", name, region.nbytes, region.device_id,
                )  # fmt: skip

    def lend_copies(self, device: int) -> CopyStream:
        """Return what copies to and from a device, for one request."""
        with self._lock:
            for copies in self._idle_copies:
                if copies.device == device:
                    self._idle_copies.remove(copies)
                    return copies
        return CopyStream(device)

    def return_copies(self, copies: CopyStream) -> None:
        """Take back what :meth:`lend_copies` gave."""
        with self._lock:
            if not self._closed and len(self._idle_copies) < _MOST_IDLE_COPIES:
                self._idle_copies.append(copies)
                return
        _close_copies(copies)


def _close_copies(copies: CopyStream) -> None:
    try:
        copies.close()
    except SharedMemoryError as error:  # CUDA is of no more use, and frees all at the end
        _log.debug("%s", error)


class Slot:
    """The regions of one request in flight, which no other request uses meanwhile.

    A context manager. At its end the regions are there for the next request,
    unless the server may still use them (the request was sent and no reply
    came): then they are given up.

    Attributes
    ----------
    regions
        By direction and tensor.
    thread
        The thread whose request it is; None where it is no request's.
    sent
        Whether the request is with the server.
    begun
        Whether the slot has taken a region, and not ended since.
    """

    def __init__(self, owner: RegionSet, thread: int | None) -> None:
        self._set = owner
        self.thread = thread
        self.regions: dict[tuple[str, str], Region] = {}
        self.sent = False
        self.begun = False
        self._copies: dict[int, CopyStream] = {}  # by device

    def place(self, need: Need, timeout_s: float) -> Region:
        """Return a registered region for a tensor, for this slot alone.

        One that no other request and no view uses is used again. One that is
        too small is replaced: the new one is made and registered before the
        old one goes, so that a failure leaves things as they were.

        Parameters
        ----------
        need
            What it is for.
        timeout_s
            The time limit for registering it, in seconds.

        Raises
        ------
        NoSpaceError
            If there is too little memory, even without the regions that nobody uses.
        SharedMemoryError
            If the server does not take the region.
        """
        key = (need.direction, need.tensor)
        had = self.regions.get(key)
        if had is not None and need.met_by(had):
            return had
        try:
            region = self._set.take(self, need, timeout_s)
        except NoSpaceError:
            if had is None or self.thread is None:  # what is held is the user's data
                raise
            self.discard(*key)
            return self._set.take(self, need, timeout_s)
        if had is not None:
            self._set.discard(had)
        region.await_readers()
        return region

    def retake(self, regions: Mapping[tuple[str, str], Region]) -> bool:
        """Take the very regions that a request had before, all of them or none.

        Returns
        -------
        bool
            False where one is another's now, or gone.
        """
        if not self._set.retake(self, regions):
            return False
        for region in regions.values():
            region.await_readers()
        return True

    def write(self, region: Region, array: Tensor) -> None:
        """Begin to write an array to a region of the slot; see :meth:`finish_copies`.

        Raises
        ------
        RegionTooSmallError
            If it does not fit.
        SharedMemoryError
            If CUDA fails.
        """
        region.write(array, copies=self._copies_for(region, array))

    def read(
        self, region: Region, datatype: str, shape: Sequence[int], *, nbytes: int, copy: bool
    ) -> Tensor:
        """Begin to read an array from a region of the slot; see :meth:`finish_copies`.

        Raises
        ------
        TensorShapeError
            If the region has fewer bytes than the shape needs.
        SharedMemoryError
            If CUDA fails.
        """
        copies = self._copies_for(region)
        return region.read(datatype, shape, nbytes=nbytes, copy=copy, copies=copies)

    def bring(self, region: Region) -> None:
        """Begin to bring a region that the user fills in place to where the server reads it."""
        if region.device_id is not None:
            region.bring(self._copies_for(region))

    def finish_copies(self) -> None:
        """Wait until all that was begun to be written and read is done."""
        for copies in self._copies.values():
            copies.finish()

    def _copies_for(self, region: Region, array: Tensor | None = None) -> CopyStream | None:
        device = region.device_id
        if device is None:
            if not isinstance(array, DeviceArray):
                return None
            device = array.device
        if device not in self._copies:
            self._copies[device] = self._set.lend_copies(device)
        return self._copies[device]

    def return_copies(self) -> None:
        """Let others use what copies."""
        while self._copies:
            _, copies = self._copies.popitem()
            try:
                copies.drop()
            except SharedMemoryError as error:  # CUDA is of no more use; nothing is lost with it
                _log.debug("%s", error)
            else:
                self._set.return_copies(copies)

    def slice(self, direction: str, tensor: str, nbytes: int) -> RegionSlice | None:
        """Return the part of a tensor's region to name in a request; None for the wire."""
        region = self.regions.get((direction, tensor))
        if region is None:
            return None
        return RegionSlice(region.name, region.offset(0), nbytes, region.device_id)

    def register_again(self, timeout_s: float) -> None:
        """Register the regions anew, at a server that was restarted."""
        for region in list(self.regions.values()):
            self._set.renew(self, region, timeout_s)

    def borrow(self, region: Region | None) -> None:
        """Use a region that another slot holds."""
        if region is not None:
            self.regions[region.direction, region.tensor] = region

    def give_back(self) -> None:
        """Let others use the regions."""
        self.return_copies()  # first: what was begun to be copied must not meet theirs
        self._set.give_back(self)

    def discard(self, direction: str, tensor: str) -> None:
        """Remove the region of a tensor, which goes over the wire instead."""
        self.finish_copies()
        region = self.regions.pop((direction, tensor), None)
        if region is not None:
            self._set.discard(region)

    def discard_all_but(self, names: Container[str] = ()) -> None:
        """Remove the regions that do not have one of these names."""
        for key, region in list(self.regions.items()):
            if region.name not in names:
                self.discard(*key)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._set.leave(self)


def _kind_of(region: Region | RegionDescriptor) -> MemoryKind:
    """Return Triton's name for a region's kind."""
    return "system" if region.device_id is None else "cuda"


def answered(error: BaseException) -> bool:
    """Whether an error is the server's own answer, so that it is done with the request."""
    return isinstance(error, TritonicError) and not isinstance(error, NoReplyError)

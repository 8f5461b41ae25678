"""What a shared-memory region is, whichever memory it lies in."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, RegionTooSmallError, brief
from tritonic_nb.memory.copies import CopyStream
from tritonic_nb.memory.device_array import Tensor

__all__ = ["Region", "RegionDescriptor", "SharedMemoryType"]

_SLOT_ALIGNMENT = 64  # bytes: a cache line, and enough for every vector load


class SharedMemoryType(str, Enum):
    """How tensors travel between the session and the server.

    Every place that takes one also takes its name in any case.
    """

    NONE = "none"
    """Over the wire, in the body of the request and the reply."""
    SYSTEM = "system"
    """POSIX shared memory, a file under ``/dev/shm``."""
    CUDA = "cuda"
    """Memory of a CUDA device, by CUDA IPC."""
    AUTO = "auto"
    """The best of these that works with the server, which is tried on connecting."""

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, value: SharedMemoryType | str) -> SharedMemoryType:
        """Return the member of that name, in any case.

        Raises
        ------
        ArgumentError
            If there is none.
        """
        try:
            return cls(value.lower()) if isinstance(value, str) else cls(value)
        except Exception:  # whatever it is, it is compared with the members
            raise ArgumentError(
                f"{brief(value)} is not a shared-memory type",
                f"use one of {', '.join(repr(m.value) for m in cls)}",
            ) from None


@dataclass(frozen=True, repr=False)
class RegionDescriptor(render.Described):
    """A region as it stood when it was described.

    Attributes
    ----------
    name
        The name under which the server knows it.
    key
        The POSIX name, as in ``/dev/shm``; empty for CUDA.
    kind
        The memory it lies in.
    device_id
        The CUDA device, or None.
    nbytes
        The whole region, in bytes.
    fd
        The open file descriptor, or None for CUDA.
    address
        Where it is mapped in this process, or the device pointer.
    tensor, direction
        The tensor it holds, and ``"input"`` or ``"output"``.
    slots, slot_nbytes
        How many requests can be in flight through it, and the bytes of each one's part.
    state
        ``"created"``, ``"registered"``, ``"quarantined"`` (a request was
        abandoned and the server may still write to it) or ``"closed"``.
    held
        Whether somebody still has an array that is a view of it, of ``copy=False`` or of
        ``session.inputs``: no other request uses it meanwhile.
    """

    name: str
    key: str
    kind: SharedMemoryType
    device_id: int | None
    nbytes: int
    fd: int | None
    address: int
    tensor: str
    direction: str
    slots: int
    slot_nbytes: int
    state: str
    held: bool = False

    @property
    def state_text(self) -> str:
        """The state in words, with whether an array holds it."""
        return f"{self.state}, held by an array" if self.held else self.state

    @property
    def place(self) -> str:
        """The memory it lies in, in words."""
        return str(self.kind) if self.device_id is None else f"{self.kind} {self.device_id}"

    def __repr__(self) -> str:
        where = f"{self.place} memory {self.key or self.name}"
        return render.line(
            f"<Region {self.direction} {self.tensor}: {render.human_bytes(self.nbytes)}, "
            f"{where}, {self.state_text}>"
        )

    def _described(self) -> render.Description:
        slots = f"{self.slots} of {render.human_bytes(self.slot_nbytes)}"
        rows = [
            ("name", self.name),
            ("memory", self.place),
            *([("key", self.key)] if self.key.lstrip("/") not in ("", self.name) else []),
            ("bytes", f"{render.human_bytes(self.nbytes)} ({self.nbytes:,})"),
            *([("slots", slots)] if self.slots != 1 else []),
            ("state", self.state_text),
        ]
        return f"Region of {self.direction} {self.tensor}", rows, ()


class Region(render.Described, ABC):
    """A named block of memory that both the session and the server can reach.

    Made by a session, never by hand. It is divided into slots of equal size,
    one for each request in flight; a slot is an offset, the region itself is
    always registered at offset 0 (servers before 2.61 add a region's own
    offset twice).

    Attributes
    ----------
    name, tensor, direction, slots, slot_nbytes, nbytes, state, key, device_id
        As in :class:`RegionDescriptor`.
    handle
        The CUDA IPC handle, 64 bytes; empty for system memory.
    """

    kind: SharedMemoryType
    device_id: int | None = None
    key: str = ""
    handle: bytes = b""
    needs_unregistering_first = False
    """Whether its memory has to stay for as long as the server has it registered."""

    def __init__(
        self, name: str, tensor: str, direction: str, slot_nbytes: int, slots: int
    ) -> None:
        self.name = name
        self.tensor = tensor
        self.direction = direction
        self.slot_nbytes = slot_nbytes
        self.slots = slots
        self.state = "created"
        self._views: list[weakref.ref[Any]] = []  # what was given out, or keeps its memory

    def __repr__(self) -> str:
        return repr(self.describe())

    def _described(self) -> render.Description:
        return self.describe()._described()

    @property
    def stride(self) -> int:
        """The bytes from the start of one slot to the start of the next."""
        return -(-self.slot_nbytes // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT

    @property
    def nbytes(self) -> int:
        """The bytes of the whole region."""
        return self.stride * self.slots

    def offset(self, slot: int) -> int:
        """Return where a slot starts, in bytes."""
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of a region with {self.slots}")
        return self.stride * slot

    def check_fits(self, nbytes: int) -> None:
        """Refuse a tensor that is larger than a slot.

        Raises
        ------
        RegionTooSmallError
            With both sizes.
        """
        if nbytes > self.slot_nbytes:
            raise RegionTooSmallError(
                f"{self.direction} {self.tensor!r} needs {nbytes} bytes "
                f"and region {self.name!r} has {self.slot_nbytes} for it",
                "register it again with the larger shape, or let infer() grow it",
            )

    @abstractmethod
    def write(self, array: Tensor, *, slot: int = 0, copies: CopyStream | None = None) -> int:
        """Write an array to a slot and return its bytes, checked against the slot.

        Parameters
        ----------
        array
            In host memory, or in that of a device.
        slot
            The slot.
        copies
            What copies to or from a device, where the region or the array lies on one: it
            may be under way until its :meth:`~tritonic_nb.memory.copies.CopyStream.finish`.
        """

    @abstractmethod
    def read(
        self,
        datatype: str,
        shape: Sequence[int],
        *,
        nbytes: int,
        slot: int = 0,
        copy: bool = True,
        copies: CopyStream | None = None,
    ) -> Tensor:
        """Read an array from a slot; ``copy=False`` gives a view that pins the region.

        Parameters
        ----------
        copies
            As for :meth:`write`: a copy from a device is complete when that has finished.
        """

    @abstractmethod
    def view(self, datatype: str, shape: Sequence[int], *, slot: int = 0) -> npt.NDArray[Any]:
        """Return a slot as a writable array that pins the region."""

    def bring(self, copies: CopyStream | None) -> None:
        """Bring what was written to an array of :meth:`view` to where the server reads it."""

    def await_readers(self) -> None:
        """Wait until what others do with views that are gone by now is done."""

    def pinned(self) -> bool:
        """Whether an array given out by :meth:`view` or ``read(copy=False)`` is still in use."""
        if self._views:
            self._views = [view for view in self._views if view() is not None]
        return bool(self._views)

    @abstractmethod
    def exists(self) -> bool:
        """Whether the server could open the region now, as far as this process can tell."""

    @property
    def fd(self) -> int | None:
        """The open file descriptor; None where the memory is no file."""
        return None

    @property
    @abstractmethod
    def address(self) -> int:
        """Where it is mapped in this process, or the device pointer."""

    def describe(self) -> RegionDescriptor:
        """Return the region as it is now."""
        return RegionDescriptor(
            name=self.name,
            key=self.key,
            kind=self.kind,
            device_id=self.device_id,
            nbytes=self.nbytes,
            fd=self.fd,
            address=self.address,
            tensor=self.tensor,
            direction=self.direction,
            slots=self.slots,
            slot_nbytes=self.slot_nbytes,
            state=self.state,
            # Not pinned(), which lets go of dead views: another thread may add one now.
            held=any(view() is not None for view in tuple(self._views)),
        )

    @abstractmethod
    def close(self) -> None:
        """Remove the region. Views stay readable; safe to repeat."""

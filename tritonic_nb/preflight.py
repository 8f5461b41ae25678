"""What an inference will need, and whether it fits: asked before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tritonic_nb import render
from tritonic_nb.errors import SharedMemoryError
from tritonic_nb.memory import (
    SharedMemoryType,
    Space,
    device_memory,
    host_space,
    region_nbytes,
)
from tritonic_nb.render import human_bytes
from tritonic_nb.sizes import TensorSize
from tritonic_nb.tensors import ModelSpec

__all__ = ["PoolOwner", "Preflight", "Requirement", "preflight"]


@runtime_checkable
class PoolOwner(Protocol):
    """A server of ours, which knows the Python backend's own pools in ``/dev/shm``."""

    def pool_growth(self, model: str, input_nbytes: int, output_nbytes: int, in_flight: int) -> int:
        """Return the bytes by which a model's pools are expected to grow at an inference."""


@dataclass(frozen=True)
class Requirement:
    """What one tensor needs.

    Attributes
    ----------
    direction, tensor, datatype
        Which tensor.
    shape
        Its whole shape, or None where the model does not tell.
    nbytes
        Its bytes, or None where they are not known: it comes over the wire the
        first time.
    place
        ``"system"``, ``"cuda"`` or ``"none"`` (the wire).
    new_nbytes
        The bytes of the regions that have to be made for it, beyond those there are.
    """

    direction: str
    tensor: str
    datatype: str
    shape: tuple[int, ...] | None
    nbytes: int | None
    place: SharedMemoryType
    new_nbytes: int


@dataclass(frozen=True, repr=False)
class Preflight(render.Described):
    """What an inference will need, and whether it fits. True where it does.

    Attributes
    ----------
    model
        The model's name.
    requirements
        Each tensor's part.
    in_flight
        For how many requests at the same time.
    region_nbytes
        The regions that have to be made in ``/dev/shm``, in bytes.
    pool_nbytes
        How far Triton's Python backend will enlarge its own pools in ``/dev/shm``,
        in bytes, as measured with Triton 2.51; None where the server is not ours.
    host
        The room that there is; None where no tensor goes through ``/dev/shm``.
    device_nbytes
        The regions that have to be made on the CUDA device, in bytes.
    device_free_nbytes, device_total_nbytes
        The device's memory, where it is to be used and can be asked.
    problems
        Why it does not fit, each as a sentence with its figures.
    remedy
        What to do about it.
    """

    model: str
    requirements: tuple[Requirement, ...]
    in_flight: int
    region_nbytes: int
    pool_nbytes: int | None
    host: Space | None
    device_nbytes: int
    device_free_nbytes: int | None
    device_total_nbytes: int | None
    problems: tuple[str, ...]
    remedy: str

    @property
    def fits(self) -> bool:
        """Whether there is room for all of it."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.fits

    def _described(self) -> render.Description:
        rows = [("why not", problem) for problem in self.problems]
        if self.problems:
            rows.append(("what to do", self.remedy))
        if self.host is not None:
            rows.append(("shared memory", self._host_text()))
            rows.append(
                (
                    "memory",
                    f"{human_bytes(self.host.available_nbytes)} available "
                    f"({self.host.available_in})",
                )
            )
        if self.device_nbytes:
            rows.append(("device", self._device_text()))
        table = render.Table(
            "tensors",
            ("tensor", "datatype and shape", "bytes", "by", "to be made"),
            [_cells(each) for each in self.requirements],
            numeric=(2, 4),
        )
        verdict = "fits" if self.fits else "does not fit"
        more = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        return f"Preflight of {self.model}{more}: {verdict}", rows, [table]

    def _host_text(self) -> str:
        assert self.host is not None  # noqa: S101 - asked for only then
        if self.pool_nbytes is None:
            pools = "what the model itself uses at its server is not known"
        else:
            pools = f"{human_bytes(self.pool_nbytes)} more for Triton's Python backend"
        return (
            f"{human_bytes(self.region_nbytes)} for regions, {pools}; "
            f"{human_bytes(self.host.free_nbytes)} free of {human_bytes(self.host.total_nbytes)}"
        )

    def _device_text(self) -> str:
        if self.device_free_nbytes is None or self.device_total_nbytes is None:
            return f"{human_bytes(self.device_nbytes)} for regions"
        return (
            f"{human_bytes(self.device_nbytes)} for regions; "
            f"{human_bytes(self.device_free_nbytes)} free of "
            f"{human_bytes(self.device_total_nbytes)}"
        )


def preflight(
    model: ModelSpec,
    sizes: Sequence[TensorSize],
    kinds: Mapping[str, SharedMemoryType],
    *,
    device: int,
    in_flight: int,
    there: Callable[[str, str, int], int],
    pools: PoolOwner | None,
) -> Preflight:
    """Compare what an inference needs with what there is.

    Parameters
    ----------
    model
        The model.
    sizes
        Of the tensors.
    kinds
        How inputs and outputs travel.
    device
        The CUDA device.
    in_flight
        For how many requests at the same time.
    there
        Returns how many regions with that room a tensor has already.
    pools
        The server, where it is ours.
    """
    required = tuple(_requirement(size, kinds[size.direction], in_flight, there) for size in sizes)
    by_kind = {
        kind: sum(each.new_nbytes for each in required if each.place is kind)
        for kind in SharedMemoryType
    }
    growth = _pool_growth(model, required, in_flight, pools)
    host = host_space() if SharedMemoryType.SYSTEM in kinds.values() or growth else None
    problems = _host_problems(host, by_kind[SharedMemoryType.SYSTEM], growth or 0)
    smaller = "send smaller batches or fewer at a time"
    remedies: list[str] = []
    if host is not None and problems:
        # Over the wire already: what is short is the server's own part.
        by_wire = not by_kind[SharedMemoryType.SYSTEM]
        remedies.append(f"{smaller}, or {host.how_to_enlarge if by_wire else host.remedy}")
    free = total = None
    if SharedMemoryType.CUDA in kinds.values():
        nbytes = by_kind[SharedMemoryType.CUDA]
        try:
            free, total = device_memory(device)
        except SharedMemoryError as error:
            problems.append(error.message)
            remedies.append(error.remedy)
        else:
            if nbytes > free:
                problems.append(
                    f"{human_bytes(nbytes)} are needed on CUDA device {device}, and "
                    f"{human_bytes(free)} are free"
                )
                remedies.append(
                    f"{smaller}, or choose another device (session.devices()), or use "
                    "shared_memory='system'"
                )
    return Preflight(
        model=model.name,
        requirements=required,
        in_flight=in_flight,
        region_nbytes=by_kind[SharedMemoryType.SYSTEM],
        pool_nbytes=growth,
        host=host,
        device_nbytes=by_kind[SharedMemoryType.CUDA],
        device_free_nbytes=free,
        device_total_nbytes=total,
        problems=tuple(problems),
        remedy="; ".join(remedies),
    )


def _requirement(
    size: TensorSize,
    kind: SharedMemoryType,
    in_flight: int,
    there: Callable[[str, str, int], int],
) -> Requirement:
    spec, nbytes = size.spec, size.nbytes
    # As the session does: what is empty or of unknown size goes over the wire.
    place = SharedMemoryType.NONE if not nbytes else kind
    new = 0
    if nbytes and place is not SharedMemoryType.NONE:
        missing = max(0, in_flight - there(size.direction, spec.name, nbytes))
        new = missing * region_nbytes(kind, nbytes)
    return Requirement(size.direction, spec.name, spec.datatype, size.shape, nbytes, place, new)


def _pool_growth(
    model: ModelSpec,
    required: Sequence[Requirement],
    in_flight: int,
    pools: PoolOwner | None,
) -> int | None:
    if pools is None or model.backend != "python":
        return None if pools is None else 0
    sums = {
        direction: sum(each.nbytes or 0 for each in required if each.direction == direction)
        for direction in ("input", "output")
    }
    return pools.pool_growth(model.name, sums["input"], sums["output"], in_flight)


def _host_problems(host: Space | None, regions: int, pools: int) -> list[str]:
    if host is None or regions + pools <= host.room_nbytes:
        return []
    return [
        f"{human_bytes(regions + pools)} are needed in /dev/shm ({human_bytes(regions)} for regions"
        f"{f', {human_bytes(pools)} for the Python backend' if pools else ''}), and "
        f"{human_bytes(host.room_nbytes)} are to be had: the limit is {host.limit}"
    ]


def _cells(each: Requirement) -> tuple[str, str, str, str, str]:
    shape = "?" if each.shape is None else list(each.shape)
    by = "the wire" if each.place is SharedMemoryType.NONE else str(each.place)
    return (
        f"{each.direction} {each.tensor}",
        f"{each.datatype} {shape}",
        "not known" if each.nbytes is None else human_bytes(each.nbytes),
        f"{by} at first" if each.nbytes is None else by,
        human_bytes(each.new_nbytes) if each.new_nbytes else "",
    )

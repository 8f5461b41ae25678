"""The Python backend's pools: files in ``/dev/shm`` through which it talks to its models.

Each model instance has one. Tritonserver and the model's process put every tensor
into it, whether it came over the wire or through shared memory, so that it grows
with the tensors. It never shrinks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "POOL_STEP_NBYTES",
    "PREFIX",
    "SHM",
    "lock_file",
    "new_prefix",
    "pool_files",
    "pool_growth",
    "pool_nbytes",
    "pool_sizes",
    "pools_of_model",
    "remove_pools",
]

SHM = Path("/dev/shm")  # noqa: S108 - this is where Linux keeps POSIX shared memory
PREFIX = "tritonic_nb_pool_"
POOL_STEP_NBYTES = 2**20
"""A pool's size at first, and the step by which it grows.

One step should always stay free in ``/dev/shm``. A pool that cannot grow for a tensor
is an error of that request. But when a tensor has filled the pool so nearly that the
backend's own messages (about 1 kB) find no room, and no step is free for them either,
Triton 2.51 ends by an exception that it does not catch.
"""
# What tensors find in a new pool; the rest holds the backend's message queues.
NEW_POOL_ROOM = 900_000


def new_prefix() -> str:
    """Return the beginning of the names of one server's pools."""
    return f"{PREFIX}{os.getpid()}_{secrets.token_hex(6)}_"


def lock_file(prefix: str) -> Path:
    """Return the file whose lock tells that the server of these pools lives."""
    return SHM / f"{prefix}lock"


def pool_files(prefix: str) -> list[Path]:
    """Return the pools whose names begin so, in alphabetical order."""
    lock = lock_file(prefix)
    return sorted(file for file in SHM.glob(f"{prefix}*") if file != lock)


def pool_sizes(prefix: str) -> dict[str, int]:
    """Return the pools' names and the bytes that they take of ``/dev/shm``."""
    sizes = {}
    for file in pool_files(prefix):
        with contextlib.suppress(FileNotFoundError):  # its model was unloaded just now
            sizes[file.name] = file.stat().st_blocks * 512
    return sizes


def pools_of_model(prefix: str, model: str) -> list[int]:
    """Return the bytes of a model's pools, one for each of its instances.

    Which pool is whose stands in the command lines of the models' processes: the
    path of the model, then the name of the pool.
    """
    sizes = pool_sizes(prefix)
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words = file.read_bytes().decode(errors="replace").split("\0")
            pool = next((word for word in words if word in sizes), "")
            if pool and Path(words[1]).parts[-3:-2] == (model,):
                found.append(sizes[pool])
    return found


def pool_growth(pools: Sequence[int], input_nbytes: int, output_nbytes: int, in_flight: int) -> int:
    """Return how far the pools of a model will grow, with the step that should stay free.

    Parameters
    ----------
    pools
        The bytes of its pools now; none for a model that is not loaded.
    input_nbytes, output_nbytes
        The bytes of all inputs and of all outputs of one request.
    in_flight
        How many requests at the same time.
    """
    needed = pool_nbytes(input_nbytes, output_nbytes)
    if in_flight > 1 and needed > POOL_STEP_NBYTES:
        # Seen with three at once: the outputs too are there twice, with rounding for each.
        needed += (output_nbytes // POOL_STEP_NBYTES + 2) * POOL_STEP_NBYTES
    growth = sum(max(0, needed - size) for size in pools) if pools else needed
    return growth + POOL_STEP_NBYTES


def remove_pools(prefix: str) -> None:
    """Remove the pools whose names begin so; the lock file stays."""
    for file in pool_files(prefix):
        file.unlink(missing_ok=True)


def pool_nbytes(input_nbytes: int, output_nbytes: int) -> int:
    """Return how large a pool becomes by requests of one size, one after the other.

    Measured with Triton 2.51, for tensors of 0.1 to 100 MB. A pool begins with 1 MiB.
    Each tensor, input or output, that finds no free block of its size makes it grow by
    that size, rounded up to the next whole MiB. So a first request takes its inputs and
    outputs. A later one may take its inputs once more, when it comes before the outputs
    of the request before are gone: that is what this function returns. It does not
    matter whether the tensors come over the wire or through shared memory, nor how many
    others there were before that were not larger.

    Nothing larger was seen. Where a later request did come so soon, the pool was up to
    3 MiB smaller; where none did, it was smaller by the inputs, too. Two things make a
    pool larger than this: requests from several threads at once (up to twice the inputs
    and twice the outputs), and a model that keeps its ``pb_utils.Tensor`` objects
    (without end).

    Parameters
    ----------
    input_nbytes, output_nbytes
        The bytes of all inputs and of all outputs of one request.
    """
    tensors = 2 * input_nbytes + output_nbytes
    if tensors <= NEW_POOL_ROOM:
        return POOL_STEP_NBYTES
    # The new pool's own step, and three for rounding: twice an input, and an output.
    return (tensors // POOL_STEP_NBYTES + 4) * POOL_STEP_NBYTES

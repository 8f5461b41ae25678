"""A data set of pictures that is larger than the memory of the process through which it goes.

As a module it is that process: it reads from its standard input what to do, and writes what came
of it to its standard output.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb import samples
from tritonic_nb.benchmark.children import in_child
from tritonic_nb.blocks import map_blocks
from tritonic_nb.errors import ServerRefusedError
from tritonic_nb.images import load_image
from tritonic_nb.outposts import close_outposts
from tritonic_nb.server import Server
from tritonic_nb.session import Session

__all__ = ["LIMIT_NBYTES", "Large", "main", "measure_large"]

LIMIT_NBYTES = 2**30
"""What the process may have of memory of its own (``RLIMIT_DATA``)."""

_SIDE = 1024  # of a picture
_BLOCK = 8  # pictures
_LONGEST_S = 1800


@dataclass(frozen=True)
class Large:
    """What came of it.

    Attributes
    ----------
    nbytes
        The pictures' bytes.
    seconds
        From the store of pictures to that of their scores.
    peak_nbytes
        The most that the process had resident, shared memory included.
    """

    nbytes: int
    seconds: float
    peak_nbytes: int


def measure_large(server: Server, model: str, nbytes: int) -> Large:
    """Have a process with little memory take a zarr store through a classifier to another store.

    Parameters
    ----------
    server
        The server, which has the model.
    model
        One whose output ``logits`` is a row for each picture.
    nbytes
        How large the pictures are together.

    Raises
    ------
    ServerRefusedError
        If that process failed, or results are not what they should be.
    """
    order = {"url": server.url, "headers": server.headers, "model": model, "nbytes": nbytes}
    printed = in_child(__name__, order, _LONGEST_S, "taking a large data set through a model")
    return Large(**json.loads(printed))


def main() -> int:
    """Take a large data set through a model, with little memory, and print what it took."""
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_NBYTES, LIMIT_NBYTES))
    import dask

    with (
        tempfile.TemporaryDirectory(prefix="tritonic_nb_") as folder,
        ThreadPoolExecutor(2) as pool,
        dask.config.set(scheduler="threads", pool=pool),
        Session(
            order["url"], order["model"], headers=order["headers"], load=True, in_flight=2
        ) as session,
    ):
        print(json.dumps(_through(session, order["nbytes"], Path(folder))))
    close_outposts()
    return 0


def _through(session: Session, nbytes: int, folder: Path) -> dict[str, Any]:
    """Make a store of pictures, and one of their scores."""
    import dask.array

    da: Any = dask.array  # whose functions have no types
    picture = load_image(samples.image("astronaut")).resize((_SIDE, _SIDE))
    blocks = -(-nbytes // (_SIDE * _SIDE * 3 * _BLOCK))
    made = da.map_blocks(
        partial(_made, np.asarray(picture)),
        dtype=np.uint8,
        chunks=((_BLOCK,) * blocks, (_SIDE,), (_SIDE,), (3,)),
        meta=np.empty((0, 0, 0, 0), np.uint8),
    )
    made.to_zarr(folder / "pictures.zarr")
    started = time.perf_counter()
    pictures = da.from_zarr(folder / "pictures.zarr")
    scores = map_blocks(session, pictures, output="logits", secrets=True)
    scores.to_zarr(folder / "scores.zarr")
    seconds = time.perf_counter() - started
    stored = da.from_zarr(folder / "scores.zarr")
    for number in (0, blocks // 2, blocks - 1):
        part = slice(number * _BLOCK, (number + 1) * _BLOCK)
        want = session.infer(list(_made(np.asarray(picture), number)), outputs=["logits"])
        if not np.array_equal(stored[part].compute(), want["logits"]):
            raise ServerRefusedError(f"block {number} was given another result")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"nbytes": pictures.nbytes, "seconds": seconds, "peak_nbytes": peak}


def _made(picture: npt.NDArray[Any], number: int = 0, block_info: Any = None) -> npt.NDArray[Any]:
    """Return one block of pictures, none of which is another."""
    if block_info is not None:
        number = block_info[None]["chunk-location"][0]
    first = number * _BLOCK
    return np.stack([np.roll(picture, (n, 7 * n), (0, 1)) for n in range(first, first + _BLOCK)])


if __name__ == "__main__":
    sys.exit(main())

"""The memory that each way adds at its peak, each in a process of its own.

As a module it is that process: it reads from its standard input what to do, and writes
the bytes to its standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tritonic_nb.benchmark.children import in_child
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.session_ways import SessionInPlace
from tritonic_nb.benchmark.way import Way, tensor
from tritonic_nb.benchmark.ways import WAYS
from tritonic_nb.errors import ServerRefusedError

__all__ = ["main", "measure_memory"]

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # what proc(5) says to write to clear_refs
_SMALL_NBYTES = 4096
_EXCHANGES = 3
_PART = 2**20
_LIMIT_S = 120


def measure_memory(
    kinds: Sequence[type[Way]], endpoint: Endpoint, nbytes: int
) -> Mapping[str, int]:
    """Return by how many bytes the resident memory of a process grows at its peak, by way.

    A process of its own opens the way, exchanges a small tensor, so that all code is
    there, and then makes one of `nbytes` and exchanges it a few times. Its arrays and
    its mappings of the regions count, each page once; the server's memory does not.

    Raises
    ------
    ServerRefusedError
        If such a process failed.
    """
    return {kind.key: _in_child(kind, endpoint, nbytes) for kind in kinds}


def _in_child(kind: type[Way], endpoint: Endpoint, nbytes: int) -> int:
    order = {"way": kind.key, "nbytes": nbytes, "endpoint": asdict(endpoint)}
    return int(in_child(__name__, order, _LIMIT_S, f"{kind.label}: measuring its memory"))


def main() -> int:
    """Measure one way in this process, and print the bytes."""
    order = json.load(sys.stdin)
    kind = next(way for way in WAYS if way.key == order["way"])
    print(_peak_growth(kind, Endpoint(**order["endpoint"]), order["nbytes"]))
    return 0


def _peak_growth(kind: type[Way], endpoint: Endpoint, nbytes: int) -> int:
    small = kind(endpoint, _SMALL_NBYTES)
    try:
        small.put(tensor(_SMALL_NBYTES))
        small.exchange()
    finally:
        small.close()
    before = _status_nbytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    way = kind(endpoint, nbytes)
    try:
        if isinstance(way, SessionInPlace):  # no array but the one that lies in shared memory
            view = way.session.inputs[endpoint.input]
            for start in range(0, view.size, _PART):
                view[0, start : start + _PART] = 1.0
        else:
            way.put(tensor(nbytes))
        for _ in range(_EXCHANGES):
            way.answer(way.exchange()).sum()  # read, so that its pages count wherever they are
    finally:
        way.close()
    return _status_nbytes("VmHWM") - before


def _status_nbytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ServerRefusedError(f"the kernel does not tell {name}")


if __name__ == "__main__":
    sys.exit(main())

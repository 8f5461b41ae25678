"""Very many inferences: nothing grows."""

from __future__ import annotations

from typing import Any

from fault_processes import Process, at, traces
from fault_table import Record, times

from tests.conftest import BOTH
from tritonic_nb.transport import Transport

# Room for what Python and malloc do by themselves: what each inference leaks there would be
# 10,000 of. A byte per inference is not seen; 2 kB are.
ROOM = {"descriptors": 2, "maps": 8, "threads": 0, "shm_names": 0, "shm_mb": 0, "rss_mb": 16}


@BOTH
def test_nothing_grows(address: Any, protocol: str, transport: Transport, record: Record) -> None:
    """10,000 inferences later a kernel holds what it held after the first of them.

    With shapes that change, kinds of shared memory and models that are switched,
    copies and views, inputs filled in place, and another session each hundredth
    time. Compared with what it held after a warm-up, whenever nothing is kept and
    unregister() was called: at most 2 descriptors, 8 maps and 16 MB of resident
    memory more, no thread, and nothing in /dev/shm.
    """
    config = {"inferences": times(300, 10_000), "warm_up": times(200, 1000)}
    with record("soak") as row:
        with Process("soak", {**at(address, protocol), **config}) as kernel:
            *measured, end = kernel.hear_all(600)
            code = kernel.wait()
        row.count_all(end["good"], end["problems"])
        assert code == 0
        first, last = measured[0], measured[-1]
        for what, room in ROOM.items():
            if last[what] > first[what] + room:
                row.count(f"{what}: {[figures[what] for figures in measured]}")
        left = traces(kernel.pid, transport)
        row.count(bytes_left=left.nbytes, regions_left=len(left.names))
        row.note(", ".join(f"{what} {first[what]} to {last[what]}" for what in ROOM))

"""Forks of a kernel with an open session: its regions are its own."""

from __future__ import annotations

import os
import signal
from typing import Any

from fault_processes import BUSY_S, Process, at, running, traces, traces_after
from fault_table import Record, times

from tests.conftest import BOTH
from tritonic_nb.transport import Transport

ENDS = ("os._exit", "sys.exit", "exception", "SIGKILL", "multiprocessing", "closes first")


@BOTH
def test_a_child_that_ends_takes_nothing_along(
    address: Any, protocol: str, transport: Transport, record: Record
) -> None:
    """However a forked child ends, the parent's regions are as before, and answer.

    The child is refused the session, and may read the arrays that it was forked with.
    """
    config = {**at(address, protocol), "ends": ENDS, "turns": times(2, 20)}
    with record("forked child ends") as row, Process("forks", config) as kernel:
        for message in kernel.hear_all():
            names = set(message["names"])
            has = traces(kernel.pid, transport)
            kernel.tell({"go": True})
            problem = message["problem"] or kernel.hear().get("problem", "the parent has ended")
            if not names or names != set(has.files) or names != has.registered:
                problem = f"the parent lists {sorted(names)}, {has}"
            row.count(problem and f"{message['end']}: {problem}")
        if code := kernel.wait():
            row.count(f"the parent ended with {code}")
        left, _ = traces_after(kernel.pid, transport, within_s=BUSY_S)
        row.count(bytes_left=left.nbytes, regions_left=len(left.names))


@BOTH
def test_a_child_that_outlives_its_parent_keeps_nothing(
    address: Any, protocol: str, transport: Transport, record: Record
) -> None:
    """The regions of a parent that was killed go, though a forked child lives on."""
    with record("parent of a fork killed") as row:
        for _ in range(times(2, 20)):
            with Process("outlived", at(address, protocol)) as kernel:
                child = kernel.hear()["child"]
                had = traces(kernel.pid, transport)
                kernel.kill()
                try:
                    left, _ = traces_after(kernel.pid, transport, within_s=BUSY_S)
                    problem = "" if had.names and running(child) else "the child did not live on"
                finally:
                    os.kill(child, signal.SIGKILL)
            row.count(problem, bytes_left=left.nbytes, regions_left=len(left.names))

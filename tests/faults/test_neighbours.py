"""Two notebooks at one server: neither touches what the other has."""

from __future__ import annotations

from typing import Any

from fault_processes import BUSY_S, Process, at, traces, traces_after
from fault_table import Record, times

from tritonic_nb.transport import HttpTransport


def test_one_dies_and_the_other_goes_on(
    server: Any, transport: HttpTransport, record: Record
) -> None:
    """While one is killed and cleaned up after, the other gets right answers only.

    They share no region: a name has its owner's process id. What the other has is
    registered before and after.
    """
    with record("one of two notebooks killed") as row:
        for turn in range(times(2, 25)):
            with (
                Process("stream", {**at(server), "seed": 2 * turn, "threads": 2}) as one,
                Process("paced", {**at(server), "seed": turn}) as other,
            ):
                for kernel in (one, other):
                    assert kernel.hear()["ready"] == kernel.pid
                    kernel.tell({"go": True})
                # A little deeper in the stream each turn.
                while one.hear()["done"] < 3 * turn or not traces(one.pid, transport).registered:
                    pass
                other.tell({"infer": True})
                problem = other.hear()["problem"]
                had = traces(other.pid, transport)
                one.kill()
                left, _ = traces_after(one.pid, transport, within_s=BUSY_S)
                has = traces(other.pid, transport)
                other.tell({"infer": True})
                problem = problem or other.hear()["problem"]
                if not had.names or had != has:
                    problem = f"the other had {had} and now {has}"
                other.tell({"end": True})
                if code := other.wait():
                    problem = f"the other ended with {code}"
                late = traces(other.pid, transport)
            row.count(
                problem,
                bytes_left=left.nbytes + late.nbytes,
                regions_left=len(left.names | late.names),
            )

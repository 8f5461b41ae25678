"""Arrays that lie in shared memory, read after it went: their own data, never a signal."""

from __future__ import annotations

from typing import Any

from fault_processes import Process, at
from fault_table import Record, times

from tests.conftest import BOTH

ENDS = (
    "unregister", "grow", "none", "close", "forget", "model", "many more", "closed in between",
)  # fmt: skip


def read_after(config: dict[str, Any], record: Record) -> None:
    """Have a process read what it kept, and count what it says."""
    with record("view read after its region went") as row, Process("views", config) as kernel:
        end = ""
        for begun in kernel.hear_all():
            end = begun["end"]
            if message := kernel.hear():
                row.count(message["problem"] and f"{end}: {message['problem']}")
        if code := kernel.wait():
            row.count(f"{end}: the interpreter ended with {code}")


@BOTH
def test_a_view_outlives_its_region(address: Any, protocol: str, record: Record) -> None:
    """Results without a copy and ``session.inputs`` keep the data of their own request.

    Whatever became of the region: removed, grown, left for the wire, closed with its
    session or another model, or forgotten with it. Inputs can even be written to. And
    of the region itself nothing is left.
    """
    read_after({**at(address, protocol), "ends": ENDS, "turns": times(2, 40)}, record)


@BOTH
def test_a_view_outlives_its_server(protocol: str, record: Record) -> None:
    """The same when the server is killed."""
    read_after({"protocol": protocol, "ends": ["server"], "turns": times(1, 10)}, record)

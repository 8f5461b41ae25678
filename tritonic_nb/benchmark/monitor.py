"""What the live plot of memory costs: a real kernel, a real session, and the bytes it sends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tritonic_nb.errors import ArgumentError

__all__ = ["MonitorCost", "measure_monitor", "monitor_text"]

_SETTLES_S = 4.0
_ENDS_S = 120.0
_READY = """
import json, time, numpy as np, tritonic_nb
server = tritonic_nb.serve()
session = server.session(model="identity_fp32", shared_memory="system")
for _ in range(3): session.infer(np.ones((1, 1000), np.float32))
def share(seconds):
    started, cpu = time.monotonic(), time.process_time()
    time.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - started)
idle = share({seconds})
"""
_MEASURE = """
monitor = session.monitor(hz={hz})
time.sleep({settles})
before = len(monitor.recording.history)
print(json.dumps({{"begins": True}}), flush=True)
told = {{"share": share({seconds}) - idle, "samples": len(monitor.recording.history) - before}}
print(json.dumps(told), flush=True)
monitor.close()
"""


@dataclass(frozen=True)
class MonitorCost:
    """What a live plot costs its kernel.

    Attributes
    ----------
    hz
        Samples a second that were asked for.
    share
        Of one core, over what the kernel takes without it.
    sample_nbytes
        What the kernel sends for one sample: a whole message of Jupyter's protocol.
    second_nbytes
        And in a second.
    """

    hz: float
    share: float
    sample_nbytes: float
    second_nbytes: float


def measure_monitor(
    rates: Sequence[float] = (2, 10),
    seconds: float = 20.0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[MonitorCost]:
    """Measure a live plot in a kernel of its own, with an embedded server, at some rates.

    Parameters
    ----------
    rates
        Samples a second.
    seconds
        How long at each, and as long without.
    progress
        Told what is being measured.

    Raises
    ------
    ArgumentError
        If there is no Jupyter kernel.
    """
    try:
        manager = import_module("jupyter_client.manager")
        import_module("ipykernel")
    except ImportError as error:
        raise ArgumentError(
            "there is no Jupyter kernel to measure a live plot in", "pip install ipykernel"
        ) from error
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    try:
        _run(client, _READY.format(seconds=seconds))
        costs = []
        for hz in rates:
            progress(f"the live plot, {hz:g} Hz")
            code = _MEASURE.format(hz=hz, settles=_SETTLES_S, seconds=seconds)
            told, nbytes = _run(client, code)
            costs.append(
                MonitorCost(hz, told["share"], nbytes / max(1, told["samples"]), nbytes / seconds)
            )
        _run(client, "session.close(); server.stop()")
        return costs
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=False)


def monitor_text(costs: Sequence[MonitorCost]) -> str:
    """Return the costs as a table in Markdown."""
    rows = [
        f"| {cost.hz:g} Hz | {cost.share:.1%} | {cost.sample_nbytes:,.0f} | "
        f"{cost.second_nbytes / 1000:.1f} |"
        for cost in costs
    ]
    head = "| samples | share of a core | bytes per sample | kB/s |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def _run(client: Any, code: str) -> tuple[dict[str, Any], int]:
    """Run code in the kernel; return what it told, and the bytes that widgets sent meanwhile."""
    asked = client.execute(code)
    told: dict[str, Any] = {}
    nbytes, counts = 0, False
    give_up = time.monotonic() + _ENDS_S
    while time.monotonic() < give_up:
        if not client.iopub_channel.socket.poll(1000):
            continue
        parts = client.iopub_channel.socket.recv_multipart()
        _, frames = client.session.feed_identities(parts)
        message = client.session.deserialize(frames)
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "comm_msg" and counts:
            nbytes += sum(map(len, parts))
        elif kind == "error":
            raise ArgumentError(
                f"the kernel failed: {content['ename']}: {content['evalue']}",
                "see whether tritonic_nb.serve() works",
            )
        elif kind == "stream" and content["name"] == "stdout":
            for line in content["text"].splitlines():
                told = json.loads(line)
                counts = "begins" in told
        elif (kind, content.get("execution_state")) == ("status", "idle") and (
            message["parent_header"].get("msg_id") == asked
        ):
            return told, nbytes
    raise ArgumentError(
        f"the kernel did not answer within {_ENDS_S:g} s", "use a machine that is less busy"
    )

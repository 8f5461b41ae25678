"""Measure what docs/scaling.md reckons with: ``python -m tests.measure_scaling docs/scaling.json``.

One run, side by side: a request's time and processor time beside its Triton, through shared
memory and over the loopback; the same over a cable of limited speed between two imitated hosts,
with and without compression; and what a Dask scheduler needs for one task. As root, five minutes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tritonic_nb
from tests.two_hosts import two_hosts

SIZES = (4_096, 602_112, 4_000_000, 24_000_000)
LINKS = ("100mbit", "1gbit")

# What runs on the host without a server. Each payload goes and comes back unchanged.
OVER_THE_CABLE = """
import statistics, time
from contextlib import ExitStack
import numpy as np, tritonic_nb as tnb
from tests.measure_scaling import payloads, seconds_of

found = []
for nbytes in (602_112, 4_000_000):
    for what, tensor in payloads(nbytes).items():
        model = f"identity_{'fp32' if tensor.dtype == np.float32 else 'uint8'}"
        with ExitStack() as closing:
            ways = {}
            for name in ("none", "gzip"):
                session = closing.enter_context(tnb.Session(
                    far["url"], model, headers=far["headers"],
                    compression=None if name == "none" else name,
                ))
                first = session.infer(tensor)
                assert np.array_equal(first["OUTPUT0"], tensor) and not first.shared_nbytes
                ways[name] = session, first.wire_nbytes, [], [], []
            for _ in range(far["rounds"]):  # in turns: what disturbs one disturbs the other
                for session, _, times, mine, its in ways.values():
                    theirs, own = seconds_of(far["pid"]), time.process_time()
                    begun = time.perf_counter()
                    session.infer(tensor)
                    times.append(time.perf_counter() - begun)
                    mine.append(time.process_time() - own)
                    its.append(seconds_of(far["pid"]) - theirs)
        for name, (_, wire, times, mine, its) in ways.items():
            found.append({
                "nbytes": tensor.nbytes, "what": what, "compression": name,
                "median_ms": statistics.median(times) * 1e3, "wire_nbytes": wire,
                "client_cpu_ms": statistics.median(mine) * 1e3,
                "server_cpu_ms": statistics.mean(its) * 1e3,
            })
print(json.dumps(found))
"""


def payloads(nbytes: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return tensors of that size: a picture, the same as FP32, a mask, and noise.

    The picture is a mosaic of photographs at their own size, so that nothing was made smoother.
    """
    side = round((nbytes / 3) ** 0.5)
    names = ("astronaut", "cat", "espresso", "rocket")
    photos = [_pixels(tritonic_nb.samples.image(name)) for name in names]
    high = min(each.shape[0] for each in photos)
    # Side by side all differ; what comes again below is too far away for gzip to see.
    strip = np.hstack([each[:high] for each in (*photos, *(each[:, ::-1] for each in photos))])
    picture = np.tile(strip, (-(-side // high), 1, 1))[:side, :side]
    small = round((nbytes / 12) ** 0.5)
    mask_side = round(nbytes**0.5)
    gray = np.tile(strip[..., 1], (-(-mask_side // high), 1))
    noise = np.random.default_rng(0).integers(0, 256, (side, side * 3), np.uint8)
    return {
        "picture, UINT8": picture.reshape(side, side * 3),
        "picture / 255, FP32": (picture[:small, :small].reshape(small, small * 3) / 255).astype(
            "f4"
        ),
        "mask, UINT8": (gray[:mask_side, :mask_side] > 127).astype(np.uint8),
        "noise, UINT8": noise,
    }


def _pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def seconds_of(pid: int) -> float:
    """Return the processor time of a process and of all that it has started, in seconds."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(stat.parent.name)
        parents[number], ticks[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(ticks.get(each, 0) for each in found) / os.sysconf("SC_CLK_TCK")


def beside() -> list[dict[str, Any]]:
    """Return the cost of one request to a server on this machine, by size and way."""
    made = []
    with tritonic_nb.serve(["identity_fp32"], progress=None) as server:
        server.add("classifier", tritonic_nb.samples.classifier())
        given = [("identity_fp32", np.ones((1, nbytes // 4), np.float32)) for nbytes in SIZES]
        pixels = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
        for model, tensor in [*given, ("classifier", pixels)]:
            with server.session(model=model) as session:
                told = session.compare(tensor, ["none", "system"], seconds=15, progress=False)
            made += [
                {
                    "model": model, "nbytes": tensor.nbytes, "way": way.name,
                    **{name: getattr(way, name) for name in (
                        "median_ms", "p99_ms", "client_cpu_ms", "server_cpu_ms", "wire_nbytes",
                        "region_nbytes",
                    )},
                }
                for way in told.ways
            ]  # fmt: skip
    return made


def cables() -> list[dict[str, Any]]:
    """Return the cost of one request to a server on another host, by link, payload and way."""
    made = []
    with two_hosts() as hosts:
        for link in ("not limited", *LINKS):
            if link != "not limited":
                hosts.limit(link)
            done = hosts.run(OVER_THE_CABLE, rounds=7 if link == "100mbit" else 15)
            if done.returncode:
                sys.exit(done.stderr)
            made += [{"link": link, **each} for each in json.loads(done.stdout)]
    return made


@contextmanager
def dask_cluster(workers: int) -> Iterator[tuple[Any, int]]:
    """Give a client of a Dask cluster on the loopback, and its scheduler's process."""
    import distributed

    port = "18786"
    program = [sys.executable, "-m"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [
        [*program, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port,
         "--no-dashboard"],
        *([*program, "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "2",
           "--host", "127.0.0.1", "--no-dashboard"] for _ in range(workers)),
    ]  # fmt: skip
    processes = [subprocess.Popen(command, **quiet) for command in commands]
    try:
        with distributed.Client(f"tcp://127.0.0.1:{port}", timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
            yield client, processes[0].pid
    finally:
        for each in reversed(processes):
            each.terminate()
            each.wait(30)


def scheduler() -> dict[str, Any]:
    """Return what a Dask scheduler and its client need for one task: empty, and with items."""
    import distributed

    paths = [f"/pictures/part-{n // 100:04}/picture-{n:08}.jpg" for n in range(1000)]
    array = np.ones(8_000_000, np.uint8)
    with dask_cluster(2) as (client, pid):
        found: dict[str, Any] = {"distributed": distributed.__version__}
        for name, given, count, window in (
            ("empty", [], 4000, 64),
            ("of 1000 paths", paths, 200, 8),
            ("of 8 MB", array, 60, 8),
        ):
            client.gather([client.submit(_answers, given, pure=False) for _ in range(10)])
            mine, its, begun = time.process_time(), seconds_of(pid), time.perf_counter()
            ended = distributed.as_completed()
            for number in range(count):
                ended.add(client.submit(_answers, given, pure=False))
                if number >= window:
                    next(ended).result()
            for future in ended:
                future.result()
            took, its = time.perf_counter() - begun, seconds_of(pid) - its
            mine = time.process_time() - mine
            found[name] = {
                "items": 1000 if given is paths else 0,
                "nbytes": array.nbytes if given is array else 0,
                "tasks": count, "per_s": count / took,
                "scheduler_cpu_ms": its / count * 1e3, "client_cpu_ms": mine / count * 1e3,
            }  # fmt: skip
    return found


def _answers(given: Any) -> list[tuple[str, float]]:
    """Return what a map would with ``reduce=``: little, for each item."""
    return [("Egyptian cat", 0.5) for _ in given] if isinstance(given, list) else []


def main(path: str) -> None:
    """Measure all of it and write it."""
    model = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in line
    )
    told = {
        "machine": {
            "cpu": model.partition(":")[2].strip(), "cores": os.cpu_count(),
            "system": f"Linux {platform.release().partition('-')[0]}",
            "python": platform.python_version(), "load": os.getloadavg()[0],
        },
        "scheduler": scheduler(),
        "beside": beside(),
        "cables": cables(),
    }  # fmt: skip
    told["machine"]["load_at_end"] = os.getloadavg()[0]
    Path(path).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""What Tritons on some machines can carry, on paper: the formulas of scaling.md, for your numbers.

    python docs/scaling.py --cores 32 --nodes 1 4 200
    python docs/scaling.py --write  # the tables of scaling.md, anew

Needs Python alone. The costs of a request are read from scaling.json, which
`tests/measure_scaling.py` writes; for yours, let it run on your machine, or put in what
`session.compare(...)` tells.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MEASURED = json.loads((FOLDER / "scaling.json").read_text())

CORES = 16
NODES = (1, 10, 1000)
GBIT = (1.0, 10.0, 100.0)
CHUNKS = (16, 256, 4096)


@dataclass(frozen=True)
class Cost:
    """What one request costs.

    Attributes
    ----------
    name
        Of the request.
    client_ms, server_ms
        Processor time.
    nbytes
        What travels in the direction that has more, over the wire.
    region_nbytes
        What one request in flight takes of /dev/shm.
    """

    name: str
    client_ms: float
    server_ms: float
    nbytes: int
    region_nbytes: int


@dataclass(frozen=True)
class Task:
    """What a task of a map costs the scheduler, or the client.

    Attributes
    ----------
    task_ms
        Processor time of a task, whatever is in it.
    item_ms
        And of each item of its chunk.
    """

    task_ms: float
    item_ms: float


def beside_per_s(cost: Cost, cores: int) -> float:
    """Return the requests per second of one node, client and Triton on it: its processors."""
    return cores * 1000 / (cost.client_ms + cost.server_ms)


def copied_gb_s(nbytes: int, per_s: float) -> float:
    """Return the GB per second that are copied for tensors that go in and come back.

    At least: the client copies in and out, and so does a backend that has memory of its own.
    """
    return 4 * nbytes * per_s / 1e9


def instances_per_s(instances: int, model_ms: float) -> float:
    """Return the requests per second of so many instances of a model."""
    return instances * 1000 / model_ms


def in_flight_fitting(cost: Cost, shm_nbytes: int, pool_nbytes: int = 0) -> int:
    """Return how many requests in flight have room in /dev/shm."""
    return max(0, shm_nbytes - pool_nbytes) // cost.region_nbytes


def shm_per_s(cost: Cost, shm_nbytes: int, latency_ms: float, pool_nbytes: int = 0) -> float:
    """Return the requests per second that /dev/shm has room for, by Little's law."""
    return in_flight_fitting(cost, shm_nbytes, pool_nbytes) * 1000 / latency_ms


def link_per_s(cost: Cost, gbit_s: float) -> float:
    """Return the requests per second that a link carries; both its directions are used at once."""
    return gbit_s * 1e9 / 8 / cost.nbytes


def client_per_s(cost: Cost, processes: int) -> float:
    """Return the requests per second of so many client processes; one has one GIL, so one core."""
    return processes * 1000 / cost.client_ms


def servers_per_s(cost: Cost, nodes: int, cores: int) -> float:
    """Return the requests per second of so many nodes with a Triton, the client being elsewhere."""
    return nodes * cores * 1000 / cost.server_ms


def handed_per_s(chunk: int, task: Task, share: float = 1.0) -> float:
    """Return the items per second that a process hands on, at that share of its one core."""
    return chunk * share * 1000 / (task.task_ms + chunk * task.item_ms)


def chunk_for(items_per_s: float, task: Task, share: float = 0.5) -> int | None:
    """Return the smallest chunk with which a process is busy for no more than that share.

    None where no chunk is large enough, as the items alone take more.
    """
    left = share * 1000 - items_per_s * task.item_ms
    return None if left <= 0 else max(1, math.ceil(items_per_s * task.task_ms / left))


def over_link_ms(base_ms: float, nbytes: int, gbit_s: float) -> float:
    """Return the time of one request over a link: without a limit, and what its bytes add."""
    return base_ms + nbytes * 8 / (gbit_s * 1e6)


def even_mbit_s(plain_ms: float, packed_ms: float, plain_nbytes: int, packed_nbytes: int) -> float:
    """Return the speed of a link below which compression makes a request faster; 0 for never."""
    saved = plain_nbytes - packed_nbytes
    return max(0.0, saved * 8 / 1e3 / (packed_ms - plain_ms))


def first(limits: dict[str, float]) -> tuple[float, str]:
    """Return the lowest of some limits, and its name."""
    name = min(limits, key=limits.__getitem__)
    return limits[name], name


# The tables


def costs(way: str) -> list[Cost]:
    """Return what was measured of one way: "system" or "none"."""
    names = {4_096: "4 kB", 602_112: "602 kB", 4_000_000: "4 MB", 24_000_000: "24 MB"}
    return [
        Cost(
            each["model"] if each["model"] == "classifier" else names[each["nbytes"]],
            each["client_cpu_ms"],
            each["server_cpu_ms"],
            # The tensor that goes in is the larger one, or as large as what comes back.
            max(each["nbytes"], each["wire_nbytes"] - each["nbytes"] if way == "none" else 0),
            each["region_nbytes"],
        )
        for each in MEASURED["beside"]
        if each["way"] == way
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as Markdown has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def shown(value: float) -> str:
    """Return a number with two digits that count, as more would be pretence."""
    if value <= 0:
        return "0"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(rounded)))}f}"


def costs_table() -> str:
    """What was measured: one request, beside its Triton."""
    rows = [
        (one.name, *(shown(x) for x in (one.client_ms, one.server_ms, two.client_ms,
                                        two.server_ms)), f"{one.region_nbytes:,}")
        for one, two in zip(costs("system"), costs("none"), strict=True)
    ]  # fmt: skip
    head = ("request", "client, shared", "server, shared", "client, wire", "server, wire",
            "bytes of /dev/shm")  # fmt: skip
    return table(head, rows)


def beside_table(cores: int, nodes: Sequence[int]) -> str:
    """Requests per second beside each Triton."""
    rows = []
    for one, two in zip(costs("system"), costs("none"), strict=True):
        per_s, wire = beside_per_s(one, cores), beside_per_s(two, cores)
        flight = in_flight_fitting(one, 2 * 2**30)
        all_of_them = (shown(count * per_s) for count in nodes)
        copied = copied_gb_s(one.region_nbytes // 2, per_s)
        rows.append((one.name, *all_of_them, shown(wire), f"{flight:,}", shown(copied)))
    plural = [f"{count} node{'s' if count > 1 else ''}" for count in nodes]
    head = ("request", *plural, "1 node over its own wire", "in flight in 2 GiB",
            "GB/s copied in a node")  # fmt: skip
    return table(head, rows)


def instances_text(cores: int) -> str:
    """How many instances of the classifier there have to be."""
    flights = json.loads((FOLDER / "benchmark.json").read_text())["in_flight"]
    one = next(each["per_second"]["8"] for each in flights if each["model"] == "computes")
    node = beside_per_s(costs("system")[-1], cores)
    return (
        f"One instance of the classifier answers {shown(one)} requests per second "
        f"(benchmark.json), however many are in flight. So {math.ceil(node / one)} instances are "
        f"needed before the {cores} cores are the limit."
    )


def client_table(cores: int, gbit: Sequence[float]) -> str:
    """Requests per second from one machine to a node elsewhere, and how many nodes it can feed."""
    rows = []
    for cost in costs("none"):
        node = servers_per_s(cost, 1, cores)
        cells, fed = [], 0.0
        for speed in gbit:
            for processes in (1, cores):
                limits = {"link": link_per_s(cost, speed), "client": client_per_s(cost, processes)}
                rate, name = first({**limits, "node": node})
                cells.append(f"{shown(rate)} ({name})")
                fed = first(limits)[0] / node
        rows.append((cost.name, *cells, shown(fed)))
    heads = [f"{speed:g} Gbit/s, {count}" for speed in gbit for count in (1, cores)]
    return table(("request", *heads, "nodes fed by the last"), rows)


def tasks() -> dict[str, Task]:
    """Return what was measured of Dask: of the scheduler, and of the client."""
    empty, full = (MEASURED["scheduler"][name] for name in ("empty", "of 1000 paths"))
    return {
        who: Task(
            empty[f"{who}_cpu_ms"],
            max(0.0, full[f"{who}_cpu_ms"] - empty[f"{who}_cpu_ms"]) / full["items"],
        )
        for who in ("scheduler", "client")
    }


def rates(cores: int) -> dict[str, float]:
    """Return some nodes' items per second, by what they are called."""
    classifier = beside_per_s(costs("system")[-1], cores)
    return {"100": 100.0, f"{shown(classifier)} (classifier)": classifier, "10,000": 10_000.0}


def scheduler_table(cores: int, nodes: Sequence[int]) -> str:
    """How large chunks have to be, so that scheduler and client are half busy at most."""
    rows = []
    for what, per_s in rates(cores).items():
        for count in nodes:
            least = {who: chunk_for(count * per_s, task) for who, task in tasks().items()}
            known = [each for each in least.values() if each is not None]
            possible = len(known) == len(least)
            rows.append((
                what, count, shown(count * per_s),
                *("none does" if each is None else f"{each:,}" for each in least.values()),
                shown(max(known) / per_s * 1000) if possible else "",
            ))  # fmt: skip
    head = ("items/s of a node", "nodes", "items/s", "chunk for the scheduler",
            "chunk for the client", "ms of work in a chunk")  # fmt: skip
    return table(head, rows)


def feeds_table(cores: int) -> str:
    """How many nodes one scheduler and one client feed, half busy, by chunk."""
    rows = []
    for chunk in CHUNKS:
        limits = {who: handed_per_s(chunk, task, 0.5) for who, task in tasks().items()}
        most, name = first(limits)
        nodes = (shown(most / per_s) for per_s in rates(cores).values())
        rows.append((chunk, *(shown(each) for each in limits.values()), name, *nodes))
    heads = [f"nodes of {what}" for what in rates(cores)]
    return table(("chunk", "scheduler, items/s", "client, items/s", "first", *heads), rows)


def cables() -> dict[tuple[str, int, str, str], dict[str, Any]]:
    """Return what was measured over a cable, by link, kind of size, payload and compression."""
    return {
        (each["link"], round(each["nbytes"], -5), each["what"], each["compression"]): each
        for each in MEASURED["cables"]
    }


def cable_rows() -> list[tuple[int, str]]:
    """Return sizes and payloads."""
    return list(dict.fromkeys((nbytes, what) for _, nbytes, what, _ in cables()))


def cable_table() -> str:
    """Milliseconds over a cable, and what compression does to it."""
    found, rows = cables(), []
    for nbytes, what in cable_rows():
        plain, packed = (
            {link: found[link, nbytes, what, way] for link in ("not limited", "100mbit", "1gbit")}
            for way in ("none", "gzip")
        )
        cpu = [
            each["not limited"]["client_cpu_ms"] + each["not limited"]["server_cpu_ms"]
            for each in (plain, packed)
        ]
        sent = [each["not limited"]["wire_nbytes"] for each in (plain, packed)]
        rows.append((
            f"{nbytes / 1e6:g} MB, {what}", f"{100 * sent[1] / sent[0]:.0f} %",
            *(shown(each) for each in cpu),
            *(shown(way[link]["median_ms"]) for link in ("100mbit", "1gbit")
              for way in (plain, packed)),
            shown(even_mbit_s(cpu[0], cpu[1], *sent)) if sent[1] < 0.99 * sent[0] else "never",
        ))  # fmt: skip
    return table(
        ("payload", "left of it", "CPU ms", "with gzip", "100 Mbit/s", "with gzip", "1 Gbit/s",
         "with gzip", "pays below, Mbit/s"),
        rows,
    )  # fmt: skip


def machine_text() -> str:
    """Where it was measured."""
    machine, dask = MEASURED["machine"], MEASURED["scheduler"]
    return (
        f"{machine['cores']} cores of an {machine['cpu']} (a virtual machine), "
        f"{machine['system']}, Python {machine['python']}, Triton 2.51.0, distributed "
        f"{dask['distributed']}; load {machine['load']:.1f} when it began and "
        f"{machine['load_at_end']:.1f} when it ended, as others used the machine."
    )


def dask_text() -> str:
    """What a task costs."""
    found = MEASURED["scheduler"]
    rows = [
        (f"{name} task" if name == "empty" else f"task {name}",
         shown(found[name]["scheduler_cpu_ms"]), shown(found[name]["client_cpu_ms"]),
         shown(found[name]["per_s"]))
        for name in ("empty", "of 1000 paths", "of 8 MB")
    ]  # fmt: skip
    large = found["of 8 MB"]
    items = large["nbytes"] / 602_112
    made = table(("", "scheduler, ms", "client, ms", "tasks/s seen here"), rows)
    each = {who: shown(1000 * task.item_ms) for who, task in tasks().items()}
    return (
        f"{made}\n\nSo an item (a path there, a class and its score back) takes the scheduler "
        f"{each['scheduler']} µs and the client {each['client']} µs, beside its part of the task. "
        f"Of arrays of 602 kB no more than {shown(items * 1000 / large['scheduler_cpu_ms'])} per "
        f"second pass through a scheduler's one core; {shown(items * large['per_s'])} did here."
    )


def tables(cores: int = CORES, nodes: Sequence[int] = NODES) -> dict[str, str]:
    """Return all tables, by the name that they have in scaling.md."""
    return {
        "machine": machine_text(),
        "costs": costs_table(),
        "beside": beside_table(cores, nodes),
        "instances": instances_text(cores),
        "client": client_table(cores, GBIT),
        "dask": dask_text(),
        "scheduler": scheduler_table(cores, nodes),
        "feeds": feeds_table(cores),
        "cable": cable_table(),
    }


def written(text: str) -> str:
    """Return a page with its tables made anew."""
    for name, made in tables().items():
        begin, end = f"<!-- {name}: by scaling.py -->", f"<!-- end of {name} -->"
        text = re.sub(
            rf"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, block=f"{begin}\n{made}\n{end}": block,
            text,
            flags=re.S,
        )
    return text


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cores", type=int, default=CORES, help="of a node")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--write", action="store_true", help="the tables of scaling.md, anew")
    options = parser.parse_args()
    page = FOLDER / "scaling.md"
    if options.write:
        page.write_text(written(page.read_text()))
        return
    for name, made in tables(options.cores, options.nodes).items():
        print(f"{name}\n\n{made}\n")


if __name__ == "__main__":
    main()

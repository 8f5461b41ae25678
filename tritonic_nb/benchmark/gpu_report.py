"""What a run on a GPU has found, as Markdown, which a terminal shows as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritonic_nb.benchmark.copy_rates import COPIES, CopyRate
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.gpu_targets import evaluate_gpu
from tritonic_nb.benchmark.machine import Machine
from tritonic_nb.benchmark.rounds import Series
from tritonic_nb.benchmark.targets import Target
from tritonic_nb.benchmark.way import Way
from tritonic_nb.render import human_bytes

__all__ = ["Gpu", "GpuReport"]

_REFERENCE = "system"


@dataclass(frozen=True)
class Gpu:
    """The device on which the figures were taken.

    Attributes
    ----------
    name
        As NVIDIA's management library has it; without it, CUDA's number.
    driver
        The driver's version; empty where it is not known.
    nbytes
        Its memory.
    """

    name: str
    driver: str
    nbytes: int


@dataclass
class GpuReport:
    """All that a run has found.

    Attributes
    ----------
    endpoint, machine, gpu
        Where it ran.
    ways
        The ways, in the order in which they are shown.
    sizes
        By the tensor's bytes and the way's key.
    copies
        By bytes and the copy's key.
    left_out
        In sentences, what was not measured and why.
    """

    endpoint: Endpoint
    machine: Machine
    gpu: Gpu
    ways: Sequence[type[Way]]
    sizes: dict[int, Mapping[str, Series]] = field(default_factory=dict)
    copies: dict[int, Mapping[str, CopyRate]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def file_name(self) -> str:
        """The name of a file for it: ``gpu-nvidia-h100-80gb-hbm3.md``."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.gpu.name.lower()).strip("-")
        return f"gpu-{slug or 'unknown'}.md"

    def targets(self) -> list[Target]:
        """Return the targets and whether they were met."""
        return list(evaluate_gpu(self.sizes, self.copies))

    def save(self, path: Path) -> Path:
        """Write it to a file, or under a name of its own into a folder; return the file."""
        file = path / self.file_name if path.is_dir() else path
        file.write_text(self.markdown(), encoding="utf-8")
        return file

    def markdown(self) -> str:
        """Return the report."""
        parts = [self._heading(), "## Targets", _targets(self.targets())]
        if self.sizes:
            parts += ["## One tensor to Triton and back", self._legend(), *self._medians()]
        if self.copies:
            parts += [
                "## Copies",
                "Until the bytes are there, medians. The link is what one `cudaMemcpyAsync` of the "
                "same size\ncarries between pinned memory and the device.",
                *(_rates(nbytes, rates) for nbytes, rates in self.copies.items()),
            ]
        if self.left_out:
            parts += ["## Left out", "\n".join(f"- {each}" for each in self.left_out)]
        return "\n\n".join(parts) + "\n"

    def _heading(self) -> str:
        machine, gpu = self.machine, self.gpu
        server = "the embedded server" if self.endpoint.embedded else "another server"
        libraries = [f"{name} {version}" for name, version in machine.libraries.items() if version]
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        busy = "\n- Others were busy on this machine: run it again when they are not."
        return (
            f"# CUDA shared memory on {gpu.name}\n\n"
            "Printed by `make bench-gpu`; medians of one run, all ways in random order in every "
            "round.\n\n"
            f"- {gpu.name}, {human_bytes(gpu.nbytes)}{driver}\n"
            f"- {machine.cpu}, {machine.cores} cores, load {machine.load}, {machine.system}\n"
            f"- Python {machine.python}, Triton {self.endpoint.server_version} ({server}), model "
            f"`{self.endpoint.model}`\n"
            f"- {', '.join(libraries)}" + (busy if machine.busy else "")
        )

    def _legend(self) -> str:
        return _table([("way", "what is timed"), *((w.label, f"`{w.timed}`") for w in self.ways)])

    def _medians(self) -> list[str]:
        """Give a table of medians, and one of how they compare."""
        head = ("", *map(human_bytes, self.sizes))
        medians = [head]
        ratios = [head]
        for way in self.ways:
            series = [(each[way.key], each[_REFERENCE]) for each in self.sizes.values()]
            medians.append((way.label, *(_ms(own) for own, _ in series)))
            times = (f"{own.median_ms / other.median_ms:.2f}" for own, other in series)
            ratios.append((way.label, *times))
        rounds = [{len(s.connections) for s in each.values()} for each in self.sizes.values()]
        medians.append(("rounds", *("/".join(map(str, sorted(each))) for each in rounds)))
        return [
            "Medians in milliseconds; in brackets the tenth and the ninetieth percentile of the "
            "connections' medians.",
            _table(medians, numbers=True),
            "The medians as multiples of that of system shared memory with own copies.",
            _table(ratios, numbers=True),
        ]


def _ms(series: Series) -> str:
    low, high = series.spread_ms
    return f"{series.median_ms:.3g} ({low:.3g}-{high:.3g})"


def _targets(targets: Sequence[Target]) -> str:
    rows = [("compared", "target", "measured", "met")]
    for target in targets:
        sign = "<=" if target.at_most else ">="
        measured = "-" if target.measured is None else f"{target.measured:.3g} {target.unit}"
        met = {True: "yes", False: "no", None: "not measured"}[target.met]
        rows.append((target.what, f"{sign} {target.limit:g} {target.unit}", measured, met))
    return _table(rows)


def _rates(nbytes: int, rates: Mapping[str, CopyRate]) -> str:
    rows = [(human_bytes(nbytes), "ms", "GB/s", "of the link")]
    for key, (what, inward) in COPIES.items():
        if key in rates:
            rate = rates[key]
            link = rates["link_in" if inward else "link_out"]
            part = rate.gb_per_s / link.gb_per_s
            arrow = "to the device" if inward else "to the host"
            rows.append(
                (f"{arrow}: {what}", f"{rate.median_ms:.3g}", f"{rate.gb_per_s:.3g}", f"{part:.0%}")
            )
    return _table(rows, numbers=True)


def _table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table in Markdown, aligned; with numbers in all columns but the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if numbers and index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + ":" if numbers and index else "-" * width
        for index, width in enumerate(widths)
    ]
    head, *body = rows
    return "\n".join([line(head), line(rule), *map(line, body)])

"""What would make a model's inferences faster here, each with its figures: :class:`Advice`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tritonic_nb import render
from tritonic_nb.errors import TritonicError
from tritonic_nb.measuring.comparison import Comparison, compare, without_infinities
from tritonic_nb.measuring.counters import Counters, ServerTimes
from tritonic_nb.measuring.depths import Depth, processors, run_depths
from tritonic_nb.measuring.estimates import LEAST_RATIO, ratio_of, times_text
from tritonic_nb.measuring.lane import Bench
from tritonic_nb.measuring.resized import in_batch, on_host
from tritonic_nb.measuring.rounds import Effort, run_rounds
from tritonic_nb.measuring.way import WAYS, Way
from tritonic_nb.memory import RegionDescriptor, SharedMemoryType, Tensor
from tritonic_nb.render import Progress, figures, human_bytes

__all__ = ["Advice", "Recommendation", "advise"]

_DEPTHS = (1, 2, 4)
_MOST_BATCHES = 4
_EXCESS_NBYTES = 2**20  # of regions, from where on it is spoken of
_WAITS = 0.5  # for an instance, as a part of what the model takes: from there on it is the limit
_BUSY = 0.85  # of the processors: from there on there is nothing left for more instances
# How the time is shared out.
_FOR_WAYS, _FOR_OUTPUTS, _FOR_BATCHES, _FOR_DEPTHS = 0.35, 0.15, 0.2, 0.3


@dataclass(frozen=True)
class Recommendation:
    """One piece of advice.

    Attributes
    ----------
    topic
        ``"way"``, ``"outputs"``, ``"regions"``, ``"batch"``, ``"in flight"`` or ``"instances"``.
    text
        What was found, with figures.
    gain
        How many times as many items per second it gives; 1 where nothing is to be changed, or it
        is not about speed.
    do
        The code that follows it, or an empty text.
    """

    topic: str
    text: str
    gain: float = 1.0
    do: str = ""


@dataclass(frozen=True, repr=False)
class Advice(render.Described):
    """What would make a model's inferences faster here, and what would not.

    Attributes
    ----------
    model, batch
        What was run.
    recommendations
        One for each topic, measured with these inputs, on this machine.
    comparison
        The ways as they were compared.
    """

    model: str
    batch: int
    recommendations: tuple[Recommendation, ...]
    comparison: Comparison

    @property
    def to_do(self) -> tuple[Recommendation, ...]:
        """Those that change something, with the largest gain first."""
        chosen = [each for each in self.recommendations if each.do or each.gain >= LEAST_RATIO]
        return tuple(sorted(chosen, key=lambda each: -each.gain))

    def document(self) -> dict[str, Any]:
        """Return it as a document for JSON: numbers, texts, lists and mappings alone."""
        found = {**asdict(self), "comparison": self.comparison.document()}
        document: dict[str, Any] = without_infinities(found)
        return document

    def _described(self) -> render.Description:
        rows = [
            (each.topic, f"{each.text}: {each.do}" if each.do else each.text)
            for each in self.recommendations
        ]
        batch = f" at batch {self.batch}" if self.batch > 1 else ""
        return f"Advice for {self.model}{batch}", rows, ()


def advise(
    bench: Bench,
    tensors: Mapping[str, Tensor],
    *,
    batch: int,
    effort: Effort,
    regions: Sequence[RegionDescriptor],
    progress: bool,
) -> Advice:
    """Measure what would help, as :meth:`Session.advise <tritonic_nb.Session.advise>` tells.

    Parameters
    ----------
    bench
        What the session lends.
    tensors
        The inputs by name.
    batch
        The size of the batch.
    effort
        How long to go on.
    regions
        The session's regions.
    progress
        Whether to show the steps as they go by.
    """

    def part(of: float) -> Effort:
        return replace(effort, seconds=effort.seconds * of)

    now = Way(bench.setup.kind("input"), bench.setup.kind("output"))
    with Progress(4, show=progress, unit="step") as bar:
        compared = compare(
            bench, WAYS, tensors, batch=batch, effort=part(_FOR_WAYS), progress=False
        )
        found = [_about_way(compared, now)]
        best = Way.parse(compared.fastest or compared.ways[0].name)
        bar.step()
        found += _about_outputs(bench, best, tensors, batch, part(_FOR_OUTPUTS), compared)
        found += _about_regions(regions, compared)
        bar.step()
        found += _about_batches(bench, best, tensors, batch, part(_FOR_BATCHES))
        bar.step()
        found += _about_depths(bench, best, tensors, part(_FOR_DEPTHS))
        bar.step()
    return Advice(bench.setup.chosen.name, batch, tuple(found), compared)


def _about_way(compared: Comparison, now: Way) -> Recommendation:
    used = next((way for way in compared.ways if way.name == now.name), None)
    fastest = compared.fastest
    if fastest is None or used is None or fastest == used.name:
        return Recommendation("way", f"right as it is: {compared.verdict}")
    gain = compared[fastest].ratio.value / used.ratio.value
    if gain < LEAST_RATIO:
        return Recommendation("way", f"right as it is: {compared.verdict}")
    return Recommendation(
        "way",
        f"{compared[fastest].label} is {times_text(gain)} times as fast as {used.label}",
        gain,
        f'session.set_shared_memory("{fastest}")',
    )


def _about_outputs(  # noqa: PLR0917
    bench: Bench,
    best: Way,
    tensors: Mapping[str, Tensor],
    batch: int,
    effort: Effort,
    compared: Comparison,
) -> list[Recommendation]:
    """Whether outputs should stay on the wire where inputs go through shared memory."""
    if best.input is SharedMemoryType.NONE:
        return []
    mixed = Way(best.input, SharedMemoryType.NONE)
    both = compare(bench, (best, mixed), tensors, batch=batch, effort=effort, progress=False)
    if len(both.ways) < 2:
        return []
    ratio = both.ways[1].ratio
    nbytes = human_bytes(compared.output_nbytes)
    if not ratio.matters:
        return [
            Recommendation(
                "outputs", f"whether the {nbytes} go through regions makes no difference"
            )
        ]
    if ratio.value < 1:
        times = times_text(1 / ratio.value)
        return [
            Recommendation("outputs", f"regions are right: over the wire {times} times as slow")
        ]
    do = f'session.set_shared_memory("{best.input}", output="none")'
    text = f"the {nbytes} should stay on the wire, which is {times_text(ratio.value)} times as fast"
    return [Recommendation("outputs", text, ratio.value, do)]


def _about_regions(
    regions: Sequence[RegionDescriptor], compared: Comparison
) -> list[Recommendation]:
    """Whether regions are larger than what goes through them."""
    if not regions:
        return []
    have = sum(region.nbytes for region in regions)
    needed = max(way.region_nbytes for way in compared.ways)
    text = f"{human_bytes(have)} in {len(regions)}; such a request needs {human_bytes(needed)}"
    if have - needed < max(_EXCESS_NBYTES, needed):
        return [Recommendation("regions", text)]
    return [Recommendation("regions", f"too large: {text}", do="session.unregister()")]


def _about_batches(
    bench: Bench, best: Way, tensors: Mapping[str, Tensor], batch: int, effort: Effort
) -> list[Recommendation]:
    """Whether larger batches give more items per second."""
    model = bench.setup.chosen
    if not model.max_batch_size:
        return []
    sizes = [batch * 2**power for power in range(_MOST_BATCHES)]
    sizes = [size for size in sizes if size <= model.max_batch_size]
    if len(sizes) < 2:
        return [Recommendation("batch", f"{batch} is as large as the model takes them")]
    arrays = {name: on_host(tensor) for name, tensor in tensors.items()}
    wanted = {str(size): (best, in_batch(model, arrays, size)) for size in sizes}
    with bench.open(wanted) as lanes:
        opened = list(lanes.open.values())
        tracks, _ = run_rounds(opened, effort, reconnect=bench.reconnect, step=lambda: None)
    sizes = [int(lane.name) for lane in opened]
    items = [
        [time / size for time in track.round_medians_s]
        for size, track in zip(sizes, tracks, strict=True)
    ]
    gains = [ratio_of(items[0], each).value for each in items]
    chosen = int(np.argmax(gains))
    times = ", ".join(
        f"{size}: {figures(track.median_s * 1e3, 2)} ms"
        for size, track in zip(sizes, tracks, strict=True)
    )
    if gains[chosen] < LEAST_RATIO:
        return [Recommendation("batch", f"larger ones give no more items per second ({times})")]
    return [
        Recommendation(
            "batch",
            f"{sizes[chosen]} at a time give {times_text(gains[chosen])} times as many items per "
            f"second as {sizes[0]} ({times})",
            gains[chosen],
            f"session.infer(a batch of {sizes[chosen]})",
        )
    ]


def _about_depths(
    bench: Bench, best: Way, tensors: Mapping[str, Tensor], effort: Effort
) -> list[Recommendation]:
    """Whether more requests in flight give more per second, and what limits them."""
    counters = Counters(bench.setup.link.transport, bench.setup.chosen)
    with bench.lanes(best, tensors) as lanes:
        (lane,) = lanes.open.values()
        *few, most = _DEPTHS
        depths = run_depths(lane, few, effort.seconds * 2 / 3, effort.server_pids)
        counters.settle()
        depths += run_depths(lane, [most], effort.seconds / 3, effort.server_pids)
        served = counters.since()
    gains = [depth.rate / depths[0].rate for depth in depths]
    chosen = int(np.argmax(gains))
    rates = ", ".join(f"{each.in_flight}: {figures(each.rate, 2)}/s" for each in depths)
    if gains[chosen] < LEAST_RATIO:
        told = Recommendation("in flight", f"more at a time give no more per second ({rates})")
    else:
        count = depths[chosen].in_flight
        told = Recommendation(
            "in flight",
            f"{count} at a time give {times_text(gains[chosen])} times as many a second ({rates})",
            gains[chosen],
            f"session.map(items, in_flight={count})",
        )
    return [told, *_about_instances(bench, depths[-1], served)]


def _about_instances(bench: Bench, depth: Depth, served: ServerTimes) -> list[Recommendation]:
    """Whether the number of the model's instances is the limit."""
    takes_ms = served.compute_input_ms + served.compute_ms + served.compute_output_ms
    if not served.requests or takes_ms <= 0:
        return []
    count = _instances(bench)
    has = (
        "the model's instances"
        if count is None
        else (f"the model's {count} instance{'' if count == 1 else 's'}")
    )
    waits = (
        f"with {depth.in_flight} in flight a request waits {figures(served.queue_ms, 2)} ms for "
        f"{has}, and takes {figures(takes_ms, 2)} ms in it"
    )
    if served.queue_ms < _WAITS * takes_ms:
        return [Recommendation("instances", f"they are not the limit: {waits}")]
    here = processors()
    busy = float(np.median(depth.busy)) if depth.busy else None
    if busy is not None and busy >= _BUSY * here:
        limit = f"but {figures(busy, 2)} of {here} processors are busy with it: more would not help"
        return [Recommendation("instances", f"{waits}, {limit}")]
    idle = "" if busy is None else f" ({figures(busy, 2)} of {here} processors are busy with it)"
    return [
        Recommendation(
            "instances",
            f"they are the limit: {waits}{idle}",
            do="a larger instance_group in the model's config.pbtxt",
        )
    ]


def _instances(bench: Bench) -> int | None:
    """Return how many instances the model has; None where the server does not tell."""
    model = bench.setup.chosen
    try:
        config = bench.setup.link.transport.model_config(model.name, model.version)
    except TritonicError:
        return None
    groups = config.get("instance_group") or []
    counts = [int(each.get("count", 1)) * max(1, len(each.get("gpus") or ())) for each in groups]
    return sum(counts) or None

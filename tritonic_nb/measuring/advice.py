"""What would make a model's inferences faster here, each with its figures: :class:`Advice`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tritonic_nb import render
from tritonic_nb.errors import ServerBusyError, SharedMemoryError, TritonicError
from tritonic_nb.measuring.comparison import (
    Comparison,
    compare,
    ended_text,
    without_infinities,
)
from tritonic_nb.measuring.counters import Counters
from tritonic_nb.measuring.depths import Depth, least_s, processors, run_depths
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
_TURNS_OF_A_BATCH = 24  # inferences of each size, for an interval
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
    interrupted
        Whether it was stopped by hand.
    """

    model: str
    batch: int
    recommendations: tuple[Recommendation, ...]
    comparison: Comparison
    interrupted: bool = False

    @property
    def to_do(self) -> tuple[Recommendation, ...]:
        """Those that change something, with the largest gain first."""
        chosen = [each for each in self.recommendations if each.do or each.gain > 1]
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
        rows += [("measured", ended_text("interrupted"))] if self.interrupted else []
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
    now = Way(bench.setup.kind("input"), bench.setup.kind("output"))
    ways = [*map(Way.parse, WAYS), *([now] if now.name not in WAYS else [])]
    with Progress(4, show=progress, unit="step") as bar:
        compared = compare(
            bench, ways, tensors, batch=batch, effort=_part(effort, _FOR_WAYS), progress=False
        )
        bar.step()
        about_way, best = _about_way(compared, now)
        found = [about_way, *_about_regions(regions, compared)]
        steps: dict[str, Callable[[], list[Recommendation]]] = {
            "outputs": lambda: _about_outputs(bench, best, tensors, batch, effort, compared),
            "batch": lambda: _about_batches(bench, best, tensors, batch, effort, compared),
            "in flight": lambda: _about_depths(bench, best, tensors, effort),
        }
        interrupted = compared.ended == "interrupted"
        for topic, step in steps.items():
            if interrupted:
                break
            try:
                found += step()
            # Such as a backend's pools, which grow in its midst, and a queue that is short.
            except (SharedMemoryError, ServerBusyError) as error:
                found.append(Recommendation(topic, f"not measured: {error.message}"))
            except KeyboardInterrupt:  # what was found is worth more
                interrupted = True
            bar.step()
    return Advice(bench.setup.chosen.name, batch, tuple(found), compared, interrupted)


def _part(effort: Effort, part: float) -> Effort:
    return replace(effort, seconds=effort.seconds * part)


def _about_way(compared: Comparison, now: Way) -> tuple[Recommendation, Way]:
    """Return what is to be said of the way in use, and the best one."""
    used = next((way for way in compared.ways if way.name == now.name), None)
    known = [way for way in compared.ways if way.ratio.known]
    if used is None or not known:
        text = f"{now.label} is in use: {compared.verdict}"
        return Recommendation("way", text), now
    best = max(known, key=lambda way: way.ratio.value)
    gain = best.ratio.value / used.ratio.value
    # Both intervals are of ratios to the first way, whose own has no width.
    sure = best.ratio.low > used.ratio.high
    if best is used or not sure or gain < LEAST_RATIO:
        return Recommendation("way", f"{now.label}, as it is: {compared.verdict}"), now
    text = f"{best.label} is {times_text(gain)} times as fast as {used.label}, which is in use"
    return Recommendation("way", text, gain, _switch(best.name)), Way.parse(best.name)


def _switch(name: str) -> str:
    """Return the code that goes another way."""
    inputs, _, outputs = name.partition(", outputs ")
    also = f', output="{outputs}"' if outputs else ""
    return f'session.set_shared_memory("{inputs}"{also})'


def _about_outputs(  # noqa: PLR0917
    bench: Bench,
    best: Way,
    tensors: Mapping[str, Tensor],
    batch: int,
    effort: Effort,
    compared: Comparison,
) -> list[Recommendation]:
    """Whether outputs should stay on the wire where inputs go through shared memory."""
    if SharedMemoryType.NONE in (best.input, best.output):
        return []
    mixed = Way(best.input, SharedMemoryType.NONE)
    both = compare(
        bench, (best, mixed), tensors,
        batch=batch, effort=_part(effort, _FOR_OUTPUTS), progress=False,
    )  # fmt: skip
    if len(both.ways) < 2:
        return []
    ratio, nbytes = both.ways[1].ratio, human_bytes(compared.output_nbytes)
    if not ratio.known:
        text = f"too few rounds to tell whether the {nbytes} belong in regions"
        return [Recommendation("outputs", text)]
    if not ratio.matters:
        text = f"no difference between regions and the wire can be told for the {nbytes}"
        return [Recommendation("outputs", f"{text} ({ratio} times as fast on the wire)")]
    if ratio.value < 1:
        times = times_text(1 / ratio.value)
        text = f"the {nbytes} belong in regions: on the wire it takes {times} times as long"
        return [Recommendation("outputs", text)]
    text = f"the {nbytes} should stay on the wire: {times_text(ratio.value)} times as fast"
    return [Recommendation("outputs", text, ratio.value, _switch(mixed.name))]


def _about_regions(
    regions: Sequence[RegionDescriptor], compared: Comparison
) -> list[Recommendation]:
    """Whether regions are larger than what goes through them."""
    if not regions:
        return []
    # Requests in flight have one each; what is too large is each of them.
    largest: dict[tuple[str, str], int] = {}
    for region in regions:
        key = region.direction, region.tensor
        largest[key] = max(largest.get(key, 0), region.nbytes)
    have, all_of_them = sum(largest.values()), sum(region.nbytes for region in regions)
    needed = max(way.region_nbytes for way in compared.ways)
    text = (
        f"{human_bytes(have)} for one request, which needs {human_bytes(needed)}; "
        f"{human_bytes(all_of_them)} in {len(regions)} regions"
    )
    if have - needed < max(_EXCESS_NBYTES, needed):
        return [Recommendation("regions", f"as large as they need to be: {text}")]
    return [Recommendation("regions", f"too large: {text}", do="session.unregister()")]


def _about_batches(  # noqa: PLR0917
    bench: Bench,
    best: Way,
    tensors: Mapping[str, Tensor],
    batch: int,
    effort: Effort,
    compared: Comparison,
) -> list[Recommendation]:
    """Whether larger batches give more items per second."""
    model = bench.setup.chosen
    sizes = [batch * 2**power for power in range(_MOST_BATCHES)]
    sizes = [size for size in sizes if size <= model.max_batch_size]
    if not model.max_batch_size:
        return []
    if len(sizes) < 2:
        return [Recommendation("batch", f"{batch} is as large as the model takes them")]
    seconds = effort.seconds * _FOR_BATCHES
    one_s = min(way.median_ms for way in compared.ways) / 1e3
    needed_s = one_s * sum(sizes) / batch * _TURNS_OF_A_BATCH
    if needed_s > 2 * seconds + 1:
        return [_no_time("batch", needed_s / _FOR_BATCHES)]
    arrays = {name: on_host(tensor) for name, tensor in tensors.items()}
    wanted = {str(size): (best, in_batch(model, arrays, size)) for size in sizes}
    with bench.open(wanted) as lanes:
        opened = list(lanes.open.values())
        tracks, _ = run_rounds(
            opened, replace(effort, seconds=seconds), reconnect=bench.reconnect, step=lambda: None
        )
    sizes = [int(lane.name) for lane in opened]
    items = [
        [time / size for time in track.round_medians_s]
        for size, track in zip(sizes, tracks, strict=True)
    ]
    times = ", ".join(
        f"{size}: {figures(track.median_s * 1e3, 2)} ms"
        for size, track in zip(sizes, tracks, strict=True)
    )
    gain, size = _largest_gain(items, sizes)
    if gain is None:
        text = f"larger ones give no more items per second, as far as can be told ({times})"
        return [Recommendation("batch", text)]
    text = f"{size} at a time give {times_text(gain)} times as many items per second ({times})"
    return [Recommendation("batch", text, gain)]


def _about_depths(
    bench: Bench, best: Way, tensors: Mapping[str, Tensor], effort: Effort
) -> list[Recommendation]:
    """Whether more requests in flight give more per second, and what limits them."""
    counters = Counters(bench.setup.link.transport, bench.setup.chosen)
    seconds = effort.seconds * _FOR_DEPTHS
    with bench.lanes(best, tensors) as lanes:
        (lane,) = lanes.open.values()
        needed_s = least_s(lane.typical_s, _DEPTHS)
        if needed_s > 2 * seconds + 1:
            return [_no_time("in flight", needed_s / _FOR_DEPTHS)]
        depths = run_depths(
            lane, _DEPTHS, seconds, counters=counters, server_pids=bench.server_pids
        )
    rates = ", ".join(f"{each.in_flight}: {figures(each.per_second, 2)}" for each in depths)
    gain, count = _largest_gain([each.seconds for each in depths], list(_DEPTHS))
    if gain is None:
        text = f"more at a time give no more, as far as can be told (inferences per second {rates})"
        return [Recommendation("in flight", text), *_about_instances(bench, depths[-1])]
    text = f"{count} at a time give {times_text(gain)} times as many per second ({rates})"
    do = f"session.map(items, in_flight={count})"
    return [Recommendation("in flight", text, gain, do), *_about_instances(bench, depths[-1])]


def _largest_gain(times: Sequence[Sequence[float]], of: Sequence[int]) -> tuple[float | None, int]:
    """Return the largest ratio to the first times that matters, and what it is of."""
    ratios = [ratio_of(times[0], each) for each in times]
    mattering = [
        (ratio.value, which)
        for ratio, which in zip(ratios, of, strict=True)
        if ratio.matters and ratio.value > 1
    ]
    return max(mattering) if mattering else (None, of[0])


def _no_time(topic: str, seconds: float) -> Recommendation:
    return Recommendation(
        topic, f"not measured, for want of time: give seconds={math.ceil(seconds)} or so"
    )


def _about_instances(bench: Bench, depth: Depth) -> list[Recommendation]:
    """Whether the number of the model's instances is the limit."""
    takes_ms, waits_ms = depth.model_ms(), depth.queue_ms()
    if takes_ms <= 0:  # the server does not tell
        return []
    count = _instances(bench)
    instances = (
        "an instance of the model"
        if count is None
        else (f"the model's {count} instance{'' if count == 1 else 's'}")
    )
    waits = (
        f"with {depth.in_flight} in flight a request waits {figures(waits_ms, 2)} ms for "
        f"{instances}, which {'has' if count == 1 else 'have'} it for {figures(takes_ms, 2)} ms"
    )
    if waits_ms < _WAITS * takes_ms:
        return [Recommendation("instances", f"they are not the limit: {waits}")]
    here = processors()
    busy = float(np.median(depth.busy)) if depth.busy else None
    if busy is not None and busy >= _BUSY * here:
        limit = f"all processors are busy with it ({figures(busy, 2)} of {here}): more may not help"
        return [Recommendation("instances", f"{waits}; {limit}")]
    idle = (
        "" if busy is None else (f", as it keeps only {figures(busy, 2)} of {here} processors busy")
    )
    return [
        Recommendation(
            "instances", f"{waits}; more of them (instance_group in config.pbtxt) may help{idle}"
        )
    ]


def _instances(bench: Bench) -> int | None:
    """Return how many instances the model has; None where the server does not tell."""
    model = bench.setup.chosen
    try:
        config = bench.setup.link.transport.model_config(model.name, model.version)
        groups = config.get("instance_group") or []
        counts = [
            int(each.get("count", 1)) * max(1, len(each.get("gpus") or ())) for each in groups
        ]
    except (TritonicError, AttributeError, TypeError, ValueError):  # or in another form
        return None
    return sum(counts) or None

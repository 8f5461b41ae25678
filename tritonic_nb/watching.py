"""What is sampled when somebody watches: this machine, this process, a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tritonic_nb.memory import RegionDescriptor, SharedMemoryType, host_space
from tritonic_nb.monitoring import EventHook, Reading, Recording, Source, sources
from tritonic_nb.monitoring.triton_metrics import checked_metrics_url

if TYPE_CHECKING:  # ipywidgets is imported when a plot is made
    from tritonic_nb.widgets.monitor import Monitor

__all__ = ["monitor", "watch", "watch_session"]

_AT_SERVER = "still at the server"
_NO_METRICS = (
    "a server that is not of this process is watched by its metrics: "
    "watch(metrics_url='http://HOST:8002/metrics')"
)


def watch(*, hz: float = 2.0, warn_at: float = 0.9, show: bool = True) -> Recording:
    """Record the memory that a block takes, and show it afterwards; without a session.

    ``/dev/shm`` and who holds it, the machine's memory, this process, and the GPUs.

    Parameters
    ----------
    hz
        How often to look, in times a second, from 1 to 10.
    warn_at
        From which part of ``/dev/shm`` on picture and summary warn, above 0 and up to 1.
    show
        Whether to show the recording at the end of the block: as a picture and a summary in
        a notebook; elsewhere the summary is printed.

    Returns
    -------
    Recording
        To be used once, in a ``with`` statement.

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Examples
    --------
    >>> with tritonic_nb.watch() as w:
    ...     work()
    >>> w.peaks["resident/this process"]
    213450752
    """
    return Recording(
        [*_of_machine(None), *sources.holder_sources(), sources.gpu_source()],
        hz=hz, warn_at=warn_at, show=show,
    )  # fmt: skip


def monitor(*, hz: float = 2.0, span_s: float = 60.0, warn_at: float = 0.9) -> Monitor:
    """Show memory as it moves, also while a cell is busy; without a session.

    ``/dev/shm`` and who holds it, the machine's memory, this process, and the GPUs.

    Parameters
    ----------
    hz
        How often to look, in times a second, from 1 to 10.
    span_s
        How far back the plot goes, in seconds, from 5 to 1800.
    warn_at
        From which part of ``/dev/shm`` on it warns, above 0 and up to 1.

    Returns
    -------
    Monitor
        Shows itself as the last line of a cell. It lives until ``freeze()`` or ``close()``.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    from tritonic_nb.widgets.monitor import Monitor

    return Monitor(watch(hz=hz, warn_at=warn_at, show=False), span_s)


def watch_session(
    regions: Callable[[], Sequence[RegionDescriptor]],
    server: Callable[[], object],
    hook: EventHook,
    *,
    hz: float,
    warn_at: float,
    metrics_url: str | None,
    show: bool,
) -> Recording:
    """Return what :meth:`Session.watch <tritonic_nb.Session.watch>` returns.

    Parameters
    ----------
    regions
        Gives the session's regions as they are.
    server
        Gives what the session was given as its server, which may be another one by and by.
        One with a ``pid`` runs on this machine.
    hook
        Where the session tells what happens.
    hz, warn_at, metrics_url, show
        As for the method.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """
    pid = _pid_of(server)
    chosen = [
        *_of_machine(pid),
        sources.region_source(lambda: region_sizes(regions())),
        *sources.holder_sources(lambda: {each.name for each in regions()}),
        sources.model_source(pid),
        sources.gpu_source(pid),
    ]
    if metrics_url is not None:
        chosen.append(sources.triton_source(checked_metrics_url(metrics_url)))
    else:
        chosen.append(Source("the server's metrics", lambda: _without_metrics(pid())))
    return Recording(chosen, hz=hz, warn_at=warn_at, show=show, hook=hook)


def region_sizes(regions: Sequence[RegionDescriptor]) -> dict[str, int]:
    """Return the bytes of regions by series: ``region/input INPUT0``, ``cuda0/input INPUT0``.

    Those that are gone here and that the server still keeps are put together: it has not been
    told yet, or still works on a request that was given up.
    """
    sizes: dict[str, int] = {}
    for region in regions:
        cuda = region.kind is SharedMemoryType.CUDA
        group = f"cuda{region.device_id}" if cuda else "region"
        tensor = f"{region.direction} {region.tensor}"
        name = f"{group}/{_AT_SERVER if region.state == 'quarantined' else tensor}"
        sizes[name] = sizes.get(name, 0) + region.nbytes
    return sizes


def _without_metrics(pid: int | None) -> Reading | str:
    return _NO_METRICS if pid is None else Reading({})


def _of_machine(pid: Callable[[], int | None] | None) -> list[Source]:
    return [
        sources.room_source(host_space),
        sources.machine_source(),
        sources.process_source(pid),
    ]


def _pid_of(server: Callable[[], object]) -> Callable[[], int | None]:
    """Return what tells the server's process id, which is another after a restart."""

    def pid() -> int | None:
        try:
            found = getattr(server(), "pid", None)
        except Exception:  # it may be anything that has a url
            return None
        return found if isinstance(found, int) else None

    return pid

"""doctor(): whether everything that a session needs is there, and what to do where it is not."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import numpy as np

from tritonic_nb import render
from tritonic_nb.choice import try_region
from tritonic_nb.errors import ArgumentError, NoCudaDeviceError, TritonicError
from tritonic_nb.leftovers import find_leftovers
from tritonic_nb.memory import (
    HOW_TO_ENLARGE,
    SharedMemoryType,
    create_region,
    device_uuids,
    host_space,
)
from tritonic_nb.memory import require_supported as require_memory
from tritonic_nb.monitoring import (
    Device,
    Devices,
    NvmlReason,
    device_holders_text,
    devices,
    holders_text,
    with_cuda_indices,
)
from tritonic_nb.render import human_bytes
from tritonic_nb.server import Server, is_prepared, serve
from tritonic_nb.server.orphans import find_orphans
from tritonic_nb.session import ServerAddress, Session
from tritonic_nb.transport import Transport, connect

__all__ = ["Check", "Diagnosis", "doctor"]

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 13)
_SMALL_SHM_NBYTES = 256 * 2**20  # a container's usual 64 MB are less
_LITTLE_NBYTES = 16 * 2**20
_MODEL = "identity_fp32"
_NBYTES = 65_536
_COLUMNS = 100  # of text
_MOUNTS = Path("/proc/mounts")
_SHM_DIR = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
_WIDGETS = ("ipywidgets", "anywidget")
_NO_PAGE_YET = (
    "if this stays a note in a live page: install ipywidgets and anywidget where JupyterLab itself "
    "runs, and load the page again"
)
_WITHOUT_GPU = "CUDA shared memory needs an NVIDIA GPU and its driver; all else works without"


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes
    ----------
    name
        What was looked at.
    status
        ``"ok"``; ``"note"``, where something is missing that a session can do without; or
        ``"failed"``.
    found
        What there is.
    remedy
        What to do; empty where there is nothing.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


@dataclass(repr=False)
class Diagnosis(render.Described):
    """What :func:`doctor` found.

    Shown in a notebook, it asks the page whether it shows widgets. A page that does answers, and
    then the check of the widgets, and the card in the page, say so.

    Attributes
    ----------
    checks
        One after the other.
    """

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "failed" for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return it as a document for JSON: texts, lists and mappings alone."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}

    def __repr__(self) -> str:
        # One below the other: what is found may be a long sentence.
        title, _, _ = self._described()
        width = max(len(check.name) for check in self.checks)
        lines = [render.line(title)]
        for check in self.checks:
            begins = f"{check.status:6}  {render.line(check.name):{width}}  "
            lines += _wrapped(begins, render.line(check.found))
            if check.remedy:
                lines += _wrapped(" " * (width + 10), f"what to do: {render.line(check.remedy)}")
        return "\n".join(lines)

    def _ipython_display_(self) -> None:
        """Show it, and have the page tell whether it shows widgets: nobody waits for that."""
        asked = next((check for check in self.checks if check.remedy == _NO_PAGE_YET), None)
        if asked is None:
            render.display_bundle(self._repr_mimebundle_())
            return
        from tritonic_nb.widgets.page import show_and_ask

        def answered() -> Any:
            told = replace(asked, status="ok", found=_shown(asked.found), remedy="")
            self.checks = tuple(told if each is asked else each for each in self.checks)
            return self._repr_mimebundle_()

        show_and_ask(self._repr_mimebundle_(), answered)

    def _described(self) -> render.Description:
        failed = [check.name for check in self.checks if check.status == "failed"]
        count = len(self.checks)
        title = (
            f"{len(failed)} of {count} checks failed: {', '.join(failed)}"
            if failed
            else f"{count} checks, none failed"
        )
        rows = [(each.name, _status(each.status), each.found, each.remedy) for each in self.checks]
        columns = ("checked", "", "found", "what to do")
        return title, (), [render.Table(None, columns, rows)]


def _wrapped(begins: str, text: str) -> list[str]:
    """Return a text in lines of bounded length, the first of which begins with something."""
    lines = textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=begins,
        subsequent_indent=" " * len(begins),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [begins.rstrip()]


def _status(status: str) -> render.Cell:
    """Return a status as it stands in a card: what failed is to be seen at once."""
    alarm = f'<span class="tnb-alarm">{status}</span>'
    return render.Rich(status, alarm) if status == "failed" else status


def doctor(
    server: str | ServerAddress | None = None,
    *,
    model: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Check what a session needs, and tell what to do where something is missing.

    Python and the packages; ``/dev/shm``, by making a region, its size, what is free and who
    holds the rest; memory; GPUs with driver and free memory, and what CUDA sees of them; a
    server, which has to open a region that was made here; what dead sessions left; what is logged;
    and in a notebook the packages for widgets, and whether its page shows any.

    Parameters
    ----------
    server
        The server, as :class:`~tritonic_nb.Session` takes it. By default an embedded one is
        started for a moment, where it is prepared already, and a model run on it both ways.
    model
        A model of `server` to run once over the wire and once through shared memory, with
        made-up inputs; without, no model is run there.
    headers
        What the server demands.

    Returns
    -------
    Diagnosis
        The checks; nothing that they find is raised.

    Raises
    ------
    ArgumentError
        If a model or headers were given, and no server.

    Examples
    --------
    >>> tritonic_nb.doctor()
    >>> tritonic_nb.doctor("localhost:8000", model="resnet50").healthy
    True
    """
    if server is None and (model is not None or headers is not None):
        raise ArgumentError(
            "a model or headers were given, and no server", "name it: doctor('localhost:8000', ...)"
        )
    checks = [
        _careful("Python", _python),
        _careful("packages", _packages),
        _careful(_SHM_DIR, _shm),
        _careful("memory", _memory),
        _careful("GPU", _gpu),
    ]
    if server is None:
        checks += [*_of_embedded(), _careful("left over", _left_over)]
    else:
        checks += _of_server(server, model, headers or {})
    return Diagnosis((*checks, _careful("log", _logging), _careful("widgets", _widgets)))


def _careful(name: str, check: Callable[[], tuple[str, str, str]]) -> Check:
    """Return what a check found, or its error."""
    try:
        return Check(name, *check())
    except TritonicError as error:
        return Check(name, "failed", error.message, error.remedy)
    except Exception as error:  # whatever is wrong with this machine is what is to be told
        return Check(name, "failed", f"{type(error).__name__}: {error}", "")


def _python() -> tuple[str, str, str]:
    found = f"{platform.python_version()} on {sys.platform}, {platform.machine()}"
    libc, libc_version = platform.libc_ver()
    found += f", {libc} {libc_version}" if libc else ""
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return "failed", found, "use Python 3.10 or newer"
    if sys.platform != "linux":
        return "note", found, "only the wire works here: shared memory needs Linux"
    if sys.version_info[:2] > _NEWEST_PYTHON:
        return "note", found, "newer than what was tried: Python 3.10 to 3.13"
    return "ok", found, ""


def _packages() -> tuple[str, str, str]:
    wrong, count = [], 0
    for name, least in _required():
        count += 1
        try:
            have = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if least and _numbers(have) < _numbers(least):
            wrong.append(f"{name} {have}, where {least} is needed")
    if wrong:
        return "failed", "; ".join(wrong), "pip install --upgrade tritonic-nb"
    return "ok", f"all {count} that are needed, with NumPy {np.__version__}", ""


def _required() -> Iterator[tuple[str, str]]:
    """Give the packages that this one needs here, and the oldest version of each."""
    for line in requires("tritonic-nb") or ():
        requirement, _, marker = line.partition(";")
        if "extra" in marker or ("linux" in marker and sys.platform != "linux"):
            continue
        found = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9.]+))?", requirement)
        if found is not None:
            yield found[1], found[2] or ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _shm() -> tuple[str, str, str]:
    require_memory(SharedMemoryType.SYSTEM)
    space = host_space()
    region = create_region(
        SharedMemoryType.SYSTEM, "doctor", "input", 1, holders=lambda *_: holders_text()
    )
    region.close()
    size = (
        "no limit of its own"
        if space.total_nbytes == sys.maxsize
        else (f"{human_bytes(space.total_nbytes)}, {human_bytes(space.free_nbytes)} free")
    )
    found = f"{size}; a region could be made; mounted {_mounted()}"
    held = holders_text()
    found += f"; it{held.removeprefix(_SHM_DIR)}" if held else ""
    if space.free_nbytes < _LITTLE_NBYTES:
        remedy = "close what holds it; `tritonic-nb clean` removes what the dead left; or "
        return "failed", found, remedy + HOW_TO_ENLARGE
    if space.total_nbytes < _SMALL_SHM_NBYTES:
        return "note", found, f"small, as containers have it: for large tensors {HOW_TO_ENLARGE}"
    return "ok", found, ""


def _mounted() -> str:
    """Tell how /dev/shm is mounted; what an option means for regions, where people ask."""
    try:
        lines = [line.split() for line in _MOUNTS.read_text(errors="replace").splitlines()]
    except OSError as error:  # regions need none of this
        return f"in a way that cannot be told ({error.strerror})"
    mounts = [fields for fields in lines if len(fields) > 3 and fields[1] == _SHM_DIR]
    if not mounts:
        return "with the root file system"
    _, _, kind, options, *_ = mounts[-1]  # the last one lies above the others
    harmless = ": noexec does no harm, nothing is run from there"
    return f"as {kind} ({options}{harmless if 'noexec' in options.split(',') else ''})"


def _memory() -> tuple[str, str, str]:
    space = host_space()
    if space.available_nbytes == sys.maxsize:
        return "note", "the system does not tell how much memory is available", ""
    found = f"{human_bytes(space.available_nbytes)} available, limited by {space.available_in}"
    if space.available_nbytes < _LITTLE_NBYTES:
        return "failed", found, "end other processes, or give the container more memory"
    return "ok", found, ""


def _gpu() -> tuple[str, str, str]:
    there = devices(refresh=True)
    try:
        require_memory(SharedMemoryType.CUDA)
    except TritonicError as error:
        return _without_cuda(there, error)
    uuids = device_uuids()
    there = with_cuda_indices(there, uuids)
    found = f"{len(uuids)} CUDA device{'' if len(uuids) == 1 else 's'}{_visible()}; "
    found += _listed(there) if there else f"not to be seen otherwise: {there.explanation}"
    if "microsoft" in platform.release().lower():
        return "note", found, "WSL2 has no CUDA IPC: CUDA shared memory needs Linux itself"
    full = [each for each in there if (each.free_nbytes or _LITTLE_NBYTES) < _LITTLE_NBYTES]
    if full:
        holders = "; ".join(filter(None, (device_holders_text(each.uuid) for each in full)))
        found += f"; {holders}" if holders else ""
        return "note", found, "end what holds its memory, or choose another device"
    return "ok", found, ""


def _without_cuda(there: Devices, error: TritonicError) -> tuple[str, str, str]:
    """Tell why CUDA has no device, and whether the driver has one that CUDA does not see."""
    if there:
        return "note", f"{error.message}{_visible()}; but {_listed(there)}", error.remedy
    found = f"{error.message}{_visible()}; {there.explanation}"
    nothing = (NvmlReason.NO_LIBRARY, NvmlReason.NO_DRIVER, NvmlReason.NO_DEVICE)
    if not isinstance(error, NoCudaDeviceError) or there.reason in nothing:
        return "note", found, _WITHOUT_GPU
    return "note", found, error.remedy


def _visible() -> str:
    """Tell what chooses among the devices, where something does."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if chosen is None else f" (CUDA_VISIBLE_DEVICES={chosen!r})"


def _listed(there: Devices) -> str:
    """Tell the driver's version, and each GPU with its memory and CUDA's number of it."""
    driver = f"NVIDIA driver {there[0].driver}" if there[0].driver else "the NVIDIA driver"
    return f"{driver} shows {', '.join(_device_text(each) for each in there)}"


def _device_text(device: Device) -> str:
    known = device.free_nbytes is not None and device.total_nbytes is not None
    memory = (
        f"{human_bytes(device.free_nbytes or 0)} free of {human_bytes(device.total_nbytes or 0)}"
        if known
        else "memory not told"
    )
    number = "no CUDA device" if device.cuda_index is None else f"CUDA device {device.cuda_index}"
    return f"{device.name} ({memory}; {number})"


def _of_embedded() -> list[Check]:
    """Check an embedded server: whether it starts, answers, and opens memory of a GPU."""
    servers: list[Server] = []
    with ExitStack() as stack:
        checks = [_careful("embedded server", partial(_embedded, stack, servers))]
        for server in servers if _has_cuda() else ():
            transport = stack.enter_context(_transport(server, {}))
            opens = partial(_opens, transport, SharedMemoryType.CUDA)
            checks.append(_careful("cuda shared memory", opens))
    return checks


def _embedded(stack: ExitStack, servers: list[Server]) -> tuple[str, str, str]:
    if not is_prepared():
        how = "tritonic-nb prepare (about 100 MB, once); the first serve() does it too"
        return "note", "not prepared yet", how
    begun = time.perf_counter()
    server = stack.enter_context(serve([_MODEL]))
    servers.append(server)
    ready_s = time.perf_counter() - begun
    sent = np.arange(_NBYTES // 4, dtype=np.float32)[np.newaxis]
    for kind in ("none", "system"):
        with server.session(model=_MODEL, shared_memory=kind) as session:
            if not np.array_equal(session.infer(sent)["OUTPUT0"], sent):
                return "failed", f"{_MODEL} gave something else back ({kind})", "tell its keepers"
    found = (
        f"Triton {server.version}, ready after {ready_s:.1f} s; a tensor of "
        f"{human_bytes(_NBYTES)} came back over the wire and through shared memory"
    )
    return "ok", found, ""


def _has_cuda() -> bool:
    try:
        require_memory(SharedMemoryType.CUDA)
    except TritonicError:
        return False
    return True


def _of_server(
    server: str | ServerAddress, model: str | None, headers: Mapping[str, str]
) -> list[Check]:
    """Check a server: whether it answers, opens regions of this machine, and runs a model."""
    with ExitStack() as stack:

        def reached() -> tuple[str, str, str]:
            session = stack.enter_context(Session(server, headers=headers, shared_memory="none"))
            sessions.append(session)
            ready = sum(each.state == "READY" for each in session.models())
            found = f"{session.server_version} at {session.url}, {ready} models ready"
            return "ok", found, ""

        sessions: list[Session] = []
        checks = [_careful("server", reached)]
        if not sessions:
            return checks
        (session,) = sessions
        transport = stack.enter_context(_transport(server, headers))
        for kind in (SharedMemoryType.SYSTEM, SharedMemoryType.CUDA):
            checks.append(_careful(f"{kind} shared memory", partial(_opens, transport, kind)))
        if model is not None:
            checks.append(_careful(f"model {model}", lambda: _runs(session, model)))
        checks.append(_careful("left over", lambda: _left_over(transport)))
        return checks


def _transport(
    server: str | ServerAddress, headers: Mapping[str, str]
) -> AbstractContextManager[Transport]:
    if isinstance(server, str):
        return closing(connect(server, headers))
    return closing(connect(server.url, {**server.headers, **headers}))


def _opens(transport: Transport, kind: SharedMemoryType) -> tuple[str, str, str]:
    """Have the server open a region that is made here, which proves that both see the same."""
    if kind is SharedMemoryType.CUDA and not _has_cuda():
        return "note", "not tried: there is no CUDA device here", ""
    try_region(transport, kind)
    where = "the GPU" if kind is SharedMemoryType.CUDA else _SHM_DIR
    return "ok", f"the server opened a region of this machine's {where}", ""


def _runs(session: Session, model: str) -> tuple[str, str, str]:
    """Run a model over each way that works, with made-up inputs."""
    session.use(model)
    found = session.compare(seconds=0.01, progress=False)
    ways = " and ".join(f"{way.label} ({way.median_ms:.2g} ms)" for way in found.ways)
    return "ok", f"it gave the same over {ways}{f'; {found.note}' if found.note else ''}", ""


def _left_over(transport: Transport | None = None) -> tuple[str, str, str]:
    regions, servers = find_leftovers(transport), find_orphans()
    if not regions and not servers:
        return "ok", "nothing of dead sessions or servers", ""
    told = [str(regions)] if regions else []
    told += [f"{len(servers)} of dead servers"] if servers else []
    return "note", "; ".join(told), "tritonic-nb clean (with --url for the server's part)"


def _logging() -> tuple[str, str, str]:
    """Tell how much of what sessions do is logged, and how to have all of it."""
    level = logging.getLogger("tritonic_nb").getEffectiveLevel()
    if level <= logging.DEBUG:
        return "ok", "each request, register and unregister is logged", ""
    name = logging.getLevelName(level).lower()
    return (
        "ok",
        f"from level {name} on; Session(..., verbose=True) logs each request, register and "
        "unregister; an embedded server has server.log, and serve(log_verbose=1) says more there",
        "",
    )


def _widgets() -> tuple[str, str, str]:
    have = []
    for name in _WIDGETS:
        import_module(name)
        have.append(f"{name} {version(name)}")
    found = ", ".join(have)
    if not render.in_notebook():
        return "note", found, "only a notebook can tell whether its page shows them: run it in one"
    return "note", f"{found}; no page has told yet whether it shows them", _NO_PAGE_YET


def _shown(found: str) -> str:
    """Return what was found of the widgets, once a page has answered."""
    return f"{found.partition(';')[0]}; this page shows them"

"""Finds what the embedded server needs: a tritonserver, or a Python to run one with.

Every candidate is proved by running it: a name on ``PATH`` may be a shim that
fails, or a Python without the shared library that Triton's Python backend loads.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonic_nb.errors import RuntimeUnavailableError

__all__ = ["Interpreter", "find_interpreter", "find_tritonserver", "refuse_platform"]

SUPPORTED_MINORS = (10, 11, 12)
MINIMUM_GLIBC = (2, 35)
PROBE_TIMEOUT_S = 10.0

_ELSEWHERE = (
    "run a Triton server on another machine or in a container, and connect with "
    "Session(url); or point TRITONIC_NB_TRITONSERVER at a tritonserver that runs here"
)
_GET_A_PYTHON = (
    "install a CPython 3.10, 3.11 or 3.12 that has its shared library, for example "
    "`uv python install 3.12`, `conda create -n triton python=3.12`, or on Debian and "
    "Ubuntu `apt-get install libpython3.11` (with the system's own minor version); "
    "or name one in TRITONIC_NB_PYTHON"
)

# Run by each candidate with -I, so it must not need anything of ours. An
# interpreter in a virtual environment answers for the one it was made from.
_PROBE = """
import json, os, platform, sys, sysconfig
names = ("LIBDIR", "LIBPL", "MULTIARCH")
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": list(sys.version_info[:3]),
    "machine": platform.machine(),
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "base_prefix": sys.base_prefix,
    "variables": {name: sysconfig.get_config_var(name) for name in names},
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that can run Triton's Python backend.

    Attributes
    ----------
    executable
        The interpreter's own file, never that of a virtual environment.
    version
        Major, minor and patch.
    base_prefix
        Where its standard library is installed.
    libpython
        Its shared library.
    """

    executable: str
    version: tuple[int, int, int]
    base_prefix: str
    libpython: str

    @property
    def minor(self) -> str:
        """The version that binary packages are made for, such as ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"

    def exists(self) -> bool:
        """Tell, without running it, whether its files are still there."""
        return os.access(self.executable, os.X_OK) and Path(self.libpython).is_file()


class _RefusedError(Exception):
    """Why a candidate cannot be used, in one line."""


def refuse_platform(system: str, machine: str, glibc: tuple[int, ...] | None) -> str:
    """Say why the wheel's tritonserver cannot run on such a machine, or nothing.

    Parameters
    ----------
    system, machine
        As :func:`platform.system` and :func:`platform.machine` tell them.
    glibc
        The C library's version; ``None`` where it is not glibc.
    """
    if system != "Linux":
        return f"the embedded server runs on Linux, and this is {system or 'unknown'}"
    if machine not in ("x86_64", "AMD64"):
        return f"the embedded server is built for x86-64, and this machine is {machine}"
    if glibc is None:
        return "the embedded server needs glibc, and this system has another C library (musl?)"
    if glibc < MINIMUM_GLIBC:
        have = ".".join(map(str, glibc))
        return f"the embedded server needs glibc 2.35 or newer, and this system has {have}"
    return ""


def host_glibc() -> tuple[int, ...] | None:
    """Return this system's glibc version, or ``None`` where it has another C library."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
        return tuple(int(part) for part in text.split()[1].split(".")[:2])
    except (AttributeError, ValueError, OSError, IndexError):
        return None


def check_platform() -> None:
    """Refuse a machine on which the wheel's tritonserver cannot run.

    Raises
    ------
    RuntimeUnavailableError
        With what is missing and what to do instead.
    """
    reason = refuse_platform(platform.system(), platform.machine(), host_glibc())
    if reason:
        raise RuntimeUnavailableError(f"no embedded Triton server here: {reason}", _ELSEWHERE)


def find_tritonserver(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Return a tritonserver that the user named or installed, or ``None``.

    Looks at the argument, then at the environment's ``TRITONIC_NB_TRITONSERVER``,
    then at ``PATH`` and ``/opt/tritonserver/bin``.

    Raises
    ------
    RuntimeUnavailableError
        The one that was named is not an executable file.
    """
    named = os.fspath(given) if given is not None else os.environ.get("TRITONIC_NB_TRITONSERVER")
    if named:
        path = shutil.which(Path(named).expanduser())
        if path is None:
            raise RuntimeUnavailableError(
                f"the tritonserver that was named is not an executable file: {named}",
                "give the path of the tritonserver program itself, or none at all",
            )
        return Path(path).resolve()
    installed = shutil.which("tritonserver") or shutil.which("/opt/tritonserver/bin/tritonserver")
    return Path(installed).resolve() if installed else None


def find_interpreter() -> Interpreter:
    """Return the first Python on this machine that can run Triton's Python backend.

    Looks at the environment's ``TRITONIC_NB_PYTHON`` (and then nowhere else), at
    the running interpreter, at ``PATH``, and where pyenv, uv, rye, asdf and conda
    keep theirs.

    Raises
    ------
    RuntimeUnavailableError
        None was found. The message lists each candidate and why it was refused.
    """
    named = os.environ.get("TRITONIC_NB_PYTHON")
    candidates: Iterable[str] = [named] if named else candidate_pythons()
    refusals: list[str] = []
    seen: set[str] = set()
    for candidate in candidates:
        key = str(Path(candidate).resolve())
        if key in seen:
            continue
        seen.add(key)
        try:
            return judge(probe(candidate))
        except _RefusedError as reason:
            refusals.append(f"  {candidate}: {reason}")
    found = "\n".join(refusals) or "  none at all"
    where = "the one named in TRITONIC_NB_PYTHON" if named else "what was found"
    raise RuntimeUnavailableError(
        "the embedded server needs a CPython 3.10, 3.11 or 3.12 with a shared library; "
        f"{where}:\n{found}",
        _GET_A_PYTHON,
    )


def candidate_pythons() -> Iterator[str]:
    """Yield files that may be interpreters, the likely ones first; none was run yet."""
    running = getattr(sys, "_base_executable", None) or sys.executable
    if running:
        yield running
    # Imported here: only a machine without a prepared runtime pays for it.
    from findpython.providers import ALL_PROVIDERS

    for make in ALL_PROVIDERS.values():
        provider = make.create()
        if provider is not None:
            yield from (str(found.executable) for found in provider.find_pythons())
    yield from conda_pythons()


def conda_pythons() -> Iterator[str]:
    """Yield the interpreters of conda's environments, which findpython does not know."""
    home = Path.home()
    roots = [home / name for name in ("miniconda3", "miniforge3", "mambaforge", "anaconda3")]
    roots += [Path("/opt/conda")]
    roots += [
        Path(os.environ[name]) for name in ("CONDA_PREFIX", "CONDA_ROOT") if name in os.environ
    ]
    for root in roots:
        for prefix in itertools.chain([root], sorted((root / "envs").glob("*"))):
            if (prefix / "bin/python").is_file():
                yield str(prefix / "bin/python")
    listed = home / ".conda/environments.txt"
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and (Path(line.strip()) / "bin/python").is_file():
                yield str(Path(line.strip()) / "bin/python")


def probe(candidate: str) -> dict[str, Any]:
    """Run a candidate and return what it says about itself."""
    try:
        answer = subprocess.run(
            [candidate, "-I", "-c", _PROBE],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        told = json.loads(answer.stdout)
    except subprocess.TimeoutExpired:
        raise _RefusedError(f"did not answer within {PROBE_TIMEOUT_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise _RefusedError(f"does not run: {last_words(error.stderr)}") from None
    except (OSError, ValueError) as error:
        raise _RefusedError(f"does not run: {error}") from None
    if not isinstance(told, dict):
        raise _RefusedError("does not run: its answer made no sense")
    return told


def last_words(stderr: bytes) -> str:
    """Return the last line that a program printed, cut to a readable length."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it ended with an error and said nothing"


def judge(told: dict[str, Any]) -> Interpreter:
    """Turn what a candidate said into an interpreter, or refuse it with the reason."""
    major, minor, patch = told["version"]
    version = f"{major}.{minor}.{patch}"
    if told["implementation"] != "cpython":
        raise _RefusedError(f"is {told['implementation']} {version}, not CPython")
    if major != 3 or minor not in SUPPORTED_MINORS:
        raise _RefusedError(f"is Python {version}; 3.10 to 3.12 will do")
    if told["machine"] not in ("x86_64", "AMD64") or told["bits"] != 64:
        raise _RefusedError(f"is built for {told['machine']}, {told['bits']} bits; x86-64 will do")
    library = find_libpython(told)
    if library is None:
        hint = ""
        if told["base_prefix"] == "/usr":
            hint = f"; apt-get install libpython{major}.{minor}"
        raise _RefusedError(f"has no shared libpython{major}.{minor}.so.1.0{hint}")
    return Interpreter(
        executable=told["executable"],
        version=(major, minor, patch),
        base_prefix=told["base_prefix"],
        libpython=str(library),
    )


def find_libpython(told: dict[str, Any]) -> Path | None:
    """Return the shared library that the Python backend's stub is linked against."""
    name = "libpython{}.{}.so.1.0".format(*told["version"][:2])
    variables = told["variables"]
    lib = Path(told["base_prefix"]) / "lib"
    # The configured folder may be one of the machine that built it: look beside
    # the standard library too.
    folders = [variables.get("LIBDIR"), variables.get("LIBPL"), lib]
    if variables.get("MULTIARCH"):
        folders += [lib / variables["MULTIARCH"], Path("/lib") / variables["MULTIARCH"]]
    for folder in folders:
        if folder and (Path(folder) / name).is_file():
            return Path(folder) / name
    return None

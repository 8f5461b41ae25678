"""The machine on which the figures were taken, without a word on whose it is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "this_machine"]

_LIBRARIES = ("tritonclient", "numpy", "httptools", "pycurl", "grpcio")
_QUIET_LOAD = 0.5  # for each core


@dataclass(frozen=True)
class Machine:
    """A machine: neither names of host and user nor paths are among what it tells.

    Attributes
    ----------
    cpu, cores
        The processor's name, and how many cores this process may use.
    system, python
        Their names with versions.
    load
        The average load of the minute before.
    libraries
        Versions by name; empty for one that is not there.
    """

    cpu: str
    cores: int
    system: str
    python: str
    load: float
    libraries: Mapping[str, str]

    @property
    def busy(self) -> bool:
        """Whether others used it."""
        return self.load > _QUIET_LOAD * self.cores


def this_machine(*also: str) -> Machine:
    """Return the machine as it is now.

    Parameters
    ----------
    also
        Further libraries whose versions matter.
    """
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
        libraries={name: _version(name) for name in (*_LIBRARIES, *also)},
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""

"""The search for a Python and a tritonserver, and every reason to refuse one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tritonic_nb.errors import RuntimeUnavailableError
from tritonic_nb.server import locate
from tritonic_nb.server.locate import (
    candidate_pythons,
    check_platform,
    find_interpreter,
    find_tritonserver,
    refuse_platform,
)


def python_script(folder: Path, *lines: str) -> str:
    """Write a program that stands where a Python would."""
    script = folder / "python3"
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o700)
    return str(script)


def answer(**changes: Any) -> str:
    """Return shell words that print what a fitting Python would, but for some changes."""
    told: dict[str, Any] = {
        "implementation": "cpython",
        "version": [3, 12, 1],
        "machine": "x86_64",
        "bits": 64,
        "executable": "/nowhere/bin/python3",
        "base_prefix": "/nowhere",
        "variables": {"LIBDIR": "/nowhere/lib"},
    }
    return f"echo '{json.dumps({**told, **changes})}'"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["echo 'pyenv: version 3.12 is not installed' >&2", "exit 127"], "3.12 is not installed"),
        (["exit 1"], "said nothing"),
        (["echo garbage"], "does not run"),
        ([answer(version=[3, 13, 0])], "is Python 3.13.0; 3.10 to 3.12 will do"),
        ([answer(implementation="pypy")], "is pypy 3.12.1, not CPython"),
        ([answer(machine="aarch64")], "is built for aarch64"),
        ([answer()], "has no shared libpython3.12.so.1.0"),
        ([answer(base_prefix="/usr", variables={})], "apt-get install libpython3.12"),
    ],
)
def test_an_unfit_python_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], reason: str
) -> None:
    """The error names the candidate, why it will not do, and how to get one that will."""
    script = python_script(tmp_path, *lines)
    monkeypatch.setenv("TRITONIC_NB_PYTHON", script)
    with pytest.raises(RuntimeUnavailableError) as caught:
        find_interpreter()
    assert f"{script}: " in caught.value.message
    assert reason in caught.value.message
    assert "uv python install" in caught.value.remedy


def test_a_python_that_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that does not answer is given up."""
    monkeypatch.setattr(locate, "PROBE_TIMEOUT_S", 0.3)
    monkeypatch.setenv("TRITONIC_NB_PYTHON", python_script(tmp_path, "exec sleep 30"))
    with pytest.raises(RuntimeUnavailableError, match="did not answer"):
        find_interpreter()


def test_nothing_found_lists_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no Python fits, each one that was found is listed."""
    old = python_script(tmp_path, answer(version=[3, 8, 18]))
    monkeypatch.delenv("TRITONIC_NB_PYTHON", raising=False)
    monkeypatch.setattr(locate, "candidate_pythons", lambda: iter([old, "/no/such/python"]))
    with pytest.raises(RuntimeUnavailableError) as caught:
        find_interpreter()
    assert "is Python 3.8.18" in caught.value.message
    assert "/no/such/python: does not run" in caught.value.message


def test_a_python_in_a_virtual_environment_answers_for_its_base() -> None:
    """The interpreter that is found is no virtual environment's, and its library exists."""
    found = find_interpreter()
    assert Path(found.libpython).is_file()
    assert found.minor in ("3.10", "3.11", "3.12")
    assert found.exists()
    if found.version == sys.version_info[:3]:
        assert found.base_prefix == sys.base_prefix


def test_conda_and_path_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pythons on PATH and in conda's environments are candidates, after the running one."""
    (tmp_path / "bin").mkdir()
    on_path = python_script(tmp_path / "bin", "exit 1")
    conda = tmp_path / "miniforge3/envs/triton/bin"
    conda.mkdir(parents=True)
    (conda / "python").touch()
    listed = tmp_path / "elsewhere/bin"
    listed.mkdir(parents=True)
    (listed / "python").touch()
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda/environments.txt").write_text(f"{tmp_path / 'elsewhere'}\n\n/gone\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = list(candidate_pythons())
    assert found[0] == sys._base_executable  # type: ignore[attr-defined]
    assert {on_path, str(conda / "python"), str(listed / "python")} <= set(found)


@pytest.mark.parametrize(
    ("system", "machine", "glibc", "reason"),
    [
        ("Darwin", "arm64", None, "Linux"),
        ("Windows", "AMD64", None, "Linux"),
        ("Linux", "aarch64", (2, 39), "aarch64"),
        ("Linux", "x86_64", None, "musl"),
        ("Linux", "x86_64", (2, 31), "2.31"),
        ("Linux", "x86_64", (2, 35), ""),
    ],
)
def test_unfit_machines_are_refused(
    system: str, machine: str, glibc: tuple[int, ...] | None, reason: str
) -> None:
    """Another system, processor or C library is named; a fitting one is not refused."""
    told = refuse_platform(system, machine, glibc)
    assert reason in told
    assert bool(told) == bool(reason)


def test_an_unfit_machine_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error sends its reader to a server elsewhere."""
    monkeypatch.setattr(locate, "host_glibc", lambda: (2, 17))
    with pytest.raises(RuntimeUnavailableError, match="2.17") as caught:
        check_platform()
    assert "Session(url)" in caught.value.remedy


def test_an_installed_server_is_found_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tritonserver on PATH is used; the one that is named goes before it."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tritonserver").touch(mode=0o700)
    monkeypatch.delenv("TRITONIC_NB_TRITONSERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    assert find_tritonserver() == tmp_path / "a/tritonserver"
    monkeypatch.setenv("TRITONIC_NB_TRITONSERVER", str(tmp_path / "b/tritonserver"))
    assert find_tritonserver() == tmp_path / "b/tritonserver"
    assert find_tritonserver(tmp_path / "a/tritonserver") == tmp_path / "a/tritonserver"

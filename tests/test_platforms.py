"""Other operating systems, and the installed wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_URL

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_it_works_by_wire(
    server: Any, open_session: Any, platform: str, tmp_path: Path
) -> None:
    """Without what only Linux has, it imports, infers by wire, and refuses the rest in words."""
    open_session("simple")
    url, headers = (server, {}) if TEST_URL else (server.url, server.headers)
    script = textwrap.dedent(f"""
        import platform, sys
        import numpy, pycurl, tritonclient.http, PIL.Image, matplotlib, asyncio, subprocess
        import findpython, filelock, platformdirs
        for missing in ("fcntl", "resource", "cuda"):
            sys.modules[missing] = None
        sys.platform = {platform!r}
        platform.system = lambda: {platform!r}
        import tritonic_nb
        from tritonic_nb.errors import RuntimeUnavailableError, SharedMemoryUnsupportedError

        ones = numpy.ones((1, 16), numpy.int32)
        for kind in ("none", "auto"):
            with tritonic_nb.Session(
                {url!r}, "simple", shared_memory=kind, headers={headers!r}
            ) as session:
                assert session.infer(INPUT0=ones, INPUT1=ones)["OUTPUT0"][0, 0] == 2
                assert session.infer(INPUT0=ones, INPUT1=ones).shared_nbytes == 0
        for kind in ("system", "cuda"):
            try:
                tritonic_nb.Session({url!r}, "simple", shared_memory=kind)
            except SharedMemoryUnsupportedError as error:
                assert "needs Linux; this is {platform}" in str(error)
            else:
                raise AssertionError(kind)
        sys.platform = "linux"  # for the standard library's sake; serve() asks platform.system()
        try:
            tritonic_nb.serve()
        except RuntimeUnavailableError as error:
            assert "Session(" in str(error), error
        else:
            raise AssertionError("serve")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "TRITONIC_NB_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_everything(tmp_path: Path) -> None:
    """The wheel carries samples, templates, teaching models, the lock and py.typed."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("tritonic_nb-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tritonic_nb").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there <= inside
    assert not {name for name in inside if name.startswith(("tests", "notebooks"))}

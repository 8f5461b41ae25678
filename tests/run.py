"""Runs all tests: those that share nothing with the others beside them, where that is possible.

::

    python tests/run.py [OPTIONS OF PYTEST]

Notebooks, browser, clusters and deployments take a third of the time. With a ``/dev/shm`` and a
folder for temporary files of their own they disturb nobody, and nobody them. That needs root;
without it all run one after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))

from tests.own_shm import WHY_NOT, own_dev_shm  # noqa: E402 - after the path to it

__all__ = ["main"]

_APART = (
    "tests/browser", "tests/notebooks", "tests/spread", "tests/test_deployments.py", "notebooks",
)  # fmt: skip
_SHM = "4g"
_PYTEST = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=300"]
_NOTHING = 5  # pytest's status where options leave no test


def main(options: list[str]) -> int:
    """Run the tests; return 0 if all passed."""
    if WHY_NOT:
        return _pytest("tests", "notebooks", *options)
    left_out = [f"--ignore={path}" for path in _APART]
    with tempfile.TemporaryDirectory(prefix="tests_", dir="/tmp") as folder:
        report = Path(folder, "report")
        with report.open("w") as file:
            apart = subprocess.Popen(
                [*own_dev_shm(_SHM), *_PYTEST, *_APART, *options, "-p", "no:cacheprovider"],
                cwd=_ROOT, env={**os.environ, "TMPDIR": folder}, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            here = _pytest("tests", *left_out, *options)
            beside = apart.wait()
        finally:
            apart.terminate()
            apart.wait()
            print(f"\nBeside these, {', '.join(_APART)}:\n\n{report.read_text()}", flush=True)
    return max(status for status in (here, beside) if status != _NOTHING or here == beside)


def _pytest(*arguments: str) -> int:
    return subprocess.run([*_PYTEST, *arguments], cwd=_ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

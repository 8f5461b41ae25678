"""A notebook in Google Colab: alone in an empty folder, in a Python that has no tritonic_nb yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from links import COLAB_ID, NOTEBOOKS, requirement

ROOT = Path(__file__).parents[2]
QUICKSTART = NOTEBOOKS[0]
TIMEOUT_S = 240
# Colab shows widgets that others made only after this call.
COLAB_OUTPUT = """
def enable_custom_widget_manager():
    with open(__file__ + ".called", "a") as file:
        file.write("called")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with a notebook kernel, what Colab has of its own, and nothing of ours."""
    if shutil.which("git") is None:
        pytest.skip("there is no git to install the package with")
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    subprocess.run([found, "-m", "pip", "install", "--quiet", "ipykernel", "nbmake"], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (packages / "google" / "colab" / "output.py").write_text(COLAB_OUTPUT)
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as it stands, as a repository that git can get."""
    folder = tmp_path_factory.mktemp("published")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    own = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*own, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.mark.timeout(TIMEOUT_S + 180)
def test_the_quickstart_runs_in_colab(python: Path, repository: Path, tmp_path: Path) -> None:
    """Its first cell installs the package, and then all of it runs, with its assertions.

    The address that the cell gets it from is this project's, which git is told to take for the
    public one.
    """
    shutil.copy(QUICKSTART, tmp_path)
    address = requirement().partition("git+")[2].rpartition("@")[0]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "COLAB_RELEASE_TAG": "imitated",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    assert _run(python, "-c", "import tritonic_nb", cwd=tmp_path).returncode == 1
    done = _run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir=.",
        "--nbmake", f"--nbmake-timeout={TIMEOUT_S}", ".", cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == [QUICKSTART.name]
    where = _run(python, "-c", "import tritonic_nb; print(tritonic_nb.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(python.parents[1]))
    assert len(list(python.parents[1].glob("lib/python*/site-packages/google/colab/*.called"))) == 1


def _run(python: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_elsewhere_the_first_cell_does_nothing(path: Path) -> None:
    """It asks whether this is Colab before anything else, and shows nothing."""
    notebook = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in notebook.cells if cell.id == COLAB_ID]
    assert cell.outputs == []
    code = [line for line in cell.source.splitlines() if not line.startswith("#")]
    assert [line for line in code if line and not line.startswith(" ")] == [
        "import os",
        'if "COLAB_RELEASE_TAG" in os.environ:',
    ]

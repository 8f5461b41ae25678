"""The isolated environment: made once, whole or not at all, and by one process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from tritonic_nb.errors import ArgumentError, RuntimeUnavailableError
from tritonic_nb.server import prepare
from tritonic_nb.server.locate import find_interpreter
from tritonic_nb.server.runtime import (
    LOCK_FILE,
    cache_folder,
    old_runtimes,
    open_prepared,
    remove_runtime,
    runtime_name,
    unlinked_driver,
    write_manifest,
)

PREPARE = """
from tritonic_nb.server import prepare
print(prepare(lambda text: None).folder)
"""

OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let runtimes lie in a fresh folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRITONIC_NB_CACHE", str(folder))
    return folder


def be_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pip no place to download from."""
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)


def test_two_processes_make_one_of_a_damaged_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes at once end with one whole runtime in place of a damaged one.

    Downloads the packages (about 100 MB), where pip is configured to look.
    """
    # Half-made: a file cut short, and a staging folder of a process that was killed.
    interpreter = find_interpreter()
    folder = cache / runtime_name(interpreter.minor)
    (folder / "site").mkdir(parents=True)
    (folder / "site/cut").write_bytes(b"12345")
    write_manifest(folder, interpreter)
    assert open_prepared(folder, interpreter) is not None
    os.truncate(folder / "site/cut", 3)
    assert open_prepared(folder, interpreter) is None
    leftover = cache / f"{folder.name}.staging-dead"
    leftover.mkdir()

    both = [
        subprocess.Popen([sys.executable, "-c", PREPARE], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {process.communicate(timeout=240)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert folders == {str(folder)}
    assert [entry.name for entry in cache.iterdir() if "staging" in entry.name] == []
    assert not (folder / "site/cut").exists()

    # Complete: nothing is installed and nothing is said, with no network to use.
    be_offline(monkeypatch)
    said: list[str] = []
    runtime = prepare(said.append)
    assert runtime.folder == folder
    assert said == []
    # With a library cut short it is made anew, which begins with saying so.
    library = next(runtime.site.glob("nvidia_pytriton.libs/libtritonserver-*"))
    os.truncate(library, 1000)
    assert open_prepared(folder, None) is None
    with pytest.raises(RuntimeUnavailableError, match="No matching distribution"):
        prepare(said.append)
    assert said
    # A missing manifest is a half-made runtime too.
    (folder / "manifest.json").unlink()
    assert open_prepared(folder, None) is None


def test_offline_is_an_error_with_pips_words(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network and mirror, the error says what pip said and what to do."""
    be_offline(monkeypatch)
    with pytest.raises(RuntimeUnavailableError, match="No matching distribution") as caught:
        prepare(None)
    assert "PIP_FIND_LINKS" in caught.value.remedy
    assert not list(cache.glob("*staging*"))


def test_another_file_than_the_pinned_one_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror's package with other contents is not installed."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    wheel = mirror / "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "nvidia_pytriton-0.7.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nvidia-pytriton\n")
    be_offline(monkeypatch)
    monkeypatch.setenv("PIP_FIND_LINKS", str(mirror))
    with pytest.raises(RuntimeUnavailableError, match="DO NOT MATCH THE HASHES"):
        prepare(None)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() not in LOCK_FILE.read_text()


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder that cannot be made is named, with the variable that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITONIC_NB_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(RuntimeUnavailableError, match="file/cache") as caught:
        prepare(None)
    assert "TRITONIC_NB_CACHE" in caught.value.remedy


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TRITONIC_NB_CACHE, runtimes lie in the user's cache folder."""
    monkeypatch.delenv("TRITONIC_NB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert cache_folder() == Path("/somewhere/cache/tritonic_nb")


def test_every_download_is_pinned_and_hashed() -> None:
    """The lock file pins each package, hashes each file, and names no index."""
    text = LOCK_FILE.read_text()
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line[:1] not in ("", "#")]
    assert len(entries) == 4
    for entry in entries:
        assert re.match(r"[a-z-]+==[0-9.]+ ", entry)
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
    assert "://" not in text


def test_the_runtime_keeps_the_notebooks_python_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH and its like do not reach the runtime; NumPy in it is 1.26."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    runtime = prepare()
    script = runtime.folder / "version.py"
    script.write_text("import json, numpy, onnxruntime; print(json.dumps(numpy.__version__))")
    try:
        done = runtime.run(script, timeout=60)
    finally:
        script.unlink()
    assert json.loads(done.stdout) == "1.26.4", done.stderr


def test_a_runtime_is_made_for_one_lock_file() -> None:
    """The folder's name tells the Python version and the lock file."""
    assert re.fullmatch(r"runtime-[0-9a-f]{12}-cp312", runtime_name("3.12"))


def test_the_interpreter_that_is_gone_is_noticed(cache: Path, tmp_path: Path) -> None:
    """A runtime whose Python was removed is not taken for ready."""
    folder = cache / "runtime-x-cp311"
    folder.mkdir(parents=True)
    interpreter = find_interpreter()
    entry = {
        "executable": str(tmp_path / "gone"),
        "version": list(interpreter.version),
        "base_prefix": interpreter.base_prefix,
        "libpython": interpreter.libpython,
    }
    (folder / "manifest.json").write_text(json.dumps({"interpreter": entry, "files": {}}))
    assert open_prepared(folder, None) is None
    assert open_prepared(folder, interpreter) is not None
    shutil.rmtree(folder)
    assert open_prepared(folder, interpreter) is None


def test_other_versions_runtimes_are_old(cache: Path, tmp_path: Path) -> None:
    """Old is what has another lock file or Python; links, files and half-made ones are not."""
    used = runtime_name(find_interpreter().minor)
    other_python = runtime_name("3.9")
    other_lock = "runtime-0123456789ab-cp311"
    for name in (used, other_python, other_lock, f"{other_lock}.staging-x", "runtime-else"):
        (cache / name).mkdir(parents=True)
    (cache / f"{other_lock}.lock").touch()
    (cache / "runtime-0123456789ab-cp312").symlink_to(tmp_path)
    assert set(old_runtimes()) == {cache / other_python, cache / other_lock}


def test_an_old_runtime_is_removed_unless_it_is_in_use(cache: Path) -> None:
    """One that a program runs from, or that is being made, stays; then it goes with its rest."""
    folder = cache / "runtime-0123456789ab-cp311"
    (folder / "site").mkdir(parents=True)
    staging = cache / f"{folder.name}.staging-x"
    staging.mkdir()
    program = shutil.copy2(shutil.which("sleep") or "", folder / "site/sleep")
    with subprocess.Popen([program, "60"]) as sleeper:
        with pytest.raises(RuntimeUnavailableError, match=f"in use.*{sleeper.pid}"):
            remove_runtime(folder)
        sleeper.kill()
    with (
        FileLock(cache / f"{folder.name}.lock"),
        pytest.raises(RuntimeUnavailableError, match="prepares"),
    ):
        remove_runtime(folder)
    assert folder.exists()
    remove_runtime(folder)
    assert [entry.suffix for entry in cache.iterdir()] in ([".lock"], [])
    with pytest.raises(ArgumentError, match="not a prepared environment"):
        remove_runtime(folder)


def test_only_runtimes_in_the_cache_are_removed(cache: Path, tmp_path: Path) -> None:
    """A folder of another name or place is refused and stays."""
    elsewhere = tmp_path / "runtime-0123456789ab-cp311"
    named = cache / "other"
    for folder in (elsewhere, named):
        folder.mkdir(parents=True)
        with pytest.raises(ArgumentError):
            remove_runtime(folder)
        assert folder.exists()


def test_the_driver_is_found_by_the_name_that_triton_looks_for(tmp_path: Path) -> None:
    """Where a container has libcuda.so.1 alone the server gets a link; else nothing is added."""
    bare, linked = tmp_path / "bare", tmp_path / "linked"
    for folder, names in ((bare, ["libcuda.so.1"]), (linked, ["libcuda.so", "libcuda.so.1"])):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    assert unlinked_driver(f"{tmp_path}:{bare}") == bare / "libcuda.so.1"
    assert unlinked_driver(f"{bare}:{linked}") is None


def test_the_server_gets_the_drivers_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own that stands on its library path."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver/libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "driver"))
    monkeypatch.setattr("tritonic_nb.server.runtime.DRIVER_FOLDERS", ())
    place = tmp_path / "place"
    place.mkdir()
    variables = prepare().environment(place)
    assert (place / "lib/libcuda.so").resolve() == tmp_path / "driver/libcuda.so.1"
    assert str(place / "lib") in variables["LD_LIBRARY_PATH"].split(os.pathsep)

"""The isolated environment that the embedded server runs in.

It lies in the user's cache folder and holds the wheel's tritonserver, NumPy 1.26
(the wheel's Python backend garbles arrays under NumPy 2) and ONNX Runtime, each
pinned and hashed in ``requirements.lock``. It is made once, in a staging folder
that is renamed when it is complete, under a lock that other processes wait for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from tritonic_nb.errors import ArgumentError, RuntimeUnavailableError
from tritonic_nb.server.locate import (
    SUPPORTED_MINORS,
    Interpreter,
    check_platform,
    find_interpreter,
)

__all__ = [
    "Runtime",
    "cache_folder",
    "is_prepared",
    "old_runtimes",
    "prepare",
    "print_progress",
    "remove_runtime",
]

LOCK_FILE = Path(__file__).parent / "requirements.lock"
# Part of the folder's name, as the lock file's hash is: raise it when what is
# made of the same packages changes.
LAYOUT = "1"
RUNTIME_NAME = re.compile(r"runtime-[0-9a-f]{12}-cp3[0-9]+")
WAIT_LIMIT_S = 900.0
NEEDED_BYTES = 600 * 2**20
# Where distributions, container runtimes and WSL2 put the CUDA driver's library.
DRIVER_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/wsl/lib",
)


def print_progress(text: str) -> None:
    """Print one line about what is being done: to standard error, in a notebook to its cell."""
    # Jupyter paints standard error red, as if something had failed.
    print(text, file=sys.stdout if "ipykernel" in sys.modules else sys.stderr, flush=True)


def silent(_text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Runtime:
    """A prepared environment.

    Attributes
    ----------
    folder
        Where it lies, below the cache folder.
    interpreter
        The Python that its packages were installed for.
    """

    folder: Path
    interpreter: Interpreter

    @property
    def site(self) -> Path:
        """The packages."""
        return self.folder / "site"

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self.site / "pytriton/tritonserver/bin/tritonserver"

    @property
    def backends(self) -> Path:
        """The folder of the server's backends."""
        return self.site / "pytriton/tritonserver/backends"

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment variables for the server.

        The Python backend's stubs ignore ``PYTHONPATH`` and ``PYTHONHOME``. They take
        the first ``python3`` on ``PATH`` for their own, and with it the virtual
        environment that it stands in: so they are given one.

        Parameters
        ----------
        folder
            An existing folder, to make the virtual environment in.
        """
        (folder / "bin").mkdir()
        (folder / "bin/python3").symlink_to(self.interpreter.executable)
        (folder / "pyvenv.cfg").write_text(
            f"home = {Path(self.interpreter.executable).parent}\n"
            "include-system-site-packages = false\n",
            encoding="utf-8",
        )
        packages = folder / f"lib/python{self.interpreter.minor}/site-packages"
        packages.parent.mkdir(parents=True)
        packages.symlink_to(self.site)
        # A folder with this one library: the interpreter's own folder may hold others
        # (conda's does) that must not replace the system's.
        library = Path(self.interpreter.libpython)
        (folder / "lib" / library.name).symlink_to(library)

        variables = clean_environment(os.environ)
        driver = unlinked_driver(variables.get("LD_LIBRARY_PATH", ""))
        if driver is not None:
            (folder / "lib/libcuda.so").symlink_to(driver)
        variables["PATH"] = joined(folder / "bin", variables.get("PATH"))
        # By a link, because a colon in the cache folder's path would split the list.
        (folder / "triton").symlink_to(self.site / "nvidia_pytriton.libs")
        variables["LD_LIBRARY_PATH"] = joined(
            folder / "triton",
            folder / "lib",
            # Kept: on some machines it is the way to the CUDA driver.
            variables.get("LD_LIBRARY_PATH"),
        )
        return variables

    def run(
        self, program: Path, *arguments: str, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a Python program of ours with the runtime's packages and wait for it.

        Parameters
        ----------
        program, arguments
            The file and what it is given.
        timeout
            Seconds after which it is killed.

        Raises
        ------
        subprocess.TimeoutExpired
            It was killed.
        """
        # Not by PYTHONPATH, which a colon in the cache folder's path would split.
        start = (
            "import runpy, sys; sys.path.insert(0, sys.argv[1]); del sys.argv[:2]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        return subprocess.run(
            [self.interpreter.executable, "-I", "-c", start, self.site, program, *arguments],
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )


def unlinked_driver(search_path: str) -> Path | None:
    """Return the CUDA driver's library where only its name with a version is there.

    The Python backend looks for ``libcuda.so``, the name that programs are linked with.
    Many containers have ``libcuda.so.1`` alone; then every tensor would be copied to the
    host, with no more than a line in the log.

    Parameters
    ----------
    search_path
        Folders to look in first, as in ``LD_LIBRARY_PATH``.
    """
    folders = [Path(entry) for entry in search_path.split(os.pathsep) if entry]
    folders += [Path(entry) for entry in DRIVER_FOLDERS]
    if any((folder / "libcuda.so").exists() for folder in folders):
        return None
    found = (folder / "libcuda.so.1" for folder in folders)
    return next((library for library in found if library.exists()), None)


def joined(*entries: Path | str | None) -> str:
    """Return a search path of the entries that are not empty."""
    return os.pathsep.join(str(entry) for entry in entries if entry)


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those that steer a Python.

    The notebook's ``PYTHONPATH`` would bring its NumPy 2 into the server. ONNX
    Runtime's telemetry is switched off: nothing here speaks to other machines unasked.
    """
    kept = {name: value for name, value in variables.items() if not name.startswith("PYTHON")}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


def cache_folder() -> Path:
    """Return the folder that runtimes lie in: ``TRITONIC_NB_CACHE``, or the user's cache."""
    named = os.environ.get("TRITONIC_NB_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("tritonic_nb", appauthor=False))


def prepare(progress: Callable[[str], None] | None = print_progress) -> Runtime:
    """Make the embedded server's environment, unless it is there already.

    The first time, about 100 MB are downloaded with pip, from where pip is
    configured to look; about 300 MB are kept. After that no network is used.
    Several processes may call this at once: one makes it, the others wait.

    Parameters
    ----------
    progress
        Called with one line of text for each step; ``None`` for silence.

    Raises
    ------
    RuntimeUnavailableError
        This machine cannot run it, no suitable Python was found, or the
        packages could not be installed.
    """
    check_platform()
    say = progress or silent
    cache = cache_folder()
    ready = find_prepared(cache)
    if ready is not None:
        return ready
    interpreter = find_interpreter()
    folder = cache / runtime_name(interpreter.minor)
    ready = open_prepared(folder, interpreter)
    if ready is not None:
        return ready
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"{folder.name}.lock", say):
            # Another process may have made it while this one waited.
            return open_prepared(folder, interpreter) or make(folder, interpreter, say)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"the embedded server's environment could not be made in {cache}: {error}",
            "make room or give the right to write there, or set TRITONIC_NB_CACHE to another "
            "folder",
        ) from error


def is_prepared() -> bool:
    """Whether an environment is there already, so that nothing has to be downloaded."""
    return find_prepared(cache_folder()) is not None


def find_prepared(cache: Path) -> Runtime | None:
    """Return a complete runtime of any Python version, so that none is made twice.

    A Python that the user named decides alone.
    """
    if os.environ.get("TRITONIC_NB_PYTHON"):
        return None
    for minor in reversed(SUPPORTED_MINORS):
        ready = open_prepared(cache / runtime_name(f"3.{minor}"), None)
        if ready is not None:
            return ready
    return None


def runtime_name(minor: str) -> str:
    """Return the name of the folder for one Python version and this lock file."""
    content = LOCK_FILE.read_bytes() + LAYOUT.encode()
    return f"runtime-{hashlib.sha256(content).hexdigest()[:12]}-cp{minor.replace('.', '')}"


def old_runtimes() -> tuple[Path, ...]:
    """Return the prepared environments in the cache folder that this version does not use.

    They belong to other versions of this package, or to another Python than the one
    that the server runs with now. Another installation of this package, of another
    version, may still use one.

    Raises
    ------
    RuntimeUnavailableError
        None is prepared for this version, and no suitable Python was found.
    """
    cache = cache_folder()
    used = used_runtime(cache)
    return tuple(
        sorted(
            folder
            for folder in cache.glob("runtime-*")
            if is_own_runtime(folder) and folder.name != used
        )
    )


def used_runtime(cache: Path) -> str:
    """Return the name of the environment that :func:`prepare` would give now."""
    ready = find_prepared(cache)
    return ready.folder.name if ready else runtime_name(find_interpreter().minor)


def is_own_runtime(folder: Path) -> bool:
    """Tell whether a path is an environment of this user's, and no link to one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    named = RUNTIME_NAME.fullmatch(folder.name) is not None
    return named and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def remove_runtime(folder: Path) -> None:
    """Remove a prepared environment, such as one of :func:`old_runtimes`.

    Raises
    ------
    ArgumentError
        The folder is not an environment of this user's in the cache folder.
    RuntimeUnavailableError
        A server runs from it, another process prepares it, or it cannot be removed.
    """
    if folder.parent != cache_folder() or not is_own_runtime(folder):
        raise ArgumentError(
            f"{folder} is not a prepared environment of yours in {cache_folder()}",
            "give one of those that old_runtimes() returns",
        )
    try:
        with FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0):
            pids = running_from(folder)
            if pids:
                raise RuntimeUnavailableError(
                    f"{folder} is in use by {len(pids)} processes, {min(pids)} among them",
                    "stop the server that runs from it first",
                )
            remove_leftovers(folder)
            # Renamed first, so that no half of it is ever taken for a whole one.
            going = folder.rename(f"{folder}.staging-old")
            shutil.rmtree(going)
    except Timeout:
        raise RuntimeUnavailableError(
            f"another process prepares {folder} just now", "wait for it or end it, then try again"
        ) from None
    except OSError as error:
        raise RuntimeUnavailableError(
            f"{folder} could not be removed: {error}", "remove it by hand"
        ) from error


def running_from(folder: Path) -> list[int]:
    """Return the processes whose program lies in a folder.

    Those of other users, and those in containers, are not seen.
    """
    place = folder.resolve()
    found = []
    for program in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if program.readlink().is_relative_to(place):
                found.append(int(program.parent.name))
    return found


def open_prepared(folder: Path, interpreter: Interpreter | None) -> Runtime | None:
    """Return the runtime in a folder, or ``None`` when it is not there or not complete.

    Parameters
    ----------
    folder
        Where to look.
    interpreter
        The Python to run it with; ``None`` for the one that it was made with.
    """
    try:
        # It names a program that will run: only one's own, or root's, is trusted.
        if folder.stat().st_uid not in (0, os.getuid()):
            return None
        manifest = json.loads((folder / "manifest.json").read_bytes())
        made_with = read_interpreter(manifest["interpreter"])
        complete = all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    chosen = interpreter or made_with
    if not complete or not chosen.exists():
        return None
    return Runtime(folder, chosen)


def read_interpreter(entry: dict[str, Any]) -> Interpreter:
    """Read an interpreter from a manifest."""
    major, minor, patch = entry["version"]
    return Interpreter(
        executable=str(entry["executable"]),
        version=(int(major), int(minor), int(patch)),
        base_prefix=str(entry["base_prefix"]),
        libpython=str(entry["libpython"]),
    )


@contextlib.contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock between processes, and say so while waiting for it."""
    lock = FileLock(path)
    deadline = time.monotonic() + WAIT_LIMIT_S
    told = False
    while True:
        try:
            lock.acquire(timeout=1.0)
            break
        except Timeout:
            if time.monotonic() > deadline:
                raise RuntimeUnavailableError(
                    f"another process has held {path} for {WAIT_LIMIT_S / 60:.0f} minutes",
                    "wait for it or end it, then try again",
                ) from None
            if not told:
                say("Waiting for another process that prepares the embedded server ...")
                told = True
    try:
        yield
    finally:
        lock.release()


def make(folder: Path, interpreter: Interpreter, say: Callable[[str], None]) -> Runtime:
    """Make a runtime in a staging folder and move it to its place. Needs the lock."""
    say(f"Preparing the embedded Triton server (once) with Python {interpreter.minor} ...")
    started = time.monotonic()
    remove_leftovers(folder)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise RuntimeUnavailableError(
            f"{folder.parent} has {free / 2**20:.0f} MB free; "
            f"{NEEDED_BYTES / 2**20:.0f} MB are needed while the server is prepared",
            "make room, or set TRITONIC_NB_CACHE to a folder on another disk",
        )
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.staging-", dir=folder.parent))
    try:
        install(staging / "site", interpreter, say)
        arrange(staging, interpreter)
        say("Compiling ...")
        compile_sources(staging / "site", interpreter)
        write_manifest(staging, interpreter)
        staging.chmod(0o755)  # for other users too, where the cache folder is a shared one
        if folder.exists():
            # A half-made or damaged one. Renamed first, because a server may
            # still run from it and removal takes a while.
            folder.rename(f"{staging}.old")
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(f"{staging}.old", ignore_errors=True)
    say(f"Prepared in {time.monotonic() - started:.0f} s: {folder}")
    return Runtime(folder, interpreter)


def remove_leftovers(folder: Path) -> None:
    """Remove staging folders of processes that ended half-way. Needs the lock."""
    for leftover in folder.parent.glob(f"{folder.name}.staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def install(site: Path, interpreter: Interpreter, say: Callable[[str], None]) -> None:
    """Let pip install the locked packages for the interpreter.

    The interpreter itself needs no pip: ours runs in it.
    """
    command = [sys.executable, "-m", "pip", "--python", interpreter.executable, "install"]
    command += ["--target", str(site), "--requirement", str(LOCK_FILE), "--require-hashes"]
    command += ["--no-deps", "--only-binary", ":all:", "--no-compile", "--no-user", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--root-user-action", "ignore", "--no-warn-script-location"]
    variables = clean_environment(os.environ)
    # The user's index, mirror and certificates stay; where packages are put is ours.
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON"):
        variables.pop(name, None)
    variables["PIP_REQUIRE_VIRTUALENV"] = "0"
    # What pip unpacks lies on the disk that was checked, and goes with the rest.
    scratch = site.parent / "tmp"
    scratch.mkdir()
    variables["TMPDIR"] = str(scratch)
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # pip runs itself once more under the other interpreter: one group, to end both.
        start_new_session=True,
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - asked for a pipe
        try:
            for line in pip.stdout:
                last.append(line.rstrip())
                if line.lstrip().startswith(("Downloading", "Installing")):
                    say("  " + line.strip())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pip.pid, signal.SIGKILL)
            raise
    if pip.returncode != 0:
        raise RuntimeUnavailableError(
            "pip could not install the embedded server's packages; its last words:\n  "
            + "\n  ".join(last),
            "connect this machine once if it is offline, or give pip a mirror "
            "(PIP_INDEX_URL, PIP_FIND_LINKS); if a hash does not match, the mirror holds "
            "another file than the one that was pinned",
        )


def arrange(staging: Path, interpreter: Interpreter) -> None:
    """Put the interpreter's stub where the server looks for it, and save disk."""
    shutil.rmtree(staging / "tmp")
    site = staging / "site"
    triton = site / "pytriton/tritonserver"
    stub = "triton_python_backend_stub"
    shutil.copy2(
        triton / "python_backend_stubs" / interpreter.minor / stub,
        triton / "backends/python" / stub,
    )
    shutil.rmtree(triton / "python_backend_stubs")
    for tests in [*site.glob("numpy/**/tests"), site / "onnxruntime/transformers"]:
        shutil.rmtree(tests, ignore_errors=True)


def compile_sources(site: Path, interpreter: Interpreter) -> None:
    """Compile what models import: otherwise the first model takes a second longer.

    A failure only costs that second.
    """
    subprocess.run(
        [interpreter.executable, "-I", "-m", "compileall", "-q", "-j", "0", str(site / "numpy"),
         str(site / "onnxruntime")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )  # fmt: skip


def write_manifest(staging: Path, interpreter: Interpreter) -> None:
    """Write down every file and its size; compiled files come and go, and do not count."""
    files = {
        str(path.relative_to(staging)): path.stat().st_size
        for path in sorted(staging.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
    }
    manifest = {"interpreter": dataclasses.asdict(interpreter), "files": files}
    (staging / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")

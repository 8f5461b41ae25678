"""A private JupyterLab on the loopback: own settings, folders and token, nothing left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

LOOPBACK = "127.0.0.1"
_START_S = 60.0
_STOP_S = 15.0
_IDLE_S = 1800
# Inherited by everything that is started from this server, so that all of it can be found.
_MARK = "TRITONIC_NB_BROWSER_TEST"

_SETTINGS = {
    "apputils-extension/notification": {
        "checkForUpdates": False,
        "doNotDisturbMode": True,
        "fetchNews": "false",
    },
    "docmanager-extension/plugin": {"autosave": False},
    # Every cell is in the page, not only those in sight.
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@dataclass
class LabServer:
    """A JupyterLab that runs until :meth:`stop`.

    Attributes
    ----------
    root
        All that it writes is in here.
    notebooks
        The folder that it serves.
    mark
        Tells its processes from those of others.
    """

    root: Path
    notebooks: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, notebooks: Path, root: Path) -> LabServer:
        """Start a server on a copy of a folder of notebooks; wait until it answers."""
        shutil.copytree(
            notebooks,
            root / "notebooks",
            ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"),
        )
        lab = cls(root, root / "notebooks")
        for plugin, settings in _SETTINGS.items():
            lab.write_settings(plugin, settings)
        try:
            lab._start()
        except BaseException:
            lab.stop()
            raise
        return lab

    def address(self, notebook: str) -> str:
        """Give the address that opens a notebook in an empty workspace."""
        return f"http://{LOOPBACK}:{self.port}/lab/tree/{notebook}?token={self.token}&reset"

    def put(self, name: str, cells: Iterable[str]) -> str:
        """Write a notebook of code cells; return its name."""
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), self.notebooks / name)
        return name

    def use_theme(self, theme: str) -> None:
        """Set the theme of the pages that are opened from now on."""
        self.write_settings("apputils-extension/themes", {"theme": theme, "adaptive-theme": False})

    def write_settings(self, plugin: str, settings: dict[str, object]) -> None:
        """Override settings of one of JupyterLab's own plugins."""
        file = self.root / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), encoding="utf-8")

    def started_pids(self) -> list[int]:
        """Give the processes that run because of this server, itself left out."""
        own = self.process.pid if self.process else None
        return [pid for pid in _pids_with(f"{_MARK}={self.mark}") if pid != own]

    def temporary_files(self) -> set[str]:
        """Name what its kernels and their servers have in the temporary folder."""
        return {path.name for path in (self.root / "tmp").iterdir()}

    def shut_down_kernels(self) -> None:
        """Shut all kernels down, and wait until what they started has ended."""
        deadline = time.monotonic() + _STOP_S
        while self.started_pids() and time.monotonic() < deadline:
            # Again: a page that is closed may have asked for another one just before.
            for kernel in json.loads(self._ask("GET", "/api/kernels") or b"[]"):
                self._ask("DELETE", f"/api/kernels/{kernel['id']}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server, its kernels and whatever they started."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        deadline = time.monotonic() + _STOP_S
        while (pids := self.started_pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self) -> None:
        self.port = _free_port()
        with (self.root / "lab.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                    f"--ServerApp.ip={LOOPBACK}",
                    f"--ServerApp.port={self.port}",
                    "--ServerApp.port_retries=0",
                    f"--IdentityProvider.token={self.token}",
                    "--LabApp.news_url=None",
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                    "--LabApp.extension_manager=readonly",
                    "--expose-app-in-browser",
                    # Should these tests be killed, it ends by itself in the end.
                    f"--ServerApp.shutdown_no_activity_timeout={_IDLE_S}",
                    f"--MappingKernelManager.cull_idle_timeout={_IDLE_S}",
                ],
                cwd=self.notebooks,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = (self.root / "lab.log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"JupyterLab did not start:\n{words[-3000:]}")
            time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        folders = {
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "MPLCONFIGDIR": "matplotlib",
            "TMPDIR": "tmp",
        }
        for name in folders.values():
            (self.root / name).mkdir(exist_ok=True)
        own = {variable: str(self.root / name) for variable, name in folders.items()}
        return {**os.environ, **own, _MARK: self.mark}

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/api/status"))
        except OSError:
            return False

    def _ask(self, method: str, path: str) -> bytes:
        """Ask the server's API; empty where it refuses, as while a kernel is just going."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=_STOP_S)
        try:
            connection.request(method, path, headers={"Authorization": f"token {self.token}"})
            reply = connection.getresponse()
            body = reply.read()
            return body if reply.status == http.HTTPStatus.OK else b""
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        return int(holder.getsockname()[1])


def _pids_with(variable: str) -> list[int]:
    """Find the processes that have an environment variable; one that ended has none."""
    wanted = variable.encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found

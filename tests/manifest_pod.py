"""A pod, as far as it can be had without a cluster: a network and a /dev/shm of its own.

``python -m tests.manifest_pod`` is started within both. It reads from standard input what a
manifest says of Triton, starts a real one so, asks what its probes ask, and uses it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tritonic_nb
from tritonic_nb.server.launch import environment, find_installation

MODELS = ("identity_fp32", "classifier")


@contextlib.contextmanager
def models() -> Iterator[Path]:
    """Give a folder with a model repository, as the claim of a manifest has it."""
    with tempfile.TemporaryDirectory() as folder:
        with tritonic_nb.serve(progress=None) as server:
            server.add("classifier", tritonic_nb.samples.classifier())
            for name in MODELS:
                shutil.copytree(server.repository / name, Path(folder) / name, symlinks=True)
            server.stop(0.0)
        yield Path(folder)


@contextlib.contextmanager
def triton(
    given: list[str], values: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Triton with a manifest's arguments, and what Kubernetes puts into them."""
    installation = find_installation(None, auto_complete=None, progress=None)
    program, *arguments = given
    assert program == "tritonserver"
    for name, value in values.items():
        arguments = [each.replace(f"$({name})", value) for each in arguments]
    arguments = [each.replace("=/models", f"={folder}") for each in arguments]
    with tempfile.TemporaryDirectory() as own:
        backends = Path(own) / "backends"  # NVIDIA's image has them at the usual place
        assert installation.backends is not None
        backends.symlink_to(installation.backends)
        command = [str(installation.program), *arguments, f"--backend-directory={backends}"]
        log = (Path(own) / "log").open("w+")
        with (
            log,
            subprocess.Popen(
                command, env=environment(installation, Path(own)), stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield process
            except BaseException:
                log.seek(0)
                print(log.read()[-4000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def passes(probe: dict[str, Any]) -> bool:
    """Do once what a probe does."""
    command = probe.get("exec", {}).get("command")
    if command is None:
        command = ["curl", "-fsS", f"http://127.0.0.1:8000{probe['httpGet']['path']}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait_for(probe: dict[str, Any], process: subprocess.Popen[bytes]) -> None:
    """Wait until a probe passes, as long as it may take."""
    until = time.monotonic() + probe["failureThreshold"] * probe["periodSeconds"]
    while not passes(probe):
        if process.poll() is not None or time.monotonic() > until:
            raise TimeoutError(f"the probe {probe} did not pass")
        time.sleep(0.2)


def refusal(session: tritonic_nb.Session, headers: dict[str, str] | None = None) -> str:
    """Return the name of the error that loading a model gives, or nothing."""
    try:
        with tritonic_nb.Session("localhost:8000", "identity_fp32", headers=headers) as other:
            other.load("classifier")
    except tritonic_nb.TritonicError as error:
        return type(error).__name__
    return ""


def used(key: str) -> dict[str, Any]:
    """Use the server as a notebook does, and tell what was seen."""
    tensor = np.arange(150_528, dtype=np.float32).reshape(1, -1)
    with tritonic_nb.Session("localhost:8000", "identity_fp32") as session:
        session.infer(tensor)  # from which the session learns how large the output is
        result = session.infer(tensor)
        assert np.array_equal(result["OUTPUT0"], tensor)
        session.use("classifier")
        picture = session.infer(tritonic_nb.samples.image("cat")).top_k(1)[0]
        listening = subprocess.run(
            ["ss", "-Htln"], capture_output=True, text=True, check=False
        ).stdout.split("\n")  # fmt: skip
        return {
            "shared": result.shared_nbytes,
            "reason": session.shared_memory_reason,
            "label": picture.label,
            "refused": refusal(session),
            "with the key": refusal(session, {"triton-grpc-protocol-triton-key": key}),
            "listening": sorted({line.split()[3] for line in listening if line}),
        }


def dask_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run a scheduler, a worker and a job's script by their commands, all in this one pod."""
    given = {**os.environ, "PYTHONPATH": str(Path.cwd())}  # scripts look beside themselves

    def run(command: list[str], **options: Any) -> subprocess.Popen[str]:
        told = [each.replace("dask-scheduler", "127.0.0.1") for each in command]
        program = Path(sys.executable).parent / told[0]
        return subprocess.Popen([str(program), *told[1:]], env=given, text=True, **options)

    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for path in tritonic_nb.samples.images().values():
            if path.suffix == ".jpg":
                shutil.copy(path, pictures)
        script, results = Path(folder) / "classify.py", Path(folder) / "classes.tsv"
        script.write_text(job["script"])
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        others = [run(job["scheduler"], **quiet), run(job["worker"], **quiet)]
        own = {
            "SCHEDULER": "tcp://127.0.0.1:8786", "MODEL": "classifier",
            "PICTURES": str(pictures), "RESULTS": str(results),
        }  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, str(script)],
                env={**given, **own}, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        finally:
            for each in reversed(others):
                each.terminate()
                each.wait(30)
        return {"rc": done.returncode, "told": done.stdout + done.stderr[-3000:],
                "classes": results.read_text() if results.exists() else ""}  # fmt: skip


def main() -> None:
    """Do what standard input asks for, and tell it as JSON."""
    asked = json.load(sys.stdin)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    key = "not-so-secret"
    with models() as folder, triton(asked["args"], {"TRITON_KEY": key}, folder) as process:
        wait_for(asked["startup"], process)
        told = {"probes": [passes(each) for each in asked["probes"]]}
        told |= dask_job(asked["job"]) if "job" in asked else used(key)
    print(json.dumps(told))


if __name__ == "__main__":
    main()

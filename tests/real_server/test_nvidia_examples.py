"""NVIDIA's own Python client examples, unchanged, against `tritonic-nb serve --open`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli import free_port, serving

# A checkout's src/python/examples of github.com/triton-inference-server/client. They are not part
# of any package, and their text is not ours to carry.
FOLDER = os.environ.get("TRITONIC_NB_NVIDIA_EXAMPLES", "")
WANTED = re.compile(r"(simple_(http|grpc)_|grpc_explicit_|reuse_infer_objects)")
UNWANTED = re.compile(r"cudashm|custom_repeat|model_control")
EXAMPLES = sorted(
    path.name
    for path in Path(FOLDER or "nowhere").glob("*.py")
    if WANTED.match(path.name) and not UNWANTED.search(path.name)
)

pytestmark = pytest.mark.skipif(
    not EXAMPLES,
    reason="TRITONIC_NB_NVIDIA_EXAMPLES does not name the folder src/python/examples of NVIDIA's "
    "client repository",
)


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    http, grpc = free_port(), free_port()
    with serving("--open", "--http-port", str(http), "--grpc-port", str(grpc)):
        yield http, grpc


@pytest.mark.parametrize("example", EXAMPLES or ["none"])
def test_the_example_passes(example: str, ports: tuple[int, int]) -> None:
    """The example ends with success."""
    http, grpc = (f"localhost:{port}" for port in ports)
    ways = [["-u", grpc if "grpc" in example else http]]
    if "reuse_infer_objects" in example:  # speaks both protocols
        ways = [["-i", "http", "-u", http], ["-i", "grpc", "-u", grpc]]
    for way in ways:
        command = [sys.executable, str(Path(FOLDER) / example), *way]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout

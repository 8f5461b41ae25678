"""Two hosts, imitated: each with a network and a /dev/shm of its own, and a cable between them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.own_shm import own_dev_shm

__all__ = ["WHY_NOT", "TwoHosts", "two_hosts"]

NEAR, FAR = "10.77.0.1", "10.77.0.2"
ROOT = Path(__file__).parents[1]


class TwoHosts:
    """A host to run clients on, and another one with a server.

    Attributes
    ----------
    server
        Where the server is, as the first host sees it: ``url``, ``grpc_url``, ``headers``; and
        its process, ``pid``.
    """

    def __init__(
        self, near: subprocess.Popen[str], far: subprocess.Popen[str], server: dict[str, Any]
    ) -> None:
        self._near = near
        self._far = far
        self.server = server

    def limit(self, rate: str) -> None:
        """Make the cable as slow as that, in both directions: ``"100mbit"``, as tc writes it."""
        # A small bucket: a large one would let half a request through at once.
        bucket = "burst 64kb latency 100ms"
        for host, name in ((self._near, "near0"), (self._far, "far0")):
            command = f"tc qdisc replace dev {name} root tbf rate {rate} {bucket}"
            subprocess.run([*_within(host), *command.split()], check=True)

    def run(self, code: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code on the first host, to which `far` and what is given are known."""
        told = json.dumps({**self.server, **more})
        given = f"import json\nfar = json.loads({told!r})\n"
        command = [sys.executable, "-W", "error::ResourceWarning", "-c", given + code]
        return subprocess.run(
            [*_within(self._near), *command],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Make both, and take them away."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*_host(), "cat"], **pipes) as near,
        subprocess.Popen(
            [*_host(), sys.executable, "-m", "tests.far_host"], cwd=ROOT, **pipes
        ) as far,
    ):
        try:
            _connect(near, far)
            assert far.stdin is not None
            assert far.stdout is not None
            print(FAR, file=far.stdin, flush=True)
            yield TwoHosts(near, far, json.loads(far.stdout.readline()))
        finally:
            for each in (near, far):
                each.stdin.close()  # type: ignore[union-attr]  # which ends it
                each.wait(60)


def _host() -> list[str]:
    """Give the start of a command that runs the rest of it on a host of its own."""
    return ["unshare", "--net", *own_dev_shm("64m")]


def _within(host: subprocess.Popen[str]) -> list[str]:
    return ["nsenter", "--target", str(host.pid), "--net", "--mount"]


def _connect(near: subprocess.Popen[str], far: subprocess.Popen[str]) -> None:
    """Lay the cable between two hosts."""
    for each in (near, far):
        _ready(each)
    cable = ["ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0"]
    subprocess.run([*_within(near), *cable, "netns", str(far.pid)], check=True)
    for host, name, address in ((near, "near0", NEAR), (far, "far0", FAR)):
        for command in (
            f"ip address add {address}/24 dev {name}",
            f"ip link set {name} up",
            "ip link set lo up",
        ):
            subprocess.run([*_within(host), *command.split()], check=True)


def _ready(host: subprocess.Popen[str]) -> None:
    """Wait until a host has left the network and the folders of this one."""
    own = [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("net", "mnt")]
    while True:
        theirs = [Path(f"/proc/{host.pid}/ns/{kind}").readlink() for kind in ("net", "mnt")]
        if not set(own) & set(theirs):
            return
        if host.poll() is not None:
            raise RuntimeError(f"a host ended with {host.returncode}")
        time.sleep(0.01)


def _why_not() -> str:
    for tool in ("unshare", "nsenter", "ip"):
        if not shutil.which(tool):
            return f"there is no {tool} command"
    made = "ip link add near0 type veth peer name far0"
    tried = subprocess.run([*_host(), *made.split()], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "hosts can only be imitated as root"


WHY_NOT = _why_not()
"""The reason why there can be none here; empty where there can."""

"""A /dev/shm of one's own, as a container has it: small, and nobody else's."""

from __future__ import annotations

import shutil
import subprocess

__all__ = ["WHY_NOT", "own_dev_shm"]


def own_dev_shm(size: str) -> list[str]:
    """Give the start of a command that runs the rest of it with a /dev/shm of its own."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]


def _why_not() -> str:
    if not shutil.which("unshare"):
        return "there is no unshare command"
    tried = subprocess.run([*own_dev_shm("1m"), "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "mounting a /dev/shm of one's own needs root"


WHY_NOT = _why_not()
"""The reason why there can be none here; empty where there can."""

"""An embedded Triton server: found or prepared, started, and stopped with its notebook."""

from __future__ import annotations

from tritonic_nb.server.process import Server, serve
from tritonic_nb.server.repository import NVIDIA_EXAMPLES
from tritonic_nb.server.runtime import is_prepared, prepare

__all__ = ["NVIDIA_EXAMPLES", "Server", "is_prepared", "prepare", "serve"]

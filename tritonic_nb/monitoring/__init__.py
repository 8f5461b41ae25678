"""What holds the memory, and how much of it."""

from __future__ import annotations

from tritonic_nb.monitoring.shmfs import ShmFile, holders_text, shm_files

__all__ = ["ShmFile", "holders_text", "shm_files"]

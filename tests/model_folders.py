"""Model folders for Triton's Python backend, as a user would write them."""

from __future__ import annotations

from pathlib import Path


def python_model(folder: Path, code: str, config: str = "") -> Path:
    """Write a model folder with one version and give its path."""
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(code)
    (folder / "config.pbtxt").write_text(f'backend: "python"\n{config}')
    return folder

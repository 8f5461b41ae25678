"""The public names are exactly those that are meant."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import tritonic_nb

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(tritonic_nb.__path__, "tritonic_nb.")
    if ".server.models" not in m.name and not m.name.endswith((".supervisor", ".janitor"))
)


def test_the_package_exports_what_it_says() -> None:
    """Each name of __all__ is there, sorted, and nothing else without an underscore is."""
    public = {n for n in vars(tritonic_nb) if not n.startswith("_")}
    modules = {n for n in public if inspect.ismodule(getattr(tritonic_nb, n))}
    assert set(tritonic_nb.__all__) - {"__version__"} == public - (modules - {"samples"}) - {
        "annotations"
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_exports(name: str) -> None:
    """Each module has a docstring and an __all__ whose names exist and are documented."""
    module = importlib.import_module(name)
    assert module.__doc__
    assert hasattr(module, "__all__") or name.endswith("__main__")
    for exported in module.__all__:
        thing = getattr(module, exported)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), exported


def test_one_version() -> None:
    """Package, metadata and changelog speak of one version."""
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert declared is not None
    assert declared[1] == tritonic_nb.__version__
    assert f"## {tritonic_nb.__version__}" in (ROOT / "CHANGELOG.md").read_text()

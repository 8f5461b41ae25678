"""Imports point down only, and each optional library has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tritonic_nb"

# What each part may import of this package, as ARCHITECTURE.md draws it.
ALLOWED = {
    "errors": set(),
    "arguments": {"errors"},
    "attribute": set(),
    "samples": {"errors"},
    "render": {"errors"},
    "tensors": {"errors", "render"},
    "images": {"errors", "tensors"},
    "frames": {"errors", "images"},
    "inputs": {"errors", "images", "memory", "tensors"},
    "memory": {"errors", "tensors", "render"},
    "transport": {"errors", "tensors"},
    "server": {"errors", "render"},
    "monitoring": {"errors", "render"},
    "watching": {"memory", "monitoring"},
    "regions": {"errors", "memory", "transport"},
    "choice": {"errors", "memory", "regions", "transport"},
    "leftovers": {"choice", "errors", "memory", "render", "transport"},
    "views": {"errors", "inputs", "memory", "regions", "render", "tensors"},
    "sizes": {"errors", "inputs", "tensors"},
    "examples": {"tensors"},
    "preflight": {"errors", "memory", "render", "sizes", "tensors"},
    "routine": {"memory", "regions", "result", "tensors", "transport"},
    "call": {"choice", "errors", "memory", "regions", "result", "routine", "tensors", "transport"},
    "viewer": {"errors", "images", "memory", "render"},
    "result": {"errors", "frames", "images", "render", "viewer"},
    "differences": {"errors", "render", "result"},
    "workers": {"errors", "result"},
    "measuring": {
        "call", "errors", "inputs", "memory", "monitoring", "regions", "render", "result",
        "tensors", "transport",
    },
    "widgets": {
        "errors", "examples", "images", "leftovers", "memory", "models", "monitoring", "render",
        "result", "samples", "session", "sizes", "tensors", "watching",
    },
    "flight": {"errors", "frames", "render", "result", "tensors", "workers"},
    "parcel": {"errors"},
    "recipe": {"errors", "transport"},
    "outposts": {"flight", "parcel", "recipe", "render", "result"},
    "crew": {"errors", "outposts"},
    "spread": {
        "crew", "errors", "images", "outposts", "parcel", "recipe", "render", "result", "tensors",
    },
    "models": {"errors", "render", "tensors", "transport"},
    "session": {
        "attribute", "call", "choice", "crew", "errors", "examples", "flight", "frames", "images",
        "inputs", "leftovers", "measuring", "memory", "models", "monitoring", "preflight", "recipe",
        "regions", "render", "result", "routine", "sizes", "spread", "tensors", "transport",
        "views", "watching", "workers",
    },
    "blocks": {
        "errors", "inputs", "outposts", "parcel", "recipe", "session", "spread", "tensors",
    },
    "benchmark": {
        "arguments", "blocks", "errors", "images", "measuring", "memory", "outposts", "regions",
        "render", "result", "samples", "server", "session", "tensors", "transport",
    },
    "__main__": {"cli"},
    "diagnosis": {
        "choice", "errors", "leftovers", "memory", "monitoring", "render", "server", "session",
        "transport",
    },
    "cli_compare": {"arguments", "errors", "measuring", "render", "server", "session"},
    "cli": {
        "__version__", "cli_compare", "diagnosis", "errors", "images", "leftovers", "memory",
        "monitoring", "render", "result", "samples", "server", "session", "transport",
    },
}  # fmt: skip
# Imports inside of a function that point up on purpose.
LAZY = {
    ("diagnosis", "widgets"), ("outposts", "session"), ("recipe", "session"),
    ("server", "session"), ("session", "widgets"), ("viewer", "widgets"),
    ("watching", "widgets"),
}  # fmt: skip
# The parts that may import a library.
DOORS = {
    "tritonclient": {"transport", "benchmark"},  # the second compares with it
    "pycurl": {"transport"},
    "httptools": {"transport"},
    "grpc": {"transport"},
    "google": {"transport"},
    "cuda": {"memory", "monitoring"},
    "matplotlib": {"render"},
    "IPython": {"render", "widgets"},
    "anywidget": {"widgets"},
    "ipywidgets": {"widgets"},
    "tqdm": {"render"},
    "traitlets": {"widgets"},
    "av": {"frames"},
    "pandas": {"monitoring"},
    "dask": {"benchmark", "blocks"},
    "distributed": {"benchmark"},  # elsewhere a Dask client is the user's own
    "cloudpickle": {"parcel"},
    "findpython": {"server"},
    "filelock": {"server"},
    "platformdirs": {"server"},
}


MODULES = [
    pytest.param(path.relative_to(PACKAGE).with_suffix("").parts[0], path, id=str(path.name))
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py" and "models" not in path.parts
]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Give the names that a module imports, and whether as soon as it is imported itself."""
    tree = ast.parse(path.read_text())
    at_once = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == "tritonic_nb"
            names = [f"{node.module}.{a.name}" for a in node.names] if inside else [node.module]
            yield from ((name, id(node) in at_once) for name in names)


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_imports_point_down(part: str, path: Path) -> None:
    """No module imports what stands above it, except those few that do so lazily."""
    for name, at_once in imports(path):
        if name.startswith("tritonic_nb."):
            other = name.split(".")[1]
            lazy = (part, other) in LAZY and not at_once
            assert other == part or other in ALLOWED[part] or lazy, f"{path.name} imports {name}"


@pytest.mark.parametrize(("part", "path"), MODULES)
def test_libraries_have_one_door(part: str, path: Path) -> None:
    """A library that could be replaced is imported in one part only."""
    for name, _ in imports(path):
        library = name.split(".")[0]
        assert library not in DOORS or part in DOORS[library], f"{path.name} imports {name}"

"""Has repo2docker's own code read ``binder/``, and looks whether all of it is used."""

from __future__ import annotations

import sys

from repo2docker.app import Repo2Docker

__all__ = ["main"]

_USED = ("binder/requirements.txt", "binder/postBuild")
_PYTHON = "3.12"


def main() -> int:
    """Print the build pack; return 1 where a file of ``binder/`` is not used."""
    app = Repo2Docker()
    for kind in app.buildpacks:
        pack = kind(app.base_image)
        pack.platform = "linux/amd64"
        if pack.detect():
            break
    else:
        print("no build pack takes this folder")
        return 1
    steps = pack.render({"NB_UID": "1000", "NB_USER": "jovyan"})
    steps += repr(pack.get_build_script_files())
    missing = [name for name in _USED if name not in steps]
    if pack.python_version != _PYTHON:
        missing.append(f"Python {_PYTHON} (it is {pack.python_version})")
    print(f"{type(pack).__name__}, Python {pack.python_version}", *missing, sep="\n  not used: ")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

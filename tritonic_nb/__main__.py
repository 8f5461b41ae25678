"""The command ``tritonic-nb`` as ``python -m tritonic_nb``."""

from __future__ import annotations

import sys

from tritonic_nb.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

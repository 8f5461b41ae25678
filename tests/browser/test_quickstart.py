"""The quickstart notebook as a person sees it: in JupyterLab, in a browser, light and dark."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from notebook_page import NotebookPage, contrasts
from PIL import Image

import tritonic_nb

if TYPE_CHECKING:
    from lab_server import LabServer
    from playwright.sync_api import Locator

NOTEBOOK = "01-quickstart.ipynb"
SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
CATS = {"tabby", "tiger cat", "Egyptian cat"}
LEAST_CONTRAST = 4.5  # WCAG 2, level AA, for text of ordinary size


@pytest.fixture(scope="module", params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    """The theme of JupyterLab."""
    return str(request.param)

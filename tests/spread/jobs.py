"""What the workers of these tests are given to do; they import it by its name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import tritonic_nb

SLEEPER = Path(__file__).parents[1] / "models" / "sleeper"


def own_server() -> tritonic_nb.Server:
    """Start a Triton with the classifier, for one worker."""
    server = tritonic_nb.serve(progress=None)
    server.add("classifier", tritonic_nb.samples.classifier())
    return server


def own_server_that_waits() -> tritonic_nb.Server:
    """Start a Triton with the sleeper, for one worker."""
    server = tritonic_nb.serve(progress=None)
    server.add("sleeper", SLEEPER)
    return server


def no_server() -> str:
    """Fail to say where a server is."""
    raise KeyError("TRITON_URL")


def label(result: tritonic_nb.InferenceResult) -> str:
    """Return the best class."""
    return result.top_k(1)[0].label


def process(result: tritonic_nb.InferenceResult) -> tuple[int, Any]:
    """Return which process this is, and the first output's first value."""
    return os.getpid(), next(iter(result.values())).flat[0].item()


def refuse_two(result: tritonic_nb.InferenceResult) -> float:
    """Refuse the value 2."""
    value = next(iter(result.values())).flat[0].item()
    if value == 2:
        raise LookupError("two")
    return float(value)


def lock(_result: tritonic_nb.InferenceResult) -> Any:
    """Return what cannot be pickled."""
    return threading.Lock()


def die_at_three(result: tritonic_nb.InferenceResult) -> float:
    """Kill the process at the value 3, and give the others."""
    value = next(iter(result.values())).flat[0].item()
    if value == 3:
        os.kill(os.getpid(), 9)
    time.sleep(0.01)
    return float(value)

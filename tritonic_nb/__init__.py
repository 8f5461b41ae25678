"""Triton Inference Server over shared memory, from a Jupyter notebook.

Start with :func:`serve` and :class:`Session`; `README.md` has an example.
"""

from __future__ import annotations

from tritonic_nb import samples
from tritonic_nb.blocks import map_blocks
from tritonic_nb.diagnosis import Diagnosis, doctor
from tritonic_nb.differences import Difference, ResultDifference, diff
from tritonic_nb.errors import TritonicError
from tritonic_nb.frames import FrameSource
from tritonic_nb.images import ImageTransform
from tritonic_nb.measuring import Advice, Comparison, Explanation, Sweep
from tritonic_nb.memory import DeviceArray, RegionDescriptor, SharedMemoryType
from tritonic_nb.monitoring import Recording
from tritonic_nb.outposts import close_outposts
from tritonic_nb.recipe import SessionSpec
from tritonic_nb.result import InferenceResult
from tritonic_nb.server import Server, serve
from tritonic_nb.session import Session
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.transport import SSLOptions
from tritonic_nb.viewer import picture, show
from tritonic_nb.watching import monitor, watch
from tritonic_nb.workers import InferenceFuture

__all__ = [
    "Advice",
    "Comparison",
    "DeviceArray",
    "Diagnosis",
    "Difference",
    "Explanation",
    "FrameSource",
    "ImageTransform",
    "InferenceFuture",
    "InferenceResult",
    "ModelSpec",
    "Recording",
    "RegionDescriptor",
    "ResultDifference",
    "SSLOptions",
    "Server",
    "Session",
    "SessionSpec",
    "SharedMemoryType",
    "Sweep",
    "TensorSpec",
    "TritonicError",
    "__version__",
    "close_outposts",
    "diff",
    "doctor",
    "map_blocks",
    "monitor",
    "picture",
    "samples",
    "serve",
    "show",
    "watch",
]

__version__ = "0.1.0"

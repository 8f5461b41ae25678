"""Triton's error messages, mapped once to this package's errors.

HTTP and gRPC carry the same texts. Each pattern was seen from a real server
or read in the server's source (``shared_memory_manager.cc``,
``http_server.cc``, ``common.h``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tritonic_nb.errors import (
    ModelFailedError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoSpaceError,
    RegionInUseError,
    RegionKnownError,
    RegionLostError,
    RegionNotVisibleError,
    RegionTooSmallError,
    RestrictedApiError,
    ServerBusyError,
    ServerRefusedError,
    SharedMemoryDisabledError,
    SharedMemoryError,
    TensorShapeError,
    TritonicError,
)

__all__ = ["LATER", "busy_gateway", "cuda_not_opened", "error_from_server"]


LATER = "try again later, with fewer requests in flight, or pass Session(..., retries=5)"
"""What to do about a gateway that is too busy."""

_LONGEST_END = 4000
# What gateways say with the status 503 of a request that went no further than to them: nginx
# (its limits), HAProxy, Knative and Envoy. With other words of Envoy's the connection to the server
# ended in the middle of it, or did so in an attempt before.
_NOT_PASSED_ON = re.compile(
    r"service temporarily unavailable|no server is available to handle|"
    r"pending request queue full|no healthy upstream|before headers\. reset reason: (overflow|"
    r"((remote|local) )?connection failure|connection timeout|(remote|local) refused stream)",
    re.IGNORECASE,
)


class _Fault(NamedTuple):
    pattern: re.Pattern[str]
    error: Callable[[str, str], TritonicError]
    remedy: str


def _fault(pattern: str, error: Callable[[str, str], TritonicError], remedy: str) -> _Fault:
    return _Fault(re.compile(pattern, re.IGNORECASE), error, remedy)


# The first pattern that is found decides, so the narrower ones stand first.
_FAULTS = (
    # A model of the Python backend: what follows is the model's own text, or its pools'.
    _fault(
        r"failed to increase the shared memory pool size",
        NoSpaceError,
        "the Python backend needs up to three times the tensor in /dev/shm, beside the regions: "
        "enlarge it (docker run --shm-size=2g, mount -o remount,size=2g /dev/shm), or send less",
    ),
    _fault(
        r"^ONNX Runtime: |stub process .* is not healthy",
        ModelFailedError,
        "compare what you sent with session.model_info; session.load() starts the model anew",
    ),
    _fault(
        r"^(in ensemble .*?, )?failed to process the request\(s\) for model",
        ModelFailedError,
        "the model's own code raised this: mend the model, or what it was given",
    ),
    _fault(
        r"^(\[request id: [^\]]*\] )?exceeds maximum queue size",
        ServerBusyError,
        "keep fewer requests in flight, pass Session(..., retries=5), or give the model more "
        "instances",
    ),
    _fault(  # the queue of an ensemble's step, or of a model that a model asks
        r"exceeds maximum queue size",
        ServerRefusedError,
        "keep fewer requests in flight, or give that model more instances or a longer queue; "
        "models before it may have run, which is why retries= does not send it again",
    ),
    _fault(
        r"is restricted, expecting header",
        RestrictedApiError,
        "pass headers={'NAME': 'VALUE'} with the header that the server demands: of an embedded "
        "server, Session(server) sends it by itself, server.headers has it, and "
        "`tritonic-nb serve --headers-file` writes it; a server that was started anew has another",
    ),
    _fault(
        r"client shared memory is disabled|allow-client-shm",
        SharedMemoryDisabledError,
        "start the server with --allow-client-shm=true (off by default from Triton 26.04), "
        "or use shared_memory='none'",
    ),
    _fault(
        r"unable to open shared memory region",
        RegionNotVisibleError,
        "a server in another container needs the same /dev/shm: start both with --ipc=host "
        "(or share one emptyDir volume); one that runs as another user needs "
        "Session(..., mode=0o666); for a server on another machine use "
        "shared_memory='none', or run the notebook beside the server",
    ),
    _fault(
        r"unable to find (system |cuda )?shared memory region",
        RegionLostError,
        "the server was restarted or somebody unregistered the region: infer again",
    ),
    _fault(
        r"currently in use|is in use",
        RegionInUseError,
        "wait for the request that uses it, then try again",
    ),
    _fault(
        r"output '(?P<tensor>.+)' \(\d+ bytes\) should be at least "
        r"(?P<needed>\d{1,18}) bytes? to hold",
        RegionTooSmallError,
        "let infer() grow the output's region",
    ),
    _fault(
        r"invalid offset",
        RegionTooSmallError,
        "the tensor does not lie within its region: register it again with the larger shape",
    ),
    _fault(
        r"already in manager",
        RegionKnownError,
        "unregister it first",
    ),
    _fault(  # seen with 2.51, of a file that was registered under another name before
        r"invalid shared memory region",
        SharedMemoryError,
        "the server has this file already, under another name: register a file once, or "
        "unregister the other name first",
    ),
    _fault(
        r"failed to register shared memory region .*invalid args",
        SharedMemoryError,
        "the region's file in /dev/shm is smaller than what is to be registered: register no more "
        "bytes than it has, or use shared_memory='none'",
    ),
    _fault(
        r"failed to register.*shared memory|shared memory.*not supported",
        SharedMemoryError,
        "use shared_memory='none'",
    ),
    _fault(
        r"failed to poll from model repository|unknown model.*is not found|"
        r"no such model|version.*not found",
        ModelNotFoundError,
        "see session.models() for what the server's repository has",
    ),
    _fault(
        r"(failed to load|load failed)(.|\n)*(ModuleNotFoundError|No module named)",
        ModelLoadError,
        "a model runs in the server's own Python, not in the notebook's: the embedded server's has "
        "NumPy and ONNX Runtime only; do without the module, or export the model to ONNX",
    ),
    _fault(
        r"failed to load|load failed",
        ModelLoadError,
        "read the reason above, mend the model and load it again",
    ),
    _fault(
        r"request for unknown model|not ready|no available version",
        ModelNotReadyError,
        "load it: session.load(MODEL), or Session(..., load=True)",
    ),
    _fault(
        r"unexpected inference (input|output)",
        ModelNotReadyError,
        "the model was loaded anew with other tensors: session.use(MODEL) learns them",
    ),
    _fault(
        r"unexpected shape|unexpected number of|byte size|batch[- ]size",
        TensorShapeError,
        "compare the shapes and datatypes that you send with session.model_info",
    ),
)


def error_from_server(message: str, doing: str) -> TritonicError:
    """Return our error for what a server said.

    Parameters
    ----------
    message
        The server's text.
    doing
        What was being done, with the model or region: it starts our message.
    """
    if len(message) > 2 * _LONGEST_END:  # such as a model's traceback: what counts is at its ends
        message = f"{message[:_LONGEST_END]} [...] {message[-_LONGEST_END:]}"
    said = f"{doing}: the server says: {message.strip() or '(nothing)'}"
    for fault in _FAULTS:
        found = fault.pattern.search(message)
        if found:
            error = fault.error(said, fault.remedy)
            if isinstance(error, RegionTooSmallError) and "needed" in found.groupdict():
                error.tensor, error.needed_nbytes = found["tensor"], int(found["needed"])
            return error
    return ServerRefusedError(
        said,
        "the text is the server's, or the model's own; the log may tell more (server.log for an "
        "embedded server)",
    )


def busy_gateway(status: int, text: str, headers: Mapping[str, str]) -> bool:
    """Whether what answers before a server was too busy to pass a request on.

    Another reply with the status 503 may come when the server has begun.

    Parameters
    ----------
    status
        The HTTP status.
    text
        The beginning of the reply.
    headers
        The reply's, with names in lower case.
    """
    if status != 503 or _NOT_PASSED_ON.search(text):
        return status in (429, 503)
    # Varnish's own page has the header too, and is about a server that was asked.
    return "retry-after" in headers and "fetch failed" not in text


def cuda_not_opened(error: SharedMemoryError, device: int) -> SharedMemoryError:
    """Return the error of a server that would not register a CUDA region.

    It says no more than "invalid args" where ``cudaIpcOpenMemHandle`` fails.

    Parameters
    ----------
    error
        What its text was mapped to; an error that says more stays as it is.
    device
        The number of the CUDA device.
    """
    if type(error) is not SharedMemoryError:
        return error
    return RegionNotVisibleError(
        f"{error.message} (it could not open memory of CUDA device {device})",
        "the server needs the same GPU under the same number (compare CUDA_VISIBLE_DEVICES), on "
        "the same machine and not under WSL2; in another container start both with --gpus, "
        "--ipc=host and --pid=host; a server without a GPU takes shared_memory='system' or 'none'",
    )

"""What Triton says, and which of our errors it becomes."""

from __future__ import annotations

import time

import pytest

from tritonic_nb import errors
from tritonic_nb.transport.faults import error_from_server

SAID = [
    ("This API is restricted, expecting header 'x'", errors.RestrictedApiError, "headers="),
    ("This protocol is restricted, expecting header 'x'", errors.RestrictedApiError, "headers="),
    (
        "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to "
        "enable.",
        errors.SharedMemoryDisabledError,
        "--allow-client-shm=true",
    ),
    ("Unable to open shared memory region: '/x'", errors.RegionNotVisibleError, "--ipc=host"),
    ("Unable to find shared memory region: 'x'", errors.RegionLostError, "infer again"),
    ("Unable to find system shared memory region: 'x'", errors.RegionLostError, "infer again"),
    (
        "failed to register shared memory region 'x': invalid args",
        errors.SharedMemoryError,
        "smaller",
    ),
    ("Invalid shared memory region: '/x'", errors.SharedMemoryError, "another name"),
    ("shared memory region 'x' already in manager", errors.RegionKnownError, "unregister"),
    (
        "Invalid offset + byte size for shared memory region: 'x'",
        errors.RegionTooSmallError,
        "larger",
    ),
    (
        "Cannot unregister shared memory region 'x', it is currently in use.",
        errors.RegionInUseError,
        "wait",
    ),
    (
        "failed to load 'x', failed to poll from model repository",
        errors.ModelNotFoundError,
        "models()",
    ),
    ("Request for unknown model: 'x' is not found", errors.ModelNotFoundError, "models()"),
    (
        "Request for unknown model: 'x' has no available versions",
        errors.ModelNotReadyError,
        "load",
    ),
    (
        "load failed for model 'x': version 1 is at UNAVAILABLE state: no",
        errors.ModelLoadError,
        "load it again",
    ),
    (
        "[request id: <id_unknown>] unexpected shape for input 'x' for model 'm'. Expected [1], "
        "got [2]",
        errors.TensorShapeError,
        "model_info",
    ),
    (
        "Failed to process the request(s) for model 'm_0_0', message: RuntimeError: the camera is "
        "not ready",
        errors.ModelFailedError,
        "mend the model",
    ),
    (
        "Failed to process the request(s) for model 'm_0_0', message: RuntimeError: Unable to find "
        "shared memory region",
        errors.ModelFailedError,
        "mend the model",
    ),
    (
        "Failed to process the request(s) for model 'm_0_0', message: Failed to increase the "
        "shared memory pool size for key 'x' to 4 bytes",
        errors.NoSpaceError,
        "three times",
    ),
    ("Exceeds maximum queue size", errors.ServerBusyError, "fewer"),
    ("[request id: <id_unknown>] Exceeds maximum queue size", errors.ServerBusyError, "retries="),
    (
        "in ensemble 'e', [request id: <id_unknown>] Exceeds maximum queue size",
        errors.ServerRefusedError,
        "may have run",
    ),
    (
        "Model m - Error when running inference: [request id: <id_unknown>] Exceeds maximum queue "
        "size",
        errors.ServerRefusedError,
        "may have run",
    ),
    ("something new", errors.ServerRefusedError, "log"),
    ("", errors.ServerRefusedError, "log"),
]


@pytest.mark.parametrize(("said", "kind", "remedy"), SAID)
def test_each_text_has_its_class_and_remedy(
    said: str, kind: type[errors.TritonicError], remedy: str
) -> None:
    """The error says what was being done, quotes the server, and tells what to do."""
    error = error_from_server(said, "doing this")
    assert type(error) is kind
    assert error.message.startswith("doing this: the server says:")
    assert said in str(error)
    assert remedy in error.remedy


@pytest.mark.parametrize(
    "text", ["output '", "failed to load", "shared memory", "version", "stub process ", "\n"]
)
def test_a_text_without_end_is_told_at_once(text: str) -> None:
    """No pattern is busy for hours with what a server says, and its ends are what counts."""
    started = time.monotonic()
    error = error_from_server(f"{text * 99_999} No module named 'torch'", "loading")
    assert time.monotonic() - started < 5
    assert len(str(error)) < 10_000
    assert "No module named 'torch'" in str(error)


def test_a_number_without_end_is_no_number_of_bytes() -> None:
    """Python itself refuses to read it."""
    error = error_from_server(f"output 'x' (8 bytes) should be at least {'9' * 9999} bytes", "x")
    assert type(error) is errors.ServerRefusedError


def test_the_bytes_that_an_output_needs_are_read_from_the_text() -> None:
    """The number that the server asks for is there to grow the region by."""
    said = (
        "shared memory size specified with the request for output 'OUTPUT0' (8 bytes) should be "
        "at least 24 bytes to hold the results"
    )
    error = error_from_server(said, "inference")
    assert isinstance(error, errors.RegionTooSmallError)
    assert (error.tensor, error.needed_nbytes) == ("OUTPUT0", 24)

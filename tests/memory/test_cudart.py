"""The calls of the CUDA runtime: the device is restored, and each error is mapped once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from cuda.bindings import runtime as real

from tests.fake_cuda import CONTEXT, MIB, FakeCuda
from tritonic_nb.errors import (
    NoCudaDeviceError,
    NoSpaceError,
    SharedMemoryError,
    SharedMemoryUnsupportedError,
)
from tritonic_nb.memory import cudart

status, _count = real.cudaGetDeviceCount()
HAS_DEVICE = status == real.cudaError_t.cudaSuccess and bool(_count)
without_device = pytest.mark.skipif(HAS_DEVICE, reason="this machine has a CUDA device")

CALLS: dict[str, Callable[[], Any]] = {
    "cudaMemGetInfo": lambda: cudart.device_memory(1),
    "cudaMalloc": lambda: cudart.allocate(1, 100, "input 'x'", []),
    "cudaIpcGetMemHandle": lambda: cudart.ipc_handle(1, 1, "input 'x'"),
    "cudaFree": lambda: cudart.free(1, [(0, 1)]),
    "cudaStreamCreateWithFlags": lambda: cudart.create_stream(1, []),
    "cudaEventCreateWithFlags": lambda: cudart.create_event(1, []),
    "cudaDeviceSynchronize": lambda: cudart.wait_for_device(1),
}
EVERYWHERE: dict[str, Callable[[], Any]] = {
    **CALLS,
    "cudaGetDevice": lambda: cudart.device_memory(1),
    "cudaSetDevice": lambda: cudart.device_memory(1),
    "cudaHostAlloc": lambda: cudart.allocate_pinned(1, 100, []),
    "cudaFreeHost": lambda: cudart.free_pinned(1, [(0, 1)]),
    "cudaMemcpyAsync": lambda: cudart.copy(1, 2, 3, 4),
    "cudaStreamSynchronize": lambda: cudart.wait_for_stream(4),
    "cudaStreamDestroy": lambda: cudart.destroy_stream(1, [(0, 4)]),
    "cudaEventRecord": lambda: cudart.record(4, 5),
    "cudaEventSynchronize": lambda: cudart.wait_for_event(4),
    "cudaEventDestroy": lambda: cudart.destroy_event(1, [(0, 4)]),
    "cudaGetDeviceCount": lambda: cudart.check_device(0),
    "cudaPointerGetAttributes": lambda: cudart.device_of(1),
    "cudaStreamWaitEvent": lambda: cudart.have_wait(4, 5),
}


@without_device
def test_the_real_runtime_says_why_there_is_no_device() -> None:
    """Without a driver there are no devices, and the reason and the remedy are told."""
    count, reason = cudart.device_count()
    assert count == 0
    assert "no CUDA device was found" in reason
    with pytest.raises(
        NoCudaDeviceError, match=r"no CUDA device was found: .*\(cudaError\w+\)"
    ) as caught:
        cudart.check_device(0)
    assert "shared_memory='system'" in caught.value.remedy
    assert cudart.device_uuids() == ()


@without_device
@pytest.mark.parametrize("call", EVERYWHERE.values(), ids=EVERYWHERE)
def test_every_real_call_without_a_device_is_our_error(call: Callable[[], Any]) -> None:
    """Whichever call comes first, the real runtime's refusal becomes our error."""
    with pytest.raises(SharedMemoryError, match="cudaError"):
        call()


def test_without_cuda_python_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cuda-python is not installed, that is the reason."""
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "cuda-python is not installed" in cudart.device_count()[1]
    with pytest.raises(NoCudaDeviceError) as caught:
        cudart.check_device(0)
    assert "pip install cuda-python" in caught.value.remedy


@without_device
def test_the_fake_gives_as_many_values_as_the_real_runtime(cuda: FakeCuda) -> None:
    """Each function that the fake has is CUDA's, and gives that many values."""
    arguments: dict[str, tuple[Any, ...]] = {
        "cudaGetDeviceProperties": (0,), "cudaMalloc": (1,), "cudaIpcGetMemHandle": (1,),
        "cudaHostAlloc": (1, 1), "cudaPointerGetAttributes": (1,), "cudaFree": (1,),
        "cudaStreamCreateWithFlags": (1,), "cudaEventCreateWithFlags": (2,), "cudaFreeHost": (1,),
        "cudaSetDevice": (0,), "cudaStreamDestroy": (1,), "cudaEventRecord": (1, 2),
        "cudaEventSynchronize": (1,), "cudaEventDestroy": (1,), "cudaStreamSynchronize": (1,),
        "cudaStreamWaitEvent": (1, 2, 0),
        "cudaMemcpyAsync": (1, 2, 3, real.cudaMemcpyKind.cudaMemcpyDefault, 5),
        "cudaGetErrorString": (real.cudaError_t.cudaErrorUnknown,),
    }  # fmt: skip
    functions = [n for n in vars(FakeCuda) if n.startswith("cuda") and callable(vars(FakeCuda)[n])
                 and not isinstance(vars(FakeCuda)[n], type)]  # fmt: skip
    assert len(functions) > 15
    for name in functions:
        refused = getattr(real, name)(*arguments.get(name, ()))
        cuda.fail[name] = real.cudaError_t.cudaErrorUnknown
        given = getattr(cuda, name)(*arguments.get(name, ()))
        assert len(given) == len(refused) or name == "cudaGetErrorString", name


@pytest.mark.parametrize("before", [0, CONTEXT, CONTEXT + 1])
@pytest.mark.parametrize("name", CALLS)
def test_the_device_is_restored(cuda: FakeCuda, name: str, before: int) -> None:
    """After a call that worked and one that failed, the thread's context is that of before.

    And no context is made on a device that nobody uses.
    """
    made = cudart.allocate(1, 100, "x", [])
    calls = {**CALLS, "cudaIpcGetMemHandle": lambda: cudart.ipc_handle(1, made, "x"),
             "cudaFree": lambda: cudart.free(1, [(0, made)])}  # fmt: skip
    seen: list[int] = []
    inner = object.__getattribute__(cuda, name)

    def watched(*arguments: Any) -> Any:
        seen.append(cuda.current)
        return inner(*arguments)

    object.__setattr__(cuda, name, watched)
    cuda.context = before
    calls[name]()
    assert seen == [1]  # on the device that was meant
    assert cuda.context == before
    cuda.fail[name] = real.cudaError_t.cudaErrorUnknown
    with pytest.raises(SharedMemoryError):
        calls[name]()
    assert cuda.context == before
    assert cuda.contexts == {1, *([before - CONTEXT] if before else [])}


def test_a_device_that_is_in_use_is_chosen_again(cuda: FakeCuda) -> None:
    """Where another thread uses the device that this one had chosen, it is this one's again."""
    cuda.contexts.add(0)
    cudart.device_memory(1)
    assert cuda.current == 0


def test_the_first_device_may_stay_current(cuda: FakeCuda) -> None:
    """Where a thread had no context and the first device is used, that is CUDA's own default."""
    cudart.device_memory(0)
    assert cuda.context == CONTEXT
    cuda.calls.clear()
    cudart.device_memory(0)
    assert cuda.names() == ["cuCtxGetCurrent", "cudaMemGetInfo"]  # nothing to switch


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_status_of_every_call_is_our_error(cuda: FakeCuda, name: str) -> None:
    """Whatever CUDA answers, it is an error of ours with CUDA's name for it and a remedy."""
    for said in real.cudaError_t:
        if said == real.cudaError_t.cudaSuccess:
            continue
        cuda.fail[name] = said
        with pytest.raises(SharedMemoryError) as caught:
            EVERYWHERE[name]()
        assert said.name in caught.value.message or isinstance(caught.value, NoSpaceError)
        assert caught.value.remedy
        assert cuda.context in (0, CONTEXT)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("cudaErrorInsufficientDriver", NoCudaDeviceError, "no NVIDIA driver"),
        ("cudaErrorNoDevice", NoCudaDeviceError, "no device for this process"),
        ("cudaErrorInvalidDevice", NoCudaDeviceError, "this process sees 2"),
        ("cudaErrorDevicesUnavailable", NoCudaDeviceError, "compute mode"),
        ("cudaErrorIllegalAddress", SharedMemoryError, "of no more use in this process"),
        ("cudaErrorUnknown", SharedMemoryError, "cudaErrorUnknown"),
    ],
)
def test_what_the_errors_say(
    cuda: FakeCuda, said: str, error: type[SharedMemoryError], words: str
) -> None:
    """The causes that people meet are told in words."""
    cuda.fail["cudaStreamCreateWithFlags"] = getattr(real.cudaError_t, said)
    with pytest.raises(error, match=words):
        cudart.create_stream(0, [])


def test_a_device_that_is_not_there(cuda: FakeCuda) -> None:
    """An invalid device is refused with the numbers that there are."""
    for number in (2, 99, -1):
        with pytest.raises(
            NoCudaDeviceError, match=f"no CUDA device {number}: .* sees 2, .* 0 to 1"
        ):
            cudart.check_device(number)
    cuda.devices = 1
    with pytest.raises(NoCudaDeviceError, match=r"no CUDA device 1: .* sees 1, numbered 0\n"):
        cudart.check_device(1)
    cuda.devices = 0
    with pytest.raises(NoCudaDeviceError, match="no CUDA device was found"):
        cudart.check_device(0)


def test_too_little_memory_says_who_has_it(cuda: FakeCuda) -> None:
    """What is needed, what is free and who holds it stand in the message."""
    held: list[Any] = []
    cudart.allocate(1, 200 * MIB, "x", held)
    with pytest.raises(NoSpaceError) as caught:
        cudart.allocate(1, 100 * MIB, "input 'x'", [], lambda: "7 GB of process 5 (python)")
    assert str(100 * MIB) in caught.value.message
    assert str(56 * MIB) in caught.value.message
    assert "CUDA device 1" in caught.value.message
    assert "process 5 (python)" in caught.value.message


@pytest.mark.parametrize("said", ["cudaErrorNotSupported", "cudaErrorMapBufferObjectFailed"])
def test_without_ipc_it_says_so(cuda: FakeCuda, said: str) -> None:
    """Where a device's memory has no IPC handle (WSL2, Jetson), that is the error."""
    cuda.fail["cudaIpcGetMemHandle"] = getattr(real.cudaError_t, said)
    with pytest.raises(SharedMemoryUnsupportedError, match="no IPC handle") as caught:
        cudart.ipc_handle(0, 1, "input 'x'")
    assert "WSL2" in caught.value.remedy


def test_a_handle_is_the_whole_structure(cuda: FakeCuda) -> None:
    """The handle is CUDA's 64 bytes."""
    address = cudart.allocate(0, 100, "x", [])
    handle = cudart.ipc_handle(0, address, "x")
    assert len(handle) == 64
    assert handle.rstrip(b"\0").decode().startswith("fake_gpu-")


def test_uuids_as_nvml_writes_them(cuda: FakeCuda) -> None:
    """The UUIDs have NVML's form, by which the two kinds of numbers are matched."""
    assert cudart.device_uuids() == (
        "GPU-01010101-0101-0101-0101-010101010101",
        "GPU-02020202-0202-0202-0202-020202020202",
    )
    cuda.fail["cudaGetDeviceProperties"] = real.cudaError_t.cudaErrorUnknown
    assert cudart.device_uuids() == ()

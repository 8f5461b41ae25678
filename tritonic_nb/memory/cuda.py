"""CUDA shared memory: the one door to the CUDA runtime.

Regions in device memory are not made yet; asking for one says what is missing.
"""

from __future__ import annotations

from tritonic_nb.errors import NoCudaDeviceError, SharedMemoryUnsupportedError

__all__ = ["device_memory", "require_device"]


_REMEDY = "use shared_memory='system' or 'none'"


def require_device(device: int) -> None:
    """Refuse CUDA shared memory, with the reason.

    Parameters
    ----------
    device
        The number of the CUDA device that was asked for.

    Raises
    ------
    NoCudaDeviceError
        If there is no CUDA device, or none of that number.
    SharedMemoryUnsupportedError
        If there is one: this version has system shared memory only.
    """
    _check_device(device)
    raise SharedMemoryUnsupportedError(
        "CUDA shared memory is not part of this version of tritonic_nb", _REMEDY
    )


def device_memory(device: int) -> tuple[int, int]:
    """Return the free and the total memory of a device, in bytes.

    Parameters
    ----------
    device
        The number of the CUDA device.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device, or it does not tell.
    """
    _check_device(device)
    from cuda.bindings import runtime

    _, before = runtime.cudaGetDevice()
    try:
        runtime.cudaSetDevice(device)
        status, free, total = runtime.cudaMemGetInfo()
    finally:
        runtime.cudaSetDevice(before)
    if status != runtime.cudaError_t.cudaSuccess:
        raise NoCudaDeviceError(
            f"CUDA device {device} does not tell its memory: {status.name}", _REMEDY
        )
    return int(free), int(total)


def _check_device(device: int) -> None:
    count, reason = _device_count()
    if count == 0:
        raise NoCudaDeviceError(f"no CUDA device was found: {reason}", _REMEDY)
    if not 0 <= device < count:
        raise NoCudaDeviceError(
            f"there is no CUDA device {device}: this machine has {count}, numbered from 0", _REMEDY
        )


def _device_count() -> tuple[int, str]:
    """Return the number of CUDA devices and, where it is 0, why."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        return 0, f"cuda-python is not installed ({error})"
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as error:  # the CUDA libraries themselves do not load
        return 0, str(error)
    return (0, status.name) if status != runtime.cudaError_t.cudaSuccess else (int(count), "")

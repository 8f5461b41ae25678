"""PyTorch, CuPy and JAX, as far as the tests need them, each by the same few words."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

_CYCLES = 600_000_000
"""Of the device's clock: a third of a second at 1.8 GHz."""


class Torch:
    """PyTorch."""

    def __init__(self) -> None:
        self.torch = imported("torch")
        if not self.torch.cuda.is_available():
            pytest.skip("PyTorch sees no CUDA device here")

    def array(self, array: npt.NDArray[Any]) -> Any:
        """Return a copy on the device."""
        return self.torch.from_numpy(array).cuda()

    def numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy in host memory."""
        found: npt.NDArray[Any] = array.cpu().numpy()
        return found

    def from_dlpack(self, given: Any) -> Any:
        """Take an array by DLPack."""
        return self.torch.from_dlpack(given)

    def from_interface(self, given: Any) -> Any:
        """Take an array by the CUDA Array Interface."""
        return self.torch.as_tensor(given, device="cuda")

    def transposed(self, array: Any) -> Any:
        """Return a view that is not contiguous."""
        return array.T

    def oddly_strided(self, array: Any) -> Any:
        """Return a view of a row with a step between rows, of which there is one."""
        return array.as_strided(tuple(array.shape), (999, 1))

    def side_stream(self) -> contextlib.AbstractContextManager[Any]:
        """Work on a stream of its own for the length of a block."""
        held: contextlib.AbstractContextManager[Any] = self.torch.cuda.stream(
            self.torch.cuda.Stream()
        )
        return held

    def keep_busy(self) -> None:
        """Begin something on the stream that takes a while."""
        self.torch.cuda._sleep(_CYCLES)

    def busy(self) -> bool:
        """Whether the stream has something to do."""
        return not self.torch.cuda.current_stream().query()

    def copy_into(self, target: Any, source: Any) -> None:
        """Begin to copy on the stream."""
        target.copy_(source)

    def add_one(self, array: Any) -> None:
        """Begin to add 1 to each element, in place, on the stream."""
        array.add_(1)

    def wait(self) -> None:
        """Wait for all of the device's work."""
        self.torch.cuda.synchronize()


class Cupy:
    """CuPy; see :class:`Torch`."""

    def __init__(self) -> None:
        self.cupy = imported("cupy")
        if not self.cupy.cuda.is_available():
            pytest.skip("CuPy sees no CUDA device here")
        self._spin = self.cupy.RawKernel(
            'extern "C" __global__ void spin(long long cycles) {'
            " long long start = clock64(); while (clock64() - start < cycles) {} }",
            "spin",
        )
        self._spin((1,), (1,), (np.int64(1),))  # compiled here
        self.wait()

    def array(self, array: npt.NDArray[Any]) -> Any:
        """Return a copy on the device."""
        return self.cupy.asarray(array)

    def numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy in host memory."""
        found: npt.NDArray[Any] = self.cupy.asnumpy(array)
        return found

    def from_dlpack(self, given: Any) -> Any:
        """Take an array by DLPack."""
        return self.cupy.from_dlpack(given)

    def from_interface(self, given: Any) -> Any:
        """Take an array by the CUDA Array Interface."""
        return self.cupy.asarray(given)

    def transposed(self, array: Any) -> Any:
        """Return a view that is not contiguous."""
        return array.T

    def oddly_strided(self, array: Any) -> Any:
        """Return a view of a row with a step between rows, of which there is one."""
        as_strided = self.cupy.lib.stride_tricks.as_strided
        return as_strided(array, array.shape, (999 * array.itemsize, array.itemsize))

    def side_stream(self) -> contextlib.AbstractContextManager[Any]:
        """Work on a stream of its own for the length of a block."""
        held: contextlib.AbstractContextManager[Any] = self.cupy.cuda.Stream(non_blocking=True)
        return held

    def keep_busy(self) -> None:
        """Begin something on the stream that takes a while."""
        self._spin((1,), (1,), (np.int64(_CYCLES),))

    def busy(self) -> bool:
        """Whether the stream has something to do."""
        return not self.cupy.cuda.get_current_stream().done

    def copy_into(self, target: Any, source: Any) -> None:
        """Begin to copy on the stream."""
        target[...] = source

    def add_one(self, array: Any) -> None:
        """Begin to add 1 to each element, in place, on the stream."""
        array += 1

    def wait(self) -> None:
        """Wait for all of the device's work."""
        self.cupy.cuda.Device().synchronize()


class Jax:
    """JAX, whose arrays are contiguous always and whose streams are its own; see :class:`Torch`."""

    def __init__(self) -> None:
        self.jax = imported("jax")
        try:
            self.device = self.jax.devices("gpu")[0]
        except RuntimeError as error:
            pytest.skip(f"JAX sees no CUDA device here: {error}")

    def array(self, array: npt.NDArray[Any]) -> Any:
        """Return a copy on the device."""
        return self.jax.device_put(array, self.device)

    def numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return a copy in host memory."""
        return np.asarray(array)

    def from_dlpack(self, given: Any) -> Any:
        """Take an array by DLPack."""
        return importlib.import_module("jax.dlpack").from_dlpack(given)

    def slow_ones(self, size: int) -> Any:
        """Begin to compute a row of ones, which takes a while, and return it at once."""

        def compute(matrix: Any) -> Any:
            step = self.jax.lax.fori_loop
            return step(0, 400, lambda _, each: each @ each / size, matrix)[:1]

        matrix = self.array(np.ones((size, size), np.float32))
        compiled = self.jax.jit(compute).lower(matrix).compile()
        matrix.block_until_ready()
        return compiled(matrix)


KINDS: dict[str, Callable[[], Any]] = {"torch": Torch, "cupy": Cupy, "jax": Jax}


def imported(name: str) -> Any:
    """Import a library, or skip."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not installed here: {error}")

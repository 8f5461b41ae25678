"""Models that keep tensors on the device."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gpu_helpers import MODELS, ByDlpack, same, sample

import tritonic_nb
from tests.conftest import BOTH
from tests.fake_cuda import FakeCuda
from tritonic_nb import Session
from tritonic_nb.errors import ModelLoadError
from tritonic_nb.memory import DeviceArray

Open = Callable[..., Session]


@pytest.fixture(scope="module")
def adder(embedded: tritonic_nb.Server) -> str:
    """The add model, with PyTorch or CuPy of the server's Python, or of this one."""
    found = next((spec for name in ("torch", "cupy") if (spec := find_spec(name))), None)
    packages = str(Path(found.origin).parents[1]) if found and found.origin else ""
    embedded.add("add_on_device", MODELS / "add_on_device", parameters={"packages": packages})
    try:
        embedded._load(["add_on_device"])
    except ModelLoadError as error:
        if "neither PyTorch nor CuPy" not in error.message:
            raise
        reason = error.message[error.message.index("neither") :].splitlines()[0]
        pytest.skip(f"the server's Python has {reason}")
    return "add_on_device"


@BOTH
def test_an_add_model_works_where_the_tensors_lie(
    open_session: Open, adder: str, fake: FakeCuda | None
) -> None:
    """It sees its inputs on the device and leaves the sum there."""
    left, right = (sample("FP32", (50, 1000), seed) for seed in (1, 2))
    session = open_session(adder, shared_memory="cuda")
    session.register_outputs({"SUM": left.shape})
    for given in ((left, right), (ByDlpack(left), ByDlpack(right))):
        result = session.infer(INPUT0=given[0], INPUT1=given[1], copy=False)
        assert isinstance(result["SUM"], DeviceArray)
        assert same(result["SUM"], left + right)
        on_device = np.asarray(result["ON_DEVICE"]).tolist()
        assert on_device == [fake is None] * 3  # a server without a GPU has host tensors
        del result


def test_an_add_model_takes_host_tensors_too(open_session: Open, adder: str) -> None:
    """The same model over system shared memory has them on the host."""
    left, right = (sample("FP32", (50, 1000), seed) for seed in (1, 2))
    session = open_session(adder, shared_memory="system")
    result = session.infer(INPUT0=left, INPUT1=right)
    assert same(result["SUM"], left + right)
    assert not result["ON_DEVICE"].any()


def test_an_identity_of_either_kind_takes_device_tensors(open_session: Open) -> None:
    """One has Triton bring them to the host and back, the other leaves them where they are."""
    array = sample("FP32", (50, 1000))
    for model in ("identity_fp32", "identity_fp32_device"):
        session = open_session(model, shared_memory="cuda")
        session.register_outputs({"OUTPUT0": array.shape})
        for copy in (True, False):
            assert same(session.infer(ByDlpack(array), copy=copy)["OUTPUT0"], array)

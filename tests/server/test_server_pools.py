"""The Python backend's pools: how large they are, and how large they become."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton

from tests.own_shm import WHY_NOT, own_dev_shm
from tritonic_nb.server import Server
from tritonic_nb.server.pools import POOL_STEP_NBYTES, SHM, pool_nbytes

ALLOWED_ABOVE_NBYTES = 3 * POOL_STEP_NBYTES


def infer(server: Server, model: str, name: str, array: npt.NDArray[np.uint8]) -> int:
    """Send an array six times, and return the bytes of all outputs."""
    tensor = triton.InferInput(name, list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array)
    with triton.InferenceServerClient(server.url) as client:
        for _ in range(6):
            result = client.infer(model, [tensor])
        outputs = result.get_response()["outputs"]
        return sum(result.as_numpy(output["name"]).nbytes for output in outputs)


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        ("identity_uint8", "INPUT0", (1, 100_000)),
        ("identity_uint8", "INPUT0", (1, 1_000_000)),
        ("identity_uint8", "INPUT0", (1, 4_000_000)),
        ("identity_uint8", "INPUT0", (1, 24_000_000)),
        ("edges", "image", (1150, 1150, 3)),
    ],
)
def test_a_pool_becomes_as_large_as_foretold(
    embedded: Server, model: str, name: str, shape: tuple[int, ...]
) -> None:
    """It is never larger than pool_nbytes() says, and not much smaller."""
    before = set(embedded.pools())
    embedded._load([model])
    (pool,) = set(embedded.pools()) - before or before
    array = np.zeros(shape, np.uint8)
    foretold = pool_nbytes(array.nbytes, infer(embedded, model, name, array))
    seen = embedded.pools()[pool]
    assert (SHM / pool).stat().st_size == seen
    assert seen <= foretold <= 1.5 * seen + ALLOWED_ABOVE_NBYTES


def test_pools_are_those_of_loaded_models(embedded: Server) -> None:
    """Each instance of a loaded model has one, of 1 MiB at first."""
    before = embedded.pools()
    embedded._load(["simple_sequence"])
    new = {name: size for name, size in embedded.pools().items() if name not in before}
    assert list(new.values()) == [POOL_STEP_NBYTES] * 4


FULL = """
import os
import tritonclient.http as triton
import numpy as np
from tritonic_nb.server import serve

with serve(["identity_uint8"]) as server:
    client = triton.InferenceServerClient(server.url)
    def infer(nbytes):
        tensor = triton.InferInput("INPUT0", [1, nbytes], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, nbytes), np.uint8))
        client.infer("identity_uint8", [tensor])
    descriptor = os.open("/dev/shm/filler", os.O_RDWR | os.O_CREAT)
    space = os.statvfs("/dev/shm")
    os.posix_fallocate(descriptor, 0, space.f_bavail * space.f_frsize)
    for nbytes in (700_000, 4_000_000):
        try:
            infer(nbytes)
        except triton.InferenceServerException as error:
            print(error.status(), "Failed to increase the shared memory pool" in str(error))
        infer(10)
    os.unlink("/dev/shm/filler")
    os.close(descriptor)
    infer(4_000_000)
    print(server.running)
    client.close()
    server.stop(0.0)
"""


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")
def test_a_full_dev_shm_is_an_error_of_one_request() -> None:
    """A pool that cannot grow, for an input or an output, fails that request and no other."""
    done = subprocess.run(
        [*own_dev_shm("32m"), sys.executable, "-c", FULL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["500 True", "500 True", "True"], done.stderr

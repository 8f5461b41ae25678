"""A server on another host: its shared memory is refused in words, and the wire serves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import TEST_URL
from tests.two_hosts import WHY_NOT, TwoHosts, two_hosts

pytestmark = [
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.skipif(bool(TEST_URL), reason="the other host has a server of ours"),
]

USED = """
import numpy as np, tritonic_nb as tnb

x = np.zeros((1, 500_000), np.float32)
where = far["url"] if far["protocol"] == "http" else far["grpc_url"]
options = {"headers": far["headers"], "protocol": far["protocol"]}
with tnb.Session(where, "identity_fp32", **options) as session:
    result = session.infer(x)
    told = {
        "right": bool(np.array_equal(result["OUTPUT0"], x)),
        "kind": str(session.shared_memory.value),
        "reason": session.shared_memory_reason,
        "shared": result.shared_nbytes,
        "wire": result.wire_nbytes,
    }
    try:
        session.set_shared_memory("system")
        session.infer(x)
    except tnb.TritonicError as error:
        told["refused"] = [type(error).__name__, str(error)]
    session.set_shared_memory("auto")
    told["goes on"] = bool(np.array_equal(session.infer(x)["OUTPUT0"], x))
with tnb.Session(where, "identity_fp32", compression="gzip", **options) as session:
    told["compressed"] = session.infer(x).wire_nbytes
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    """A host without a server, and one with."""
    with two_hosts() as made:
        yield made


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_wire_is_chosen_and_shared_memory_refused(hosts: TwoHosts, protocol: str) -> None:
    """By trying, not by the address; by name it is an error, after which the session goes on."""
    done = hosts.run(USED, protocol=protocol)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["right"]
    assert told["goes on"]
    assert told["kind"] == "none"
    assert "does not see this machine's /dev/shm" in told["reason"]
    assert "it is on another machine or in another container" in told["reason"]
    assert told["shared"] == 0
    assert told["wire"] > 4_000_000
    if protocol == "http":
        assert told["compressed"] < 50_000
    name, text = told["refused"]
    assert name == "RegionNotVisibleError"
    assert "for a server on another machine use shared_memory='none'" in text
    secret = next(iter(hosts.server["headers"].values()))
    assert secret not in done.stdout + done.stderr


def test_a_proxy_of_the_environment_is_used(hosts: TwoHosts) -> None:
    """Each request goes through it, large ones too; not where `no_proxy` names the host."""
    through = (
        "import os\n"
        "import numpy as np\n"
        "import tritonic_nb as tnb\n"
        "os.environ['http_proxy'] = far['first']\n"
        "x = np.random.default_rng(0).random((1, 500_000), np.float32)\n"
        "with tnb.Session(far['url'], 'identity_fp32', shared_memory='none') as session:\n"
        "    for _ in range(2):\n"
        "        assert np.array_equal(session.infer(x)['OUTPUT0'], x)\n"
        "    print(session.url)\n"
    )
    used = hosts.run(through, first=f"http://{hosts.server['proxy']}")
    assert used.returncode == 0, used.stderr
    nobody = hosts.run(through, first="http://10.77.0.2:1")
    assert nobody.returncode == 1
    assert "ServerUnreachableError" in nobody.stderr
    past = hosts.run("import os\nos.environ['no_proxy'] = '10.77.0.2'\n" + through,
                     first="http://10.77.0.2:1")  # fmt: skip
    assert past.returncode == 0, past.stderr


def test_a_host_that_is_not_there_is_told_soon(hosts: TwoHosts) -> None:
    """Nobody has that address: within the time limit of a connection."""
    done = hosts.run(
        "import time, tritonic_nb as tnb\n"
        "begun = time.monotonic()\n"
        "try:\n"
        "    tnb.Session('10.77.0.9:8000')\n"
        "except tnb.TritonicError as error:\n"
        "    print(type(error).__name__, round(time.monotonic() - begun, 1), error)\n"
    )
    name, seconds, text = done.stdout.split(" ", 2)
    assert name == "ServerUnreachableError"
    assert float(seconds) < 8
    assert "no Triton server answers at http://10.77.0.9:8000" in text


def test_doctor_tells_what_a_server_elsewhere_can_do(hosts: TwoHosts) -> None:
    """It runs the model over the wire, and says that shared memory does not reach it."""
    done = hosts.run(
        "import tritonic_nb as tnb\n"
        "print(tnb.doctor(far['url'], model='identity_fp32', headers=far['headers']))\n"
    )
    assert done.returncode == 0, done.stderr
    assert "system shared memory" in done.stdout
    assert "over the wire" in done.stdout
    secret = next(iter(hosts.server["headers"].values()))
    assert secret not in done.stdout + done.stderr

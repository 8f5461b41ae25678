"""The benchmark runs, measures every way, and leaves nothing. Never which one is faster."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tests.conftest import TEST_URL
from tests.model_folders import python_model
from tests.own_shm import WHY_NOT, own_dev_shm
from tritonic_nb.benchmark.bare_ways import Prepared
from tritonic_nb.benchmark.depth import DEPTHS, SEQUENTIAL, Throughput, measure_throughput
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.monitor import measure_monitor, monitor_text
from tritonic_nb.benchmark.overhead import Overhead
from tritonic_nb.benchmark.rounds import Plan, Series, run_rounds
from tritonic_nb.benchmark.session_ways import SessionCopies
from tritonic_nb.benchmark.sureness import measure_sureness, sureness_text
from tritonic_nb.benchmark.targets import LARGE_NBYTES, PICTURE_NBYTES, evaluate
from tritonic_nb.benchmark.way import Way, tensor
from tritonic_nb.benchmark.ways import WAYS, opened
from tritonic_nb.errors import ServerRefusedError
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR

COMMAND = [sys.executable, "-X", "dev", "-m", "tritonic_nb.benchmark"]
SIZES = (4096, 4_000_000)
OWNED = re.compile(rf"({KEY_PREFIX}|benchmark-)(?P<pid>\d+)-.*")
KEYS = {way.key for way in WAYS}


@dataclass
class Run:
    """A quick run: what it printed, and what it wrote."""

    printed: str
    told: str
    document: dict[str, Any]
    picture: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command as a person runs it, with two sizes."""
    folder = tmp_path_factory.mktemp("benchmark")
    before = left_behind()
    done = subprocess.run(
        [
            *COMMAND, "--quick", "--sizes", "4096,4MB", "--seconds", "1", "--rounds", "4",
            "--profile", "--json", folder / "found.json", "--plot", folder / "found.png",
        ],
        capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert left_behind() <= before
    document = json.loads((folder / "found.json").read_text())
    return Run(done.stdout, done.stderr, document, folder / "found.png")


def left_behind() -> set[str]:
    """Give what stands in /dev/shm and belongs to a process that is dead."""
    owned = (OWNED.fullmatch(path.name) for path in SHM_DIR.iterdir())
    return {each[0] for each in owned if each and not Path("/proc", each["pid"]).exists()}


def test_it_tells_where_the_ways_cross(run: Run) -> None:
    """Between two sizes that were measured, or at none."""
    crossing = run.document["crossing"]
    assert crossing is None or crossing["below"] < crossing["above"]
    assert "a quarter faster than over the wire" in run.printed


def test_how_sure_comparisons_are_is_measured() -> None:
    """Of each kind one or two, as a table; never that they agree."""
    found = measure_sureness(lambda _: None, runs=(1, 2, 1), seconds=0.1)
    assert set(found.same) == set(found.verdicts) == set(found.ratios)
    assert all(counts.total() == 2 for counts in found.verdicts.values())
    assert all(ratio > 0 for ratios in found.ratios.values() for ratio in ratios)
    text = sureness_text(found)
    assert "| 602 kB | " in text
    assert text.count("\n|") == 7


def test_every_way_is_measured_at_every_size(run: Run) -> None:
    """With positive times, in order, over one connection for each round."""
    assert tuple(each["nbytes"] for each in run.document["sizes"]) == SIZES
    assert set(run.document["ways"]) == KEYS
    for size in run.document["sizes"]:
        assert set(size["ways"]) == KEYS
        for figures in size["ways"].values():
            low, high = figures["spread_ms"]
            assert 0 < low <= high
            assert 0 < figures["median_ms"] <= figures["p99_ms"]
            assert 3 <= figures["connections"] <= 4
            assert figures["requests"] >= 2 * figures["connections"]


def test_memory_counts_what_each_way_must_have(run: Run) -> None:
    """The input and the output are there in any case, and a copy is one tensor more."""
    (memory,) = run.document["memory"]
    tensors = {key: peak / memory["nbytes"] for key, peak in memory["peak_nbytes"].items()}
    assert set(tensors) == KEYS - {"socket"}
    assert 1.8 < tensors["session_in_place"] < 2.8
    assert tensors["session"] > tensors["session_filled"] > tensors["session_in_place"]
    assert tensors["client_http"] > 3


def test_what_a_session_adds_is_measured(run: Run) -> None:
    """As a difference over connections that both use."""
    overhead = run.document["overhead"]
    low, high = overhead["spread_ms"]
    assert overhead["nbytes"] == SIZES[0]
    assert overhead["connections"] == 8
    assert low <= overhead["median_ms"] <= high
    assert overhead["at_hand_ms"] > 0


def test_each_target_is_told_met_or_missed_or_not_measured(run: Run) -> None:
    """By what was measured, here only what the sizes allow."""
    targets = {each["what"]: each for each in run.document["targets"]}
    assert len(targets) == 11
    for what, target in targets.items():
        assert what in run.printed
        assert (target["met"] is None) == (target["measured"] is None)
        if target["met"] is not None:
            good = target["measured"] <= target["limit"]
            assert target["met"] == (good if target["at_most"] else not good), target
    assert targets["small: Session, own copies / bare socket"]["at_best"] == 1.0
    assert targets["24 MB: tritonclient HTTP / Session, own copies"]["met"] is None


def test_requests_in_flight_are_measured(run: Run) -> None:
    """Both models at every depth, beside a plain loop."""
    assert [each["model"] for each in run.document["in_flight"]] == ["waits", "computes"]
    for each in run.document["in_flight"]:
        assert list(each["per_second"]) == [str(d) for d in (SEQUENTIAL, *DEPTHS)]
        assert all(figure > 0 for figure in each["per_second"].values())
    assert "Session.map, by requests in flight" in run.printed


def test_the_tables_fit_a_terminal(run: Run) -> None:
    """100 columns, each way with its label, and no more on standard error than the steps."""
    assert max(map(len, run.printed.splitlines())) <= 100
    for way in WAYS:
        assert run.printed.count(f"  {way.label}  ") >= 1 + len(SIZES)
    assert "session.py infer" in run.printed
    assert all(line.startswith("measuring: ") for line in run.told.splitlines()), run.told


def test_nothing_tells_whose_machine_it_was(run: Run) -> None:
    """Neither host nor user nor a path stands in what may be published."""
    text = run.printed + json.dumps(run.document)
    assert socket.gethostname() not in text
    assert f"{Path.home()}/" not in text
    assert str(Path(tritonic_nb.__file__).parent) not in text
    assert run.document["machine"]["libraries"]["numpy"] == np.__version__


def test_the_plot_is_for_a_readme(run: Run) -> None:
    """720 pixels wide on the page, on a card of its own."""
    with Image.open(run.picture) as image:
        assert image.size == (1440, 960)
        assert image.getpixel((0, 0))[3] == 0
        assert image.getpixel((40, 900))[:3] == (255, 255, 255)


@pytest.mark.parametrize(
    ("moment", "later_s"),
    [("4 kB", 0.02), ("4 MB", 0.4), ("what a session adds", 0.02), ("memory", 0.4)],
)
def test_an_interrupt_leaves_nothing(moment: str, later_s: float) -> None:
    """Ctrl-C in any part ends it in words, with status 130, and all regions are gone."""
    before = left_behind()
    with subprocess.Popen(
        [*COMMAND, "--quick", "--sizes", "4kB,4MB", "--seconds", "1", "--rounds", "4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while (line := process.stderr.readline()) and moment not in line:
            pass
        time.sleep(later_s)
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert printed == ""
    assert told.splitlines()[-1] == "tritonic_nb.benchmark: interrupted"
    assert all(line.startswith("measuring") for line in told.splitlines()[:-1]), told
    deadline = time.monotonic() + 3
    while left_behind() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind() <= before


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_size_without_room_is_left_out() -> None:
    """With its figures; the others are measured."""
    done = subprocess.run(
        [*own_dev_shm("64m"), *COMMAND, "--quick", "--sizes", "4kB,64MB", "--rounds", "3"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "64 MB were left out: " in done.stdout
    assert "are needed in /dev/shm" in done.stdout
    assert "4 kB: 30 requests over 3 connections" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--sizes", "5"], 2, "'5' is no size: give bytes, a multiple of 4"),
        (["--sizes", "4GB"], 2, "'4GB' is no size"),
        (["--seconds", "nan"], 2, "no number of seconds above 0"),
        (["--rounds", "0"], 2, "no number of rounds from 1"),
        (["--json", "/no/such/folder/file"], 1, "cannot be written"),
        (["--url", "http://localhost:8000"], 1, "is not an address"),
        (["--grpc-url", "localhost:8001"], 1, "no HTTP address"),
        (["--model", "simple"], 1, "model 'simple' cannot be measured: it has INPUT0 INT32"),
        (["--url", "127.0.0.1:1"], 1, "no Triton server answers at http://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], status: int, words: str) -> None:
    """At once, with what to do."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# The parts, against the server of all tests


@pytest.fixture(scope="module")
def endpoint(server: Any) -> Endpoint:
    """The server and its model, as every way needs them."""
    if TEST_URL:
        pytest.skip("the ways by gRPC and with another model want an embedded server")
    server._load(["identity_fp32"])
    # A process of the interpreter's own, which tritonclient's regions start and which stays.
    resource_tracker.ensure_running()
    return Endpoint(server.url, server.grpc_url, server.headers, server_version=server.version)


@pytest.mark.parametrize("kind", WAYS, ids=lambda way: way.key)
def test_a_way_reconnects(endpoint: Endpoint, kind: type[Way]) -> None:
    """Exchanges share a connection, and after reconnect() there is another one."""
    with opened([kind], endpoint, 4096) as (way,):
        way.exchange()
        first = connections(endpoint)
        way.exchange()
        assert connections(endpoint) == first
        way.reconnect()
        way.exchange()
        assert connections(endpoint) - first
        way.put(tensor(4096, seed=3))
        assert np.array_equal(way.answer(way.exchange()), tensor(4096, seed=3))


def connections(endpoint: Endpoint) -> set[str]:
    """Give the local addresses of established connections to the server."""
    ports = {int(url.rpartition(":")[2]) for url in (endpoint.url, endpoint.grpc_url)}
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if state == "01" and int(remote.rpartition(":")[2], 16) in ports:
                found.add(local)
    return found


def test_a_round_is_random_and_whole(endpoint: Endpoint) -> None:
    """Each way has one connection in each round, whatever the order."""
    with opened([SessionCopies, Prepared], endpoint, 4096) as ways:
        series = run_rounds(ways, Plan(seconds=0.0), random.Random(1))  # noqa: S311
    assert {key: len(each.connections) for key, each in series.items()} == {
        "session": 3, "prepared": 3,
    }  # fmt: skip
    assert all(time_ms > 0 for each in series.values() for time_ms in each.times_ms)


def test_a_wrong_answer_is_no_figure(server: Any, endpoint: Endpoint, tmp_path: Path) -> None:
    """A model that does not answer a tensor with itself is not measured."""
    code = (
        "import triton_python_backend_utils as pb_utils\n\n\n"
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        return [self.answer(request) for request in requests]\n\n"
        "    def answer(self, request):\n"
        "        tensor = pb_utils.get_input_tensor_by_name(request, 'INPUT0').as_numpy()\n"
        "        output = pb_utils.Tensor('OUTPUT0', tensor * 2)\n"
        "        return pb_utils.InferenceResponse([output])\n"
    )
    config = "".join(
        f'{direction} [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ -1, -1 ] }} ]\n'
        for direction, name in (("input", "INPUT0"), ("output", "OUTPUT0"))
    )
    server.add("doubles", python_model(tmp_path / "doubles", code, config))
    server._load(["doubles"])
    doubled = Endpoint(server.url, server.grpc_url, server.headers, "doubles")
    with (
        pytest.raises(ServerRefusedError, match="'doubles' did not answer 4096 bytes with"),
        opened([SessionCopies], doubled, 4096),
    ):
        pass


@pytest.mark.usefixtures("endpoint")
def test_requests_in_flight_are_counted(server: Any) -> None:
    """Every depth in every round."""
    shuffle = random.Random(0)  # noqa: S311
    measured, missing = measure_throughput(server, rounds=2, items=4, shuffle=shuffle)
    assert missing == ""
    assert [each.model for each in measured] == ["waits", "computes"]
    for each in measured:
        assert all(len(figures) == 2 and min(figures) > 0 for figures in each.per_second.values())


# The targets


def test_targets_compare_medians() -> None:
    """A ratio of medians, at least or at most, with the figure of the bare socket beside it."""
    medians = {
        4096: {"session": 0.2, "client_shm_copy": 0.4, "socket": 0.1},
        PICTURE_NBYTES: {"session": 0.4, "client_shm_copy": 0.4, "client_http": 2, "socket": 0.2},
        LARGE_NBYTES: {"session_in_place": 8.0, "client_shm": 10.0, "socket": 5.0},
    }
    sizes = {
        nbytes: {key: Series([[median, median * 9, median / 9]]) for key, median in each.items()}
        for nbytes, each in medians.items()
    }
    waits = Throughput("waits", "", {SEQUENTIAL: [10.0, 20.0, 10.0], 4: [15.0, 34.0, 18.0]})
    found = [
        (target.measured and round(target.measured, 9), target.at_best, target.met)
        for target in evaluate(sizes, Overhead(4096, [0.02, 0.04, 0.03], 0.02), [waits])
    ]
    assert found == [
        (0.5, 0.25, True),
        (2.0, 1.0, False),
        (1.0, 0.5, False),
        (None, None, None),
        (None, None, None),
        (0.8, 0.5, False),
        (5.0, 10.0, True),
        (None, None, None),
        (1.7, None, True),
        (None, None, None),
        (30.0, None, True),
    ]


def test_what_the_live_plot_costs_is_measured_in_a_kernel() -> None:
    """With figures that a live plot can have: some hundred bytes for each sample."""
    (cost,) = measure_monitor((5,), seconds=1.5)
    assert 100 < cost.sample_nbytes < 5000
    assert 200 < cost.second_nbytes < 40_000
    assert cost.share < 0.5
    assert f"| 5 Hz | {cost.share:.1%} |" in monitor_text([cost])

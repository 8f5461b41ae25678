"""A map over a Dask cluster, each worker beside a real Triton of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.spread import jobs
from tests.spread.conftest import ROOT, eventually, left_of
from tritonic_nb import samples
from tritonic_nb.errors import ExecutorError, TensorDatatypeError
from tritonic_nb.monitoring import descendants

PICTURES = [samples.image(name) for name in ("cat", "espresso", "rocket", "astronaut")]


def pids_of(client: Any) -> set[int]:
    """Return the workers' process ids."""
    return set(client.run(os.getpid).values())


def servers_of(pids: set[int]) -> set[int]:
    """Return the processes that workers have started: supervisors, servers and their models."""
    return {
        child for pid in pids for child in descendants(pid) if "tritonserver" in _command(child)
    }


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def test_two_hundred_pictures(client: Any, classifier: tritonic_nb.Session) -> None:
    """Results equal the sequential ones, in order; nothing is left on any worker afterwards."""
    items = list(itertools.islice(itertools.cycle(PICTURES), 200))
    want = [classifier.infer(item)["logits"] for item in PICTURES]
    pids = pids_of(client)
    results = classifier.map(items, executor=client, server=jobs.own_server, outputs=["logits"])
    servers: set[int] = set()
    for number, result in enumerate(results):
        assert np.array_equal(result["logits"], want[number % len(want)])
        assert list(result) == ["logits"]
        if number == 100:
            servers = servers_of(pids)
            assert left_of(pids)
    assert number == 199
    assert servers
    assert not left_of(pids)
    assert not servers_of(pids)


def test_a_killed_workers_items_are_done_again(
    client: Any, classifier: tritonic_nb.Session
) -> None:
    """Every item is given once, with what its inference gives, and nothing of the dead is left."""
    items = list(itertools.islice(itertools.cycle(PICTURES), 200))
    want = [jobs.label(classifier.infer(item)) for item in PICTURES]
    pids = pids_of(client)
    results = classifier.map(
        items, executor=client, server=jobs.own_server, reduce=jobs.label, ordered=False
    )
    given = [next(results) for _ in range(60)]
    killed = min(pids)
    assert servers_of({killed})
    os.kill(killed, signal.SIGKILL)
    given += results
    assert sorted(number for number, _ in given) == list(range(200))
    assert all(label == want[number % len(want)] for number, label in given)
    assert eventually(lambda: len(client.nthreads()) == 2)
    now = pids_of(client)
    assert killed not in now
    assert eventually(lambda: not left_of(pids | now) and not servers_of(pids | now))


def test_references_are_resolved_on_the_worker(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """An item may be a Dask future, or a mapping of such; only that travels with the task."""
    session = open_session("identity_fp32")
    arrays = [np.full((2, 3), number, np.float32) for number in range(20)]
    futures = client.scatter(arrays)
    for items in (futures, [{"INPUT0": future} for future in futures]):
        results = session.map(items, executor=client, secrets=True, chunk=3)
        for array, result in zip(arrays, results, strict=True):
            assert np.array_equal(result["OUTPUT0"], array)


def test_the_clients_executor_is_taken_too(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """With what it was told, such as on which workers."""
    session = open_session("identity_fp32")
    one = next(iter(client.nthreads()))
    executor = client.get_executor(workers=[one])
    items = (np.full((1, 1), number, np.float32) for number in range(12))
    found = list(session.map(items, executor=executor, secrets=True, chunk=2, reduce=jobs.process))
    assert {pid for pid, _ in found} == {client.run(os.getpid)[one]}
    assert [value for _, value in found] == list(range(12))


def test_a_notebooks_function_travels(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """One that cannot be imported is sent by its code; one session serves all of its chunks."""
    session = open_session("identity_fp32")
    url, headers = session.spec.server, dict(session.spec_with_secrets().headers or ())

    def here() -> Any:
        return SimpleNamespace(url=url, headers=headers)

    regions = session.map(
        (np.ones((1, 1), np.float32) for _ in range(24)), executor=client, chunk=1, in_flight=1,
        server=here, reduce=lambda result: result.places["input", "INPUT0"].region,
    )  # fmt: skip
    assert len(set(regions)) <= 2 * len(pids_of(client))


def test_an_error_on_a_worker_says_which_item(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """As it is, in its place; the map ends, and the next one works."""
    session = open_session("identity_fp32")
    items = [*(np.full((1, 1), n, np.float32) for n in range(10)), "nothing"]
    results = session.map(items, executor=client, secrets=True, chunk=4)
    assert len(list(itertools.islice(results, 10))) == 10
    with pytest.raises(TensorDatatypeError, match="^item 10: "):
        next(results)
    assert len(list(session.map(items[:10], executor=client, secrets=True))) == 10


def test_an_item_that_kills_workers_is_an_error(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """Dask gives it up after a few workers: its chunk fails, and the others are done."""
    session = open_session("identity_fp32")
    items = [np.full((1, 1), number, np.float32) for number in range(8)]
    given = list(
        session.map(
            items, executor=client, secrets=True, chunk=2, ahead=1, reduce=jobs.die_at_three,
            return_exceptions=True,
        )
    )  # fmt: skip
    assert [given[number] for number in (0, 1, 4, 5, 6, 7)] == [0, 1, 4, 5, 6, 7]
    for error in given[2:4]:
        assert isinstance(error, ExecutorError)
        assert "items 2 to 3 were not done: KilledWorker" in str(error)
    assert eventually(lambda: len(client.nthreads()) == 2)


def test_what_cannot_be_sent_back_is_said_in_short(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """And the map ends, without a traceback of Dask's in its message."""
    session = open_session("identity_fp32")
    items = [np.ones((1, 1), np.float32)] * 2
    with pytest.raises(ExecutorError, match="cannot pickle") as caught:
        list(session.map(items, executor=client, secrets=True, reduce=jobs.lock))
    assert len(caught.value.message) < 300
    assert "File" not in caught.value.message


def test_ctrl_c_ends_a_map(client: Any, sleeper: str, open_session: Any) -> None:
    """At once, also while nothing comes; and nothing that has not begun does."""
    session = open_session(sleeper)
    pids = pids_of(client)
    items = [np.array([0.4], np.float32)] * 400
    main = threading.main_thread().ident or 0
    timer = threading.Timer(1.0, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(session.map(items, executor=client, secrets=True, chunk=4, in_flight=1))
    assert time.monotonic() - started < 5
    timer.join()
    assert eventually(lambda: not any(client.processing().values()))
    assert eventually(lambda: not left_of(pids))


def test_a_cluster_that_has_gone_is_an_error(
    open_session: Callable[..., tritonic_nb.Session],
) -> None:
    """The map ends with the items that were not done, and does not wait for ever."""
    session = open_session("identity_fp32")
    program = textwrap.dedent(f"""
        import itertools, subprocess, sys
        import numpy, tritonic_nb
        from distributed import Client

        cluster = subprocess.Popen(
            [sys.executable, "-m", "tests.spread.cluster", "1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        client = Client(cluster.stdout.readline().strip())
        items = itertools.repeat(numpy.ones((1, 1), numpy.float32))
        spec = tritonic_nb.SessionSpec(
            {session.spec.server!r}, "identity_fp32",
            headers={dict(session.spec_with_secrets().headers or ())!r},
        )
        with spec.open() as session:
            results = session.map(items, executor=client, secrets=True, progress=False)
            next(results)
            cluster.kill()
            try:
                for _ in results:
                    pass
            except tritonic_nb.errors.ExecutorError as error:
                print("told:", error)
        client.close()
        cluster.wait()
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert "were not done" in done.stdout, done.stdout + done.stderr


def test_an_early_end_leaves_nothing(
    client: Any, open_session: Callable[..., tritonic_nb.Session]
) -> None:
    """What has not begun is cancelled; what has, ends, and its session then."""

    def endless() -> Iterator[Any]:
        while True:
            yield np.ones((1, 1), np.float32)

    session = open_session("identity_fp32")
    pids = pids_of(client)
    for number, _ in enumerate(session.map(endless(), executor=client, secrets=True)):
        if number == 40:
            break
    assert eventually(lambda: not left_of(pids))
    assert eventually(lambda: not any(client.processing().values()))

"""Several requests at a time: submitted, or mapped over items, with a real Triton server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tritonic_nb
from tests import waiting
from tests.conftest import SLEEPER, TEST_URL, place_of
from tests.model_folders import python_model
from tritonic_nb import samples
from tritonic_nb.errors import (
    ArgumentError,
    ImageReadError,
    ServerTimeoutError,
    SessionClosedError,
    TensorDatatypeError,
    TensorNameError,
)

Open = Callable[..., tritonic_nb.Session]

own_server = pytest.mark.skipif(
    bool(TEST_URL), reason="needs a server of its own to add models to, not TRITONIC_NB_TEST_URL"
)


eventually = partial(waiting.eventually, seconds=10.0)


def seconds(value: float) -> npt.NDArray[np.float32]:
    """Return what makes the sleeper sleep for so long."""
    return np.array([value], np.float32)


def numbered(count: int) -> Iterator[npt.NDArray[np.float32]]:
    """Give arrays that no other item has."""
    return (np.full((2, 3), number, np.float32) for number in range(count))


def forgotten(held: list[tritonic_nb.Session]) -> bool:
    """Forget the session in a list, and wait until it has gone."""
    there = weakref.ref(held.pop())
    return eventually(lambda: gc.collect() >= 0 and there() is None)


def collect(results: Iterator[tritonic_nb.InferenceResult], given: list[Any]) -> None:
    """Put each result into a list as it comes."""
    for result in results:
        given.append(result)


@pytest.fixture(scope="module")
def sleeper_pair(server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model of two instances that sleep."""
    code, config = (SLEEPER / "1" / "model.py").read_text(), (SLEEPER / "config.pbtxt").read_text()
    two = f"{config.partition(chr(10))[2]}instance_group [ {{ count: 2 kind: KIND_CPU }} ]"
    folder = tmp_path_factory.mktemp("flight") / "sleeper_pair"
    server.add("sleeper_pair", python_model(folder, code, two))
    return "sleeper_pair"


@pytest.fixture
def pair(sleeper_pair: str, open_session: Open) -> tritonic_nb.Session:
    """A session with that model."""
    session = open_session(sleeper_pair)
    session.infer(seconds(0))
    return session


# One at a time, in the background


def test_a_submitted_inference_gives_what_infer_gives(open_session: Open) -> None:
    """Futures of many requests give each its own answer, with all options of infer()."""
    session = open_session("identity_fp32")
    arrays = list(numbered(40))
    futures = [session.submit(array, request_id=f"r{i}") for i, array in enumerate(arrays)]
    for number, (array, future) in enumerate(zip(arrays, futures, strict=True)):
        result = future.result(30)
        assert np.array_equal(result["OUTPUT0"], array)
        assert result.request_id == f"r{number}"
    named = open_session("simple").submit(
        INPUT0=np.full((1, 16), 3, np.int32), INPUT1=np.ones((1, 16), np.int32)
    )
    assert named.result(30)["OUTPUT0"][0, 0] == 4


def test_a_future_raises_what_infer_raises(open_session: Open) -> None:
    """An error is in the future, of its own class, and the session goes on."""
    session = open_session("identity_fp32")
    future = session.submit("nowhere")
    with pytest.raises(TensorDatatypeError):
        future.result(30)
    with pytest.raises(TensorNameError):
        session.submit(numbered(1), NOTHING=1).result(30)
    assert session.submit(np.ones((1, 1), np.float32)).result(30)["OUTPUT0"] == 1


def test_nothing_to_submit_is_refused(open_session: Open) -> None:
    """Without inputs submit() is refused at once, though infer() would send session.inputs."""
    session = open_session("identity_fp32")
    session.inputs["INPUT0"] = np.ones((2, 2), np.float32)
    with pytest.raises(ArgumentError, match=r"session\.inputs may change"):
        session.submit()
    with pytest.raises(ArgumentError, match=r"session\.inputs may change"):
        session.submit(None, copy=False)


@own_server
def test_so_many_are_in_flight_and_no_more(server: Any, pair: tritonic_nb.Session) -> None:
    """in_flight of the session is how many run; submit() itself never waits."""
    with server.session(model="sleeper_pair", in_flight=2) as session:
        started = time.monotonic()
        futures = [session.submit(seconds(0.3)) for _ in range(5)]
        assert time.monotonic() - started < 1  # 1.5 s of sleep are asked for
        most = 0
        while not all(future.done() for future in futures):
            most = max(most, sum(future.running() for future in futures))
            time.sleep(0.005)
        assert most == 2
        assert [future.result()["SLEPT"].item() for future in futures] == pytest.approx([0.3] * 5)


@own_server
def test_only_what_waits_can_be_cancelled(server: Any, pair: tritonic_nb.Session) -> None:
    """cancel() takes back a request whose turn has not come, and no other."""
    with server.session(model="sleeper_pair", in_flight=1) as session:
        running, waiting, last = (session.submit(seconds(s)) for s in (0.5, 5, 0))
        while not running.running():
            time.sleep(0.005)
        assert waiting.cancel()
        assert not running.cancel()
        assert running.result(30)["SLEPT"].item() == 0.5
        assert last.result(4)["SLEPT"].item() == 0  # the other one's 5 s were not slept
        with pytest.raises(CancelledError):
            waiting.result(0)


@own_server
def test_close_cancels_what_waits(server: Any, pair: tritonic_nb.Session) -> None:
    """At close() those that wait are cancelled, and the one in flight ends as infer() does."""
    with server.session(model="sleeper_pair", in_flight=1) as session:
        running, waiting = session.submit(seconds(0.5)), session.submit(seconds(0.5))
        while not running.running():
            time.sleep(0.005)
    assert waiting.cancelled()
    assert running.result(30)["SLEPT"].item() == 0.5
    with pytest.raises(SessionClosedError):
        session.submit(seconds(0))


def test_futures_can_be_awaited(open_session: Open) -> None:
    """`await session.submit(x)` works, and asyncio.gather() over many."""
    session = open_session("identity_fp32")
    arrays = list(numbered(20))

    async def main() -> None:
        single = await session.submit(arrays[3])
        assert np.array_equal(single["OUTPUT0"], arrays[3])
        results = await asyncio.gather(*map(session.submit, arrays))
        for array, result in zip(arrays, results, strict=True):
            assert np.array_equal(result["OUTPUT0"], array)
        with pytest.raises(TensorDatatypeError):
            await session.submit("nowhere")

    asyncio.run(main())


def test_a_forgotten_session_goes_though_it_had_workers(open_session: Open, server: Any) -> None:
    """Threads that wait for work keep no session, and end with it."""
    before = set(threading.enumerate())
    held = [tritonic_nb.Session(server, "identity_fp32", load=True)]
    wait_for([held[0].submit(array) for array in numbered(8)], 30)
    workers = set(threading.enumerate()) - before
    assert workers
    with pytest.warns(ResourceWarning, match="never closed"):
        assert forgotten(held)
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def test_a_future_outlives_the_variable_of_its_session(server: Any) -> None:
    """A session that is forgotten right after submit() still answers."""
    held = [tritonic_nb.Session(server, "identity_fp32", load=True)]
    future = held[0].submit(np.ones((2, 2), np.float32))
    with pytest.warns(ResourceWarning, match="never closed"):
        assert forgotten(held)
    assert future.result(30)["OUTPUT0"].sum() == 4


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None, 257, np.nan])
def test_a_wrong_number_in_flight_is_refused(server: Any, open_session: Open, value: Any) -> None:
    """The session and map() take whole numbers from 1 to 256, and say so."""
    with pytest.raises(ArgumentError, match="in_flight is .*\n.*1 to 256"):
        open_session("identity_fp32", in_flight=value)
    if value is not None:  # there: the session's
        with pytest.raises(ArgumentError, match="in_flight is .*\n.*1 to 256"):
            open_session("identity_fp32").map([], in_flight=value)


# Many, in order


@pytest.mark.parametrize("in_flight", [1, 2, 4, 16])
@pytest.mark.parametrize("copy", [True, False])
def test_results_come_in_order(open_session: Open, in_flight: int, copy: bool) -> None:
    """Each item's result comes in the item's place, however many are in flight."""
    session = open_session("identity_fp32")
    results = session.map(numbered(60), in_flight=in_flight, copy=copy)
    assert [np.asarray(result["OUTPUT0"])[0, 0] for result in results] == list(range(60))


@own_server
def test_a_slow_item_does_not_lose_its_place(pair: tritonic_nb.Session) -> None:
    """Items that take longer than those after them come in order all the same."""
    asked = [0.4, 0.0, 0.25, 0.0, 0.1, 0.0, 0.0, 0.3, 0.0]
    results = pair.map(map(seconds, asked))
    assert [result["SLEPT"].item() for result in results] == pytest.approx(asked)


@own_server
def test_items_are_in_flight_together(pair: tritonic_nb.Session) -> None:
    """Four sleeps of half a second on two instances take clearly less than two seconds."""
    started = time.monotonic()
    assert len(list(pair.map([seconds(0.5)] * 4, in_flight=4))) == 4
    assert time.monotonic() - started < 1.7  # one second, and as much again is nearly spare


def test_items_are_what_infer_takes(open_session: Open) -> None:
    """Pictures by path, arrays by name, and constant inputs beside them."""
    classifier = open_session("classifier")
    names = ["cat", "rocket"]
    found = classifier.map(
        [samples.image("cat"), {next(iter(classifier.model_info.inputs)): samples.image("rocket")}],
        transform=classifier.transform,
    )
    direct = [classifier.infer(samples.image(name)).top_k(1) for name in names]
    assert [result.top_k(1) for result in found] == direct
    simple = open_session("simple")
    ones = np.ones((1, 16), np.int32)
    sums = simple.map(({"INPUT0": ones * n} for n in range(5)), INPUT1=ones)
    assert [result["OUTPUT0"][0, 0] for result in sums] == [1, 2, 3, 4, 5]


def test_nothing_is_taken_beyond_what_is_in_flight(open_session: Open) -> None:
    """Of a generator without an end, no more items are taken than given and in flight."""
    session = open_session("identity_fp32")
    taken = itertools.count()
    counted = 0

    def endless() -> Iterator[npt.NDArray[np.float32]]:
        nonlocal counted
        for number in taken:
            counted = number + 1
            yield np.full((1, 1), number, np.float32)

    results = session.map(endless(), in_flight=3)
    assert counted == 0  # nothing begins before the first result is asked for
    for given, result in enumerate(itertools.islice(results, 30)):
        assert result["OUTPUT0"].item() == given
        time.sleep(0.002)  # a consumer with something else to do
        assert counted <= given + 1 + 3 - 1
    results.close()  # type: ignore[attr-defined]


def test_a_slow_source_does_not_hold_results_back(open_session: Open) -> None:
    """A result is given as soon as it is there, though more could be taken first."""
    session = open_session("identity_fp32")
    session.infer(np.ones((1, 1), np.float32))
    taken = []

    def slowly() -> Iterator[npt.NDArray[np.float32]]:
        for number in range(6):
            taken.append(number)
            yield np.full((1, 1), number, np.float32)
            time.sleep(0.3)

    first = next(iter(session.map(slowly(), in_flight=16)))
    assert first["OUTPUT0"].item() == 0
    assert len(taken) < 6


def test_an_error_comes_in_its_place_with_its_number(open_session: Open, tmp_path: Path) -> None:
    """Results before it are given; its class and remedy stay; the session goes on."""
    session = open_session("classifier")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(samples.image("cat").read_bytes()[:2000])
    items = [samples.image("cat"), samples.image("rocket"), broken, *[samples.image("cat")] * 5]
    given: list[Any] = []
    with pytest.raises(ImageReadError, match=r"^item 2: .*broken\.jpg' cannot be decoded") as told:
        collect(session.map(items, in_flight=4), given)
    assert len(given) == 2
    assert told.value.remedy.startswith("fetch or save the file again")
    assert told.value.args == (told.value.message, told.value.remedy)
    assert session.infer(samples.image("cat")).top_k(1) == given[0].top_k(1)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_an_error_keeps_nothing(open_session: Open, in_flight: int) -> None:
    """After an error has been dealt with, its item goes without the garbage collector."""
    session = open_session("identity_fp32")
    wrong = [np.ones((2, 2, 2), np.int64)]
    there = weakref.ref(wrong[0])
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(TensorDatatypeError):
            list(session.map((wrong.pop() for _ in range(1)), in_flight=in_flight))
        assert eventually(lambda: there() is None)  # its thread may take a moment
    finally:
        gc.enable()


def test_errors_can_be_results(open_session: Open) -> None:
    """With return_exceptions each error is in its place, and all goes on."""
    session = open_session("identity_fp32")
    items = [np.ones((1, 1), np.float32), "nowhere", None, np.ones((2, 2), np.float32)]
    one, two, three, four = session.map(items, return_exceptions=True)
    assert one["OUTPUT0"].sum() == 1
    assert isinstance(two, TensorDatatypeError)
    assert two.message.startswith("item 1: ")
    assert isinstance(three, ArgumentError)
    assert three.message == "item 2: None is no input"
    assert four["OUTPUT0"].sum() == 4


@own_server
def test_after_an_error_nothing_new_begins(pair: tritonic_nb.Session) -> None:
    """What is in flight ends in the background, and gives its regions back."""
    taken = []

    def items() -> Iterator[Any]:
        for item in itertools.chain([seconds(0), "wrong"], itertools.repeat(seconds(0.3))):
            taken.append(item)
            yield item

    with pytest.raises(TensorDatatypeError, match="^item 1: "):
        list(pair.map(items(), in_flight=3))
    assert len(taken) <= 2 + 2
    assert pair.infer(seconds(0))["SLEPT"].item() == 0
    time.sleep(0.7)
    assert len(taken) <= 2 + 2
    assert {region.state for region in pair.regions} == {"registered"}


def test_an_error_of_the_items_comes_as_it_is(open_session: Open) -> None:
    """It comes unchanged, after the results of the items before it."""
    session = open_session("identity_fp32")

    def items() -> Iterator[npt.NDArray[np.float32]]:
        yield from numbered(5)
        raise ZeroDivisionError("mine")

    given: list[Any] = []
    with pytest.raises(ZeroDivisionError, match="^mine$"):
        collect(session.map(items(), in_flight=4), given)
    assert [result["OUTPUT0"][0, 0] for result in given] == [0, 1, 2, 3, 4]


@own_server
def test_a_consumer_may_stop(pair: tritonic_nb.Session) -> None:
    """After `break` nothing new begins, and close() need not be called."""
    taken = []

    def items() -> Iterator[Any]:
        while True:
            taken.append(1)
            yield seconds(0.05)

    for number, _ in enumerate(pair.map(items(), in_flight=4)):
        if number == 3:
            break
    so_far = len(taken)
    assert so_far <= 4 + 4
    assert pair.infer(seconds(0))["SLEPT"].item() == 0
    time.sleep(0.3)
    assert len(taken) == so_far


@own_server
def test_ctrl_c_stops_a_map_at_once(pair: tritonic_nb.Session) -> None:
    """An interrupt while it waits ends it within a second; what is in flight ends by itself."""
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(pair.map([seconds(1.5)] * 12, in_flight=4))
    late = time.monotonic() - sent[0]
    timer.join()
    assert late < 1
    started = time.monotonic()
    assert pair.infer(seconds(0), timeout=30)["SLEPT"].item() == 0
    # Of twelve, those four that were on their way were slept, two at a time.
    assert time.monotonic() - started < 6


@own_server
def test_close_ends_a_map(server: Any, pair: tritonic_nb.Session) -> None:
    """After close() the next item is refused with its number, errors as results or not."""
    for as_results in (False, True):
        with server.session(model="sleeper_pair") as session:
            results = session.map(
                itertools.repeat(seconds(0.05)), in_flight=2, return_exceptions=as_results
            )
            assert next(results)["SLEPT"].item() == pytest.approx(0.05)
            session.close()
            with pytest.raises(SessionClosedError, match=r"^item \d+: this session .* was closed"):
                collect(itertools.islice(results, 10), [])
            assert list(results) == []


@own_server
def test_a_time_limit_is_each_item_s(pair: tritonic_nb.Session) -> None:
    """timeout= counts for each item from its turn on; one that is too slow is told by number."""
    with pytest.raises(ServerTimeoutError, match=r"^item 3: .* did not answer within") as told:
        list(pair.map(map(seconds, [0.2, 0.2, 0.2, 1.8, 0.2]), in_flight=2, timeout=1.0))
    assert told.value.sent
    pair.infer(seconds(0), timeout=10)
    time.sleep(1)  # until the server lets go of what was given up


def test_results_without_a_copy_can_all_be_kept(
    open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """More results are kept than are in flight: each has a region of its own, and its data."""
    session = open_session("identity_fp32")
    session.infer(np.ones((2, 3), np.float32))  # its size is not known before
    kept = list(session.map(numbered(40), in_flight=4, copy=False))
    assert [np.asarray(result["OUTPUT0"])[1, 2] for result in kept] == list(range(40))
    regions = {result.places["output", "OUTPUT0"].region for result in kept}
    assert len(regions) == 40
    assert regions <= shm_names()
    assert len(list(session.map(numbered(40), in_flight=4, copy=False))) == 40
    assert [np.asarray(result["OUTPUT0"])[1, 2] for result in kept] == list(range(40))


def test_a_map_keeps_no_result_that_was_given(open_session: Open) -> None:
    """While the consumer looks at one result, the map holds none of those before."""
    session = open_session("identity_fp32")
    before: weakref.ref[Any] | None = None
    for result in session.map(numbered(10), in_flight=2):
        assert before is None or before() is None
        before = weakref.ref(result)
        del result
        assert before() is None  # not even that one


def test_the_order_of_a_sequence_is_kept(open_session: Open) -> None:
    """A model with sequences is asked one by one; more in flight is refused with the reason."""
    session = open_session("simple_sequence")
    with pytest.raises(ArgumentError, match="in_flight is 2 and model 'simple_sequence' has seq"):
        session.map([], in_flight=2)
    one = np.ones((1, 1), np.int32)
    session.infer(one, sequence_id=77, sequence_start=True)
    sums = [r["OUTPUT"].item() for r in session.map([one * 2, one * 3, one * 4], sequence_id=77)]
    session.infer(one, sequence_id=77, sequence_end=True)
    direct = open_session("simple_sequence")
    wanted = [
        direct.infer(one * n, sequence_id=78, sequence_start=n == 1, sequence_end=n == 4)
        for n in (1, 2, 3, 4)
    ]
    assert sums == [result["OUTPUT"].item() for result in wanted[1:]]


@pytest.mark.parametrize(
    "items", ["cat.jpg", b"png", Path("cats"), {"INPUT0": 1}, 5, None, np.float32(1), np.ones(())]
)
def test_a_single_item_is_no_list_of_items(open_session: Open, items: Any) -> None:
    """What is one item, or nothing that can be gone through, is refused at once."""
    with pytest.raises(ArgumentError, match="the items are"):
        open_session("identity_fp32").map(items)


def test_maps_may_run_side_by_side(open_session: Open) -> None:
    """Two maps and submitted requests of one session do not mix."""
    session = open_session("identity_fp32")
    evens = session.map((np.full((1, 1), 2 * n, np.float32) for n in range(30)), in_flight=3)
    odds = session.map((np.full((1, 1), 2 * n + 1, np.float32) for n in range(30)), in_flight=3)
    futures = [session.submit(np.full((1, 1), -n, np.float32)) for n in range(30)]
    values = [r["OUTPUT0"].item() for both in zip(evens, odds, strict=True) for r in both]
    assert values == list(range(60))
    assert [future.result(30)["OUTPUT0"].item() for future in futures] == [-n for n in range(30)]


# Other processes


def run(server: Any, protocol: str, code: str, *, timeout: float = 60) -> tuple[str, float]:
    """Run a program with a session at the server; return what it printed, and its seconds."""
    started = time.monotonic()
    where = place_of(server, protocol)
    start = f"""
        import os, sys, time
        import numpy as np
        import tritonic_nb
        def opened(model, **options):
            return tritonic_nb.Session(model=model, load=True, **{where!r}, **options)
        def seconds(value):
            return np.array([value], np.float32)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, time.monotonic() - started


@own_server
@pytest.mark.parametrize("way", ["submit", "map"])
def test_an_exit_waits_for_nobody(
    server: Any, protocol: str, pair: tritonic_nb.Session, way: str
) -> None:
    """An interpreter that ends with requests in flight and waiting ends soon, and cleans up.

    In flight are two sleeps of 4 s; many others wait.
    """
    said, took = run(
        server,
        protocol,
        f"""
        session = opened("sleeper_pair", in_flight=2)
        session.infer(seconds(0))
        if {way == "submit"}:
            futures = [session.submit(seconds(4)) for _ in range(30)]
        else:
            results = session.map([seconds(0), *[seconds(4)] * 30], progress=False)
            next(results)
        time.sleep(0.3)
        print("pid", os.getpid())
        """,
    )
    assert took < 12  # 60 s of sleep were asked for
    assert "Traceback" not in said
    pid = said.split()[1]
    assert not list(Path("/dev/shm").glob(f"tritonic_nb-{pid}-*"))
    pair.infer(seconds(0))  # when the server has slept, so that the next test finds it idle


def test_a_forked_child_is_refused(server: Any, protocol: str, open_session: Open) -> None:
    """submit(), map() and a map that was begun say so in a forked child, and it can end."""
    open_session("identity_fp32")
    said, _ = run(
        server,
        protocol,
        """
        session = opened("identity_fp32")
        one = np.ones((1, 1), np.float32)
        session.submit(one).result()
        results = session.map([one] * 9, in_flight=3, progress=False)
        next(results)
        pid = os.fork()
        if not pid:
            for ask in (lambda: session.submit(one), lambda: session.map([one]),
                        lambda: next(results)):
                try:
                    ask()
                except tritonic_nb.errors.SessionClosedError as error:
                    print("refused: forked" if "forked" in str(error) else error, flush=True)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        print(len(list(results)), "more")
        session.close()
        """,
    )
    assert said.split("\n")[:4] == ["refused: forked"] * 3 + ["8 more"]


def test_an_error_that_is_kept_keeps_no_results(open_session: Open) -> None:
    """A notebook keeps the last error: with it stay neither results nor the source of the items."""
    session = open_session("identity_fp32")
    ended = []

    def items() -> Iterator[Any]:
        try:
            for number in range(10):
                yield np.zeros((2, 2), np.float64 if number == 2 else np.float32)
        finally:
            ended.append(True)

    with pytest.raises(TensorDatatypeError) as kept:
        list(session.map(items(), progress=False))
    assert ended
    frames = [f for f, _ in traceback.walk_tb(kept.tb) if f.f_code.co_name == "in_order"]
    assert not frames[0].f_locals["taken"]


def test_a_callback_that_fails_stops_no_worker(open_session: Open) -> None:
    """What a user hangs on a future may raise anything, and the next ones are done."""
    session = open_session("identity_fp32", in_flight=1)
    first = session.submit(np.zeros((2, 2), np.float32))
    first.add_done_callback(lambda _: sys.exit(3))
    later = [session.submit(np.full((2, 2), value, np.float32)) for value in (1, 2, 3)]
    assert [float(each.result(30)["OUTPUT0"][0, 0]) for each in later] == [1, 2, 3]


@pytest.mark.parametrize("total", [-1, 1.5, "3"])
def test_a_total_that_is_no_number_is_refused(open_session: Open, total: Any) -> None:
    """At once, and not in the middle."""
    with pytest.raises(ArgumentError, match="total"):
        open_session("identity_fp32").map([], total=total)

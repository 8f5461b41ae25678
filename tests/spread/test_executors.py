"""A map over executors of concurrent.futures, with a real Triton server."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import tritonic_nb
from tests.conftest import TEST_URL
from tests.spread import jobs
from tests.spread.conftest import eventually, left_of
from tritonic_nb import samples, spread
from tritonic_nb.errors import (
    ArgumentError,
    ExecutorError,
    ImageReadError,
    ModelNotFoundError,
    ServerStartError,
    ServerUnreachableError,
    TensorDatatypeError,
    TritonicError,
)
from tritonic_nb.outposts import outpost
from tritonic_nb.parcel import Parcel

Open = Callable[..., tritonic_nb.Session]


def numbered(count: int) -> Iterator[npt.NDArray[np.float32]]:
    """Give arrays that no other item has."""
    return (np.full((2, 3), number, np.float32) for number in range(count))


def values(results: Any) -> list[float]:
    """Return each result's first value."""
    return [result["OUTPUT0"].flat[0].item() for result in results]


@pytest.fixture
def session(open_session: Open) -> tritonic_nb.Session:
    """A session with a model that gives an array back."""
    return open_session("identity_fp32")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Two threads of this process, which share one session by the recipe."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two processes that are started anew."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def over(session: tritonic_nb.Session, items: Any, executor: Any, **options: Any) -> Iterator[Any]:
    """Map with what every test gives."""
    given = {"secrets": True, "chunk": 4, "progress": False, **options}
    return session.map(items, executor=executor, **given)


def test_results_come_in_order(session: tritonic_nb.Session, threads: ThreadPoolExecutor) -> None:
    """Each item's own, in the order of the items; also fewer than a chunk, and none."""
    assert values(over(session, numbered(41), threads)) == list(range(41))
    assert values(over(session, numbered(3), threads, chunk=100)) == [0, 1, 2]
    assert list(over(session, [], threads)) == []


def test_results_come_as_they_end(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """Each once, with its item's number."""
    pairs = list(over(session, numbered(41), threads, ordered=False))
    assert sorted(number for number, _ in pairs) == list(range(41))
    assert values(result for _, result in pairs) == [number for number, _ in pairs]


def test_processes_have_sessions_of_their_own(
    session: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """Only what reduce returns comes back; a process that has ended has left nothing."""
    found = list(over(session, numbered(40), processes, reduce=jobs.process))
    pids = {pid for pid, _ in found}
    assert os.getpid() not in pids
    assert [value for _, value in found] == list(range(40))
    processes.shutdown()
    assert eventually(lambda: not left_of(pids))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_workers_open_their_own(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """A child does not use the session that its parent has for the same recipe."""
    list(over(session, numbered(4), threads))  # there is one here
    threads.shutdown()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as forked:
        found = list(over(session, numbered(8), forked, reduce=jobs.process))
    assert {pid for pid, _ in found}.isdisjoint({os.getpid()})
    assert eventually(lambda: not left_of({pid for pid, _ in found}))


def test_items_are_taken_when_there_is_room(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """Of items without an end no more are taken than may be on their way."""
    taken = itertools.count()
    endless = (np.full((1, 1), number, np.float32) for number in taken)
    results = over(session, endless, threads, ahead=3)
    assert values(itertools.islice(results, 5)) == list(range(5))
    assert next(taken) <= 5 + 3 * 4 + 4
    results.close()  # type: ignore[attr-defined]


def test_an_error_says_which_item(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """It comes in its place with its number, as what it is; or is given, and all goes on."""
    items: list[Any] = [*numbered(7), "nothing", *numbered(2)]
    results = over(session, items, threads)
    assert values(itertools.islice(results, 7)) == list(range(7))
    with pytest.raises(TensorDatatypeError, match="^item 7: "):
        next(results)
    given = list(over(session, items, threads, return_exceptions=True))
    assert values(given[:7] + given[8:]) == [*range(7), 0, 1]
    assert str(given[7]).startswith("item 7: ")


def test_what_reduce_raises_is_the_items(
    session: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """As it is, from another process, too."""
    results = over(session, numbered(4), processes, reduce=jobs.refuse_two)
    assert list(itertools.islice(results, 2)) == [0, 1]
    with pytest.raises(LookupError, match="two"):
        next(results)


def test_what_cannot_be_sent_back_is_said_in_short(
    session: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """The chunk's items were not done, and the remedy names what reduce returns."""
    with pytest.raises(
        ExecutorError, match="items 0 to 3 were not done: .*cannot pickle"
    ) as caught:
        list(over(session, numbered(4), processes, reduce=jobs.lock))
    assert "what reduce returns" in caught.value.remedy


def test_what_the_items_raise_comes_after_what_was_before(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """The items that were taken before are done."""

    def failing() -> Iterator[Any]:
        yield from numbered(6)
        raise OSError("the disk")

    given: list[Any] = []
    with pytest.raises(OSError, match="the disk"):
        given.extend(each for each in _collected(over(session, failing(), threads), given))
    assert values(given) == list(range(6))


def _collected(results: Iterator[Any], into: list[Any]) -> Iterator[Any]:
    for result in results:
        into.append(result)
    return iter(())


def test_a_dead_worker_breaks_a_pool_and_says_how_far_it_came(
    session: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """The error names the items, and tells how many were given; it is raised in any case."""
    given: list[Any] = []
    items = (*numbered(3), *(np.full((1, 1), n, np.float32) for n in (3, *[9] * 40)))
    with pytest.raises(ExecutorError, match=r"a worker died.*items? \d+") as caught:
        _collected(
            over(session, items, processes, chunk=1, reduce=jobs.die_at_three,
                 return_exceptions=True), given,
        )  # fmt: skip
    assert caught.value.given == len(given)
    assert given == [0, 1, 2][: len(given)]
    assert len(caught.value.items) == 1


def test_an_executor_that_was_shut_down_says_so(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """It is our error, with the items."""
    threads.shutdown()
    with pytest.raises(ExecutorError, match="items 0 to 3 were not done: RuntimeError"):
        list(over(session, numbered(8), threads))


def test_an_executor_that_is_shut_down_meanwhile_tells_how_far_it_came(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """What was sent before is given first, and counted."""
    results = over(session, numbered(40), threads, ahead=3)
    given: list[Any] = [next(results)]
    threads.shutdown()
    with pytest.raises(ExecutorError, match="were not done: RuntimeError") as caught:
        _collected(results, given)
    assert values(given) == list(range(len(given)))
    assert caught.value.given == len(given) > 4
    assert caught.value.items[0] == len(given)


def test_after_an_early_end_nothing_begins(session: tritonic_nb.Session) -> None:
    """What has not begun is cancelled, and the session goes on."""
    _seen.clear()
    with ThreadPoolExecutor(1) as executor:
        results = over(session, numbered(400), executor, reduce=_see, ahead=8)
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert len(_seen) <= 8  # of the chunk that was given, and of the one that had begun
    assert session.infer(np.ones((1, 1), np.float32))["OUTPUT0"] == 1


_seen: list[float] = []


def _see(_result: tritonic_nb.InferenceResult) -> None:
    _seen.append(time.monotonic())
    time.sleep(0.05)


def test_a_session_that_nobody_uses_is_closed(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor, shm_names: Callable[[], set[str]]
) -> None:
    """After keep_s nothing is left of it: no region, no thread."""
    before = shm_names()
    list(over(session, numbered(20), threads, keep_s=0.3))
    assert shm_names() - before
    assert eventually(lambda: not shm_names() - before, seconds=5)
    assert eventually(
        lambda: all(t.name != "tritonic_nb-outposts" for t in threading.enumerate()), seconds=5
    )


def test_no_thread_stays_for_a_session_that_was_in_use_when_it_was_given_up(
    session: tritonic_nb.Session,
) -> None:
    """Who watches for idle ones is told that there is none left."""
    recipe = Parcel.of(session.spec_with_secrets(), "it")
    with outpost(recipe, 0.1):
        pass
    with outpost(recipe, 0.1):
        time.sleep(0.3)  # the thread sees it in use, and waits to be told
        tritonic_nb.close_outposts()
        time.sleep(0.1)  # still in use
    assert eventually(
        lambda: all(t.name != "tritonic_nb-outposts" for t in threading.enumerate()), seconds=3
    )


def test_arrays_and_pictures_are_counted_wherever_they_are() -> None:
    """Fewer items go together where they are large, as lists and as pictures, too."""
    array = np.zeros(3_000_000, np.uint8)
    picture = Image.new("RGB", (1000, 1000))
    for item in (array, [array], {"x": [array]}, picture, (picture, b"x"), bytes(array)):
        assert [len(each.items) for each in spread._chunks(itertools.repeat(item, 7), 16)] == [
            3, 3, 1,
        ]  # fmt: skip


def test_threads_of_one_process_share_a_session(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """However many tasks there are, its server is started once, and stopped with it."""
    jobs_before = len(_started)
    results = over(
        session, numbered(40), threads, server=_one_server, reduce=jobs.process, keep_s=0.2
    )
    assert [value for _, value in results] == list(range(40))
    assert len(_started) == jobs_before + 1
    assert eventually(lambda: not _started[-1].running)


def test_a_server_whose_session_could_not_be_opened_is_stopped_before_the_next_is_started() -> None:
    """Several tasks that try one after the other have one server at a time."""
    before = len(_started)

    recipe = Parcel.of(tritonic_nb.SessionSpec(_only_server, "nowhere"), "it")

    def use(_: int) -> None:
        with outpost(recipe, 0):
            pass

    with ThreadPoolExecutor(2) as executor:
        for future in [executor.submit(use, number) for number in range(2)]:
            assert isinstance(future.exception(), ModelNotFoundError)
    assert len(_started) == before + 2
    assert not any(each.running for each in _started[before:])


def test_in_flight_counts_for_all_of_a_workers_tasks(
    sleeper_session: tritonic_nb.Session,
) -> None:
    """With four chunks at the same time and in_flight=1 one request is on its way."""
    with ThreadPoolExecutor(4) as executor:
        started = time.monotonic()
        items = [np.array([0.05], np.float32)] * 12
        results = over(
            sleeper_session, items, executor, chunk=1, in_flight=1,
            reduce=lambda result: result.timings.total_ms,
        )  # fmt: skip
        # With more than one on its way, each but the first would wait for those before.
        assert np.median(list(results)) < 90
    assert time.monotonic() - started > 12 * 0.05


@pytest.fixture
def sleeper_session(sleeper: str, open_session: Open) -> tritonic_nb.Session:
    """A session with a model that takes one request at a time, and its time."""
    return open_session(sleeper)


_started: list[tritonic_nb.Server] = []


def _one_server() -> tritonic_nb.Server:
    _started.append(tritonic_nb.serve(progress=None))
    return _started[-1]


def _only_server() -> tritonic_nb.Server:
    assert not any(each.running for each in _started)
    return _one_server()


def test_a_server_that_dies_is_started_anew(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor
) -> None:
    """The items that got no answer are done again, with a new one."""
    results = over(session, numbered(120), threads, server=_one_server, chunk=2, ahead=2)
    assert values(itertools.islice(results, 10)) == list(range(10))
    dead = _started[-1]
    os.kill(dead.pid, 9)
    assert values(results) == list(range(10, 120))
    assert _started[-1] is not dead


@pytest.mark.skipif(bool(TEST_URL), reason="it takes a server of ours")
def test_what_was_done_before_a_server_died_is_given(threads: ThreadPoolExecutor) -> None:
    """Where no other session can be opened, the first item without an answer is the error."""
    server = tritonic_nb.serve(["identity_fp32"], progress=None)
    _mortal[:] = [server]
    with server, server.session(model="identity_fp32") as session:
        results = over(session, numbered(20), threads, in_flight=1, chunk=10, reduce=_kill_at_five)
        assert list(itertools.islice(results, 6)) == list(range(6))
        with pytest.raises(ServerUnreachableError, match="^item 6: on "):
            next(results)


_mortal: list[tritonic_nb.Server] = []


def _kill_at_five(result: tritonic_nb.InferenceResult) -> float:
    value = float(result["OUTPUT0"].flat[0])
    if value == 5:
        os.kill(_mortal[0].pid, 9)
        assert eventually(lambda: not _mortal[0].running)
    return value


def test_a_server_that_cannot_be_had_ends_the_map(
    session: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """With the items, the machine, and the function's own error; whatever is to be given."""
    with pytest.raises(ServerStartError, match=r"items 0 to 3: on .*KeyError: 'TRITON_URL'"):
        list(over(session, numbered(8), processes, server=jobs.no_server, return_exceptions=True))
    with pytest.raises(TritonicError, match="items 0 to 3: on "):
        list(over(session, numbered(8), processes, server="127.0.0.1:9"))


def test_pictures_stay_where_they_are(
    classifier: tritonic_nb.Session, processes: ProcessPoolExecutor
) -> None:
    """A path is read by the worker; its result shows the picture, which is read again here."""
    items = [samples.image("cat"), str(samples.image("espresso")), [samples.image("cat")] * 2]
    found = list(over(classifier, items, processes))
    for result, want in zip(found, classifier.map(items, progress=False), strict=True):
        assert np.array_equal(result["logits"], want["logits"])
        assert len(result.images) == len(want.images)
        assert result.images[0].size == want.images[0].size
        assert result.picture() is not None
    with pytest.raises(ImageReadError, match="item 1: on .*nowhere"):
        list(over(classifier, [items[0], "nowhere.jpg"], processes))


def test_what_cannot_be_right_is_refused_at_once(
    session: tritonic_nb.Session, threads: ThreadPoolExecutor, open_session: Open
) -> None:
    """Arguments of the wrong form, what needs an executor, models with sequences."""
    for wrong in (
        {"chunk": 0}, {"ahead": 0}, {"reduce": 1}, {"keep_s": -1}, {"server": 8000},
        {"executor": "dask"}, {"in_flight": 0}, {"secrets": None},
    ):  # fmt: skip
        if wrong == {"secrets": None} and not session.spec_with_secrets().has_secrets:
            continue
        with pytest.raises(ArgumentError):
            over(session, [], **{"executor": threads, **wrong})
    with pytest.raises(ArgumentError, match="reduce is for the workers of an executor"):
        session.map([], reduce=jobs.label)
    with pytest.raises(ArgumentError, match="cannot be sent to other processes"):
        over(session, [], threads, server=threading.Lock().acquire)
    with pytest.raises(ArgumentError, match="has sequences"):
        over(open_session("simple_sequence"), [], threads)

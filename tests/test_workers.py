"""Threads that do jobs in the order they came; no server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tritonic_nb.errors import SessionClosedError, TritonicError
from tritonic_nb.workers import Job, Workers


def job(value: Any) -> Job:
    """Return a job that gives a value, whatever it is."""
    return lambda: value


def test_jobs_begin_in_the_order_they_came() -> None:
    """With one thread they are done one after the other, first come first served."""
    workers, order = Workers(1), []
    tasks = [workers.submit(lambda n=n: order.append(n)) for n in range(50)]  # type: ignore[misc]
    for task in tasks:
        task.future.result(10)
    assert order == list(range(50))
    workers.close()


def test_a_thread_that_waits_is_used_again() -> None:
    """One after the other needs one thread; at the same time no more than are allowed."""
    workers = Workers(3)
    before = threading.active_count()
    for _ in range(20):
        workers.submit(job(1)).future.result(10)
        time.sleep(0.002)  # until it waits again
    assert threading.active_count() - before <= 2  # it may have been late for a turn
    tasks = [workers.submit(lambda: time.sleep(0.01)) for _ in range(12)]  # type: ignore[arg-type, func-returns-value]
    assert threading.active_count() - before <= 3
    for task in tasks:
        task.future.result(10)
    workers.close()


def test_without_threads_whoever_waits_does_the_job() -> None:
    """finish() does a job that nobody has begun, in the thread that asks for it."""
    workers = Workers(0)
    task = workers.submit(threading.get_ident)  # type: ignore[arg-type]
    assert workers.finish(task) == threading.get_ident()
    workers.close()


def test_after_the_end_nothing_begins() -> None:
    """close() cancels what waits, can be repeated, and what comes then is refused."""
    workers = Workers(0)
    task = workers.submit(job(1))
    workers.close()
    workers.close()
    assert task.future.cancelled()
    with pytest.raises(SessionClosedError):
        workers.submit(job(1))


def test_a_machine_without_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started it is an error at once, and works when one can be."""

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers(2)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refused)
        with pytest.raises(TritonicError, match="can't start new thread\n.*ulimit -u"):
            workers.submit(job(1))
    assert workers.submit(job(2)).future.result(10) == 2
    workers.close()

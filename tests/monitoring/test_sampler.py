"""The sampler: one thread that runs only while somebody looks, whatever the sources do."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonic_nb.errors import ArgumentError
from tritonic_nb.monitoring import Reading, Source, Subscription, sampler, subscribe
from tritonic_nb.monitoring.history import History


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == sampler.THREAD]


def counting(name: str = "n", **options: Any) -> Source:
    """Make a source that counts how often it is asked."""
    asked = iter(range(1, 10**9))
    return Source(name, lambda: Reading({f"{name}/asked": next(asked)}), **options)


def until(true: Callable[[], bool], limit_s: float = 10.0) -> None:
    give_up = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def look() -> Iterator[Callable[..., Subscription]]:
    """Subscribe; what is still open at the end is closed."""
    opened: list[Subscription] = []

    def one(*sources: Source, hz: float = 10, history: History | None = None) -> Subscription:
        opened.append(subscribe(sources, hz=hz, history=history))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def numbers(subscription: Subscription, name: str) -> list[float]:
    return [frame.values().get(name, math.nan) for frame in subscription.history.frames()]


def test_it_looks_as_often_as_it_was_asked_to(look: Callable[..., Subscription]) -> None:
    """The first frame is there at once, then one each tenth of a second, and one at the end."""
    subscription = look(counting())
    assert numbers(subscription, "n/asked") == [1]
    time.sleep(1.0)
    subscription.close()
    seen = numbers(subscription, "n/asked")
    assert seen == list(range(1, len(seen) + 1))
    assert 6 <= len(seen) <= 12
    times = [frame.time_s for frame in subscription.history.frames()]
    assert times == sorted(times)


def test_the_thread_lives_as_long_as_somebody_looks(look: Callable[..., Subscription]) -> None:
    """None before, one for all who look, and none as soon as the last one is closed."""
    assert not threads()
    one, two = look(counting()), look(counting())
    (thread,) = threads()
    assert thread.daemon
    one.close()
    assert threads() == [thread]
    started = time.monotonic()
    two.close()
    assert time.monotonic() - started < 0.5
    assert not threads()
    two.close()  # safe to repeat
    assert look(counting()).history.frames()
    assert len(threads()) == 1


def test_a_source_that_two_look_at_is_asked_once(look: Callable[..., Subscription]) -> None:
    """Who comes later sees the same numbers."""
    source = counting()
    one = look(source)
    two = look(source)
    assert numbers(two, "n/asked") == [1]
    time.sleep(0.35)
    two.close()
    one.close()
    assert numbers(one, "n/asked")[-1] <= len(one.history) + 2  # their last frames, besides


def test_nothing_comes_after_the_end(look: Callable[..., Subscription]) -> None:
    """A closed subscription keeps what it has, while others go on."""
    other = look(counting("other"))
    one = look(counting())
    one.close()
    before = one.history.frames()
    seen = len(other.history)
    until(lambda: len(other.history) > seen + 2)
    assert one.history.frames() == before
    assert one.closed
    assert not other.closed


class HostileValuesError(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[], Reading]:
    def read() -> Reading:
        raise error

    return read


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (raising(OSError(5, "gone")), "bad could not be read: OSError: [Errno 5] gone"),
    "cannot say why": (raising(HostileValuesError()), "bad could not be read: HostileValuesError"),
    "exits": (raising(SystemExit(3)), "bad could not be read: SystemExit: 3"),
    "None": (lambda: None, "bad could not be read: AttributeError"),
    "a number": (lambda: 7, "bad could not be read: AttributeError"),
    "a sentence": (lambda: "there is no such thing", "there is no such thing"),
}


@pytest.mark.parametrize(("read", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_source_that_fails_is_missing_with_a_reason(
    look: Callable[..., Subscription], read: Callable[[], Any], reason: str
) -> None:
    """The others go on, and the reason is a sentence."""
    subscription = look(Source("bad", read), counting())
    time.sleep(0.25)
    subscription.close()
    assert len(numbers(subscription, "n/asked")) >= 3
    assert subscription.reasons["bad"].startswith(reason)
    assert {name for frame in subscription.history.frames() for name in frame.names} == {"n/asked"}


def test_a_source_that_recovers_is_there_again(look: Callable[..., Subscription]) -> None:
    """Its numbers and its reason are those of the last time it was asked."""
    broken = threading.Event()
    broken.set()

    def read() -> Reading:
        if broken.is_set():
            raise OSError("away")
        return Reading({"it/is": 1})

    subscription = look(Source("it", read))
    assert "away" in subscription.reasons["it"]
    broken.clear()
    until(lambda: subscription.history.frames()[-1].names == ("it/is",))
    assert not subscription.reasons


def test_what_is_no_number_is_left_out(look: Callable[..., Subscription]) -> None:
    """NaN, infinities, texts and None are no numbers; names and their count are bounded."""
    odd = {"a": math.nan, "b": math.inf, "c": "7", "d": None, "e": 5, "f" * 500: 6}
    many = {f"m{i}": i for i in range(5000)}
    subscription = look(
        Source("odd", lambda: Reading(odd)),  # type: ignore[arg-type]
        Source("many", lambda: Reading(many)),
    )
    values = subscription.history.frames()[0].values()
    assert {name: value for name, value in values.items() if name[0] != "m"} == {
        "e": 5,
        "f" * 100: 6,
    }
    assert len(values) == 102


def test_a_slow_source_delays_nobody_at_the_start_or_for_long(
    look: Callable[..., Subscription],
) -> None:
    """It is not waited for at the start, and asked less often than its turn comes."""
    calls = []

    def read() -> Reading:
        calls.append(time.monotonic())
        time.sleep(0.15)
        return Reading({"slow/value": len(calls)})

    started = time.monotonic()
    subscription = look(Source("slow", read, slow=True), counting())
    assert time.monotonic() - started < 0.1
    assert numbers(subscription, "n/asked") == [1]
    time.sleep(1.2)
    subscription.close()
    assert len(calls) == 1  # it took 0.15 s: nine tenths of the time belong to others
    assert set(numbers(subscription, "slow/value")) == {1}  # the first frame has it, too
    assert len(subscription.history) >= 8


def test_a_source_that_takes_much_of_the_processor_is_asked_less_often(
    look: Callable[..., Subscription],
) -> None:
    """At most half a percent of a core is for one."""
    calls = []

    def read() -> Reading:
        calls.append(None)
        ends = time.thread_time() + 0.02
        while time.thread_time() < ends:
            pass
        return Reading({})

    subscription = look(Source("busy", read))
    time.sleep(1.0)
    subscription.close()
    assert len(calls) == 2  # at the start, and at the end


def test_a_source_that_hangs_holds_up_nobody(look: Callable[..., Subscription]) -> None:
    """Beginning and ending take seconds at most; others get another thread; it ends at last."""
    go_on = threading.Event()

    def hang() -> Reading:
        go_on.wait(60)
        return Reading({})

    started = time.monotonic()
    stuck = look(Source("stuck", hang))
    (thread,) = threads()
    stuck.close()
    assert time.monotonic() - started < 5
    other = look(counting())
    assert numbers(other, "n/asked") == [1]
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(threads()) == 1
    other.close()


def test_a_source_may_end_the_subscription(look: Callable[..., Subscription]) -> None:
    """A session that is collected in the sampler's own thread stops its recording there."""
    held: list[Subscription] = []
    subscription = look(Source("end", lambda: [each.close() for each in held] or Reading({})))
    held.append(subscription)
    until(lambda: not threads())
    assert subscription.closed


def test_the_history_is_bounded_in_number_and_bytes() -> None:
    """The oldest frames go; extremes are of all."""
    few = History(most_frames=10)
    for n in range(100):
        few.append(float(n), {"a": 100 - n})
    assert [frame.time_s for frame in few.frames()] == list(range(90, 100))
    assert few.dropped == 90
    assert few.extremes() == {"a": (1, 100)}

    small = History(most_nbytes=100_000)
    for n in range(1000):
        small.append(float(n), {f"series {i}": i for i in range(n % 200)})
    assert small.nbytes <= 100_000
    assert len(small) + small.dropped == 1000
    assert small.frames()[-1].time_s == 999

    changing = History(most_frames=5)
    for n in range(5000):
        changing.append(float(n), {f"process {n}": 1})
    assert len(changing.extremes()) == 1000


@pytest.mark.parametrize("hz", [0, 0.5, 10.5, -1, math.nan, math.inf, "2", None, True])
def test_how_often_is_checked(hz: Any) -> None:
    """From 1 to 10 times a second."""
    with pytest.raises(ArgumentError, match="1 to 10 times a second"):
        subscribe([], hz=hz)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_anew(look: Callable[..., Subscription]) -> None:
    """It has no thread and no frames of its parent's, may close what it got, and may look."""
    subscription = look(counting())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"failed"
        try:
            before = len(threads()), len(subscription.history)
            subscription.close()
            mine = subscribe([counting()], hz=10)
            time.sleep(0.25)
            during = len(threads()), len(mine.history) >= 2
            mine.close()
            after = len(threads()), len(subscription.history) == before[1]
            said = repr((before[0], during, after, subscription.closed)).encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 1000)
    os.close(reading)
    os.waitpid(child, 0)
    assert said == b"(0, (1, True), (0, True), True)"
    seen = len(subscription.history)
    until(lambda: len(subscription.history) > seen)  # the parent's goes on


ENDS = """
import threading, time
from tritonic_nb.monitoring import Reading, Source, subscribe
{before}
s = subscribe([Source("n", lambda: Reading({{"n/n": 1}}))], hz=10)
time.sleep(0.2)
{after}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "raise SystemExit"),
        ("import atexit; atexit.register(lambda: subscribe([], hz=1))", ""),
        ("", "import atexit; atexit.register(lambda: (s.close(), subscribe([], hz=1)))"),
    ],
    ids=["left open", "exit", "begun at exit before", "begun at exit after"],
)
def test_the_interpreter_ends_with_it_running(before: str, after: str, tmp_path: Path) -> None:
    """At once, and without a word."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDS.format(before=before, after=after)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 10


# Who is told of frames


def test_who_subscribes_is_told_of_each_frame(look: Callable[..., Subscription]) -> None:
    """In the sampler's thread, when the frame is there already."""
    seen: list[tuple[int, str]] = []
    history = History()

    def notify() -> None:
        seen.append((len(history), threading.current_thread().name))

    subscription = subscribe([counting()], hz=10, history=history, notify=notify)
    until(lambda: len(seen) >= 3)
    subscription.close()
    assert [count for count, _ in seen] == list(range(1, len(history) + 1))
    assert {name for _, name in seen} == {sampler.THREAD}


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), HostileValuesError()])
def test_who_is_told_cannot_end_the_thread(error: BaseException) -> None:
    """Whatever is raised there, samples are taken."""
    subscription = subscribe([counting()], hz=10, notify=raising(error))
    until(lambda: len(subscription.history) >= 3)
    assert len(threads()) == 1
    subscription.close()
    assert not threads()


def test_who_is_told_may_close_the_subscription() -> None:
    """From the sampler's own thread: a last frame, and the thread ends."""
    held: list[Subscription] = []
    subscription = subscribe([counting()], hz=10, notify=lambda: [s.close() for s in held] and None)
    held.append(subscription)
    until(lambda: not threads())
    assert subscription.closed

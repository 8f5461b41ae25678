"""What the processes do that faults happen to: one function for each.

Run as ``python fault_programs.py FUNCTION``. A program reads what it is told from
standard input and says what it finds on standard output, as JSON objects, one a
line. What it says is what it has seen; the tests judge it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import tritonic_nb
from tritonic_nb.errors import SessionClosedError

MODEL = "identity_uint8"
_said = threading.Lock()


def say(**message: Any) -> None:
    """Say something, a whole line at a time."""
    with _said:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def hear() -> dict[str, Any]:
    """Wait for the next thing to be told; empty at the end."""
    message: dict[str, Any] = json.loads(sys.stdin.readline() or "{}")
    return message


def opened(config: Mapping[str, Any], model: str = MODEL, **options: Any) -> tritonic_nb.Session:
    """Open a session at the server that the test has."""
    place = {"headers": config["headers"], "protocol": config["protocol"]}
    return tritonic_nb.Session(config["url"], model, **{"load": True, **place, **options})


def payload(seed: int, nbytes: int) -> npt.NDArray[np.uint8]:
    """Return an array that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, (1, nbytes), np.uint8)


def stream(config: dict[str, Any]) -> None:
    """Infer without an end, and say each time how many inferences there were."""
    say(ready=os.getpid())
    hear()
    lots = np.random.default_rng(config["seed"])
    session = opened(config)
    kept: deque[tuple[Any, npt.NDArray[np.uint8]]] = deque(maxlen=3)
    done = 0

    def work(lots: np.random.Generator) -> None:
        nonlocal done
        nbytes = int(lots.choice([1, 4096, 100_000]))
        while True:
            # Growing, until it starts again from a small one.
            nbytes = int(nbytes * lots.uniform(1, 2)) + 1 if nbytes < 4_000_000 else 1
            sent = payload(int(lots.integers(2**32)), nbytes)
            result = session.infer(sent, copy=lots.random() < 0.5)
            kept.append((result["OUTPUT0"], sent))
            good = all(np.array_equal(got, wanted) for got, wanted in list(kept))
            if lots.random() < 0.02:
                session.unregister()
            done += 1
            say(done=done, good=good)

    for _ in range(config["threads"] - 1):
        more = lots.spawn(1)
        threading.Thread(target=work, args=more, daemon=True).start()
    work(lots)


class Filler:
    """A file that takes up /dev/shm until little room is left."""

    _path = "/dev/shm/filler"

    def leave(self, room: int) -> None:
        """Take all but so many bytes."""
        self.empty()
        fd = os.open(self._path, os.O_CREAT | os.O_RDWR)
        try:
            with contextlib.suppress(OSError):  # somebody else took some of it meanwhile
                os.posix_fallocate(fd, 0, max(1, free_nbytes() - room))
        finally:
            os.close(fd)

    def empty(self) -> None:
        """Give it all back."""
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()

    @contextlib.contextmanager
    def restless(self, seed: int) -> Iterator[None]:
        """Take and give back all the time."""
        done = threading.Event()
        lots = np.random.default_rng(seed)

        def work() -> None:
            while not done.wait(lots.uniform(0, 0.01)):
                self.leave(int(lots.integers(20_000_000)))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def free_nbytes() -> int:
    """Return the free bytes of /dev/shm."""
    space = os.statvfs("/dev/shm")
    return space.f_bavail * space.f_frsize


def crowded(config: dict[str, Any]) -> None:
    """Infer beside a server in a small /dev/shm that is filled to the brim meanwhile.

    For each inference it says ``{"seed", "answered"}``, or the error; and where the
    server died of it.
    """
    lots = np.random.default_rng(config["seed"])
    filler = Filler()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(tritonic_nb.serve([MODEL, "edges"]))
        for turn in range(config["turns"]):
            kind = str(lots.choice(["system", "auto"]))
            model = str(lots.choice([MODEL, "edges"]))
            kept: deque[Any] = deque(maxlen=2)
            with tritonic_nb.Session(server, model, load=True, shared_memory=kind) as session:
                room = int(lots.integers(lots.choice([1, 100_000, 30_000_000])))
                filler.leave(room)
                restless = filler.restless(turn) if turn % 3 == 0 else contextlib.nullcontext()
                with restless:
                    for _ in range(4):
                        # Around the edge, for the regions alone, or with the server's pools too.
                        nbytes = 1 + int(room * lots.choice([0.01, 0.1, 0.2, 0.33, 0.5, 0.99, 1.1]))
                        ask(session, turn, nbytes, kept, copy=lots.random() < 0.5)
                filler.empty()
                kept.clear()
                alive = server.running
                if alive:
                    ask(session, turn, 100_000, kept, after=True)
                    kept.clear()
            if not alive:
                say(died=server._process.returncode, turn=turn)
                server.stop()
                server = stack.enter_context(tritonic_nb.serve([MODEL, "edges"]))


def ask(
    session: tritonic_nb.Session, turn: int, nbytes: int, kept: deque[Any], **more: Any
) -> None:
    """Infer once with so many bytes and say what came of it."""
    copy = more.pop("copy", True)
    try:
        if session.model_info.name == "edges":
            side = max(1, int((nbytes / 3) ** 0.5))
            result = session.infer(np.full((side, side, 3), 7, np.uint8), copy=copy)
            # The border repeats its last pixel: no edge anywhere.
            good = not result["gradient"].any() and result["magnitude"].shape == (side, side)
        else:
            sent = payload(turn, nbytes)
            result = session.infer(sent, copy=copy)
            good = np.array_equal(result["OUTPUT0"], sent)
        kept.append(result)
    except tritonic_nb.TritonicError as error:
        say(turn=turn, nbytes=nbytes, error=type(error).__name__, text=error.message, **more)
    else:
        say(turn=turn, nbytes=nbytes, answered=bool(good), **more)


def crowded_map(config: dict[str, Any]) -> None:
    """Map over payloads in a small /dev/shm that is filled to the brim meanwhile.

    For each item it says what :func:`ask` does; results may be kept, with their regions.
    """
    lots = np.random.default_rng(config["seed"])
    filler = Filler()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(tritonic_nb.serve([MODEL]))
        for turn in range(config["turns"]):
            with tritonic_nb.Session(server, MODEL, load=True, in_flight=4) as session:
                room = int(lots.integers(lots.choice([100_000, 10_000_000])))
                filler.leave(room)
                with filler.restless(turn) if turn % 3 == 0 else contextlib.nullcontext():
                    sizes = 1 + (room * lots.choice([0.01, 0.1, 0.2, 0.33, 0.5], 12)).astype(int)
                    map_over(session, turn, sizes, copy=lots.random() < 0.5)
                filler.empty()
                alive = server.running
                if alive:
                    map_over(session, turn, [100_000] * 4, after=True)
            if not alive:
                say(died=server._process.returncode, turn=turn)
                server.stop()
                server = stack.enter_context(tritonic_nb.serve([MODEL]))


def map_over(
    session: tritonic_nb.Session, turn: int, sizes: Iterable[int], *, copy: bool = True, **more: Any
) -> None:
    """Map over payloads of these sizes, and say what came of each."""
    sent = [payload(turn, nbytes) for nbytes in sizes]
    results = session.map(sent, copy=copy, progress=False, return_exceptions=True)
    kept = []
    for array, result in zip(sent, results, strict=True):
        if isinstance(result, tritonic_nb.TritonicError):
            say(turn=turn, error=type(result).__name__, text=result.message, **more)
        else:
            kept.append((result["OUTPUT0"], array))
    for pair in kept:  # looked at in the end, when the others have come
        say(turn=turn, answered=np.array_equal(*pair), **more)


def busy(config: dict[str, Any]) -> None:
    """Infer in several threads, with payloads that no other process has."""
    good = 0
    problems: list[str] = []

    def work(thread: int) -> None:
        nonlocal good
        lots = np.random.default_rng((config["seed"], thread))
        for turn in range(config["turns"]):
            sent = lots.integers(0, 256, (1, int(lots.integers(1, 50_000))), np.uint8)
            try:
                got = session.infer(sent, copy=turn % 2 == 0)["OUTPUT0"]
            except tritonic_nb.TritonicError as error:
                problems.append(f"thread {thread}, turn {turn}: {error}")
                continue
            if np.array_equal(got, sent):
                with _said:
                    good += 1
            else:
                problems.append(f"thread {thread}, turn {turn}: not what was sent")

    with opened(config) as session:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(config["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    say(good=good, problems=problems)


def paced(config: dict[str, Any]) -> None:
    """Infer a few times whenever it is told to, and say whether that was right."""
    say(ready=os.getpid())
    hear()
    turn = 0
    with opened(config) as session:
        while "infer" in hear():
            problem = ""
            for _ in range(5):
                turn += 1
                sent = payload(turn, 50_000)
                if not np.array_equal(session.infer(sent)["OUTPUT0"], sent):
                    problem = f"inference {turn} got what it did not send"
            say(problem=problem)


def end_as(end: str, session: tritonic_nb.Session) -> None:
    """End a forked child, in one of the ways there are."""
    # What an interpreter says of an error at its end is of no interest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if end == "closes first":
        session.close()
    elif end == "sys.exit":
        sys.exit(3)
    elif end == "exception":
        raise RuntimeError("the child's own")
    elif end == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def forks(config: dict[str, Any]) -> None:
    """Fork children that end in some way, and look what that does to the session."""
    with opened(config) as session:
        for turn in range(config["turns"]):
            for end in config["ends"]:
                sent = payload(turn, 10_000)
                # More than once: by the second time the output has a region as well.
                kept = [session.infer(sent, copy=False)["OUTPUT0"] for _ in range(3)]
                problem = child_of(end, session, kept, sent)
                names = [region.name for region in session.regions]
                say(end=end, problem=problem, names=names)
                hear()
                problem = ""
                for _ in range(2):
                    if not np.array_equal(session.infer(sent)["OUTPUT0"], sent):
                        problem = "the parent got what it did not send"
                if not all(np.array_equal(view, sent) for view in kept):
                    problem = "the parent's view changed"
                say(end=end, problem=problem)


def child_of(end: str, session: tritonic_nb.Session, kept: list[Any], sent: Any) -> str:
    """Fork a child, wait for its end, and return what was wrong with it."""

    def child() -> None:
        refused = False
        try:
            session.infer(sent)
        except SessionClosedError:
            refused = True
        if not refused or not all(np.array_equal(view, sent) for view in kept):
            os._exit(99)

    if end == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        code: int | None = process.exitcode
        process.close()
    else:
        pid = os.fork()
        if pid == 0:
            child()
            end_as(end, session)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    wanted = {"SIGKILL": -signal.SIGKILL, "sys.exit": 3, "exception": 1}.get(end, 0)
    return "" if code == wanted else f"the child ended with {code} and not with {wanted}"


def outlived(config: dict[str, Any]) -> None:
    """Fork a child that lives on when this process is killed."""
    session = opened(config)
    for _ in range(2):
        kept = session.infer(payload(1, 100_000), copy=False)
    child = os.fork()
    if child == 0:
        os.close(0)
        os.close(1)
        time.sleep(60)
        os._exit(int(kept["OUTPUT0"][0, 0]))
    say(child=child)
    time.sleep(60)


def views(config: dict[str, Any]) -> None:
    """Keep views, have their regions go in some way, and read them."""
    warnings.simplefilter("ignore", ResourceWarning)  # of sessions that are forgotten
    with contextlib.ExitStack() as stack:
        server = None
        if config["ends"] == ["server"]:
            server = stack.enter_context(tritonic_nb.serve([MODEL]))
            url = server.grpc_url if config["protocol"] == "grpc" else server.url
            config = {"url": url, "headers": server.headers, **config}
        for turn in range(config["turns"]):
            for end in config["ends"]:
                say(end=end, problem="")
                say(end=end, problem=seen_after(end, config, turn, server))
                if server is not None:
                    server.restart()


def seen_after(
    end: str, config: dict[str, Any], turn: int, server: tritonic_nb.Server | None
) -> str:
    """Return what is wrong with views whose regions went in some way."""
    session = opened(config)
    sent = payload(turn, int(np.random.default_rng(turn).choice([1, 4096, 5000, 300_000])))
    # More than once: by the second time the output has a region as well.
    results = [session.infer(sent, copy=False) for _ in range(3)]
    kept = [result["OUTPUT0"] for result in results]
    kept += [view[:, ::2] for view in kept] + [view.T for view in kept]
    wanted = [sent] * 3 + [sent[:, ::2]] * 3 + [sent.T] * 3
    session.inputs["INPUT0"] = sent
    given = session.inputs["INPUT0"]
    if results[-1].shared_nbytes != 2 * sent.nbytes:
        return "there was no view to keep"
    go(end, session, server)
    del session, results
    gc.collect()
    if names := [path.name for path in Path("/dev/shm").glob(f"tritonic_nb-{os.getpid()}-*")]:
        return f"{names} are in /dev/shm"
    if not all(map(np.array_equal, [*kept, given], [*wanted, sent])):
        return "a view has not the data of its own request any more"
    given[:] = 1  # its region is gone, its memory is not
    del kept[::2], wanted[::2]
    gc.collect()
    if not all(map(np.array_equal, kept, wanted)) or given.sum() != sent.size:
        return "a view has not the data of its own request any more, or what was written to it"
    return ""


def go(end: str, session: tritonic_nb.Session, server: tritonic_nb.Server | None) -> None:
    """Have the session's regions go, and use memory that was theirs."""
    if end == "unregister":
        session.unregister()
        session.infer(payload(99, 5000))
    elif end == "grow":
        for nbytes in (400_000, 900_000):
            session.infer(payload(99, nbytes))
    elif end == "none":
        session.set_shared_memory("none")
        session.infer(payload(99, 5000))
    elif end == "model":
        session.use("identity_fp32", load=True)
        session.infer(np.ones((50, 50), np.float32))
    elif end == "many more":
        for turn in range(20):
            session.infer(payload(turn, 5000), copy=turn % 2 == 0)
    elif end == "closed in between":
        session.close()
        with contextlib.suppress(SessionClosedError):
            session.infer(payload(99, 5000))
    elif server is not None:
        os.kill(server.pid, signal.SIGKILL)
        with contextlib.suppress(tritonic_nb.TritonicError):
            session.infer(payload(99, 5000))
    if end != "forget":
        session.close()


class Soak:
    """Inferences of each kind there is, in a session that lives as long as the process."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._lots = np.random.default_rng(1)
        self._session = opened(config)
        self._kept: deque[Any] = deque(maxlen=3)
        self._turn = 0
        self.good = 0
        self.problems: list[str] = []

    def infer(self, count: int) -> None:
        """Infer so many times."""
        lots, session = self._lots, self._session
        for _ in range(count):
            if self._turn % 10 == 0:
                session.set_shared_memory(str(lots.choice(["system", "system", "auto", "none"])))
            if self._turn % 25 == 0:
                session.use(str(lots.choice([MODEL, "identity_fp32", "identity_bytes"])), load=True)
            if self._turn % 100 == 0:
                with opened(self._config) as other:
                    self._one(other)
            else:
                self._one(session)
            self._turn += 1

    def _one(self, session: tritonic_nb.Session) -> None:
        lots = self._lots
        shape = (int(lots.integers(1, 100)), int(lots.integers(1, 500)))
        model = session.model_info.name
        if model == "identity_bytes":
            sent: Any = np.array([[bytes(shape[1]), b"x" * shape[0]]], object)
        else:
            datatype = np.uint8 if model == MODEL else np.float32
            sent = lots.integers(0, 200, shape).astype(datatype)
        copy = lots.random() < 0.5
        if model != "identity_bytes" and lots.random() < 0.2:
            session.inputs["INPUT0"] = sent
            result = session.infer(copy=copy)
        else:
            result = session.infer(sent, copy=copy)
        self._kept.append(result)
        if np.array_equal(result["OUTPUT0"], sent):
            self.good += 1
        else:
            self.problems.append(f"{model}: not what was sent")

    def held(self) -> dict[str, float]:
        """Return what this process holds that it was not told to keep."""
        self._kept.clear()
        self._session.unregister()
        return held()


def soak(config: dict[str, Any]) -> None:
    """Infer very often and say, ten times, what this process holds."""
    soaked = Soak(config)
    soaked.infer(config["warm_up"])
    soaked.good = 0
    for _ in range(10):
        say(**soaked.held())
        soaked.infer(config["inferences"] // 10)
    say(**soaked.held())
    say(good=soaked.good, problems=soaked.problems)


def held() -> dict[str, float]:
    """Return what this process holds."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    files = [p.stat() for p in Path("/dev/shm").glob(f"tritonic_nb-{os.getpid()}-*")]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "maps": len(Path("/proc/self/maps").read_text().splitlines()),
        "threads": len(os.listdir("/proc/self/task")),
        "shm_names": len(files),
        "shm_mb": sum(file.st_blocks for file in files) * 512 // 10**6,
        "rss_mb": int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) // 1000,
    }


if __name__ == "__main__":
    # What they say of themselves is expected here.
    logging.getLogger("tritonic_nb").addHandler(logging.NullHandler())
    globals()[sys.argv[1]](hear())

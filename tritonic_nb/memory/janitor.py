"""Runs beside the kernel and removes what a kernel that died has left.

Started as ``python -I -S janitor.py`` by :mod:`tritonic_nb.memory.lifeline`, in a
process session of its own, with the standard library alone. On standard input
it reads a JSON object from each line::

    {"parent": 123}
    {"made": NAME}              the file /dev/shm/NAME is there, or is about to be
    {"removed": NAME}           it is gone
    {"registered": NAME, "unregister": {"url": ..., "headers": {...}, "ca_file": null,
     "cert_file": null, "key_file": null, "verify": true}}
                                a server knows the region, or is about to; with a "program"
                                it is no HTTP request: that is run and told these calls
    {"unregistered": NAME}
    {"owed": NAME}              unregister it now, though the kernel lives

The kernel is gone when its process has ended or the other end of standard input
is closed. Either alone is not enough: a forked child of the kernel may hold
that end open, and a kernel that executes another program lives on as a process.
Then the files go, the regions are unregistered, and this process ends.

It idles for as long as its kernel lives, so what takes memory to import is
imported when there is something to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False  # typing's own takes memory to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext
    from threading import Thread
    from typing import Any

    Call = dict[str, Any]

FOLDER = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
PREFIX = "tritonic_nb-"
# Who signals a whole group, or all of a job, wants the kernel to end; and then this
# process is needed. It ends soon after its kernel in any case.
IGNORED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
TICK_S = 1.0  # how often to look for the parent where it cannot be waited for
OWED_S = 0.5  # how often to ask for what is owed while the kernel lives
REQUEST_S = 5.0
PROGRAM_S = 30.0  # for a program to start, ask for each region, and again for those in use
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0  # between two requests once the kernel is gone

# What came of a request.
DONE = "done"  # or refused for good
IN_USE = "in use"
SILENT = "silent"
REFUSED = "refused"  # nobody listens there: the server has ended, and its registrations with it
DECLINED = "declined"  # for a reason of its own, which may or may not pass
# For how long to go on after the same answer.
PATIENCE_S = {IN_USE: 600.0, SILENT: 60.0, REFUSED: 3.0, DECLINED: 3.0}
PATIENCE_WHILE_ALIVE_S = {**PATIENCE_S, IN_USE: float("inf")}
LONGEST_S = sum(PATIENCE_S.values())


class Server:
    """One server, and what is to be unregistered there.

    Attributes
    ----------
    calls
        How to unregister each name; what is done leaves.
    """

    def __init__(self, done: Callable[[str], object]) -> None:
        self.calls: dict[str, Call] = {}
        self._done = done
        self._thread: Thread | None = None
        self._answer = (DONE, 0.0)  # and the time of the first such answer in a row
        self._due = 0.0  # the next visit

    def add(self, name: str, call: Call) -> None:
        """Have one more name unregistered."""
        self.calls[name] = call
        self._answer = (DONE, 0.0)
        self._due = 0.0

    def visit(self) -> None:
        """Ask for each name once, unless the server turns out to be away."""
        worst = DONE
        for name, answer in answers(dict(self.calls)):
            if answer == DONE:
                self.calls.pop(name, None)
                self._done(name)
            else:
                worst = answer
        if worst != self._answer[0]:
            self._answer = (worst, time.monotonic())

    def hopeless(self, patience_s: dict[str, float]) -> bool:
        """Tell whether the server has given the same answer for too long."""
        answer, since = self._answer  # at once: a thread may set it
        return answer != DONE and time.monotonic() - since > patience_s[answer]

    def finish(self) -> None:
        """Ask again and again until nothing is left, or it is hopeless."""
        pause_s = FIRST_PAUSE_S
        self.visit()
        while self.calls and not self.hopeless(PATIENCE_S):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.visit()

    def visit_when_due(self) -> bool:
        """Visit in the background while the kernel lives; return whether to come again."""
        if not self.calls or self.hopeless(PATIENCE_WHILE_ALIVE_S):
            return False
        visiting = self._thread is not None and self._thread.is_alive()
        if time.monotonic() >= self._due and not visiting:
            self._due = time.monotonic() + OWED_S
            self._thread = in_background(self.visit)
        return True


def in_background(work: Callable[[], None]) -> Thread:
    """Run something in a thread that keeps nobody from ending."""
    from threading import Thread

    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def answers(calls: dict[str, Call]) -> Iterator[tuple[str, str]]:
    """Ask a server for each name, until it turns out to be away; give what came of each."""
    program = next((call.get("program") for call in calls.values()), None)
    if program:
        yield from zip(calls, run(program, list(calls.values())), strict=False)
        return
    for name, call in calls.items():
        answer = ask(call)
        yield name, answer
        if answer in (SILENT, REFUSED):
            return


def run(program: str, calls: list[Call]) -> list[str]:
    """Have a program ask that speaks the server's protocol; return what came of each call."""
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", program],
            input=json.dumps(calls).encode(),
            stdout=subprocess.PIPE,
            timeout=PROGRAM_S,
            check=True,
        )
        words = json.loads(done.stdout)
        if len(words) != len(calls):
            return [DECLINED] * len(calls)
        return [word if word in (DONE, *PATIENCE_S) else DECLINED for word in words]
    except subprocess.TimeoutExpired:  # and it was killed
        return [SILENT] * len(calls)
    except Exception:
        return [DECLINED] * len(calls)  # it cannot be started, or failed


def ask(call: Call) -> str:
    """Ask a server once to unregister a region, and return what came of it."""
    # It imports ssl too, and takes 8 MB.
    from http.client import HTTPException

    try:
        status, text = post(call)
    except ConnectionRefusedError:
        return REFUSED
    except (OSError, HTTPException):
        return SILENT
    except Exception:
        return DONE  # nobody can send this
    # 404: the server does not know it; 401 and 403: it never will.
    if status < 400 or status in (401, 403, 404):
        return DONE
    return IN_USE if b"in use" in text else DECLINED


def post(call: Call) -> tuple[int, bytes]:
    """Send a request: directly, without a proxy, and without following redirects."""
    from base64 import b64encode
    from http.client import HTTPConnection, HTTPSConnection
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(call["url"])
    headers = {name: value.encode() for name, value in call.get("headers", {}).items()}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.setdefault("Authorization", b"Basic " + b64encode(login.encode()))
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = encryption(call)
        connection: HTTPConnection = HTTPSConnection(
            host, parts.port, timeout=REQUEST_S, context=context
        )
    else:
        connection = HTTPConnection(host, parts.port, timeout=REQUEST_S)
    try:
        connection.request("POST", parts.path, b"", headers)
        response = connection.getresponse()
        return response.status, response.read(65536)
    finally:
        connection.close()


def encryption(call: Call) -> SSLContext:
    """Return how a connection is encrypted."""
    import ssl

    context = ssl.create_default_context(cafile=call.get("ca_file"))
    if call.get("cert_file"):
        # With a password, so that a key that needs another one is an error and not a question.
        context.load_cert_chain(call["cert_file"], call.get("key_file"), password="")
    if not call.get("verify", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Estate:
    """What the kernel has made and registered, and what is to become of it."""

    def __init__(self) -> None:
        self.parent = 0
        self._made: set[str] = set()
        self._registered: dict[str, Call] = {}
        self._servers: dict[str, Server] = {}  # those at which something is owed

    def hear(self, line: bytes) -> None:
        """Take a line from the kernel; one that cannot be understood changes nothing."""
        with contextlib.suppress(Exception):
            event = json.loads(line)
            verb, name = next(iter(event.items()))
            if verb == "parent":
                self.parent = int(name)
            elif verb == "made" and is_ours(name):
                self._made.add(name)
            elif verb == "removed":
                self._made.discard(name)
            elif verb == "registered" and where(event["unregister"]):
                self._forget(name)
                self._registered[name] = event["unregister"]
            elif verb == "unregistered":
                self._forget(name)
            elif verb == "owed":
                self._owe(name, self._registered[name])

    def _owe(self, name: str, call: Call) -> None:
        self._servers.setdefault(where(call), Server(self._unregistered)).add(name, call)

    def _forget(self, name: str) -> None:
        self._registered.pop(name, None)
        for server in self._servers.values():
            server.calls.pop(name, None)

    def _unregistered(self, name: str) -> None:
        self._registered.pop(name, None)

    def ask_for_owed(self) -> bool:
        """Have what is owed asked for once; return whether to come again."""
        again = [server.visit_when_due() for server in self._servers.values()]
        return any(again)

    def settle(self) -> None:
        """Remove the files, then have everything unregistered."""
        # In this order: a registration that is still on its way finds no file any more.
        for name in self._made:
            remove(name)
        servers: dict[str, Server] = {}
        # A copy: a last visit for what was owed may still be under way.
        for name, call in list(self._registered.items()):
            servers.setdefault(where(call), Server(str)).add(name, call)
        deadline = time.monotonic() + LONGEST_S
        for thread in [in_background(server.finish) for server in servers.values()]:
            thread.join(max(0.0, deadline - time.monotonic()))


def is_ours(name: str) -> bool:
    """Tell whether a name may be that of a region's file."""
    return name.startswith(PREFIX) and "/" not in name and "\0" not in name


def remove(name: str) -> None:
    """Remove a region's file, if it is there and is a file."""
    path = f"{FOLDER}/{name}"
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - pathlib takes memory


def where(call: Call) -> str:
    """Return which server a request goes to: its address without the path."""
    return "/".join(call["url"].split("/", 3)[:3])


class Watch:
    """Waits for what the kernel says, and for its end."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._unread = b""
        self._ended = False
        self._poller = select.poll()
        self._poller.register(0, select.POLLIN)
        os.set_blocking(0, False)

    def read(self) -> None:
        """Take what the kernel has said, without waiting."""
        while not self._ended:
            try:
                data = os.read(0, 65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._ended = not data
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._estate.hear(line)

    def introduce(self) -> None:
        """Wait until the kernel has said who it is, or is gone."""
        while not self._estate.parent and not self._ended:
            self._poller.poll()
            self.read()

    def until_gone(self) -> None:
        """Serve the kernel until it is gone and all that it said is read."""
        parent = self._estate.parent
        parent_fd = watch_parent(parent)
        idle_s: float | None = TICK_S
        if parent_fd is not None:
            self._poller.register(parent_fd, select.POLLIN)
            idle_s = None
        gone = False
        # Asked after the parent's descriptor was opened: had the parent ended before
        # that, this process would have another one by now.
        while not self._ended and not gone and os.getppid() == parent:
            wait_s = OWED_S if self._estate.ask_for_owed() else idle_s
            ready = self._poller.poll(None if wait_s is None else wait_s * 1000)
            gone = parent_fd in dict(ready)
            self.read()
        self.read()


def watch_parent(parent: int) -> int | None:
    """Open a descriptor that becomes readable when the parent ends, where there is one."""
    try:
        return os.pidfd_open(parent)
    except (AttributeError, OSError, OverflowError):
        # An old Linux, or a sandbox that forbids the call: the tick looks instead.
        return None


def let_go() -> None:
    """Have nothing in common with the kernel but standard input."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # They were blocked at the start, so that none could end this process before now.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(PermissionError):  # it has a session of its own already
        os.setsid()
    os.chdir("/")  # keeps no folder busy
    # Not os.closerange: where the limit is high, some Pythons try every number below it.
    for descriptor in open_descriptors():
        if descriptor > 2:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def open_descriptors() -> list[int]:
    """Return the open descriptors, as far as they can be known."""
    try:
        return [int(entry) for entry in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError:
        return list(range(256))


def main() -> int:
    """Serve the kernel while it lives, then settle what it has left."""
    let_go()
    estate = Estate()
    watch = Watch(estate)
    watch.introduce()
    watch.until_gone()
    estate.settle()
    return 0


if __name__ == "__main__":
    sys.exit(main())

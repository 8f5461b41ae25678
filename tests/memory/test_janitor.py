"""What becomes of regions and registrations whose kernel dies: the janitor and its lifeline."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_URL, place_of, skip_without
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.transport import Transport

JANITOR = Path(__file__).parents[2] / "tritonic_nb" / "memory" / "janitor.py"
IN_USE = (400, '{"error":"Cannot unregister shared memory region \'x\', it is currently in use."}')
# What a kernel under test starts with.
PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
from tritonic_nb.memory import lifeline

def say(*words):
    print(*words, flush=True)

def make(name):
    lifeline.made(name)
    Path("/dev/shm", name).write_bytes(bytes(4096))

def register(name, url, **more):
    path = f"/v2/systemsharedmemory/region/{name}/unregister"
    lifeline.registered(name, {"url": url + path, "headers": {}, **more})
"""


class Kernel:
    """A process that uses the lifeline, to be killed."""

    def __init__(self, script: str, *arguments: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def hear(self) -> str:
        """Read a line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Write it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it and close the pipes to it."""
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


Start = Callable[..., Kernel]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start kernels, which end with the test."""
    kernels = []

    def start_one(script: str, *arguments: str, **options: Any) -> Kernel:
        kernels.append(Kernel(script, *arguments, **options))
        return kernels[-1]

    yield start_one
    for kernel in kernels:
        kernel.end()


@pytest.fixture
def new_name() -> Iterator[Callable[[], str]]:
    """Make up names of regions; their files go with the test.

    They are a little different from real ones, so that nobody who looks for orphans takes them.
    """
    names = []

    def new() -> str:
        names.append(f"tritonic_nb-{os.getpid()}-{secrets.token_hex(8)}-x-y")
        return names[-1]

    yield new
    for name in names:
        (SHM_DIR / name).unlink(missing_ok=True)


@pytest.fixture
def name(new_name: Callable[[], str]) -> str:
    return new_name()


class FakeTriton:
    """A server that answers as a test wants, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[], tuple[int, str]] = lambda: (200, "")
        self.headers: dict[str, str] = {}
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = False
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.requests.append((self.command, self.path, dict(self.headers), body))
                fake.asked.append(self.path.split("/")[-2])
                status, text = fake.answer()
                self.send_response(status)
                for header, value in fake.headers.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def hang(self) -> tuple[int, str]:
        """Answer when the server is about to close."""
        self.closing.wait(60)
        return (200, "")

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        """End the server and every answer that is under way."""
        self.closing.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def new_fake() -> Iterator[Callable[[], FakeTriton]]:
    """Start servers whose answers the test controls."""
    fakes = []

    def new() -> FakeTriton:
        fakes.append(FakeTriton())
        return fakes[-1]

    yield new
    for fake in fakes:
        fake.close()


@pytest.fixture
def fake(new_fake: Callable[[], FakeTriton]) -> FakeTriton:
    return new_fake()


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so; the time is for busy machines."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def ended(pid: int | str) -> bool:
    """Whether a process has ended, collected or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def exists(name: str) -> bool:
    return (SHM_DIR / name).exists()


def ignores_signals(pid: int | str) -> bool:
    """Whether a janitor is as far as to ignore signals and to block none."""
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return (
        int(status["SigIgn"], 16) >> (signal.SIGTERM - 1) & 1 == 1
        and int(status["SigBlk"], 16) == 0
    )


def make(name: str) -> None:
    (SHM_DIR / name).write_bytes(bytes(4096))


@contextlib.contextmanager
def bare_janitor(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a janitor whose kernel is this process, to be written to by hand."""
    with subprocess.Popen(
        command or [sys.executable, "-I", "-S", str(JANITOR)], stdin=subprocess.PIPE, bufsize=0
    ) as janitor:
        yield janitor
        assert janitor.stdin is not None
        janitor.stdin.close()
        assert janitor.wait(30) == 0


def line(**event: object) -> bytes:
    return json.dumps(event).encode() + b"\n"


# The kernel's end


def test_a_killed_kernel_leaves_no_file_and_no_registration(
    start: Start, name: str, fake: FakeTriton
) -> None:
    """After SIGKILL the file goes, the server is asked once with the headers, the janitor ends."""
    kernel = start(
        "make(sys.argv[1]); register(*sys.argv[1:], headers={'Key': 'secret'})\n"
        "say(lifeline.janitor_pid()); time.sleep(60)",
        name, fake.url,
    )  # fmt: skip
    janitor = kernel.hear()
    assert exists(name)
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(name)
    ((method, path, headers, body),) = fake.requests
    assert (method, body) == ("POST", b"")
    assert path == f"/v2/systemsharedmemory/region/{name}/unregister"
    assert headers["Key"] == "secret"


def test_a_kernel_that_exits_without_cleaning_leaves_nothing(
    start: Start, name: str, fake: FakeTriton
) -> None:
    """It need not be killed: sys.exit() is as good."""
    kernel = start(
        "make(sys.argv[1]); register(*sys.argv[1:]); say(lifeline.janitor_pid()); sys.exit(3)",
        name, fake.url,
    )  # fmt: skip
    janitor = kernel.hear()
    assert kernel.process.wait(30) == 3
    eventually(lambda: ended(janitor))
    assert not exists(name)
    assert fake.asked == [name]


def test_what_the_kernel_cleaned_up_is_left_alone(
    start: Start, new_name: Callable[[], str], fake: FakeTriton
) -> None:
    """A file that was removed and is there again is somebody else's, and nobody is asked again."""
    kept, name = new_name(), new_name()
    kernel = start(
        """
        kept, name, url = sys.argv[1:]
        make(name)
        make(kept); lifeline.removed(kept)
        register(kept, url); lifeline.unregistered(kept)
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        kept, name, fake.url,
    )  # fmt: skip
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert exists(kept)
    assert not exists(name)
    assert fake.asked == []


@pytest.mark.parametrize("hooks", [True, False], ids=["os.fork", "fork unknown to Python"])
def test_a_forked_child_that_lives_on_keeps_nothing(start: Start, name: str, hooks: bool) -> None:
    """The kernel's death counts, even where a child still holds the other end of the pipe."""
    kernel = start(
        f"""
        import ctypes
        make(sys.argv[1])
        libc = ctypes.PyDLL(None)
        child = os.fork() if {hooks} else libc.fork()
        if child == 0:
            libc.pause()
        say(child, lifeline.janitor_pid()); time.sleep(60)
        """,
        name,
    )
    child, janitor = kernel.hear().split()
    kernel.kill()
    try:
        eventually(lambda: ended(janitor))
        assert not exists(name)
        assert not ended(child)
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_forked_child_has_a_janitor_of_its_own(start: Start, new_name: Callable[[], str]) -> None:
    """The child's regions go with the child, the parent's stay until the parent goes."""
    names = [new_name(), new_name()]
    kernel = start(
        """
        make(sys.argv[1])
        child = os.fork()
        if child == 0:
            assert lifeline.janitor_pid() is None
            make(sys.argv[2])
        say(child, lifeline.janitor_pid()); time.sleep(60)
        """,
        *names,
    )
    said = dict(kernel.hear().split() for _ in range(2))
    childs = said.pop("0")
    ((child, parents),) = said.items()
    assert childs != parents
    os.kill(int(child), signal.SIGKILL)
    eventually(lambda: ended(childs))
    assert [exists(name) for name in names] == [True, False]
    kernel.kill()
    eventually(lambda: not exists(names[0]))


def test_a_kernel_that_executes_another_program_is_gone(start: Start, name: str) -> None:
    """After os.execv the process lives and the kernel does not."""
    kernel = start(
        "make(sys.argv[1]); say(lifeline.janitor_pid()); os.execv('/bin/sleep', ['sleep', '60'])",
        name,
    )
    janitor = kernel.hear()
    eventually(lambda: ended(janitor))
    assert not exists(name)
    assert kernel.process.poll() is None


def test_a_parent_that_died_before_it_could_be_watched_is_noticed(name: str) -> None:
    """The janitor whose parent is another one by now cleans up at once, though the pipe is open."""
    make(name)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    with bare_janitor() as janitor:
        assert janitor.stdin is not None
        janitor.stdin.write(line(parent=dead.pid) + line(made=name))
        eventually(lambda: not exists(name))


def test_without_pidfd_the_parent_is_looked_for(start: Start, name: str, tmp_path: Path) -> None:
    """Where the parent cannot be waited for, its end is noticed a second later."""
    kernel = start(
        """
        import ctypes
        text = lifeline._JANITOR.read_text().replace("os.pidfd_open", "os.no_such_function")
        lifeline._JANITOR = Path(sys.argv[2]); lifeline._JANITOR.write_text(text)
        make(sys.argv[1])
        child = ctypes.PyDLL(None).fork()  # it holds the pipe open
        if child == 0:
            ctypes.PyDLL(None).pause()
        say(child, lifeline.janitor_pid()); time.sleep(60)
        """,
        name, str(tmp_path / "janitor.py"),
    )  # fmt: skip
    child, janitor = kernel.hear().split()
    kernel.kill()
    try:
        eventually(lambda: ended(janitor))
        assert not exists(name)
    finally:
        os.kill(int(child), signal.SIGKILL)


# The janitor as a process


def test_signals_to_everybody_do_not_end_the_janitor(start: Start, name: str) -> None:
    """SIGINT, SIGTERM, SIGHUP and SIGQUIT are for the kernel; the janitor cleans up after it."""
    kernel = start("make(sys.argv[1]); say(lifeline.janitor_pid()); time.sleep(60)", name)
    janitor = int(kernel.hear())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(janitor, number)  # blocked at first, then ignored
    eventually(lambda: ignores_signals(janitor))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(janitor, number)
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(name)


def test_the_janitor_has_nothing_of_the_kernels(start: Start, name: str, tmp_path: Path) -> None:
    """It is in a session and folder of its own, holds no file of the kernel's, shows no secret."""
    kernel = start(
        """
        held = os.open(sys.argv[2], os.O_RDONLY); os.set_inheritable(held, True)
        make(sys.argv[1]); register(sys.argv[1], "http://127.0.0.1:1", headers={"Key": "hush"})
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        name, str(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    pid = kernel.hear()
    janitor = Path("/proc", pid)
    eventually(lambda: ignores_signals(pid) and (janitor / "cwd").readlink() == Path("/"))
    eventually(lambda: str(tmp_path) not in [str(f.readlink()) for f in janitor.glob("fd/*")])
    held = {f.name: str(f.readlink()) for f in janitor.glob("fd/*")}
    assert held["1"] == held["2"] == "/dev/null"
    assert all("pidfd" in what for number, what in held.items() if int(number) > 2)
    assert os.getsid(int(pid)) == int(pid)
    assert b"hush" not in (janitor / "cmdline").read_bytes()


def test_a_python_that_cannot_start_sessions_has_a_janitor_too(start: Start, name: str) -> None:
    """Where posix_spawn knows no setsid, the janitor begins its session itself."""
    kernel = start(
        """
        spawn = os.posix_spawn
        def old_spawn(*arguments, setsid, **options):
            if setsid:
                raise NotImplementedError
            return spawn(*arguments, **options)
        os.posix_spawn = old_spawn
        make(sys.argv[1]); say(lifeline.janitor_pid()); time.sleep(60)
        """,
        name,
    )
    janitor = int(kernel.hear())
    eventually(lambda: os.getsid(janitor) == janitor)
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(name)


def test_lines_that_make_no_sense_are_ignored(name: str) -> None:
    """Garbage between two lines, or at the end, changes nothing."""
    make(name)
    with bare_janitor() as janitor:
        assert janitor.stdin is not None
        janitor.stdin.write(line(parent=os.getpid()))
        for garbage in (
            b"\n", b"\xff\xfe{\n", b"[]\n", b"{}\n", b"7\n", b"null\n", b'{"made": 7}\n',
            b'{"made": [1]}\n', b'{"removed": {}}\n', b'{"parent": "x"}\n', b'{"parent": 1e400}\n',
            b'{"registered": "a"}\n', b'{"registered": "a", "unregister": {}}\n',
            b'{"registered": "a", "unregister": {"url": 7}}\n',
            b'{"registered": "b", "unregister": {"url": "no address", "headers": 3}}\n',
            b'{"owed": "c"}\n', b'{"unregistered": []}\n', b'{"dance": "x"}\n', b"[" * 9999 + b"\n",
        ):  # fmt: skip
            janitor.stdin.write(garbage)
        janitor.stdin.write(line(made=name) + b'{"removed": "' + name.encode())
    assert not exists(name)


def test_only_regions_can_be_removed(new_name: Callable[[], str], tmp_path: Path) -> None:
    """Names with a path, of other files, links and folders stay."""
    outside = tmp_path / "tritonic_nb-outside"
    outside.touch()
    link, folder, other = new_name(), new_name(), f"other-{secrets.token_hex(8)}"
    (SHM_DIR / link).symlink_to(outside)
    (SHM_DIR / folder).mkdir()
    (SHM_DIR / other).touch()
    names = [
        link, folder, other, f"/{other}", str(outside), f"tritonic_nb-/../{other}", "..", "",
        f"tritonic_nb-/../../..{outside}", f"{folder}/../{other}", f"{link}\0",
    ]  # fmt: skip
    try:
        with bare_janitor() as janitor:
            assert janitor.stdin is not None
            janitor.stdin.write(line(parent=os.getpid()))
            janitor.stdin.write(b"".join(line(made=name) for name in names))
        assert outside.exists()
        assert (SHM_DIR / link).is_symlink()
        assert exists(folder)
        assert exists(other)
    finally:
        (SHM_DIR / folder).rmdir()
        (SHM_DIR / other).unlink()


def test_it_needs_no_standard_output(name: str, fake: FakeTriton) -> None:
    """With standard output and error closed it works the same."""
    make(name)
    command = f'exec "{sys.executable}" -I -S "{JANITOR}" >&- 2>&-'
    with bare_janitor("/bin/sh", "-c", command) as janitor:
        assert janitor.stdin is not None
        call = {"url": f"{fake.url}/region/{name}/unregister", "headers": {}}
        janitor.stdin.write(
            line(parent=os.getpid()) + line(made=name) + line(registered=name, unregister=call)
        )
    assert not exists(name)
    assert fake.asked == [name]


# What servers answer


def test_a_region_in_use_is_asked_for_until_the_server_lets_go(
    start: Start, new_name: Callable[[], str], fake: FakeTriton
) -> None:
    """A kernel that dies in the middle of a request leaves no registration either."""
    names = [new_name(), new_name()]
    answers = iter([IN_USE, IN_USE, (200, ""), IN_USE])
    fake.answer = lambda: next(answers, (200, ""))
    kernel = start(
        "for name in sys.argv[2:]: register(name, sys.argv[1])\n"
        "say(lifeline.janitor_pid()); time.sleep(60)",
        fake.url, *names,
    )  # fmt: skip
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert fake.asked == [*names, *names, names[1]]


@pytest.mark.parametrize("status", [404, 403, 302])
def test_a_server_that_does_not_know_or_forbids_it_is_asked_once(
    start: Start, name: str, fake: FakeTriton, status: int
) -> None:
    """404 means done, 403 will not change, and a redirect is not followed."""
    fake.answer = lambda: (status, "no")
    fake.headers = {"Location": f"{fake.url}/elsewhere/unregister"}
    kernel = start(
        "register(*sys.argv[1:]); say(lifeline.janitor_pid()); time.sleep(60)", name, fake.url
    )
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert fake.asked == [name]


def test_one_server_that_hangs_does_not_delay_another(
    start: Start, new_name: Callable[[], str], new_fake: Callable[[], FakeTriton]
) -> None:
    """Each server is asked by a thread of its own."""
    names = [new_name(), new_name()]
    hanging, quick = new_fake(), new_fake()
    hanging.answer = hanging.hang
    kernel = start(
        """
        for name in sys.argv[3:]:
            register(name, sys.argv[1])
            register(name + "2", sys.argv[2])
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        hanging.url, quick.url, *names,
    )  # fmt: skip
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: len(quick.asked) == 2)
    assert sorted(quick.asked) == sorted(f"{name}2" for name in names)
    eventually(lambda: hanging.asked)
    assert not ended(janitor)
    hanging.closing.set()
    eventually(lambda: ended(janitor))
    assert set(hanging.asked) == set(names)


def test_a_server_that_has_ended_is_soon_given_up(start: Start, name: str) -> None:
    """Where nobody listens, the registrations ended with the server, and the janitor ends too."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        kernel = start("register(*sys.argv[1:]); say(lifeline.janitor_pid()); input()", name, url)
        janitor = kernel.hear()
        kernel.kill()
        eventually(lambda: ended(janitor), 40)


def test_passwords_are_sent_and_proxies_are_not_used(
    start: Start, name: str, fake: FakeTriton
) -> None:
    """user:password@ becomes basic authentication, and the environment's proxy is left out."""
    nowhere = "http://127.0.0.1:1"
    kernel = start(
        "register(*sys.argv[1:]); say(lifeline.janitor_pid()); time.sleep(60)",
        name, fake.url.replace("//", "//user:p%40ss@"),
        env={**os.environ, "http_proxy": nowhere, "all_proxy": nowhere, "no_proxy": ""},
    )  # fmt: skip
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: ended(janitor))
    ((_, _, headers, _),) = fake.requests
    assert headers["Authorization"] == "Basic dXNlcjpwQHNz"  # user:p@ss


def test_certificates_are_checked_where_they_are_to_be(
    start: Start, new_name: Callable[[], str], fake: FakeTriton, tmp_path: Path
) -> None:
    """A relative ca_file is found, verify=False trusts anybody, and else nobody is trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    make_certificate = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
        " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(make_certificate.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    fake.http.socket = context.wrap_socket(fake.http.socket, server_side=True)
    names = [new_name() for _ in range(3)]
    url = fake.url.replace("http:", "https:")
    kernel = start(
        """
        url, trusted, unverified, untrusted = sys.argv[1:]
        register(trusted, url, ca_file="cert.pem", verify=True)
        register(unverified, url.replace("127.0.0.1", "localhost"), ca_file=None, verify=False)
        # As another server, so that its refusals delay nobody.
        register(untrusted, url.replace("//", "//a:b@"), ca_file=None, verify=True)
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        url, *names, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(JANITOR.parents[2])},
    )  # fmt: skip
    janitor = kernel.hear()
    kernel.kill()
    eventually(lambda: len(fake.asked) >= 2)
    os.kill(int(janitor), signal.SIGKILL)
    assert set(fake.asked) == set(names[:2])


def test_what_is_owed_is_settled_while_the_kernel_lives(
    start: Start, name: str, fake: FakeTriton
) -> None:
    """The janitor asks again and again until the server lets go, and not at the end once more."""
    answers = iter([IN_USE, IN_USE])
    fake.answer = lambda: next(answers, (200, ""))
    kernel = start(
        """
        register(*sys.argv[1:]); lifeline.owed(sys.argv[1]); lifeline.owed(sys.argv[1])
        lifeline.owed("of which nothing is known")
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        name, fake.url,
    )  # fmt: skip
    janitor = kernel.hear()
    eventually(lambda: len(fake.asked) == 3)
    time.sleep(1)
    assert kernel.process.poll() is None
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert fake.asked == [name] * 3


def test_what_is_owed_no_longer_is_not_asked_for(start: Start, name: str, fake: FakeTriton) -> None:
    """The kernel may settle it itself meanwhile."""
    fake.answer = lambda: IN_USE
    kernel = start(
        """
        register(*sys.argv[1:]); lifeline.owed(sys.argv[1])
        input(); lifeline.unregistered(sys.argv[1])
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        name, fake.url,
    )  # fmt: skip
    eventually(lambda: len(fake.asked) >= 2)
    kernel.tell("go on")
    janitor = kernel.hear()
    time.sleep(0.7)  # a visit that was under way
    asked = len(fake.asked)
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert len(fake.asked) == asked


# The kernel's side


def test_a_janitor_that_was_killed_is_replaced_and_told_everything(
    start: Start, new_name: Callable[[], str], fake: FakeTriton
) -> None:
    """The next call starts another one, which cleans up all; no zombie stays."""
    names = [new_name(), new_name()]
    kernel = start(
        """
        first, second, url = sys.argv[1:]
        make(first); register(first, url); say(lifeline.janitor_pid())
        input()
        time.sleep(0.2)  # one that was started a moment ago is not started again at once
        make(second); say(lifeline.janitor_pid())
        say(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
        time.sleep(60)
        """,
        *names, fake.url,
    )  # fmt: skip
    killed = kernel.hear()
    os.kill(int(killed), signal.SIGKILL)
    kernel.tell("it is dead")
    janitor = kernel.hear()
    assert janitor not in (killed, "None")
    assert kernel.hear() == janitor
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not any(map(exists, names))
    assert fake.asked == names[:1]


def test_a_janitor_that_does_not_read_is_replaced_and_never_waited_for(
    start: Start, name: str
) -> None:
    """A stopped janitor's pipe fills up: it is killed, another one is told, nothing blocks."""
    kernel = start(
        """
        make(sys.argv[1])
        stopped = lifeline.janitor_pid()
        time.sleep(0.3)
        os.kill(stopped, signal.SIGSTOP)
        for number in range(50_000):
            lifeline.made("tritonic_nb-of-the-loop"); lifeline.removed("tritonic_nb-of-the-loop")
            if lifeline.janitor_pid() != stopped:
                break
        say(stopped, lifeline.janitor_pid()); time.sleep(60)
        """,
        name,
    )
    stopped, janitor = kernel.hear().split()
    try:
        assert janitor not in (stopped, "None")
        eventually(lambda: ended(stopped))
        kernel.kill()
        eventually(lambda: ended(janitor))
        assert not exists(name)
    finally:
        if not ended(stopped):
            os.kill(int(stopped), signal.SIGKILL)


def test_a_new_janitor_can_be_told_a_long_list(
    start: Start, new_name: Callable[[], str], fake: FakeTriton
) -> None:
    """A thousand regions go through the pipe at once."""
    first, last = new_name(), new_name()
    kernel = start(
        """
        first, last, url = sys.argv[1:]
        make(first)
        for number in range(1000):
            register(f"tritonic_nb-{number}", "http://127.0.0.1:1", headers={"Key": "k" * 100})
            lifeline.made(f"tritonic_nb-none-{number}")
        killed = lifeline.janitor_pid()
        time.sleep(0.2)
        os.kill(killed, signal.SIGKILL)
        while lifeline.janitor_pid() == killed: pass
        make(last)
        for number in range(1000): lifeline.unregistered(f"tritonic_nb-{number}")
        say(killed, lifeline.janitor_pid()); time.sleep(60)
        """,
        first, last, fake.url,
    )  # fmt: skip
    killed, janitor = kernel.hear().split()
    assert janitor not in (killed, "None")
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(first)
    assert not exists(last)


@pytest.mark.parametrize("action", ["SIG_DFL", "SIG_IGN"])
def test_writing_to_a_dead_janitor_ends_no_kernel(start: Start, name: str, action: str) -> None:
    """Whatever a program does with SIGPIPE, it survives and gets another janitor."""
    kernel = start(
        """
        action = getattr(signal, sys.argv[2])
        signal.signal(signal.SIGPIPE, action)
        make(sys.argv[1])
        killed = lifeline.janitor_pid()
        time.sleep(0.2)
        os.kill(killed, signal.SIGKILL)
        os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        alive = lifeline._Janitor.alive
        lifeline._Janitor.alive = lambda self: True  # it died after that was asked
        lifeline.made("tritonic_nb-another")
        lifeline._Janitor.alive = alive
        say(killed, lifeline.janitor_pid(), signal.getsignal(signal.SIGPIPE) == action)
        say(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        time.sleep(60)
        """,
        name, action,
    )  # fmt: skip
    killed, janitor, kept = kernel.hear().split()
    assert janitor not in (killed, "None")
    assert kept == "True"
    assert kernel.hear() == "set()"
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(name)


@pytest.mark.parametrize("written", [0, 7], ids=["nothing", "a part"])
def test_an_interrupt_in_the_middle_loses_nothing(start: Start, name: str, written: int) -> None:
    """After a KeyboardInterrupt while the janitor is told, the next call tells another one all."""
    kernel = start(
        f"""
        lifeline.made("tritonic_nb-first")
        before = lifeline.janitor_pid()
        write = os.write
        def interrupted(fd, data):
            write(fd, data[:{written}])
            raise KeyboardInterrupt
        time.sleep(0.2)
        os.write = interrupted
        try:
            make(sys.argv[1])
        except KeyboardInterrupt:
            assert lifeline.janitor_pid() is None
        os.write = write
        Path("/dev/shm", sys.argv[1]).touch()
        lifeline.made("tritonic_nb-last")
        say(before, lifeline.janitor_pid()); time.sleep(60)
        """,
        name,
    )
    before, janitor = kernel.hear().split()
    assert janitor not in (before, "None")
    assert exists(name)
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not exists(name)


def test_a_region_collected_in_the_middle_of_a_call_is_told_too(
    start: Start, new_name: Callable[[], str]
) -> None:
    """A call that interrupts another one in the same thread neither waits for it nor is lost."""
    names = [new_name(), new_name()]
    kernel = start(
        """
        spawn = lifeline._spawn
        def spawn_and_collect(stdin):
            lifeline._spawn = spawn
            make(sys.argv[2])
            return spawn(stdin)
        lifeline._spawn = spawn_and_collect
        make(sys.argv[1])
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        *names,
    )
    janitor = kernel.hear()
    assert all(map(exists, names))
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not any(map(exists, names))


def test_many_threads_have_one_janitor(start: Start, new_name: Callable[[], str]) -> None:
    """Regions that threads make at the same time are all told to the same one."""
    names = [new_name() for _ in range(40)]
    kernel = start(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, sys.argv[1:]))
        children = Path("/proc/self/task").glob("*/children")  # of whichever thread came first
        say(" ".join(each.read_text() for each in children))
        say(lifeline.janitor_pid()); time.sleep(60)
        """,
        *names,
    )
    children = kernel.hear().split()
    janitor = kernel.hear()
    assert children == [janitor]
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert not any(map(exists, names))


@pytest.mark.parametrize("executable", ["", "/no/such/python", "/bin/false"])
def test_without_a_janitor_everything_goes_on(start: Start, executable: str) -> None:
    """Where none can be started, or none lives long, the calls do nothing and say so once."""
    kernel = start(
        f"""
        import logging
        records = []
        logging.getLogger("tritonic_nb").addHandler(logging.Handler())
        logging.getLogger("tritonic_nb").handlers[-1].emit = records.append
        sys.executable = {executable!r}
        for number in range(100):
            lifeline.made(f"tritonic_nb-{{number}}"); time.sleep(0.003)
        register("tritonic_nb-1", "http://127.0.0.1:1"); lifeline.owed("tritonic_nb-1")
        lifeline.unregistered("tritonic_nb-1"); lifeline.removed("tritonic_nb-1")
        say(len([record for record in records if record.levelno >= logging.WARNING]))
        """
    )
    assert kernel.hear() == ("0" if executable == "/bin/false" else "1")
    assert kernel.process.wait(30) == 0


def test_elsewhere_than_on_linux_nothing_is_done(start: Start) -> None:
    """On another platform the calls have no effect."""
    kernel = start(
        """
        sys.platform = "darwin"
        lifeline.made("x"); lifeline.removed("x"); register("x", "http://x"); lifeline.owed("x")
        lifeline.unregistered("x")
        say(lifeline.janitor_pid())
        """
    )
    assert kernel.hear() == "None"


def test_nothing_is_started_for_what_was_never_made(start: Start) -> None:
    """The end of what is not known needs no janitor."""
    kernel = start(
        "lifeline.removed('x'); lifeline.unregistered('x'); lifeline.owed('x')\n"
        "say(lifeline.janitor_pid())"
    )
    assert kernel.hear() == "None"
    assert kernel.process.wait(30) == 0


# With a real server

REAL = """
from tritonic_nb.transport import base, connect
from tritonic_nb.memory import SharedMemoryType, create_region

place = json.loads(os.environ["TEST_SERVER"])
transport = connect(place["server"], place["headers"], protocol=place["protocol"])

def registered_region(tensor, direction):
    region = create_region(SharedMemoryType.SYSTEM, tensor, direction, 4)
    lifeline.made(region.name)
    lifeline.registered(region.name, transport.unregister_call(region.name))
    transport.register_system(region.name, region.key, region.nbytes, 10.0)
    return region
"""


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """What the kernel speaks."""
    return skip_without(request.param)


@pytest.fixture
def finds_server(address: Any, protocol: str) -> dict[str, str]:
    """An environment in which a kernel finds the server."""
    return {**os.environ, "TEST_SERVER": json.dumps(place_of(address, protocol))}


def test_a_real_server_forgets_a_killed_kernels_regions(
    start: Start, server: Any, finds_server: dict[str, str], transport: Transport
) -> None:
    """After SIGKILL neither Triton nor /dev/shm has the region."""
    kernel = start(
        textwrap.dedent(REAL) + "region = registered_region('x', 'input')\n"
        "say(region.name, lifeline.janitor_pid()); time.sleep(60)",
        env=finds_server,
    )
    name, janitor = kernel.hear().split()
    assert name in [region["name"] for region in transport.registered_regions()]
    kernel.kill()
    eventually(lambda: ended(janitor))
    assert name not in [region["name"] for region in transport.registered_regions()]
    assert not exists(name)


@pytest.mark.skipif(TEST_URL is not None, reason="the other server has no such model")
def test_a_real_server_forgets_a_region_when_its_request_has_ended(
    start: Start, sleeper: str, finds_server: dict[str, str], transport: Transport
) -> None:
    """A kernel that is killed in the middle of a request leaves no registration."""
    transport.load_model(sleeper)
    kernel = start(
        textwrap.dedent(REAL)
        + textwrap.dedent("""
        import numpy
        region, slept = (registered_region(*what) for what in (("S", "input"), ("T", "output")))
        region.write(numpy.array([1.5], numpy.float32))
        say(region.name, slept.name, lifeline.janitor_pid())
        given = base.InputTensor(
            "SECONDS", "FP32", (1,), region=base.RegionSlice(region.name, 0, 4)
        )
        wanted = base.RequestedOutput("SLEPT", base.RegionSlice(slept.name, 0, 4))
        request = base.InferRequest("sleeper", "", [given], [wanted])
        transport.infer(transport.prepare(request), 30.0)
        say("too late")
        """),
        env=finds_server,
    )
    *names, janitor = kernel.hear().split()
    time.sleep(0.5)  # until the request is with the model
    kernel.kill()
    assert kernel.hear() == ""
    eventually(lambda: ended(janitor))
    left = {region["name"] for region in transport.registered_regions()}
    assert not left & set(names)
    assert not any(map(exists, names))

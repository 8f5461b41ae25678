"""The program that asks a gRPC server to unregister regions after the kernel has died."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.hostile_grpc import Asked, serving
from tritonic_nb.memory import janitor
from tritonic_nb.transport import errand
from tritonic_nb.transport.grpc import GrpcTransport

Code = grpc.StatusCode
IN_USE = (Code.INTERNAL, "Cannot unregister shared memory region 'x', it is currently in use.")


def calls_to(url: str, *names: str, **headers: str) -> list[dict[str, Any]]:
    """Return what a session tells the janitor of its regions."""
    transport = GrpcTransport(url, headers)
    return json.loads(json.dumps([transport.unregister_call(name) for name in names]))


def run(calls: list[dict[str, Any]], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program as the janitor does."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", errand.__file__],
        input=json.dumps(calls), capture_output=True, text=True, check=True, **options,
    )  # fmt: skip


def name_of(asked: Asked) -> str:
    """Return the region that a call is about."""
    name: str = service_pb2.SystemSharedMemoryUnregisterRequest.FromString(asked.message).name
    return name


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", "done"),
        ((Code.NOT_FOUND, "Unable to find shared memory region: 'x'"), "done"),
        ((Code.UNAVAILABLE, "This protocol is restricted, expecting header 'x'"), "done"),
        ((Code.PERMISSION_DENIED, "no"), "done"),
        ((Code.INTERNAL, "something new"), "declined"),
        ((Code.UNAVAILABLE, "upstream connect error"), "silent"),
    ],
)
def test_each_answer_is_told_in_the_janitors_words(answer: Any, outcome: str) -> None:
    """Both the program and what the janitor makes of it."""
    with serving(lambda _: answer) as (url, _):
        calls = calls_to(url, "x")
        assert json.loads(run(calls).stdout) == [outcome]
        assert janitor.run(errand.__file__, calls) == [outcome]


def test_several_regions_are_asked_for_over_one_channel_with_the_headers() -> None:
    """Those in use are asked for again, the others once."""
    freed: list[float] = []

    def answer(asked: Asked) -> bytes | tuple[grpc.StatusCode, str]:
        if name_of(asked) != "busy":
            return b""
        freed.append(time.monotonic())
        return IN_USE if len(freed) < 3 else b""

    with serving(answer) as (url, asked):
        done = run(calls_to(url, "a", "busy", "b", **{"X-Key": "hidden"}))
    assert json.loads(done.stdout) == ["done"] * 3
    assert [name_of(call) for call in asked] == ["a", "busy", "b", "busy", "busy"]
    assert {call.metadata["x-key"] for call in asked} == {"hidden"}
    assert not done.stderr


def test_where_nobody_listens_it_is_asked_once_for_all() -> None:
    """Refused by one, refused by all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = time.monotonic()
    assert json.loads(run(calls_to(f"127.0.0.1:{port}", "a", "b")).stdout) == ["refused"] * 2
    assert time.monotonic() - started < 4


def test_a_region_that_stays_in_use_is_told_after_a_while() -> None:
    """So that the janitor can decide how long to go on."""
    with serving(lambda _: IN_USE) as (url, asked):
        assert janitor.run(errand.__file__, calls_to(url, "x", "y")) == ["in use"] * 2
    assert len(asked) > 4


def test_it_needs_nothing_of_the_kernels_environment(tmp_path: Path) -> None:
    """With packages that only this process knows of, it runs in any folder and environment."""
    with serving(lambda _: b"") as (url, _):
        done = run(calls_to(url, "x"), cwd=tmp_path, env={})
    assert json.loads(done.stdout) == ["done"]


def test_secrets_are_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in the environment: they go over standard input."""
    seen: list[str] = []

    def answer(asked: Asked) -> bytes:
        me = Path(f"/proc/{os.getpid()}/task")
        for child in {pid for file in me.glob("*/children") for pid in file.read_text().split()}:
            for what in ("cmdline", "environ"):
                seen.append(Path(f"/proc/{child}/{what}").read_text())
        return b""

    with serving(answer) as (url, asked):
        assert janitor.run(errand.__file__, calls_to(url, "x", key="hidden")) == ["done"]
    assert asked[0].metadata["key"] == "hidden"
    assert any("errand.py" in text for text in seen)
    assert not any("hidden" in text for text in seen)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import time; time.sleep(60)", "silent"),
        ("raise SystemExit(1)", "declined"),
        ("print('nonsense')", "declined"),
        ("print('[5]')", "declined"),
        ("print('[\"new\"]')", "declined"),
    ],
)
def test_a_program_that_hangs_or_fails_is_survived(
    program: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when its time is up, and the janitor goes on."""
    monkeypatch.setattr(janitor, "PROGRAM_S", 0.5)
    path = tmp_path / "program.py"
    path.write_text(program)
    assert janitor.run(str(path), [{}]) == [outcome]


def test_without_grpc_it_fails_and_does_not_hang() -> None:
    """The janitor is told that it cannot be done."""
    calls = [{**call, "python_path": []} for call in calls_to("127.0.0.1:9", "x")]
    assert janitor.run(errand.__file__, calls) == ["declined"]


def test_the_janitor_imports_none_of_it_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls without a program are made by the janitor itself."""
    monkeypatch.setattr(janitor, "run", None)
    monkeypatch.setattr(janitor, "ask", lambda call: call["said"])
    asked = {"a": {"said": "done"}, "b": {"said": "in use"}, "c": {"said": "silent"}, "d": {}}
    assert list(janitor.answers(asked)) == [("a", "done"), ("b", "in use"), ("c", "silent")]

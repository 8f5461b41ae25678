"""A /dev/shm that is full: an error with figures, never a signal."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from fault_processes import Process
from fault_table import Record, times

from tests.own_shm import WHY_NOT, own_dev_shm

SIZE = "64m"  # as in a container that nobody gave more
# Figures, so that one knows what to do: a region's and the memory's, or the server's own words.
CLEAR = re.compile(r"needs \d+ bytes .* which has \d+ free|pool size for key .* to \d+ bytes")


pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")


def problem_of(message: dict[str, Any], fatal: set[int]) -> str:
    """Return what is wrong with what came of an inference; nothing, if nothing is."""
    if "answered" in message:
        return "" if message["answered"] else "not what was sent"
    error, text = message["error"], message["text"]
    if message.get("after"):
        return f"no room though there is: {text}"
    if error == "ServerUnreachableError" and message["turn"] in fatal:
        return ""  # a clear word for what happened
    clear = error == "NoSpaceError" and CLEAR.search(text)
    return "" if clear else f"{error}: {text}"


@pytest.mark.parametrize("program", ["crowded", "crowded_map"])
def test_a_full_dev_shm_is_a_clear_error(record: Record, program: str) -> None:
    """In a /dev/shm of 64 MB that others fill, each inference answers or says what is short.

    A file leaves more or less room, before and during use, and comes and goes all
    the time in each third turn; sizes lie around what fits, with several outputs,
    growing, with results whose arrays are kept without a copy, and with four in
    flight (the second program). The only error
    is NoSpaceError, with figures; should the server die of it, ServerUnreachableError.
    The interpreter gets no signal, and when the room is there again everything is
    answered.
    """
    said: Counter[str] = Counter()
    several = ", 4 in flight" if program == "crowded_map" else ""
    with record(f"/dev/shm of {SIZE[:-1]} MB full{several}") as row:
        for seed in range(times(1, 4)):
            config = {"seed": seed, "turns": times(6, 30)}
            with Process(program, config, before=own_dev_shm(SIZE)) as kernel:
                messages = list(kernel.hear_all())
                if code := kernel.wait():
                    row.count(f"seed {seed}: the interpreter ended with {code}")
            fatal = {message["turn"] for message in messages if "died" in message}
            said["servers died"] += len(fatal)
            for message in messages:
                if "died" not in message:
                    problem = problem_of(message, fatal)
                    row.count(problem and f"seed {seed}, turn {message['turn']}: {problem}")
                    said[message.get("error", "answered")] += 1
        row.note(", ".join(f"{count} {what}" for what, count in said.most_common()))

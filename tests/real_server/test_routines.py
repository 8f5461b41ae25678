"""Inferences that are alike: prepared once, and right whatever happens between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tritonic_nb.errors import TensorDatatypeError
from tritonic_nb.transport import InferRequest

Open = Callable[..., tritonic_nb.Session]


@pytest.fixture
def prepared(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> list[InferRequest]:
    """The requests that sessions have prepared."""
    requests: list[InferRequest] = []
    transport = type(open_session()._transport)  # type: ignore[attr-defined]
    real = transport.prepare

    def prepare(self: Any, request: InferRequest) -> Any:
        requests.append(request)
        return real(self, request)

    monkeypatch.setattr(transport, "prepare", prepare)
    return requests


def filled(value: float, *shape: int) -> Any:
    return np.full(shape, value, np.float32)


def test_a_request_is_prepared_once_for_each_pattern(
    open_session: Open, prepared: list[InferRequest]
) -> None:
    """Shapes that take turns share regions, and each result is that of its own request."""
    session = open_session("identity_fp32")
    session.register_inputs({"INPUT0": (9, 9)})
    session.register_outputs({"OUTPUT0": (9, 9)})
    for turn in range(5):
        for side in (3, 4, 9):
            result = session.infer(filled(turn + side, side, side))
            assert np.array_equal(result["OUTPUT0"], filled(turn + side, side, side))
    assert len(prepared) == 3
    assert len(session.regions) == 2


def test_results_without_a_copy_take_turns(
    open_session: Open, prepared: list[InferRequest]
) -> None:
    """A view keeps its region, another one serves the next request, and both are ready again."""
    session = open_session("identity_fp32")
    session.register_outputs({"OUTPUT0": (4, 4)})
    before = None
    for turn in range(20):
        result = session.infer(filled(turn, 4, 4), copy=False)
        assert np.array_equal(result["OUTPUT0"], filled(turn, 4, 4))
        if before is not None:
            assert np.array_equal(before["OUTPUT0"], filled(turn - 1, 4, 4))
        before = result
    assert len(prepared) <= 3


def test_what_changes_between_is_noticed(open_session: Open) -> None:
    """Switching, unregistering, other outputs, byte orders and options: always the right answer."""
    session = open_session("identity_fp32")
    changes: list[Callable[[], object]] = [
        session.unregister,
        lambda: session.set_shared_memory("none"),
        lambda: session.set_shared_memory("system"),
        lambda: session.set_shared_memory("none", output="system"),
        lambda: session.set_shared_memory("system", output="none"),
        lambda: session.set_shared_memory("auto"),
        lambda: session.use("identity_fp32"),
        session.load,
        lambda: session.infer(filled(1, 50, 50)),
        lambda: session.infer(filled(1, 4, 4).astype(">f4")),
        lambda: session.infer(filled(1, 0, 4)),
        lambda: session.infer(filled(1, 4, 4), request_id="x"),
        lambda: session.infer(filled(1, 4, 4), outputs="OUTPUT0"),
        lambda: session.inputs.__setitem__("INPUT0", filled(8, 4, 4)),
        session.infer,
        lambda: None,
    ]
    value = 2
    for change in changes:
        for _ in range(2):
            change() if change is not session.infer else session.infer(filled(3, 2, 2))
            value += 1
            for _ in range(2):
                result = session.infer(filled(value, 4, 4))
                assert np.array_equal(result["OUTPUT0"], filled(value, 4, 4))


def test_text_is_looked_at_each_time(open_session: Open) -> None:
    """Texts of the same number and of any length are each sent as they are."""
    session = open_session("identity_bytes")
    for text in ("a", "b" * 5000, "c", ""):
        given = np.array([[text.encode()]], np.object_)
        assert session.infer(given)["OUTPUT0"].ravel().tolist() == [text.encode()]


def test_many_patterns_are_forgotten_one_by_one(open_session: Open) -> None:
    """Hundreds of shapes from several threads keep neither memory nor anybody waiting."""
    session = open_session("identity_fp32")
    wrong: list[object] = []

    def work(offset: int) -> None:
        for side in range(1, 60):
            array = filled(side + offset, side, 4 + offset)
            try:
                if not np.array_equal(session.infer(array)["OUTPUT0"], array):
                    wrong.append(side)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    known = session._setup.routines._known  # type: ignore[attr-defined]
    assert len(known) <= 64


def test_an_output_that_is_left_out_is_not_told_of(open_session: Open) -> None:
    """How tensors travelled is told of those that came, also when fewer are asked for."""
    session = open_session("simple")
    ones = np.ones((1, 16), np.int32)
    for outputs in (None, ["OUTPUT1"], "OUTPUT0", None):
        result = session.infer(INPUT0=ones, INPUT1=ones, outputs=outputs)
        assert {name for way, name in result.places if way == "output"} == set(result)


def test_an_error_between_loses_nothing(open_session: Open) -> None:
    """After a refused input the ready request is as good as before."""
    session = open_session("identity_fp32")
    for value in (1, 2):
        session.infer(filled(value, 4, 4))
        with pytest.raises(TensorDatatypeError):
            session.infer(filled(value, 4, 4).astype(np.float64))
    assert np.array_equal(session.infer(filled(7, 4, 4))["OUTPUT0"], filled(7, 4, 4))
    assert len(session.regions) == 2

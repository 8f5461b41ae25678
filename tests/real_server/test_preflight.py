"""What a model needs, told before anything is made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.own_shm import WHY_NOT, own_dev_shm
from tritonic_nb.errors import ArgumentError, BatchSizeError, TensorNameError, TensorShapeError
from tritonic_nb.memory.shm_file import SHM_DIR

Open = Callable[..., tritonic_nb.Session]
ONES = np.ones((1, 16), np.int32)


def test_it_tells_what_infer_then_makes(
    open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """The regions that it announces are those that an inference makes, byte for byte."""
    session = open_session("classifier")
    told = session.preflight(batch=2)
    assert told
    assert not shm_names()
    session.infer(np.zeros((2, 3, 224, 224), np.float32))
    made = sum((SHM_DIR / name).stat().st_size for name in shm_names())
    assert told.region_nbytes == made > 10**6
    assert session.preflight(batch=2).region_nbytes == 0
    assert session.preflight(batch=2, in_flight=3).region_nbytes == 2 * made


def test_a_size_that_is_not_known_is_told(open_session: Open) -> None:
    """Inputs need their shape; an output without one comes over the wire, until it is learned."""
    session = open_session("identity_fp32")
    with pytest.raises(TensorShapeError, match=r"dynamic dimensions.*\n.*shapes="):
        session.preflight()
    told = session.preflight({"INPUT0": (30, 30)})
    assert [each.nbytes for each in told.requirements] == [3600, None]
    assert "the wire at first" in repr(told)
    session.infer(np.ones((30, 30), np.float32))
    again = session.preflight({"INPUT0": (30, 30)})
    assert [each.nbytes for each in again.requirements] == [3600, 3600]
    assert session.preflight({"INPUT0": (30, 30), "OUTPUT0": (50, 2)}).requirements[1].nbytes == 400


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"shapes": {"NOPE": (1,)}}, TensorNameError),
        ({"shapes": {"INPUT0": (1, 15)}}, TensorShapeError),
        ({"shapes": {"INPUT0": "ab"}}, TensorShapeError),
        ({"shapes": [1, 2]}, TensorShapeError),
        ({"nbytes": {"INPUT0": -1}}, TensorShapeError),
        ({"batch": 9}, BatchSizeError),
        ({"batch": 0}, BatchSizeError),
        ({"batch": "2"}, ArgumentError),
        ({"in_flight": 0}, ArgumentError),
        ({"shared_memory": "gpu"}, ArgumentError),
        ({"device": -1}, ArgumentError),
    ],
)
def test_bad_questions_are_our_errors(
    open_session: Open, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """Unknown names, wrong shapes, batches and kinds are told as infer() would."""
    with pytest.raises(error):
        open_session("simple").preflight(**arguments)


def test_more_than_there_is_does_not_fit(open_session: Open) -> None:
    """It says how much is needed and to be had, and what sets the limit; nothing is made."""
    session = open_session("identity_fp32")
    told = session.preflight({"INPUT0": (10**6, 10**6)})
    assert not told
    assert "4 TB" in told.problems[0]
    by_wire = session.preflight({"INPUT0": (10**6, 10**6)}, shared_memory="none")
    assert "'none'" not in by_wire.remedy  # it is the server's own part that is too large
    for shown in (repr(told), told._repr_html_()):
        assert "does not fit" in shown
        assert "the limit is" in shown
        assert "what to do" in shown
    assert session.infer(np.ones((2, 2), np.float32))["OUTPUT0"].sum() == 4


def test_the_device_is_asked_too(open_session: Open) -> None:
    """For CUDA it names the device's memory, or why there is none; the session stays as it is."""
    session = open_session("simple")
    told = session.preflight(shared_memory="cuda")
    assert told.fits == (told.device_free_nbytes is not None)  # without a GPU for want of one
    assert told.device_nbytes == 4 * 2 * 2**20
    assert told.region_nbytes == 0
    assert told.fits or "no CUDA device was found" in told.problems[0]
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_over_the_wire_nothing_is_needed(open_session: Open) -> None:
    """With shared_memory='none' no region is, whatever the size."""
    session = open_session("identity_fp32", shared_memory="none")
    told = session.preflight({"INPUT0": (100, 100)})
    assert told
    assert told.region_nbytes == 0


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")
def test_it_is_right_about_a_small_dev_shm() -> None:
    """In 64 MB it says beforehand which sizes will work, the Python backend's pools included."""
    script = """
import numpy as np, tritonic_nb
from tritonic_nb.errors import NoSpaceError
with tritonic_nb.serve() as server, server.session(model="identity_fp32") as session:
    for mega in (1, 4, 8, 16, 24):
        shape = (mega, 250_000)
        told = session.preflight({"INPUT0": shape, "OUTPUT0": shape})
        try:
            session.register_outputs({"OUTPUT0": shape})
            session.infer(np.ones(shape, np.float32))
        except NoSpaceError as error:
            print(mega, bool(told), "full")
            session.unload(); session.load()
        else:
            print(mega, bool(told), "answered")
"""
    done = subprocess.run(
        [*own_dev_shm("64m"), sys.executable, "-c", script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [fits for _, fits, seen in rows if seen == "answered"][:2] == ["True", "True"]
    assert {fits for _, fits, seen in rows if seen == "full"} == {"False"}, done.stdout

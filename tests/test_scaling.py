"""What docs/scaling.md reckons, worked out again from the formulas and the measured costs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.measure_scaling import payloads, seconds_of

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    """The formulas, as a module."""
    found = importlib.util.spec_from_file_location("scaling", DOCS / "scaling.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["scaling"] = module  # where dataclasses look
    found.loader.exec_module(module)
    return module


def test_the_page_has_what_the_formulas_give(scaling: ModuleType) -> None:
    """Every table of the page is there, and is what the script writes."""
    page = (DOCS / "scaling.md").read_text()
    for name, made in scaling.tables().items():
        assert f"<!-- {name}: by scaling.py -->\n{made}\n<!-- end of {name} -->" in page
    assert scaling.written(page) == page


def test_the_formulas(scaling: ModuleType) -> None:
    """By numbers that can be worked out in one's head."""
    cost = scaling.Cost("x", client_ms=1.0, server_ms=3.0, nbytes=1_250_000, region_nbytes=2**20)
    assert scaling.beside_per_s(cost, 16) == 4000
    assert scaling.instances_per_s(2, 8.0) == 250
    assert scaling.in_flight_fitting(cost, 64 * 2**20, pool_nbytes=4 * 2**20) == 60
    assert scaling.shm_per_s(cost, 64 * 2**20, 10.0, pool_nbytes=4 * 2**20) == 6000
    assert scaling.in_flight_fitting(cost, 2**19) == 0
    assert scaling.link_per_s(cost, 1.0) == 100
    assert scaling.client_per_s(cost, 4) == 4000
    assert scaling.servers_per_s(cost, 3, 8) == 8000
    assert scaling.copied_gb_s(10**6, 1000) == 4
    task = scaling.Task(task_ms=1.0, item_ms=0.01)
    assert scaling.handed_per_s(100, task) == 50_000
    assert scaling.handed_per_s(100, task, 0.5) == 25_000
    assert scaling.chunk_for(25_000, task) == 100
    assert scaling.chunk_for(1, task) == 1
    assert scaling.chunk_for(50_000, task) is None
    assert scaling.over_link_ms(5.0, 1_250_000, 0.1) == 105
    assert scaling.even_mbit_s(1.0, 11.0, 1_250_000, 0) == 1000
    assert scaling.even_mbit_s(1.0, 11.0, 1, 2) == 0
    assert scaling.first({"link": 3.0, "client": 2.0, "node": 9.0}) == (2.0, "client")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.134, "0.13"), (9.96, "10"), (10.4, "10"), (1_251_000, "1,300,000")],
)
def test_figures_have_two_digits(scaling: ModuleType, value: float, text: str) -> None:
    """More would be pretence."""
    assert scaling.shown(value) == text


def test_the_link_adds_what_its_bytes_take(scaling: ModuleType) -> None:
    """At 100 Mbit/s, where little else matters, the formula is right within a fifth."""
    found = scaling.cables()
    for nbytes, what in scaling.cable_rows():
        base = found["not limited", nbytes, what, "none"]
        told = scaling.over_link_ms(base["median_ms"], base["wire_nbytes"], 0.1)
        assert found["100mbit", nbytes, what, "none"]["median_ms"] == pytest.approx(told, rel=0.2)


def test_what_was_measured_is_whole(scaling: ModuleType) -> None:
    """Every size by both ways; each payload over each link, with and without compression."""
    assert [cost.name for cost in scaling.costs("none")] == [
        cost.name for cost in scaling.costs("system")
    ]
    assert len(scaling.cables()) == 2 * 4 * 3 * 2
    for each in scaling.MEASURED["beside"]:
        assert each["client_cpu_ms"] > 0
        assert each["server_cpu_ms"] > 0
        assert (each["region_nbytes"] > 0) == (each["way"] == "system")


def test_it_reckons_with_your_numbers() -> None:
    """The script takes cores and nodes, with Python alone, and writes nothing."""
    before = (DOCS / "scaling.md").read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", DOCS / "scaling.py", "--cores", "32", "--nodes", "1", "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| 4 nodes |" in done.stdout
    assert "32 cores" in done.stdout
    assert (DOCS / "scaling.md").read_bytes() == before


@pytest.mark.parametrize("nbytes", [602_112, 4_000_000])
def test_the_payloads_are_of_one_size(nbytes: int) -> None:
    """What goes over the cable differs in what it is, and hardly in how much."""
    for tensor in payloads(nbytes).values():
        assert tensor.nbytes == pytest.approx(nbytes, rel=0.01)
        assert tensor.ndim == 2


def test_the_processor_time_of_a_process_is_found() -> None:
    """It is this process's and its children's, as the kernel counts it."""
    used = os.times()
    assert 0 < used.user + used.system <= seconds_of(os.getpid()) + 0.05

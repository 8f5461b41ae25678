"""doctor(): what a session needs, checked on this machine and on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import place_of
from tests.own_shm import WHY_NOT, own_dev_shm
from tests.test_cli import run, serving
from tritonic_nb.diagnosis import Check, Diagnosis
from tritonic_nb.errors import ArgumentError


def checks(found: Diagnosis) -> dict[str, Check]:
    return {check.name: check for check in found.checks}


def test_this_machine_is_well() -> None:
    """What the tests need is there: the embedded server answers both ways, nothing failed."""
    found = tritonic_nb.doctor()
    told = checks(found)
    assert found.healthy, found
    assert told["Python"].found.startswith(".".join(map(str, sys.version_info[:3])))
    assert "a region could be made" in told["/dev/shm"].found
    assert f"NumPy {np.__version__}" in told["packages"].found
    assert "came back over the wire and through shared memory" in told["embedded server"].found
    assert told["widgets"].status == "note"  # this is no notebook


def test_a_server_opens_a_region_and_runs_a_model(server: Any) -> None:
    """By its address, with its header; the session and the region are gone afterwards."""
    place = place_of(server, "http")
    with tritonic_nb.Session(place["server"], headers=place["headers"]) as session:
        session.load("simple")
    found = tritonic_nb.doctor(place["server"], model="simple", headers=place["headers"])
    told = checks(found)
    assert found.healthy, found
    assert told["server"].found.startswith("triton 2.")
    assert "opened a region of this machine's /dev/shm" in told["system shared memory"].found
    assert told["cuda shared memory"].status == "note"
    assert "the wire" in told["model simple"].found
    assert "system shared memory" in told["model simple"].found


def test_what_is_wrong_is_told_with_what_to_do() -> None:
    """A server that is not there, and one that demands a header; nothing is raised."""
    nowhere = checks(tritonic_nb.doctor("127.0.0.1:1"))
    assert nowhere["server"].status == "failed"
    assert "check the address and port" in nowhere["server"].remedy
    assert "system shared memory" not in nowhere  # there is nobody to ask
    with tritonic_nb.serve() as protected:
        told = checks(tritonic_nb.doctor(protected.url))
        assert "header" in told["server"].remedy
        told = checks(tritonic_nb.doctor(protected, model="no such model"))
        assert told["model no such model"].status == "failed"
        assert "no such model" in told["model no such model"].found


def test_it_shows_itself() -> None:
    """As lines, as a table that escapes, and as JSON."""
    found = Diagnosis((Check("one", "ok", "<b>"), Check("other", "failed", "gone", "bring it")))
    assert not found.healthy
    assert repr(found).splitlines() == [
        "1 of 2 checks failed",
        "ok      one    <b>",
        "failed  other  gone",
        "               what to do: bring it",
    ]
    assert "&lt;b&gt;" in found._repr_html_()
    assert found.document()["checks"][1]["remedy"] == "bring it"


def test_arguments_without_a_server_are_refused() -> None:
    """It is not known of which server they are."""
    with pytest.raises(ArgumentError, match="no server"):
        tritonic_nb.doctor(model="simple")


def test_the_command(tmp_path: Path) -> None:
    """Text or JSON; the exit status tells whether something failed."""
    headers = tmp_path / "headers.json"
    with serving("--headers-file", str(headers), "simple") as (_, printed):
        url = printed.split("HTTP")[1].split()[0]
        asked = ("doctor", "--url", url, "--headers-file", str(headers), "--model", "simple")
        well = run(*asked)
        assert (well.returncode, well.stderr) == (0, "")
        assert "what to do" in well.stdout  # where there is no GPU, and no notebook
        as_json = json.loads(run(*asked, "--json").stdout)
        assert as_json["healthy"]
    gone = run("doctor", "--url", url)
    assert gone.returncode == 1
    assert "no Triton server answers" in gone.stdout


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_full_dev_shm_is_found() -> None:
    """With its figures, and how to enlarge it."""
    code = (
        "import tritonic_nb, pathlib\n"
        "pathlib.Path('/dev/shm/full').write_bytes(bytes(18 * 2**20))\n"
        "told = {c.name: c for c in tritonic_nb.doctor('127.0.0.1:1').checks}['/dev/shm']\n"
        "print(told.status, told.found, told.remedy, sep='\\n')\n"
    )
    done = subprocess.run(
        [*own_dev_shm("20m"), sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    status, found, remedy = done.stdout.splitlines()
    assert status == "failed"
    assert found.startswith("21 MB, 2.1 MB free")
    assert "size=20480k" in found
    assert "--shm-size" in remedy

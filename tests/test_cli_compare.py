"""``tritonic-nb compare``, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_cli import run, serving
from tritonic_nb import samples


def test_a_teaching_model_over_sizes(tmp_path: Path) -> None:
    """The table and verdict are printed, the figures written as JSON, the picture as PNG."""
    json_file, plot_file = tmp_path / "found.json", tmp_path / "found.png"
    done = run(
        "compare", "identity_fp32", "--sizes", "4kB,600k", "--seconds", "2",
        "--json", str(json_file), "--plot", str(plot_file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "600 kB" in done.stdout
    document = json.loads(json_file.read_text())
    assert {"4000", "600000"} <= document["comparisons"].keys()
    assert document["verdict"] in done.stdout
    assert plot_file.read_bytes().startswith(b"\x89PNG")


def test_a_file_of_ones_own_as_json_alone() -> None:
    """An ONNX file is served under its name; standard output is one document."""
    done = run(
        "compare", f"mine={samples.classifier()}", "--ways", "none,system", "--seconds", "0.5",
        "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["model"] == "mine"
    assert [way["name"] for way in document["ways"]] == ["none", "system"]
    assert document["left_out"] == {}


def test_another_server_with_its_header(tmp_path: Path) -> None:
    """By its address, over batches; without the header it says what is missing."""
    headers = tmp_path / "headers.json"
    with serving("--headers-file", str(headers), "simple") as (_, printed):
        url = printed.split("HTTP")[1].split()[0]
        done = run(
            "compare", "simple", "--url", url, "--headers-file", str(headers),
            "--batch", "1,2", "--seconds", "1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "by batch" in done.stdout
        without = run("compare", "simple", "--url", url, "--ways", "system", "--seconds", "1")
    assert without.returncode == 1
    assert "header" in without.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["identity_fp32", "--sizes", "4kB,none"], "'none' is no number of bytes"),
        (["identity_fp32", "--sizes", "4kB", "--batch", "1"], "not allowed with"),
        (["identity_fp32", "--batch", "0"], "no batches"),
        (["identity_fp32", "--seconds", "nan"], "no number of seconds"),
        (["identity_fp32", "--json", "/nowhere/found.json"], "/nowhere/found.json cannot be"),
        (["identity_fp32", "--headers-file", "x.json"], "x.json"),
        (["no_such_model"], "no_such_model"),
    ],
)
def test_wrong_words_are_told(arguments: list[str], said: str) -> None:
    """What was wrong, on standard error, in one piece."""
    done = run("compare", *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr

"""The command ``python -m tritonic_nb.benchmark``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tritonic_nb.benchmark.interrupts import handled
from tritonic_nb.benchmark.plot import plot
from tritonic_nb.benchmark.run import FULL, QUICK, Amount, run
from tritonic_nb.errors import ArgumentError, TritonicError

__all__ = ["main"]

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2}
_MOST_NBYTES = 2**30
_LONGEST_S = 86_400.0
_MOST_ROUNDS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its tables, and write the files that were asked for.

    Parameters
    ----------
    arguments
        What follows the command's name; by default the process's own.

    Returns
    -------
    int
        The exit status: 0, whatever the figures; 1 after an error that was told on
        standard error; 130 after an interrupt.
    """
    options = _parser().parse_args(arguments)
    try:
        for path in (options.json, options.plot):
            _check_file(path)
        with handled():
            report = run(
                _amount(options),
                url=options.url,
                grpc_url=options.grpc_url,
                model=options.model,
                profiled=options.profile,
                progress=lambda line: print(f"measuring: {line}", file=sys.stderr, flush=True),
            )
    except TritonicError as error:
        print(f"tritonic_nb.benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tritonic_nb.benchmark: interrupted", file=sys.stderr)
        return 130
    print(report.text())
    if options.json:
        document = json.dumps(report.document(), indent=2)
        options.json.write_text(f"{document}\n", encoding="utf-8")
    if options.plot and report.sizes:
        plot(report.ways, report.sizes).save(options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tritonic_nb.benchmark",
        description="Measure the ways to move a tensor to a Triton server and back.",
    )
    parser.add_argument("--quick", action="store_true", help="a first look in half a minute")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="SIZES",
        help="of the tensors, such as 4096,602112,24MB (kB and MB are decimal)",
    )
    parser.add_argument(
        "--seconds", type=_seconds, metavar="S", help="for the rounds of all sizes together"
    )
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N", help="at most, for each size; a connection each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them to FILE, a PNG")
    parser.add_argument(
        "--profile", action="store_true", help="show where a small inference spends its time"
    )
    parser.add_argument(
        "--url", metavar="HOST:PORT", help="another server, whose APIs are open (its HTTP port)"
    )
    parser.add_argument("--grpc-url", metavar="HOST:PORT", help="the same server's gRPC port")
    parser.add_argument(
        "--model",
        default="identity_fp32",
        help="one that answers one FP32 tensor of two dynamic dimensions with itself "
        "(default: %(default)s)",
    )
    return parser


def _amount(options: argparse.Namespace) -> Amount:
    amount = QUICK if options.quick else FULL
    asked = {name: getattr(options, name) for name in ("sizes", "seconds", "rounds")}
    return replace(amount, **{name: value for name, value in asked.items() if value is not None})


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({_size(each.strip()) for each in text.split(",")}))


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,10})\s*([kKmM]?[bB]?)", text)
    nbytes = int(found[1]) * _UNITS.get(found[2].lower(), 0) if found else 0
    if not 0 < nbytes <= _MOST_NBYTES or nbytes % 4:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: give bytes, a multiple of 4 up to {_MOST_NBYTES}, or kB, MB"
        )
    return nbytes


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds from 1")
    return int(text)


def _check_file(path: Path | None) -> None:
    """Refuse now what could not be written after some minutes."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ArgumentError(
            f"{path} cannot be written: it is a folder, or not in a folder of yours",
            "name a file in a folder that you may write to",
        )


if __name__ == "__main__":
    sys.exit(main())

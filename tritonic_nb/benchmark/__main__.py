"""The command ``python -m tritonic_nb.benchmark``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tritonic_nb.arguments import check_file, seconds
from tritonic_nb.benchmark.interrupts import handled
from tritonic_nb.benchmark.plot import plot
from tritonic_nb.benchmark.run import FULL, QUICK, Amount, run
from tritonic_nb.errors import ArgumentError, TritonicError
from tritonic_nb.render import parsed_bytes

if TYPE_CHECKING:
    from tritonic_nb.benchmark.gpu_run import GpuAmount

__all__ = ["main"]

_Amount = TypeVar("_Amount", Amount, "GpuAmount")
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
    options = _checked(_parser(), arguments)
    try:
        for path in (options.json, options.plot):
            check_file(path)
        if options.markdown is not None:
            # Its name in a folder is known only when the device is.
            is_folder = options.markdown.is_dir()
            check_file(options.markdown / "x" if is_folder else options.markdown)
        with handled():
            if options.monitor:
                _run_monitor()
            elif options.sureness:
                _run_sureness()
            elif options.spread:
                _run_spread(quick=options.quick)
            elif options.gpu is None:
                _run(options)
            else:
                _run_gpu(options)
    except TritonicError as error:
        print(f"tritonic_nb.benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tritonic_nb.benchmark: interrupted", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    report = run(
        _amount(options, QUICK if options.quick else FULL),
        url=options.url,
        grpc_url=options.grpc_url,
        model=options.model or "identity_fp32",
        profiled=options.profile,
        progress=_tell,
    )
    print(report.text())
    if options.json:
        document = json.dumps(report.document(), indent=2)
        options.json.write_text(f"{document}\n", encoding="utf-8")
    if options.plot and report.sizes:
        plot(report.ways, report.sizes).save(options.plot)


def _run_gpu(options: argparse.Namespace) -> None:
    # Imported here: nobody else needs CUDA.
    from tritonic_nb.benchmark import gpu_run

    report = gpu_run.run_gpu(
        _amount(options, gpu_run.QUICK if options.quick else gpu_run.FULL),
        device=options.gpu,
        url=options.url,
        grpc_url=options.grpc_url,
        model=options.model or gpu_run.MODEL,
        progress=_tell,
    )
    print(report.markdown())
    if options.markdown:
        print(f"written to {report.save(options.markdown)}", file=sys.stderr)


def _run_monitor() -> None:
    from tritonic_nb.benchmark.monitor import measure_monitor, monitor_text

    print(monitor_text(measure_monitor(progress=_tell)))


def _run_sureness() -> None:
    from tritonic_nb.benchmark.sureness import measure_sureness, sureness_text

    print(sureness_text(measure_sureness(_tell)))


def _run_spread(*, quick: bool) -> None:
    # Imported here: it needs Dask.
    from tritonic_nb.benchmark import spread

    print(spread.measure_spread(spread.QUICK if quick else spread.FULL, _tell).text())


def _tell(line: str) -> None:
    print(f"measuring: {line}", file=sys.stderr, flush=True)


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
        "--seconds",
        type=seconds(_LONGEST_S),
        metavar="S",
        help="for the rounds of all sizes together",
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
        help="one that answers one FP32 tensor of two dynamic dimensions with itself "
        "(default: identity_fp32; with --gpu, identity_fp32_device)",
    )
    parser.add_argument(
        "--gpu",
        type=_device,
        nargs="?",
        const=0,
        metavar="DEVICE",
        help="compare CUDA shared memory on a device, by CUDA's number (default: 0), with the "
        "others, and measure the rates of copies",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="PATH",
        help="with --gpu: write the tables to a file, or into a folder under the device's name",
    )
    parser.add_argument(
        "--monitor",
        action="store_true",
        help="measure what the live plot of memory costs a kernel, and nothing else",
    )
    parser.add_argument(
        "--sureness",
        action="store_true",
        help="measure how sure the verdicts of Session.compare are, and nothing else",
    )
    parser.add_argument(
        "--spread",
        action="store_true",
        help="measure a map over a Dask cluster on this machine, and a data set larger than "
        "memory, and nothing else (with --quick, less of it)",
    )
    return parser


def _checked(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return the options, those that go together."""
    options = parser.parse_args(arguments)
    if options.gpu is None and options.markdown:
        parser.error("--markdown goes with --gpu")
    if options.gpu is not None and (options.json or options.plot or options.profile):
        parser.error("--json, --plot and --profile do not go with --gpu")
    return options


def _amount(options: argparse.Namespace, amount: _Amount) -> _Amount:
    asked = {name: getattr(options, name) for name in ("sizes", "seconds", "rounds")}
    return replace(amount, **{name: value for name, value in asked.items() if value is not None})


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(sorted({_size(each.strip()) for each in text.split(",")}))


def _size(text: str) -> int:
    try:
        nbytes = parsed_bytes(text)
    except ArgumentError:
        nbytes = 0
    if not 0 < nbytes <= _MOST_NBYTES or nbytes % 4:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: give bytes, a multiple of 4 up to {_MOST_NBYTES}, or kB, MB"
        )
    return nbytes


def _device(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no device's number from 0")
    return int(text)


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

"""The command ``tritonic-nb compare``: the ways to a model, measured side by side."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tritonic_nb.arguments import check_file, seconds
from tritonic_nb.errors import ArgumentError
from tritonic_nb.measuring import LONGEST_S, WAYS, Comparison, Sweep
from tritonic_nb.render import parsed_bytes
from tritonic_nb.server import serve
from tritonic_nb.session import Session

__all__ = ["add_compare", "run_compare"]

_SECONDS = 10.0
_SWEEP_SECONDS = 30.0

Words: TypeAlias = Callable[[list[str]], tuple[list[str], dict[str, str]]]
"""Tells names of teaching models from files."""


def add_compare(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the command's own options, and return its parser."""
    parser = commands.add_parser(
        "compare", help="measure the ways to a model side by side: wire, system, CUDA shared memory"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model's name; without --url, of the embedded server: a teaching model's name, or "
        "an ONNX file or folder, PATH or NAME=PATH",
    )
    parser.add_argument("--url", metavar="HOST:PORT", help="another server than the embedded one")
    parser.add_argument(
        "--headers-file",
        type=Path,
        metavar="FILE",
        help="the header that the server demands, as `serve --headers-file` wrote it",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--sizes",
        type=_sizes,
        metavar="SIZES",
        help="of all inputs, to find where the ways cross: 4kB,64kB,1MB (decimal)",
    )
    sizes.add_argument(
        "--batch", type=_batches, metavar="BATCHES", help="the same over batches: 1,2,4"
    )
    parser.add_argument(
        "--ways", default=",".join(WAYS), metavar="WAYS", help="default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=seconds(LONGEST_S),
        metavar="S",
        help=f"at most (default: {_SECONDS:g}; with several sizes {_SWEEP_SECONDS:g})",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write all figures to FILE; - for standard output alone"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them to FILE, a PNG")
    return parser


def run_compare(options: argparse.Namespace, words: Words, headers: Mapping[str, str]) -> int:
    """Run the command.

    Parameters
    ----------
    options
        The command line's.
    words
        Tells names of teaching models from files.
    headers
        What the server demands.
    """
    for path in (options.plot, Path(options.json) if options.json not in (None, "-") else None):
        check_file(path)
    with _session(options, words, headers) as session:
        found = _measured(session, options)
    document = json.dumps(found.document(), indent=2, allow_nan=False)
    if options.plot is not None:
        found.picture().save(options.plot)
    if options.json == "-":
        print(document)
        return 0
    if options.json is not None:
        Path(options.json).write_text(f"{document}\n", encoding="utf-8")
    print(found)
    return 0


@contextmanager
def _session(
    options: argparse.Namespace, words: Words, headers: Mapping[str, str]
) -> Iterator[Session]:
    """Open a session with the model, on the server that was named or an embedded one."""
    if options.url is not None:
        with Session(options.url, options.model, headers=headers) as session:
            yield session
        return
    if options.headers_file is not None:
        raise ArgumentError("a header was given, and no server", "name it: --url HOST:PORT")
    names, files = words([options.model])
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve(names))
        for name, path in files.items():
            server.add(name, path)
        yield stack.enter_context(server.session(model=(*names, *files)[0]))


def _measured(session: Session, options: argparse.Namespace) -> Comparison | Sweep:
    ways = [each.strip() for each in options.ways.split(",")]
    if options.sizes is None and options.batch is None:
        return session.compare(ways=ways, seconds=options.seconds or _SECONDS)
    return session.sweep(
        batch=options.batch,
        sizes=options.sizes,
        ways=ways,
        seconds=options.seconds or _SWEEP_SECONDS,
    )


def _sizes(text: str) -> list[int]:
    try:
        return [parsed_bytes(each) for each in text.split(",")]
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _batches(text: str) -> list[int]:
    parts = [each.strip() for each in text.split(",")]
    if not all(each.isdecimal() and int(each) > 0 for each in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are no batches: give numbers such as 1,2,4")
    return [int(each) for each in parts]

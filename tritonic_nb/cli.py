"""The command ``tritonic-nb``: prepare, serve, demo, compare, doctor, clean."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy.typing as npt

from tritonic_nb import __version__, samples
from tritonic_nb.cli_compare import add_compare, run_compare
from tritonic_nb.diagnosis import doctor
from tritonic_nb.errors import ArgumentError, TritonicError
from tritonic_nb.images import ImageTransform, load_image
from tritonic_nb.leftovers import Leftovers, find_leftovers
from tritonic_nb.monitoring import shm_files
from tritonic_nb.render import human_bytes
from tritonic_nb.server import NVIDIA_EXAMPLES, Server, prepare, serve
from tritonic_nb.server.orphans import find_orphans, remove_orphan
from tritonic_nb.server.runtime import old_runtimes, remove_runtime
from tritonic_nb.session import Session
from tritonic_nb.transport import connect

__all__ = ["main"]

_COMPARING_S = 3.0  # in the demo
_LOG_LINES = 20
_HIGHEST_PORT = 65535
_STRANGERS = "triton_python_backend_shm_region_"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        What follows the command's name; by default the process's own.

    Returns
    -------
    int
        The exit status: 0, or 1 after an error that was told on standard error.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except TritonicError as error:
        print(f"tritonic-nb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tritonic-nb: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tritonic-nb", description="Triton Inference Server over shared memory."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    made = commands.add_parser("prepare", help="prepare the embedded server, once")
    made.set_defaults(command=_prepare)

    served = commands.add_parser(
        "serve", help="run the embedded server in the foreground, with NVIDIA's example models"
    )
    served.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a teaching model's name, or the path of an ONNX file or model folder, or NAME=PATH "
        f"(default: {' '.join(NVIDIA_EXAMPLES)})",
    )
    served.add_argument(
        "--open",
        action="store_true",
        help="open every API to whoever reaches the port, so that any Triton client works",
    )
    served.add_argument(
        "--headers-file",
        type=Path,
        metavar="FILE",
        help="write the header that opens the protected APIs to this new file, as JSON, for "
        "Session(url, headers=json.load(...)); it goes when the server stops",
    )
    for protocol in ("http", "grpc", "metrics"):
        served.add_argument(f"--{protocol}-port", type=_port, default=0, metavar="PORT")
    served.set_defaults(command=_serve)

    shown = commands.add_parser(
        "demo", help="classify a picture through shared memory, and compare with plain HTTP"
    )
    shown.add_argument("image", nargs="?", metavar="IMAGE", help="default: a cat")
    shown.set_defaults(command=_demo)

    compared = add_compare(commands)
    compared.set_defaults(
        command=lambda given: run_compare(given, _models, _headers_of(given.headers_file))
    )

    checked = commands.add_parser(
        "doctor", help="check what a session needs, and tell what to do where something is missing"
    )
    checked.add_argument(
        "--url", metavar="HOST:PORT", help="a server to check, instead of an embedded one"
    )
    checked.add_argument("--model", metavar="NAME", help="one of its models, to run once each way")
    checked.add_argument(
        "--headers-file",
        type=Path,
        metavar="FILE",
        help="the header that the server demands, as `serve --headers-file` wrote it",
    )
    checked.add_argument("--json", action="store_true", help="print the checks as JSON")
    checked.set_defaults(command=_doctor)

    cleaned = commands.add_parser(
        "clean", help="remove what dead notebooks and servers left in /dev/shm and elsewhere"
    )
    cleaned.add_argument("--dry-run", action="store_true", help="say what there is, remove nothing")
    cleaned.add_argument(
        "--url",
        metavar="HOST:PORT",
        help="a Triton server whose registrations to search too: its HTTP port, or grpc://HOST:PORT",
    )
    cleaned.add_argument(
        "--headers-file",
        type=Path,
        metavar="FILE",
        help="the header that the server demands, as `serve --headers-file` wrote it",
    )
    cleaned.add_argument(
        "--runtimes",
        action="store_true",
        help="remove prepared servers of other versions from the cache folder, too",
    )
    cleaned.set_defaults(command=_clean)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 0 to {_HIGHEST_PORT}")
    return int(text)


def _prepare(options: argparse.Namespace) -> int:  # noqa: ARG001 - every command has the same form
    prepare()
    return 0


def _serve(options: argparse.Namespace) -> int:
    names, files = _models(options.models or NVIDIA_EXAMPLES)
    # SIGTERM ends it as Ctrl-C does, so that the server and its files go too.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)  # the terminal was closed
    _check_new_file(options.headers_file)
    with (
        serve(
            names,
            protected=not options.open,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
            metrics_port=options.metrics_port,
        ) as server,
        _headers_file(options.headers_file, server.headers),
    ):
        with server.session() as session:
            for name, path in files.items():
                server.add(name, path)
                session.load(name)
        _announce(server, (*names, *files), options)
        try:
            server.wait()
        except KeyboardInterrupt:
            print("stopping", flush=True)
            return 0
        lines = server.log.splitlines()[-_LOG_LINES:]
        print("tritonic-nb: the server ended by itself:", *lines, sep="\n", file=sys.stderr)
        return 1


def _models(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell names of teaching models from ``NAME=PATH`` and from a path alone."""
    names, files = [], {}
    for word in words:
        name, separator, path = word.partition("=")
        if separator:
            files[name] = path
        elif Path(word).suffix or Path(word).exists():
            files[Path(word).stem] = word
        else:
            names.append(word)
    return names, files


def _announce(server: Server, models: Sequence[str], options: argparse.Namespace) -> None:
    print(f"Triton {server.version} is ready")
    print(f"  HTTP     {server.url}")
    print(f"  gRPC     {server.grpc_url}")
    print(f"  metrics  {server.metrics_url}")
    print(f"  models   {' '.join(models)}")
    if not options.open:
        where = options.headers_file or "--headers-file FILE, or --open to do without"
        print(f"  loading models and shared memory need a header: {where}")
    print("Ctrl-C stops it", flush=True)


@contextmanager
def _headers_file(path: Path | None, headers: Mapping[str, str]) -> Iterator[None]:
    """Write the headers to a new file that only its owner can read, and remove it afterwards."""
    if path is None:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix=".tritonic_nb_", dir=path.parent))  # for its owner alone
    try:
        made = folder / "headers.json"
        made.touch(0o600)
        made.write_text(json.dumps(headers), encoding="utf-8")
        os.link(made, path)  # whole at once, and never over another file
    finally:
        shutil.rmtree(folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _check_new_file(path: Path | None) -> None:
    if path is not None and (path.exists() or not path.parent.is_dir()):
        raise ArgumentError(
            f"{path} cannot be written: it exists, or its folder does not",
            "name a new file in a folder of yours",
        )


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for each in (signal.SIGTERM, signal.SIGHUP):  # a second one must not stop the clean-up
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _demo(options: argparse.Namespace) -> int:
    path = Path(options.image) if options.image else samples.image("cat")
    image = load_image(path)
    started = time.perf_counter()
    with serve() as server:
        server.add("classifier", samples.classifier())
        with server.session(model="classifier") as session:
            print(
                f"Triton {server.version} with the model, ready after "
                f"{time.perf_counter() - started:.1f} s"
            )
            transform = session.transform or ImageTransform(224, 224)
            result = session.infer(image, transform=transform)
            print(f"{path.name}, {image.width} x {image.height}: {transform}\n")
            print(*result.top_k(5), sep="\n")
            _print_regions(session)
            _print_comparison(session, transform(image))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    headers = _headers_of(options.headers_file) or None
    found = doctor(options.url, model=options.model, headers=headers)
    print(json.dumps(found.document(), indent=2) if options.json else found)
    return 0 if found.healthy else 1


def _clean(options: argparse.Namespace) -> int:
    if options.headers_file and not options.url:
        raise ArgumentError("a header was given, and no server", "name it: --url HOST:PORT")
    transport = None
    if options.url:
        transport = connect(options.url, _headers_of(options.headers_file))
    refused = None
    try:
        try:
            regions = find_leftovers(transport)
        except TritonicError as error:  # what lies here is removed all the same
            regions, refused = find_leftovers(), error
        cleared = regions if options.dry_run else regions.clear(transport)
    finally:
        if transport is not None:
            transport.close()
    done = "would be removed" if options.dry_run else "removed"
    lines = [
        *_region_lines(regions, cleared, done, options.url),
        *_server_lines(dry_run=options.dry_run, done=done),
    ]
    if options.runtimes:
        lines += _runtime_lines(dry_run=options.dry_run, done=done)
    print(*(lines or ["nothing to clean: no dead notebook or server has left anything"]), sep="\n")
    _print_strangers()
    if refused is not None:
        raise refused
    return 0


def _region_lines(found: Leftovers, cleared: Leftovers, done: str, url: str | None) -> list[str]:
    lines = [
        f"region  {human_bytes(nbytes):>7}  {name}  {done if name in cleared.files else 'stays'}"
        for name, nbytes in found.files.items()
    ]
    for name in found.registered:
        stays = "" if name in cleared.registered else ": the server would not, try again"
        lines.append(f"registered with {url}  {name}  {done if not stays else 'stays'}{stays}")
    return lines


def _server_lines(*, dry_run: bool, done: str) -> list[str]:
    return [
        f"{orphan.kind:6}  {human_bytes(orphan.nbytes):>7}  {orphan.path}  "
        f"{done if dry_run or remove_orphan(orphan) else 'stays'}"
        for orphan in find_orphans()
    ]


def _runtime_lines(*, dry_run: bool, done: str) -> list[str]:
    lines = []
    for path in old_runtimes():
        how = done
        if not dry_run:
            try:
                remove_runtime(path)
            except TritonicError as error:
                how = f"stays: {error.message}"
        lines.append(f"runtime  {path}  {how}")
    return lines


def _print_strangers() -> None:
    """Tell of pools that may be left over and are not ours to remove."""
    for file in shm_files():
        if file.name.startswith(_STRANGERS) and not file.pids:
            print(
                f"left alone: {file.name}, {human_bytes(file.nbytes)}: of a Triton server that "
                "tritonic_nb did not start, and no process that can be seen here uses it"
            )


def _headers_of(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        headers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"{path} has no headers: {error}", "name the file that `serve --headers-file` wrote"
        ) from error
    if not isinstance(headers, dict):
        raise ArgumentError(
            f"{path} has no headers: it is no JSON object",
            "name the file that `serve --headers-file` wrote",
        )
    return headers


def _print_regions(session: Session) -> None:
    print("\nThrough /dev/shm:")
    for region in session.regions:
        size = human_bytes(region.nbytes)
        print(f"  {region.direction:6}  {region.tensor:16}  {size:>7}  {region.name}")


def _print_comparison(session: Session, tensor: npt.NDArray[Any]) -> None:
    """Print both ways' medians, measured in turn on one tensor."""
    compared = session.compare(tensor, ("none", "system"), seconds=_COMPARING_S, progress=False)
    print(f"\nThe same tensor both ways, medians of {compared.inferences} in turn:")
    for way in compared.ways:
        print(
            f"  {way.label:20}  {way.median_ms:6.2f} ms, "
            f"{human_bytes(way.shared_nbytes)} in shared memory, "
            f"{human_bytes(way.wire_nbytes)} over the wire"
        )
    print(compared.verdict)


if __name__ == "__main__":
    sys.exit(main())

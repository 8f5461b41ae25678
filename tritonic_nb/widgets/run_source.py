"""Where an input comes from: a sample, uploaded files, local files, or variables.

Each kind of source gives what :meth:`Session.infer <tritonic_nb.Session.infer>` takes, and
the code that gives the same in a notebook's cell. Reading is done by ``value`` alone.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from keyword import iskeyword
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError, ImageReadError, TritonicError, brief
from tritonic_nb.examples import ExampleValues
from tritonic_nb.images import load_image, local_path
from tritonic_nb.result import InferenceResult
from tritonic_nb.tensors import ModelSpec

__all__ = [
    "LocalFiles",
    "MadeUp",
    "SamplePicture",
    "Snippet",
    "Source",
    "Uploads",
    "Variables",
    "call_code",
    "quoted",
    "usable_names",
]

_ARRAY_SUFFIX = ".npy"
_LONGEST_LINE = 80
_MOST_ITEMS = 32  # of a mapping that is looked into
# What IPython itself keeps among the variables.
_NOT_THEIRS = ("In", "Out")
_IMPORT_PATH = "from pathlib import Path"
_IMPORT_NUMPY = "import numpy as np"


@dataclass(frozen=True)
class Snippet:
    """A piece of Python code.

    Attributes
    ----------
    expression
        What stands in the call.
    imports
        The lines that it needs before it.
    comment
        What whoever runs it should know.
    """

    expression: str
    imports: frozenset[str] = frozenset()
    comment: str = ""


class Source(Protocol):
    """Where an input comes from."""

    def value(self) -> Any:
        """Return what ``Session.infer`` takes.

        Raises
        ------
        TritonicError
            If it cannot be had.
        """

    def code(self) -> Snippet:
        """Return the code for the same; no file is touched.

        Raises
        ------
        ArgumentError
            If there is nothing to write.
        """


@dataclass(frozen=True)
class SamplePicture:
    """One of the packaged pictures, by its name."""

    name: str

    def value(self) -> Path:
        """Return its path."""
        return samples.image(self.name)

    def code(self) -> Snippet:
        """Return the code for the same."""
        return Snippet(
            f"tnb.samples.image({quoted(self.name)})", frozenset({"import tritonic_nb as tnb"})
        )


@dataclass(frozen=True)
class MadeUp:
    """Example values for each input of a model.

    Parameters
    ----------
    model
        The model.
    kind
        One of :data:`~tritonic_nb.examples.EXAMPLES`.
    sizes
        The whole shapes of inputs, by name; in others each dynamic dimension is 1.
    """

    model: ModelSpec
    kind: str
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def value(self) -> dict[str, npt.NDArray[Any]]:
        """Return an array for each input."""
        return {name: values.array() for name, values in self._examples().items()}

    def code(self) -> Snippet:
        """Return the code for the same."""
        examples = self._examples()
        imports = frozenset(line for each in examples.values() for line in each.imports())
        return Snippet(_mapping_code({n: e.code() for n, e in examples.items()}), imports)

    def _examples(self) -> dict[str, ExampleValues]:
        for name in self.sizes:
            self.model.input(name)  # refuses one that the model does not have
        examples = {}
        for spec in self.model.inputs.values():
            ones = [1 if size < 0 else size for size in spec.shape]
            shape = spec.concrete_shape(shape=self.sizes.get(spec.name, ones))
            examples[spec.name] = ExampleValues(self.kind, spec.datatype, shape or ())
        return examples


@dataclass(frozen=True)
class Uploads:
    """Files that were uploaded: pictures and ``.npy`` files.

    Parameters
    ----------
    files
        The name and the bytes of each.
    inputs
        The names of the model's inputs. Where there are several, a file is for the one that
        it is called by: ``INPUT0.npy``.
    """

    files: tuple[tuple[str, bytes], ...]
    inputs: tuple[str, ...]

    def value(self) -> Any:
        """Return the pictures and arrays."""
        if not self.files:
            raise ArgumentError(
                "no file was uploaded", "choose pictures, or arrays as .npy files, and run again"
            )
        return _arranged([name for name, _ in self.files], self._opened, self.inputs)

    @cached_property
    def _opened(self) -> list[Any]:
        """The files as pictures and arrays, read once."""
        return [_opened_upload(name, content) for name, content in self.files]

    def code(self) -> Snippet:
        """Return the code for the same files, beside the notebook."""
        if not self.files:
            raise ArgumentError("no file was uploaded", "upload one first")
        names = [name for name, _ in self.files]
        count = "file" if len(names) == 1 else "files"
        return _files_code(names, self.inputs, f"the uploaded {count} must lie beside the notebook")


@dataclass(frozen=True)
class LocalFiles:
    """Files of this machine: pictures and ``.npy`` files.

    Parameters
    ----------
    text
        Their addresses, one in a line: paths (``~`` is the home folder) or ``file://``.
    inputs
        As for :class:`Uploads`.
    """

    text: str
    inputs: tuple[str, ...]

    def value(self) -> Any:
        """Return the pictures' paths, and the arrays."""
        paths = self.paths()
        if not paths:
            raise ArgumentError(
                "no path was given", "give the path of a picture, or of a .npy file"
            )
        return _arranged([path.name for path in paths], [_opened(p) for p in paths], self.inputs)

    def code(self) -> Snippet:
        """Return the code for the same."""
        paths = self.paths()
        if not paths:
            raise ArgumentError("no path was given", "give one first")
        return _files_code([str(path) for path in paths], self.inputs)

    def paths(self) -> list[Path]:
        """Return the paths as they were given, without looking for files.

        Raises
        ------
        ImageReadError
            If one is a web address.
        """
        return [_path_of(line) for line in map(str.strip, self.text.splitlines()) if line]


@dataclass(frozen=True)
class Variables:
    """Variables of the notebook.

    Parameters
    ----------
    text
        ``x``, the name of an array, a picture, or a mapping of inputs; or
        ``INPUT0=a, INPUT1=b``. Names only: nothing is evaluated.
    namespace
        The variables, by name.
    """

    text: str
    namespace: Mapping[str, Any] = field(compare=False)

    def value(self) -> Any:
        """Return what the names stand for."""
        names = self._names()
        found = {name: self._find(variable) for name, variable in names.items()}
        return found.get("", found)

    def code(self) -> Snippet:
        """Return the code for the same."""
        names = self._names()
        return Snippet(names[""] if "" in names else _mapping_code(names))

    def _names(self) -> dict[str, str]:
        """Return the variables by the inputs that they are for; ``""`` for all of it."""
        parts = [part.strip() for part in self.text.split(",") if part.strip()]
        if not parts:
            raise ArgumentError("no variable was named", "give the name of an array or a picture")
        names: dict[str, str] = {}
        for part in parts:
            # From the right: an input's own name may have anything in it.
            tensor, _, variable = (each.strip() for each in part.rpartition("="))
            _check_name(variable)
            if tensor in names or (not tensor and len(parts) > 1):
                raise ArgumentError(
                    f"{brief(self.text)} does not tell which variable is for which input",
                    "give one name, or INPUT0=a, INPUT1=b",
                )
            names[tensor] = variable
        return names

    def _find(self, variable: str) -> Any:
        try:
            return self.namespace[variable]
        except KeyError:
            close = difflib.get_close_matches(variable, usable_names(self.namespace), n=1)
            raise ArgumentError(
                f"the notebook has no variable {variable!r}",
                (f"did you mean {close[0]!r}? " if close else "")
                + "Run the cell that makes it first, or name another",
            ) from None


def usable_names(namespace: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of variables that could be an input, in the order of the alphabet.

    Arrays of any library, pictures of Pillow, and mappings of those.
    """
    return tuple(
        sorted(
            name
            for name, value in list(namespace.items())  # a running cell may add some
            if not name.startswith("_") and name not in _NOT_THEIRS and _could_be_input(value)
        )
    )


def _could_be_input(value: Any) -> bool:
    """Look at the type alone: what stands in a notebook may run anything when it is asked."""
    if isinstance(value, dict):
        items = list(value.values()) if 0 < len(value) <= _MOST_ITEMS else []
        return bool(items) and all(_is_array(item) for item in items)
    return _is_array(value)


def _is_array(value: Any) -> bool:
    if isinstance(value, InferenceResult | type):
        return False
    kind = type(value)
    speaks = ("__dlpack__", "__cuda_array_interface__")
    if isinstance(value, np.generic):
        return False
    return isinstance(value, Image.Image) or any(hasattr(kind, name) for name in speaks)


# --- files -------------------------------------------------------------------------------------


def _path_of(address: str) -> Path:
    """Return the path that an address tells."""
    parts = urlsplit(address) if "://" in address else None
    if parts is None:
        return Path(address)
    if parts.scheme.lower() == "file":
        if parts.netloc not in ("", "localhost"):
            raise ImageReadError(
                f"{address!r} is a file of another machine, {parts.netloc}",
                "copy it to this machine and give its path",
            )
        return Path(unquote(parts.path))
    raise ImageReadError(
        f"{address!r} is a web address, not a file",
        "download it first and give the file's path",
    )


def _opened(path: Path) -> Any:
    """Return an array of a ``.npy`` file, and the path of anything else, which is a picture's."""
    if path.suffix.lower() != _ARRAY_SUFFIX:
        return path
    place, name = local_path(path)
    if not place.is_file():  # one that is no regular file might never answer
        reason = "is not a regular file" if place.exists() else "does not exist"
        raise ArgumentError(
            f"{name} {reason}", f"check the path; a relative one is looked for in {_here()}"
        )
    try:
        file = place.open("rb")
    except OSError as error:
        raise ArgumentError(f"{name} cannot be opened: {error.strerror}", "check it") from error
    with file:
        return _array_in(file, name)


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a folder that was deleted"


def _opened_upload(name: str, content: bytes) -> Any:
    """Return an uploaded file as an array or a picture."""
    if Path(name).suffix.lower() == _ARRAY_SUFFIX:
        return _array_in(io.BytesIO(content), repr(name))
    try:
        return load_image(content)
    except TritonicError as error:
        error.locate(repr(name))
        raise


def _array_in(file: IO[bytes], name: str) -> npt.NDArray[Any]:
    """Read a ``.npy`` file; never pickled objects, which may run anything."""
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # a hostile header raises many kinds
        raise ArgumentError(
            f"{name} cannot be read as an array: {error}",
            "write it with numpy.save, of numbers or text and not of objects",
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ArgumentError(
            f"{name} is an archive of several arrays", "write each with numpy.save, as .npy"
        )
    return array


def _arranged(names: Sequence[str], opened: Sequence[Any], inputs: Sequence[str]) -> Any:
    """Return what was opened: one by itself, several as a batch, or by the inputs' names."""
    if len(inputs) > 1:
        return dict(zip(_inputs_of(names, inputs), opened, strict=True))
    return opened[0] if len(opened) == 1 else list(opened)


def _inputs_of(names: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return which input each file is for."""
    stems = [Path(name).stem for name in names]
    if sorted(stems) != sorted(inputs):
        raise ArgumentError(
            f"the model has the inputs {', '.join(inputs)}, and the files are {', '.join(names)}",
            f"give a file for each, called by its name: {inputs[0]}{_ARRAY_SUFFIX}, …",
        )
    return stems


# --- code --------------------------------------------------------------------------------------


def _files_code(names: Sequence[str], inputs: Sequence[str], comment: str = "") -> Snippet:
    imports: set[str] = set()
    written = []
    for name in names:
        if Path(name).suffix.lower() == _ARRAY_SUFFIX:
            imports.add(_IMPORT_NUMPY)
            path = quoted(name)
            if name.startswith("~"):
                imports.add(_IMPORT_PATH)
                path = f"Path({path}).expanduser()"
            written.append(f"np.load({path})")
        else:
            imports.add(_IMPORT_PATH)
            written.append(f"Path({quoted(name)})")
    if len(inputs) > 1:
        expression = _mapping_code(dict(zip(_inputs_of(names, inputs), written, strict=True)))
    else:
        expression = written[0] if len(written) == 1 else _bracketed("[", written, "]")
    return Snippet(expression, frozenset(imports), comment)


def _mapping_code(items: Mapping[str, str]) -> str:
    if len(items) == 1:
        return next(iter(items.values()))
    return _bracketed("{", [f"{quoted(name)}: {code}" for name, code in items.items()], "}")


def call_code(function: str, arguments: Sequence[str]) -> str:
    """Write a call, on several lines where one would be too long."""
    return _bracketed(f"{function}(", arguments, ")")


def _bracketed(opening: str, parts: Sequence[str], closing: str) -> str:
    """Write parts between brackets, on several lines where one would be too long."""
    together = f"{opening}{', '.join(parts)}{closing}"
    if len(parts) == 1 or (len(together) <= _LONGEST_LINE and "\n" not in together):
        return together
    lines = "".join(f"    {part},\n".replace("\n", "\n    ").rstrip(" ") for part in parts)
    return f"{opening}\n{lines}{closing}"


def quoted(text: str) -> str:
    """Write a text as Python does, with double quotes where that needs no more thought."""
    plain = text.isprintable() and not set(text) & {'"', "\\"}
    return f'"{text}"' if plain else repr(text)


def _check_name(name: str) -> None:
    """Refuse what is no variable's name."""
    if not name.isidentifier() or iskeyword(name):
        raise ArgumentError(
            f"{brief(name)} is not the name of a variable",
            "give a name only, and assign anything longer to one first",
        )

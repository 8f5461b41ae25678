"""The embedded server's model repository: a folder with one folder for each model.

Teaching models lie in it from the start, unloaded. ONNX files and the user's own
model folders are added by link, not by copy: a model may be larger than the disk
that temporary folders lie on, and weights that an ONNX file keeps in files beside
it are found only from its own place.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonic_nb.errors import ArgumentError, ModelFileError
from tritonic_nb.server.runtime import Runtime

__all__ = ["NVIDIA_EXAMPLES", "TEACHING_MODELS", "Repository"]

MODEL_CODE = Path(__file__).parent / "models"
SIGNATURE_TIMEOUT_S = 60.0
DYNAMIC = -1

#: The models that NVIDIA's Python client examples talk to.
NVIDIA_EXAMPLES = (
    "simple",
    "simple_string",
    "simple_identity",
    "simple_int8",
    "simple_sequence",
)

_DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
)

# ONNX's name of an element type, as ONNX Runtime tells it, and Triton's. BF16 is
# missing: the Python backend gives no BF16 array under NumPy 1.26.
_ONNX_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}

# Sequences are told apart by START alone. A control for the sequence's own id is
# left out: Triton 2.51 ends when a client then sends a string for it.
_SEQUENCE_BATCHING = """sequence_batching {
  max_sequence_idle_microseconds: 5000000
  control_input [
    {
      name: "START"
      control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ]
    },
    {
      name: "READY"
      control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ]
    }
  ]
}
"""


@dataclass(frozen=True)
class Tensor:
    """One input or output in a model's configuration; ``dims`` without the batch."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class ModelConfig:
    """What is written into a model's ``config.pbtxt``."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    max_batch_size: int = 0
    instances: int = 1
    backend: str = "python"
    parameters: Mapping[str, str] = field(default_factory=dict)
    more: str = ""

    def text(self) -> str:
        """Return the configuration in protobuf's text format."""
        parts = [
            f"name: {quoted(self.name)}\n",
            f"backend: {quoted(self.backend)}\n",
            f"max_batch_size: {self.max_batch_size}\n",
            *(tensor_text("input", tensor) for tensor in self.inputs),
            *(tensor_text("output", tensor) for tensor in self.outputs),
            f"instance_group [ {{ count: {self.instances} kind: KIND_CPU }} ]\n",
            parameters_text(self.parameters),
            self.more,
        ]
        return "".join(parts)


@dataclass(frozen=True)
class TeachingModel:
    """A model of ours: its code below ``models/`` and its configuration."""

    code: str
    config: ModelConfig


def _add_subtract(name: str, datatype: str) -> TeachingModel:
    inputs = [Tensor(f"INPUT{i}", datatype, (16,)) for i in range(2)]
    outputs = [Tensor(f"OUTPUT{i}", datatype, (16,)) for i in range(2)]
    return TeachingModel("addsub.py", ModelConfig(name, inputs, outputs, max_batch_size=8))


def _identity(name: str, datatype: str, dims: tuple[int, ...], batch: int) -> TeachingModel:
    config = ModelConfig(
        name,
        [Tensor("INPUT0", datatype, dims)],
        [Tensor("OUTPUT0", datatype, dims)],
        max_batch_size=batch,
    )
    return TeachingModel("identity.py", config)


def _teaching_models() -> Iterator[TeachingModel]:
    yield _add_subtract("simple", "INT32")
    yield _add_subtract("simple_string", "BYTES")
    yield _add_subtract("simple_int8", "INT8")
    yield _identity("simple_identity", "BYTES", (DYNAMIC,), 8)
    yield TeachingModel(
        "sequence.py",
        ModelConfig(
            "simple_sequence",
            [Tensor("INPUT", "INT32", (1,))],
            [Tensor("OUTPUT", "INT32", (1,))],
            max_batch_size=1,
            # One instance for each sequence at a time; each costs a process of 30 MB.
            instances=4,
            more=_SEQUENCE_BATCHING,
        ),
    )
    for datatype in _DATATYPES:
        yield _identity(f"identity_{datatype.lower()}", datatype, (DYNAMIC, DYNAMIC), 0)
    yield TeachingModel(
        "identity_device.py",
        ModelConfig(
            "identity_fp32_device",
            [Tensor("INPUT0", "FP32", (DYNAMIC, DYNAMIC))],
            [Tensor("OUTPUT0", "FP32", (DYNAMIC, DYNAMIC))],
            parameters={"FORCE_CPU_ONLY_INPUT_TENSORS": "no"},
        ),
    )
    yield TeachingModel(
        "edges.py",
        ModelConfig(
            "edges",
            [Tensor("image", "UINT8", (DYNAMIC, DYNAMIC, 3))],
            [
                Tensor("gradient", "FP32", (DYNAMIC, DYNAMIC, 2)),
                Tensor("magnitude", "FP32", (DYNAMIC, DYNAMIC)),
            ],
        ),
    )


#: Every teaching model by its name.
TEACHING_MODELS: Mapping[str, TeachingModel] = {
    model.config.name: model for model in _teaching_models()
}


class Repository:
    """A model repository folder of ours.

    Parameters
    ----------
    folder
        Where to make it; must not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._added: set[str] = set()
        folder.mkdir(mode=0o700)
        for name, model in TEACHING_MODELS.items():
            version = folder / name / "1"
            version.mkdir(parents=True)
            copy_code(model.code, version)
            (folder / name / "config.pbtxt").write_text(model.config.text(), encoding="utf-8")

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the models that were added, in alphabetical order, without a look."""
        return tuple(sorted(self._added))

    def names(self) -> tuple[str, ...]:
        """Return the names of all models in the folder, in alphabetical order."""
        if not self.folder.is_dir():
            return ()
        found = (entry.name for entry in self.folder.iterdir())
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def missing(self, name: str) -> Path | None:
        """Return a file that a model was added with and that is not there any more."""
        for path in (self.folder / name).rglob("*"):
            if path.is_symlink() and not os.path.lexists(path.readlink()):
                return path.readlink()
        return None

    def check_name(self, name: str, *, replace: bool) -> None:
        """Refuse a name that cannot stand in a path or an address, or is taken.

        Raises
        ------
        ArgumentError
            With the name and what would do.
        """
        if not isinstance(name, str) or not re.fullmatch(
            r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", name
        ):
            raise ArgumentError(
                f"not a name for a model: {name!r}",
                "use up to 128 letters, digits, '_', '-' and '.', not beginning with '.' or '-'",
            )
        if name in TEACHING_MODELS and name not in self._added and not replace:
            raise ArgumentError(
                f"the name {name!r} is taken by a teaching model",
                "choose another name, or pass replace=True",
            )

    def add_onnx(
        self,
        name: str,
        file: Path,
        runtime: Runtime,
        *,
        max_batch_size: int,
        parameters: Mapping[str, str],
        backend: str,
    ) -> None:
        """Add an ONNX file under a name whose form was checked before."""
        config = onnx_config(
            name,
            file,
            read_signature(file, runtime),
            max_batch_size=max_batch_size,
            parameters=parameters,
            backend=backend,
        )
        staging = self._staging(name)
        (staging / "1").mkdir()
        (staging / "1" / "model.onnx").symlink_to(file)
        if backend == "python":
            copy_code("onnx_model.py", staging / "1")
        (staging / "config.pbtxt").write_text(config.text(), encoding="utf-8")
        self._publish(staging, name)

    def add_folder(self, name: str, source: Path, *, parameters: Mapping[str, str]) -> None:
        """Add a model folder: its entries by link, its configuration with our name in it."""
        config_file = source / "config.pbtxt"
        text = f"name: {quoted(name)}\n"
        if config_file.is_file():
            try:
                text = renamed(config_file.read_text(encoding="utf-8"), name)
            except (OSError, UnicodeDecodeError) as error:
                raise ModelFileError(
                    f"{config_file} cannot be read: {error}", "give a text file in UTF-8"
                ) from error
        staging = self._staging(name)
        for entry in source.iterdir():
            if entry.is_dir() and entry.name.isdecimal():
                link_version(entry, staging / entry.name)
            elif entry.name != "config.pbtxt":
                (staging / entry.name).symlink_to(entry.absolute())
        text += "\n" + parameters_text(parameters)
        (staging / "config.pbtxt").write_text(text, encoding="utf-8")
        self._publish(staging, name)

    def _staging(self, name: str) -> Path:
        """Make an empty folder on the same disk that Triton does not take for a model."""
        staging = self.folder.parent / f"adding-{name}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        return staging

    def _publish(self, staging: Path, name: str) -> None:
        """Move a finished model folder to its place; a loaded one is not disturbed."""
        place = self.folder / name
        old = self.folder.parent / f"replaced-{name}"
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        staging.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        self._added.add(name)


def copy_code(code: str, version: Path) -> None:
    """Put a model's code into its version folder."""
    shutil.copyfile(MODEL_CODE / code, version / "model.py")
    keep_python_out(version)


def link_version(source: Path, version: Path) -> None:
    """Make a version folder of links to the entries of the user's own."""
    version.mkdir()
    for entry in source.iterdir():
        if entry.name != "__pycache__":
            (version / entry.name).symlink_to(entry.absolute())
    keep_python_out(version)


def keep_python_out(version: Path) -> None:
    """Keep Python from making a folder ``__pycache__``, by a file of that name.

    Triton would take it for a change, and load the model anew the next time.
    """
    (version / "__pycache__").touch()


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder is one model: a configuration, or folders named by a version."""
    return (folder / "config.pbtxt").is_file() or any(
        entry.is_dir() and entry.name.isdecimal() for entry in folder.iterdir()
    )


def models_in(folder: Path) -> list[Path]:
    """Return the model folders in a model repository, in alphabetical order."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and is_model_folder(entry)
    )


def name_from_file(file: Path) -> str:
    """Make a model name of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", file.stem).lstrip("-") or "model"


def read_signature(file: Path, runtime: Runtime) -> dict[str, Any]:
    """Ask ONNX Runtime, in the runtime's environment, what a file takes and gives.

    Raises
    ------
    ModelFileError
        It is not an ONNX file that this ONNX Runtime can read.
    """
    try:
        answer = runtime.run(
            MODEL_CODE / "onnx_signature.py", str(file), timeout=SIGNATURE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ModelFileError(
            f"{file}: ONNX Runtime took longer than {SIGNATURE_TIMEOUT_S:.0f} s to read it",
            "check the file; or write a model folder with a config.pbtxt, and add that",
        ) from None
    remedy = (
        "check that it is a complete ONNX file that onnxruntime.InferenceSession opens, "
        "exported for an opset that ONNX Runtime knows"
    )
    try:
        told: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        lines = answer.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"ONNX Runtime ended with code {answer.returncode}"
        raise ModelFileError(f"{file} cannot be served: {one_line(reason)}", remedy) from None
    if "error" in told:
        raise ModelFileError(f"{file} cannot be served: {one_line(told['error'])}", remedy)
    return told


def one_line(text: str) -> str:
    """Return a reason as one line of a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."


def onnx_config(
    name: str,
    file: Path,
    signature: Mapping[str, Any],
    *,
    max_batch_size: int,
    parameters: Mapping[str, str],
    backend: str = "python",
) -> ModelConfig:
    """Derive a configuration from what ONNX Runtime says about a file.

    The model is batched when the first dimension of every input and output is
    dynamic and, where it has a symbol, has the same one.
    """
    nodes = [*signature["inputs"], *signature["outputs"]]
    batched = max_batch_size > 0 and shares_batch(nodes)
    return ModelConfig(
        name,
        [onnx_tensor(node, file, batched=batched) for node in signature["inputs"]],
        [onnx_tensor(node, file, batched=batched) for node in signature["outputs"]],
        max_batch_size=max_batch_size if batched else 0,
        parameters={**signature["metadata"], **parameters},
        backend=backend,
    )


def shares_batch(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether all tensors begin with the same dynamic dimension."""
    firsts = [node["shape"][0] if node["shape"] else 0 for node in nodes]
    symbols = {first for first in firsts if isinstance(first, str)}
    return all(is_dynamic(first) for first in firsts) and len(symbols) <= 1


def is_dynamic(dim: int | str | None) -> bool:
    """Tell whether a dimension has no fixed size: it is a symbol, unnamed, or negative."""
    return not isinstance(dim, int) or dim < 0


def onnx_tensor(node: Mapping[str, Any], file: Path, *, batched: bool) -> Tensor:
    """Turn an ONNX input or output into Triton's."""
    kind, _, element = str(node["type"]).rstrip(")").partition("(")
    datatype = _ONNX_DATATYPES.get(element) if kind == "tensor" else None
    if datatype is None:
        remedy = "export the model with tensors of a type that Triton and NumPy have"
        if kind in ("seq", "map"):
            remedy += "; for a scikit-learn classifier: convert_sklearn(..., zipmap=False)"
        if element == "bfloat16":
            remedy = "export the model with FP16 or FP32 inputs and outputs, or cast inside it"
        raise ModelFileError(
            f"{file} cannot be served: {node['name']!r} is a {node['type']}, which Triton's "
            "Python backend cannot carry",
            remedy,
        )
    dims = tuple(DYNAMIC if is_dynamic(dim) else int(dim) for dim in node["shape"])
    return Tensor(str(node["name"]), datatype, dims[1:] if batched else dims)


def tensor_text(kind: str, tensor: Tensor) -> str:
    """Return one input or output in protobuf's text format."""
    datatype = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    # Triton wants at least one dimension besides the batch; the model reshapes.
    shape = f"dims: [ {', '.join(map(str, tensor.dims or (1,)))} ]"
    return f"{kind} [ {{ name: {quoted(tensor.name)} data_type: {datatype} {shape} }} ]\n"


def parameters_text(parameters: Mapping[str, str]) -> str:
    """Return a configuration's parameters in protobuf's text format."""
    return "".join(
        f"parameters {{ key: {quoted(key)} value: {{ string_value: {quoted(value)} }} }}\n"
        for key, value in parameters.items()
    )


def quoted(text: str) -> str:
    """Return a string literal of protobuf's text format, whatever the text holds."""
    parts = []
    for character in str(text):
        if character in '"\\':
            parts.append("\\" + character)
        elif character.isprintable():
            parts.append(character)
        else:
            # Octal, byte by byte: of fixed length, so that a digit may follow.
            parts += [f"\\{byte:03o}" for byte in character.encode("utf-8", "replace")]
    return '"' + "".join(parts) + '"'


# Comments and strings first, so that nothing inside them counts.
_TOKEN = re.compile(
    r"""\#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]]|(?<!\w)name\b"""
)


def renamed(text: str, name: str) -> str:
    """Return a configuration with another model name, or with one where it had none.

    Triton refuses a model whose configured name is not its folder's. Only a name
    outside all braces is the model's; the others are its tensors'.
    """
    depth = 0
    for token, following in itertools.pairwise(_TOKEN.finditer(text)):
        if token[0] in ("{", "<", "["):
            depth += 1
        elif token[0] in ("}", ">", "]"):
            depth -= 1
        elif token[0] == "name" and depth == 0:
            return text[: following.start()] + quoted(name) + text[following.end() :]
    return f"name: {quoted(name)}\n{text}"


def resolve_source(path: str | os.PathLike[str]) -> Path:
    """Return an existing file or folder as an absolute path.

    Raises
    ------
    ModelFileError
        There is nothing there.
    """
    try:
        source = Path(path).expanduser().absolute()
        source.stat()
    except (OSError, RuntimeError, TypeError) as error:  # ~ of nobody; not a path at all
        raise ModelFileError(
            f"no such file or folder: {path} ({error})",
            f"check the path; a relative one starts at {Path.cwd()}",
        ) from error
    return source

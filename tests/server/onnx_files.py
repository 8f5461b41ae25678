"""Writes small ONNX files by hand, so that the tests need no ONNX package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FLOAT, UINT8, INT64, STRING, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 2, 7, 8, 9, 10, 11, 16
_LENGTH_DELIMITED = 2


@dataclass(frozen=True)
class Value:
    """An input or output: its ONNX element type and dimensions (a text is a symbol)."""

    name: str
    kind: int
    dims: Sequence[int | str | None] = field(default=())


def varint(number: int) -> bytes:
    """Encode a number the way protobuf does."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def integer(tag: int, number: int) -> bytes:
    """Encode a field with a number."""
    return varint(tag << 3) + varint(number)


def block(tag: int, *content: bytes | str) -> bytes:
    """Encode a field with text or with other fields."""
    data = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    return varint(tag << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data


def value_info(tag: int, value: Value) -> bytes:
    """Encode an input or output of the graph."""
    dims = []
    for dim in value.dims:
        content = b"" if dim is None else integer(1, dim) if isinstance(dim, int) else block(2, dim)
        dims.append(block(1, content))
    tensor = block(1, integer(1, value.kind), block(2, *dims))
    return block(tag, block(1, value.name), block(2, tensor))


def model(
    operator: str,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return an ONNX file with one operator."""
    node = block(
        1,
        *(block(1, value.name) for value in inputs),
        *(block(2, value.name) for value in outputs),
        block(4, operator),
    )
    graph = block(
        7,
        node,
        block(2, "graph"),
        *(value_info(11, value) for value in inputs),
        *(value_info(12, value) for value in outputs),
    )
    properties = (
        block(14, block(1, key), block(2, text)) for key, text in (metadata or {}).items()
    )
    return b"".join([integer(1, 8), graph, block(8, integer(2, 13)), *properties])

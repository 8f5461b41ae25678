"""Bad input, from the caller, from files and from servers: one of our errors each time.

``TRITONIC_NB_FAULTS=full`` tries many more, and others each time.
"""

from __future__ import annotations

import array
import collections
import contextlib
import datetime
import decimal
import io
import json
import math
import operator
import os
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from traceback import extract_tb
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.conftest import BOTH
from tests.hostile_server import Asked, reply, serving
from tritonic_nb import ImageTransform, Session, SSLOptions, render, samples
from tritonic_nb.errors import ArgumentError, ImageError, TritonicError, brief
from tritonic_nb.images import load_image, transform_for
from tritonic_nb.result import InferenceResult, TensorPlace, Timings
from tritonic_nb.tensors import ModelSpec, codec, numpy_dtype
from tritonic_nb.transport.sockets import SocketEngine

FULL = os.environ.get("TRITONIC_NB_FAULTS") == "full"
LONGEST_MESSAGE = 100_000
Open = Callable[..., Session]


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Try so many examples, the same ones each time; many others at full length."""
    return settings(
        max_examples=examples * 50 if FULL else examples,
        derandomize=not FULL,
        deadline=None,
        database=None,
        # What the fixtures give, a session or a folder, is to outlive each example.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call gives, or the error of ours that it ends with; no other will do."""
    try:
        return call()
    except TritonicError as error:
        text = str(error)
        assert text.encode()  # it can be shown
        assert len(text) < LONGEST_MESSAGE
        return error


def refused(call: Callable[[], Any]) -> bool:
    """Tell whether a call ends with an error of ours."""
    return isinstance(outcome(call), TritonicError)


def not_ours(call: Callable[[Any], object], values: Iterable[Any]) -> list[str]:
    """Tell of each value with which a call does not end as it should."""
    problems = []
    for value in values:
        try:
            refused(lambda given=value: call(given))
        except Exception as error:
            frames = [f for f in extract_tb(error.__traceback__) if f.filename != __file__]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "here"
            problems.append(f"{brief(value)}: {type(error).__name__} in {where}: {str(error)[:80]}")
    return problems


# --- hostile values ----------------------------------------------------------------------------

TEXTS = (
    "", " ", "\n", "a\r\nX-Injected: 1", "/", "..", "../..", ".", "%00", "%2F..%2F", "\0", "a\0b",
    "\x1b[31m", "\u202e", "\ud800", "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>', "'", "&lt;", "{}", "%s%n", "$name", "${x}",
    "simple/versions/1",
    "simple?x=1", "simple#", "simple ", "SIMPLE", "模型", "🦊", "nan", "-1", "0x10", "None",
)  # fmt: skip


LONG = "x" * 70_000


class Raises:
    """Raises whatever is asked of it, its own name excepted."""

    def _raise(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no")

    __array__ = __float__ = __index__ = __iter__ = __len__ = __getitem__ = __fspath__ = _raise
    __repr__ = __str__ = __bool__ = __eq__ = __contains__ = __call__ = _raise
    __hash__ = object.__hash__


class NoArray:
    """Refuses to become an array without being told so, as arrays on a GPU do."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")


class NoArrayAfterAll:
    """Gives something else for an array."""

    def __array__(self, *_: object, **__: object) -> Any:
        return [1, 2]


class NoAttribute:
    """Raises when it is asked whether it is an array."""

    @property
    def __array__(self) -> Any:
        raise RuntimeError("no")


class NoLength(list[Any]):
    """A list that does not know its length."""

    def __len__(self) -> int:
        raise RuntimeError("no")


class Subclass(np.ndarray[Any, Any]):
    """An array of a class of its own."""


def hostile_values() -> dict[str, Any]:
    """Return what nobody should pass, by name."""
    in_itself: list[Any] = []
    in_itself.append(in_itself)
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    released = memoryview(b"abcd")
    released.release()
    one = np.ones(1, np.float32)
    return {
        "none": None, "object": object(), "ellipsis": ..., "module": np, "class": int,
        "array class": np.ndarray, "function": len, "generator": (i for i in range(3)),
        "range": range(4), "dict": {"a": 1}, "int keys": {1: 2}, "set": {1, 2}, "error": OSError(1),
        "raises": Raises(), "list of raises": [Raises()], "no array": NoArray(),
        "list of no array": [NoArray()], "no array after all": NoArrayAfterAll(),
        "no attribute": NoAttribute(), "no length": NoLength([1]),
        "in itself": in_itself, "deep": deep, "ragged": [[1], [2, 3]], "too deep": [[[[1]]]],
        "empty": [], "empty row": [[]], "true": True, "huge": 2**70, "huge row": [[2**70]],
        "more digits than Python writes": 10**5000, "a row of it": [[10**5000]],
        "nan": math.nan, "nan row": [[math.nan]], "infinity": [[math.inf]], "1e300": [[1e300]],
        "complex": [[1j]], "rounded by NumPy": [[2**53 + 1, 0.5]], "wide": [[2**63, -1]],
        "decimal": [[decimal.Decimal("0.1")]], "date": datetime.date(2020, 1, 1),
        "datetime64": np.array([["2020"]], "M8[s]"), "timedelta64": np.array([[1]], "m8[s]"),
        "structured": np.zeros((1, 1), [("a", "i4")]), "record": np.rec.array([(1, 2.0)]),
        "void": np.zeros((1, 2), "V4"), "odd objects": np.array([[1, "a", None]], object),
        "masked": np.ma.masked_array(np.zeros((1, 4), np.float32), True),
        "list of masked": [np.ma.masked_array(np.zeros(4, np.float32), True)],
        "masked picture": np.ma.masked_array(np.zeros((9, 9), np.uint8), True),
        "zero-d": np.array(1, np.float32), "64-d": one.reshape((1,) * 64),
        "zero": np.zeros((0, 4), np.float32), "wide zero": np.zeros((2**40, 0), np.float32),
        "negative strides": np.arange(8, dtype=np.float32).reshape(2, 4)[::-1, ::-1],
        "swapped": np.arange(8, dtype=">f4").reshape(2, 4),
        "broadcast": np.broadcast_to(one, (3, 4)),
        "8 EB": np.broadcast_to(one, (2**30, 2**30)),
        "many pictures": np.broadcast_to(np.uint8(1), (2**30, 8, 8, 3)),
        "huge picture": np.broadcast_to(np.uint8(1), (2**20, 2**20, 3)),
        "read-only": np.frombuffer(bytes(16), np.float32).reshape(2, 2),
        "memoryview": memoryview(np.zeros((2, 2), np.float32)), "released": released,
        "strided": memoryview(b"abcdef")[::2], "array module": array.array("f", [1, 2]),
        "deque": collections.deque([1]), "subclass": np.zeros((1, 2), np.float32).view(Subclass),
        "bfloat16": np.zeros((1, 2), ml_dtypes.bfloat16), "int4": np.zeros((1, 2), ml_dtypes.int4),
        "fp8": np.zeros((1, 2), ml_dtypes.float8_e4m3fn), "longdouble": np.zeros((1, 2),
        np.longdouble),
        "text": "abc", "row of texts": [["a", "b"]], "half a character": [["\ud800"]],
        "text array": np.array([["a", "b"]]), "bytes array": np.array([[b"a\0", b"b"]]),
        "no such picture": "/nope", "pictures and numbers": ["/nope", 3], "folder": Path("/"),
        "grey": np.zeros((9, 9), np.uint8), "nan picture": np.full((9, 9, 3), np.nan),
        "no pixels": np.zeros((0, 8, 3), np.uint8), "no pictures": np.zeros((0, 9, 9, 3), np.uint8),
    }  # fmt: skip


def scalars() -> st.SearchStrategy[Any]:
    """Give single values of any kind."""
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(),
        st.binary(max_size=9), st.text(max_size=9), st.sampled_from(TEXTS),
        st.builds(lambda: LONG), st.dates(),
        st.decimals(),
        st.sampled_from([2**31, 2**53 + 1, 2**63, 2**64, 10**400, object(), len, ...]),
    )  # fmt: skip


def anything() -> st.SearchStrategy[Any]:
    """Give values, lists of them, and arrays of any datatype and shape."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
    dtypes = st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(), hnp.nested_dtypes())
    return st.one_of(
        st.recursive(scalars(), lambda each: st.lists(each, max_size=4), max_leaves=12),
        st.lists(st.lists(scalars(), max_size=3), max_size=3),
        hnp.arrays(dtypes, shapes, fill=st.nothing()),
        hnp.arrays(object, shapes, elements=scalars(), fill=st.nothing()),
    )


# --- what is given for an input ----------------------------------------------------------------

MODELS = {
    "identity_fp32": "FP32", "identity_int64": "INT64", "identity_uint8": "UINT8",
    "identity_bool": "BOOL", "identity_bytes": "BYTES",
}  # fmt: skip


def leaves(value: Any) -> list[Any]:
    """Return the single values in what was given, in order."""
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in leaves(each)]
    if isinstance(value, (str, bytes)):  # of which NumPy would drop zeros at the end
        return [value]
    found: list[Any] = np.asarray(value).ravel().tolist()
    return found


def came_back(given: Any, got: np.ndarray[Any, Any], datatype: str) -> bool:
    """Tell whether a model that gives back what it gets got what was given."""
    sent, back = leaves(given), got.ravel().tolist()
    if datatype == "BYTES":
        return [codec.element_bytes(each) for each in sent] == back
    if datatype == "FP32":
        return np.array_equal(
            np.array(sent, np.float32), np.array(back, np.float32), equal_nan=True
        )
    return sent == back  # in Python, whose whole numbers are exact


def infers(session: Session, model: str = "identity_fp32") -> None:
    """Check that the session goes on: an inference like any other."""
    datatype = MODELS.get(model, "UINT8")
    valid = np.full((9, 9, 3) if model == "edges" else (2, 3), b"1", numpy_dtype(datatype))
    result = session.infer(valid)
    if model in MODELS:
        assert came_back(valid, result["OUTPUT0"], datatype)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        *((model, "system") for model in (*MODELS, "edges")),
        *((model, "none") for model in (MODELS if FULL else ("identity_fp32", "identity_bytes"))),
    ],
)
def test_no_input_is_too_odd(open_session: Open, model: str, kind: str) -> None:
    """Each hostile value comes back unchanged, or is refused with an error of ours."""
    session = open_session(model, shared_memory=kind)
    for name, value in hostile_values().items():
        got = outcome(lambda given=value: session.infer(given))
        assert (
            isinstance(got, TritonicError)
            or model == "edges"
            or came_back(value, got["OUTPUT0"], MODELS[model])
        ), name
        infers(session, model)


@pytest.mark.parametrize("model", list(MODELS))
def test_any_input_is_sent_as_it_is_or_refused(open_session: Open, model: str) -> None:
    """Whatever numbers, texts, lists and arrays: never another value than the one given."""
    session = open_session(model)

    @fuzz(60)
    @given(value=anything())
    def check(value: Any) -> None:
        got = outcome(lambda: session.infer(value))
        if not isinstance(got, TritonicError):
            assert came_back(value, got["OUTPUT0"], MODELS[model])

    check()
    infers(session, model)


def test_any_mapping_of_inputs_is_checked(open_session: Open) -> None:
    """Names that are none, inputs that are missing, and values of any kind."""
    session = open_session("simple")
    valid = np.ones((1, 16), np.int32)
    names = st.one_of(st.sampled_from(["INPUT0", "INPUT1", *TEXTS]), st.none(), st.integers())
    values = st.one_of(st.just(valid), anything())

    @fuzz(60)
    @given(inputs=st.dictionaries(names, values, max_size=3))
    def check(inputs: dict[Any, Any]) -> None:
        refused(lambda: session.infer(inputs))
        assert session.infer(INPUT0=valid, INPUT1=valid)["OUTPUT0"][0, 0] == 2

    check()
    assert refused(lambda: session.infer(Raises()))


@pytest.mark.parametrize("kind", ["system", "none"])
def test_no_batch_is_too_odd(open_session: Open, kind: str) -> None:
    """Of any two shapes the model runs the one batch that both are, or none."""
    session = open_session("simple", shared_memory=kind)
    sides = st.sampled_from([0, 1, 2, 8, 9, 16, 17, 2**31, 2**40])
    shapes = st.lists(sides, max_size=4).filter(
        lambda shape: math.prod(side or 1 for side in shape) < 2**60
    )

    @fuzz(60)
    @given(first=shapes, second=st.one_of(st.none(), shapes))
    def check(first: list[int], second: list[int] | None) -> None:
        one, other = (np.broadcast_to(np.int32(1), shape) for shape in (first, second or first))
        got = outcome(lambda: session.infer(INPUT0=one, INPUT1=other))
        if not isinstance(got, TritonicError):
            assert one.shape == other.shape == (one.shape[0], 16)
            assert np.array_equal(got["OUTPUT0"], one + other)

    check()
    valid = np.ones((8, 16), np.int32)
    assert (session.infer(INPUT0=valid, INPUT1=valid)["OUTPUT0"] == 2).all()


# --- arguments ---------------------------------------------------------------------------------


class Address:
    """A server given as an object."""

    def __init__(self, url: Any, headers: Any) -> None:
        self.url, self.grpc_url, self.headers = url, url, headers


class NoAddress:
    """A server whose address cannot be had."""

    headers: dict[str, str] = {}  # noqa: RUF012

    @property
    def url(self) -> str:
        raise RuntimeError("no")


def hostile_arguments() -> list[Any]:
    """Return what no argument takes, or hardly any."""
    return [
        *TEXTS, LONG, None, True, -1, 0, 1, 2**31, 2**63, 10**5000, -1.5, math.nan, math.inf, 1j,
        b"x",
        [], [1], {}, {1: 2}, {"a": object()}, {"OUTPUT0": -1}, {"INPUT0": {"a": 1}}, (), (1,), {1},
        object(), len, int, ..., (i for i in "ab"), np.array([1, 2]), np.array(1), np.float32(1),
        Path("/"), datetime.timedelta(1), Raises(), [Raises()], {"a": Raises()},
    ]  # fmt: skip


VALID = {"INPUT0": np.ones((1, 16), np.int32), "INPUT1": np.ones((1, 16), np.int32)}
CALLS: dict[str, Callable[[Session, Any], object]] = {
    "outputs": lambda s, v: s.infer(VALID, outputs=v),
    "an output": lambda s, v: s.infer(VALID, outputs=[v]),
    "timeout": lambda s, v: s.infer(VALID, timeout=v),
    "request_id": lambda s, v: s.infer(VALID, request_id=v),
    "sequence_id": lambda s, v: s.infer(VALID, sequence_id=v),
    "sequence_start": lambda s, v: s.infer(VALID, sequence_id=1, sequence_start=v),
    "priority": lambda s, v: s.infer(VALID, priority=v),
    "parameters": lambda s, v: s.infer(VALID, parameters=v),
    "a parameter": lambda s, v: s.infer(VALID, parameters={"p": v}),
    "transform": lambda s, v: s.infer(VALID, transform=v),
    "shapes": lambda s, v: s.register_inputs(v),
    "a shape": lambda s, v: s.register_inputs({"INPUT0": v}),
    "a dimension": lambda s, v: s.register_outputs({"OUTPUT0": (v, 16)}),
    "batch": lambda s, v: s.register_inputs(batch=v),
    "nbytes": lambda s, v: s.register_outputs(nbytes=v),
    "bytes": lambda s, v: s.register_outputs(nbytes={"OUTPUT0": v}),
    "kind": lambda s, v: s.set_shared_memory(v),
    "output kind": lambda s, v: s.set_shared_memory("system", output=v),
    "device": lambda s, v: s.set_shared_memory("system", v),
    "model": lambda s, v: s.use(v),
    "version": lambda s, v: s.use("simple", v),
    "loaded": lambda s, v: v is None or s.load(v),
    "unloaded": lambda s, v: v is None or s.unload(v),
    "result": lambda s, v: s.infer(VALID)[v],
    "view": lambda s, v: s.inputs[v],
    "a view's value": lambda s, v: operator.setitem(s.inputs, "INPUT0", v),
    "preflight": lambda s, v: s.preflight(batch=v, in_flight=v),
}


@pytest.mark.parametrize("argument", list(CALLS))
def test_no_argument_of_a_call_is_too_odd(open_session: Open, argument: str) -> None:
    """Each hostile value is taken or refused with an error of ours, and the session goes on."""
    session = open_session("simple")

    def call(value: Any) -> None:
        try:
            CALLS[argument](session, value)
        finally:
            if argument in ("model", "version", "kind", "output kind", "loaded", "unloaded"):
                session.use("simple")
                session.set_shared_memory("system")
            assert session.infer(VALID)["OUTPUT0"][0, 0] == 2

    assert not not_ours(call, hostile_arguments())


GRPC: dict[str, Any] = {"protocol": "grpc"}
NOBODY = "127.0.0.1:1"
OPTIONS: dict[str, Callable[[Any, Any], Session]] = {
    "server": lambda _, v: Session(v, None),
    "url": lambda _, v: Session(Address(v, {})),
    "own headers": lambda s, v: Session(Address(s.url, v)),
    "model": lambda s, v: Session(s, model=v),
    "version": lambda s, v: Session(s, "simple", version=v),
    "kind": lambda s, v: Session(s, shared_memory=v),
    "output kind": lambda s, v: Session(s, output_shared_memory=v),
    "device": lambda s, v: Session(s, device=v),
    "timeout": lambda s, v: Session(s, timeout=v),
    "headers": lambda s, v: Session(s, headers=v),
    "a header": lambda s, v: Session(s, headers={v: "x"} if isinstance(v, str) else {1: v}),
    "a header's value": lambda s, v: Session(s, headers={"X-Y": v}),
    "ssl": lambda s, v: Session(s.url, ssl=v),
    "ca_file": lambda s, v: Session(s.url, ssl=SSLOptions(ca_file=v)),
    "key_file": lambda s, v: Session(s.url, ssl=SSLOptions(cert_file=v, key_file=v)),
    "mode": lambda s, v: Session(s, mode=v),
    "protocol": lambda s, v: Session(s, protocol=v),
    "grpc url": lambda _, v: Session(Address(v, {}), protocol="grpc"),
    "grpc headers": lambda s, v: Session(s, headers=v, **GRPC),
    "a grpc header": lambda s, v: Session(
        s, headers={v: "x"} if isinstance(v, str) else {1: v}, **GRPC
    ),
    "a grpc header's value": lambda s, v: Session(s, headers={"x-y": v}, **GRPC),
    "grpc ca_file": lambda _, v: Session(NOBODY, ssl=SSLOptions(ca_file=v), **GRPC),
    "grpc key_file": lambda _, v: Session(NOBODY, ssl=SSLOptions(cert_file=v, key_file=v), **GRPC),
}


@pytest.mark.parametrize("option", list(OPTIONS))
def test_no_option_of_a_session_is_too_odd(open_session: Open, server: Any, option: str) -> None:
    """A session is opened, or refused with an error of ours and nothing left."""
    address = Address(server, {}) if isinstance(server, str) else server
    assert not not_ours(lambda v: OPTIONS[option](address, v).close(), hostile_arguments())
    assert open_session("simple").infer(VALID)["OUTPUT0"][0, 0] == 2


@pytest.mark.parametrize(
    "address",
    ["localhost:99999", "localhost:-1", "localhost:x", "http://", "http://[::1", "ftp://127.0.0.1",
     "file:///etc/passwd", "http://127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1/v2",
     "user@127.0.0.1:1",
     "http://127.0.0.1:1\r\nX: y", "http://127.0.0.1:1\0", "http://höst:1", "a b:1", ":8000", "//x",
     "http://127.0.0.1:1/" + "x" * 70_000, "[" * 99, "1" * 5000 + ":1", "http://127.0.0.1:1#?@:/"],
)  # fmt: skip
@BOTH
def test_no_address_is_too_odd(address: str, protocol: str) -> None:
    """What is no address, or where nothing answers, is told as such."""
    assert refused(lambda: Session(address, protocol=protocol))


def test_an_address_that_raises_is_refused() -> None:
    """An object may raise whatever it likes where its address is asked for."""
    assert refused(lambda: Session(NoAddress()))


# --- pictures ----------------------------------------------------------------------------------


def encoded(kind: str) -> bytes:
    """Return a small picture as a file of some kind."""
    with Image.open(samples.image("cat")) as cat:
        small = cat.resize((48, 32))
    file = io.BytesIO()
    small.save(file, kind, **({"quality": 50} if kind in ("JPEG", "WEBP") else {}))
    return file.getvalue()


def png(width: int, height: int, color: int = 2, depth: int = 8, data: bytes = b"") -> bytes:
    """Return a PNG file whose header claims what it likes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@cache
def claims() -> dict[str, bytes]:
    """Return files whose headers claim a size that they do not have."""
    huge = 2**31 - 1
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    bmp = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, huge, huge, 1, 24, 0, 0, 0, 0, 0, 0
    )
    tiff = b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHIII", 256, 4, 1, huge, 257, 4, 1, huge, 0)
    return {
        "png": png(huge, huge), "png row": png(huge, 1), "png bomb": png(8000, 8000,
        data=bytes(9**8)),
        "png of nothing": png(0, 0), "png, odd colours": png(9, 9, color=5),
        "png, odd depth": png(9, 9, depth=3),
        "gif": gif, "gif frame": gif + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535,
        0) + b"\x08\0;",
        "bmp": bmp, "tiff": tiff, "ppm": b"P6 99999999 99999999 255\n",
        "pgm": b"P5 8000 8000 65535\n",
        "ppm comment": b"P6 #" + b"x" * 99_999, "ppm digits": b"P6 " + b"9" * 99_999,
        "pfm": b"PF\n9 9\n-0.0\n",
        "pbm": b"P1 9 9\n" + b"2" * 81, "jpeg start": b"\xff\xd8\xff",
        "riff": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", "svg": b"<svg/>",
        "empty": b"", "zeros": bytes(9999), "html": b"<html><script>alert(1)</script>",
    }  # fmt: skip


FILES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")}


def is_picture(image: Image.Image) -> bool:
    """Tell whether this is what a picture shall be once it is read."""
    return image.mode in ("L", "RGB") and min(image.size) > 0 and len(image.tobytes()) > 0


@fuzz(150)
@given(data=st.data())
def test_any_bytes_are_a_picture_or_no_picture(data: st.DataObject) -> None:
    """Files that were changed, cut, or grown together are read or refused."""
    slow = ("png bomb", "pgm")  # read at last, if they are changed a little
    files = [*FILES.values(), *(file for name, file in claims().items() if name not in slow)]
    file = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(0, 6))):
        if file:
            at = data.draw(st.integers(0, min(len(file), 400 if FULL else 90) - 1))
            file[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del file[data.draw(st.integers(0, len(file))) :]
    if data.draw(st.booleans()):
        file += data.draw(st.sampled_from(files))
    kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
    got = outcome(lambda: load_image(kind(bytes(file))))
    assert isinstance(got, TritonicError) or is_picture(got)


@pytest.mark.parametrize("name", claims())
def test_a_header_is_not_believed(name: str) -> None:
    """A file that claims more than it has costs neither memory nor time."""
    started = time.monotonic()
    assert refused(lambda: load_image(claims()[name]))
    assert time.monotonic() - started < 5


def odd_files(folder: Path) -> list[Any]:
    """Make files, and what is no file, and return their paths."""
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("text", encoding="utf-8")
    with (folder / "sparse.png").open("wb") as sparse:
        sparse.truncate(2**40)
    return [
        *(folder / name for name in ("pipe.png", "loop.png", "zero.png", "empty.png", "text.jpg")),
        folder / "sparse.png", folder, folder / "none.png", folder / ("x" * 300), "/dev/zero",
        "/dev/stdin", "/dev/tty", "/dev/full", "/proc/self/mem", "/proc/self/environ",
        "~nobody-at-all/x",
        "~\0", "~", os.fsdecode(b"/tmp/\xff.png"), "/" * 5000, "file:///etc/passwd",
        "http://127.0.0.1:1/",
        *TEXTS, *(b for b in (b"x", b"/dev/zero")),
    ]  # fmt: skip


def test_no_path_is_too_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes, devices, folders, and paths that are none: at once, with an error of ours."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        paths = [*odd_files(tmp_path), "socket.png", Raises()]
        started = time.monotonic()
        for path in paths:
            assert refused(lambda given=path: load_image(given)), path
        assert time.monotonic() - started < 10


def test_a_wrong_ending_makes_no_difference(tmp_path: Path) -> None:
    """What a file is called does not tell what it is."""
    for kind, file in FILES.items():
        (tmp_path / f"{kind}.docx").write_bytes(file)
        assert is_picture(load_image(tmp_path / f"{kind}.docx"))


@fuzz(100)
@given(array=anything())
def test_any_array_is_a_picture_or_no_picture(array: Any) -> None:
    """Pixels of any datatype and shape are taken as they are, or refused with an error of ours."""
    got = outcome(lambda: load_image(array))
    assert isinstance(got, TritonicError) or is_picture(got)


def test_any_mode_is_a_picture_or_no_picture() -> None:
    """Pillow's modes, one pixel and many."""
    modes = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA",
    "RGBX",
             "RGBa", "La", "I;16", "I;16L", "I;16B"]  # fmt: skip
    for mode in modes:
        for size in ((1, 1), (7, 5), (1, 4000), (0, 5), (0, 0)):
            picture = Image.new(mode, size)
            got = outcome(lambda given=picture: load_image(given))
            assert isinstance(got, TritonicError) or (is_picture(got) and got.size == size)
    closed = Image.open(io.BytesIO(FILES["PNG"]))
    closed.close()
    assert refused(lambda: load_image(closed))


NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.floats(),
    st.sampled_from([10**400, -1e308, 5e-324, True, None, "1", [1], []]),
)


@fuzz(150)
@given(
    width=NUMBERS, height=NUMBERS, size=st.tuples(st.integers(1, 60), st.sampled_from([1, 50,
    9999])),
    more=st.fixed_dictionaries({}, optional={
        "layout": st.sampled_from(["NCHW", "nhwc", "HW", "HWC", "", None]),
        "datatype": st.sampled_from(["FP32", "fp16", "BF16", "UINT8", "INT8", "INT64", "BOOL", 1]),
        "colors": st.sampled_from(["RGB", "gray", "BGR", "red"]),
        "mean": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3), st.just(np.array(1.0))),
        "std": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3)), "scale": NUMBERS,
        "fit": st.sampled_from(["crop", "pad", "stretch", Raises()]), "crop_ratio": NUMBERS,
        "fill": NUMBERS, "multiple": NUMBERS, "speed": NUMBERS,
    }),
)  # fmt: skip
def test_any_transform_works_or_is_refused(
    width: Any, height: Any, size: tuple[int, int], more: dict[str, Any]
) -> None:
    """What ImageTransform takes turns every picture into finite numbers of its datatype."""

    def whole() -> None:
        transform = ImageTransform(8, 8).replace(width=width, height=height, **more)
        tensor = transform(Image.new("RGB", size, (0, 128, 255)))
        assert tensor.dtype == transform.dtype
        assert tensor.shape == transform.shape_for(size)
        assert np.isfinite(tensor.astype(np.float64)).all()
        assert ImageTransform.from_json(transform.to_json()) == transform

    refused(whole)


HINTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), NUMBERS,
              st.sampled_from(["NCHW", "FP16", "GRAY", "imagenet", "pad", *TEXTS])),
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(
        st.sampled_from(["width", "height", "layout", "mean", "std", "scale", "colors", "fit",
        "x"]),
        each, max_size=4)),
    max_leaves=8,
)  # fmt: skip


@fuzz(150)
@given(hint=HINTS, shape=st.lists(st.sampled_from([-1, 0, 1, 3, 8, 224, 2**40]), max_size=5))
def test_any_hint_of_a_model_works_or_is_refused(hint: Any, shape: list[int]) -> None:
    """What a model's ``image_transform`` parameter may hold is no error but ours."""
    text = hint if isinstance(hint, str) else json.dumps(hint, default=str)
    got = outcome(lambda: transform_for(tuple(shape), "FP32", hint=text))
    assert got is None or isinstance(got, (ImageTransform, ImageError, ArgumentError))


# --- servers -----------------------------------------------------------------------------------

METADATA = {
    "name": "m", "versions": ["1"], "platform": "python",
    "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [-1, 4]}],
}  # fmt: skip
CONFIG = {
    "name": "m", "backend": "python", "max_batch_size": 8,
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}],
    "parameters": {"labels": {"string_value": '["a", "b", "c", "d"]'}},
}  # fmt: skip
INDEX = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
OUTPUT = {"name": "OUT", "datatype": "FP32", "shape": [1, 4]}
ROW = np.arange(4, dtype=np.float32)[np.newaxis]


def usual_answers() -> dict[str, Any]:
    """Return what a server with one model says, by what it is asked."""
    return {
        "server": {"name": "triton", "version": "2.51.0", "extensions": ["system_shared_memory"]},
        "ready": {}, "metadata": METADATA, "config": CONFIG, "index": INDEX, "status": [],
        "register": {}, "unregister": {}, "load": {}, "unload": {},
        "infer": {"model_name": "m", "model_version": "1", "outputs": [OUTPUT]},
    }  # fmt: skip


def question(path: str) -> str:
    """Tell which of these questions a path asks."""
    last = path.rpartition("/")[2]
    if last in ("v2", ""):
        return "server"
    return last if last in usual_answers() else "metadata"


@contextlib.contextmanager
def told() -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a server whose answers, documents or bytes, can be changed at any time."""
    answers = usual_answers()
    registered: dict[str, None] = {}

    def answer(asked: Asked) -> bytes | Iterable[bytes] | None:
        about = question(asked.path)
        said = answers[about]
        if about in ("register", "unregister") and said == {}:
            name = asked.path.split("/")[-2]
            registered.update({name: None}) if about == "register" else registered.pop(name, None)
        elif about == "status" and said == []:
            said = [{"name": name, "byte_size": 4096} for name in registered]
        if isinstance(said, (dict, list)):
            return reply(json.dumps(said).encode())
        return said() if callable(said) else said

    with serving(answer) as (url, _):
        yield url, answers


@contextlib.contextmanager
def impatient(longest_s: float = 0.08) -> Iterator[None]:
    """Have every request wait for a moment only, where half a minute would be the limit."""
    send = SocketEngine.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SocketEngine,
            "send",
            lambda self, asked, limit_s, attached: send(
                self, asked, min(limit_s, longest_s), attached
            ),
        )
        yield


def visit(url: str) -> None:
    """Do all that a session does with its server, whether it succeeds or not."""
    with Session(url) as session:
        for call in (
            session.models,
            lambda: session.use("m"),
            lambda: session.transform,
            lambda: session.register_inputs(batch=2),
            lambda: session.register_outputs(batch=2),
            lambda: session.infer(ROW)["OUT"],
            lambda: session.infer(ROW).top_k(2),
            lambda: session.load("m"),
            lambda: session.unload("m"),
            session.unregister,
        ):
            refused(call)
            assert repr(session).encode()
            assert session._repr_html_().encode()


def test_the_usual_answers_are_those_of_a_server() -> None:
    """What is changed below works if it is not changed."""
    with told() as (url, _), Session(url, "m") as session:
        assert session.infer(ROW)["OUT"].tolist() == [[0, 0, 0, 0]]
        assert session.regions
        visit(url)


DEEP = "@deep@"  # stands for a list in a list in a list ...
# No numbers that stand for some gigabytes: they would be had, in /dev/shm.
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 20), st.floats(-9, 20), st.just(DEEP),
        st.sampled_from([2**62, 2**63, 2**64, -(2**63), 10**400, math.nan, math.inf, 1e308, -0.0]),
        st.text(max_size=9), st.sampled_from(TEXTS),
        st.sampled_from(["FP32", "BYTES", "FP99", "OUT", "IN", "m", "shared_memory_region"]),
    ),
    lambda each: st.one_of(
        st.lists(each, max_size=4), st.dictionaries(st.text(max_size=4), each, max_size=4)
    ),
    max_leaves=6,
)  # fmt: skip


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each part of a document."""
    items = (
        document.items() if isinstance(document, dict)
        else enumerate(document) if isinstance(document, list) else ()
    )  # fmt: skip
    return [at, *(place for key, part in items for place in places(part, (*at, key)))]


def changed(document: Any, place: tuple[Any, ...], value: Any, *, drop: bool) -> Any:
    """Return a document with one part exchanged, or left out."""
    if not place:
        return value
    copied = json.loads(json.dumps(document))
    parent = copied
    for key in place[:-1]:
        parent = parent[key]
    if drop:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return copied


def written(document: Any) -> bytes:
    """Return a document as JSON, or as near to it as it comes."""
    text = json.dumps(document, ensure_ascii=bool(len(str(document)) % 2)).encode(
        "utf-8", "surrogatepass"
    )
    return text.replace(json.dumps(DEEP).encode(), b"[" * 50_000 + b"]" * 50_000)


def test_any_document_is_read_or_refused() -> None:
    """Wrong types, missing fields, huge and negative numbers, deep nesting: errors of ours."""
    with told() as (url, answers):

        @fuzz(60)
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            answers.update(usual_answers())
            for _ in range(data.draw(st.integers(1, 2))):
                asked = data.draw(st.sampled_from(list(answers)))
                document = usual_answers()[asked]
                place = data.draw(st.sampled_from(places(document)))
                drop = data.draw(st.booleans())
                said = changed(document, place, data.draw(JSON), drop=drop)
                answers[asked] = reply(written(said))
            with impatient():
                refused(lambda: visit(url))

        check()
        answers.update(usual_answers())
        visit(url)


def binary(document: Any, data: bytes, *, claimed: int | None = None) -> bytes:
    """Return a reply with tensors behind its document."""
    head = json.dumps(document).encode()
    length = len(head) if claimed is None else claimed
    return reply(head + data, Inference_Header_Content_Length=str(length))


def test_sizes_that_lie_are_refused() -> None:
    """Of tensors on the wire, what is told and what comes must agree."""
    with told() as (url, answers), Session(url, "m", shared_memory="none") as session:
        sizes_told = st.sampled_from([-16, -4, 0, 4, 16, 17, 2**40, 1.5, "16", None])
        shapes = st.sampled_from(
            [[1, 4], [4], [0], [], [-1, 4], [2**62, 4], [2**64, 0], [1.5], "4"]
        )

        @fuzz(150)
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            sizes = [*data.draw(st.lists(sizes_told, max_size=2)), 16]
            fitting = sum(size for size in sizes if isinstance(size, int) and 0 < size < 99)
            came = bytes(range(data.draw(st.sampled_from([fitting, fitting, fitting + 1, 3]))))
            shape = data.draw(shapes)
            datatype = data.draw(st.sampled_from(["FP32", "INT8", "BYTES", "BOOL", "FP99", None]))
            names = ("OUT", data.draw(st.sampled_from(["OUT", "other"])), "third")
            outputs = [
                {**OUTPUT, "name": name, "shape": shape, "datatype": datatype,
                 "parameters": {"binary_data_size": size}}
                for name, size in zip(names, sizes, strict=False)
            ]  # fmt: skip
            claimed = data.draw(st.sampled_from([None, None, None, 0, -1, 10, 2**40]))
            answers["infer"] = binary({"outputs": outputs}, came, claimed=claimed)
            got = outcome(lambda: session.infer(ROW))
            if not isinstance(got, TritonicError):
                assert [type(size) for size in sizes] == [int] * len(sizes)
                assert sum(sizes) == len(came)
                back = got["OUT"]
                assert list(back.shape) == shape
                if datatype != "BYTES":
                    assert back.tobytes() == came[: sizes[0]]

        check()
        answers["infer"] = binary(
            {"outputs": [{**OUTPUT, "parameters": {"binary_data_size": 16}}]}, ROW.tobytes()
        )
        assert session.infer(ROW)["OUT"].tolist() == ROW.tolist()


def test_numbers_in_json_fit_or_are_refused() -> None:
    """A tensor that comes as JSON has the numbers of the JSON, in the datatype that it tells."""
    with told() as (url, answers), Session(url, "m", shared_memory="none") as session:

        @fuzz(100)
        @given(
            data=st.lists(st.one_of(NUMBERS, st.text(max_size=3), JSON), max_size=5),
            datatype=st.sampled_from(["FP32", "INT32", "UINT64", "BOOL", "BYTES", "BF16"]),
        )
        def check(data: list[Any], datatype: str) -> None:
            output = {**OUTPUT, "datatype": datatype, "shape": [len(data)], "data": data}
            answers["infer"] = reply(written({"outputs": [output]}))
            got = outcome(lambda: session.infer(ROW))
            if not isinstance(got, TritonicError):
                back = got["OUT"].tolist()
                if datatype == "BYTES":
                    assert back == [codec.element_bytes(each) for each in leaves(data)]
                elif datatype not in ("FP32", "BF16"):
                    assert back == leaves(data)

        check()


def drip(pause_s: float = 0.1) -> Iterator[bytes]:
    """Give a reply that never ends, byte by byte."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
    for _ in range(100):
        time.sleep(pause_s)
        yield b" "


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NESTED = b"[" * 50_000 + b"]" * 50_000
BROKEN: dict[str, Any] = {
    "nothing": b"\r\n\r\n",
    "hung up": None,
    "no HTTP": b"hello\r\n\r\n" * 9,
    "other protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "HTTP/9": b"HTTP/9.9 200 OK\r\n\r\n{}",
    "status 0": b"HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\n{}",
    "status 999": reply(b"{}", 999),
    "no content": reply(b"", 204),
    "partial": reply(b"{}", 206),
    "not found": reply(b"<h1>404</h1>", 404),
    "redirect": reply(b"", 302, Location="http://127.0.0.1:9/"),
    "redirect to a file": reply(b"", 301, Location="file:///etc/passwd"),
    "unauthorised": reply(b"", 401, WWW_Authenticate="Basic realm=x"),
    "error of a list": reply(b'{"error": [1, {"a": null}]}', 400),
    "error of nothing": reply(b'{"error": null}', 500),
    "error of text": reply(b'"error"', 500),
    "deep error": reply(b'{"error": ' + NESTED + b"}", 400),
    "half a character": reply(b'{"error": "\\ud800"}', 400),
    "empty": reply(b""),
    "no UTF-8": reply(b'{"error": "\xff\xfe"}', 400),
    "other coding": reply("{}".encode("utf-16")),
    "zip": reply(zlib.compress(b"{}"), Content_Encoding="gzip"),
    "cut": reply(b'{"name": "tri'),
    "cut body": OK + b"Content-Length: 999\r\n\r\n{}",
    "negative length": OK + b"Content-Length: -5\r\n\r\n{}",
    "huge length": OK + b"Content-Length: 9999999999999999999999\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "chunks": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "bad chunks": CHUNKED + b"zz\r\n{}\r\n",
    "huge chunk": CHUNKED + b"ffffffffffffffffff\r\n{}",
    "long header": reply(b"{}", X="x" * 200_000),
    "many headers": OK + b"X-Y: z\r\n" * 50_000 + b"Content-Length: 2\r\n\r\n{}",
    "header without end": OK + b"X: " + b"x" * 2_000_000,
    "only interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 999,
    "drip": drip,
    "drip of headers": lambda: (time.sleep(0.1) or OK[i : i + 1] for i in range(len(OK))),
    "too much": reply(b"{}") * 3,
}


@pytest.mark.parametrize(
    "asked",
    ["server", "metadata", "register", "infer", *(["config", "status", "index", "all"] * FULL)],
)
def test_no_reply_is_too_odd(asked: str) -> None:
    """Replies that break HTTP, or Triton's protocol: an error of ours, within the time limit."""
    with told() as (url, answers):
        for name, said in BROKEN.items():
            answers.update(usual_answers())
            answers.update(dict.fromkeys(answers, said) if asked == "all" else {asked: said})
            started = time.monotonic()
            with impatient():
                refused(lambda: visit(url))
            assert time.monotonic() - started < 10, name
        answers.update(usual_answers())
        visit(url)


def test_a_sessions_server_may_turn_odd_and_come_back() -> None:
    """A session goes on after each reply that breaks the protocol, with nothing left over."""
    with told() as (url, answers), Session(url, "m", shared_memory="system") as session:
        for name, said in BROKEN.items():
            for asked in ("infer", "register"):
                answers[asked] = said
                session.unregister()
                with impatient():
                    refused(lambda: session.infer(ROW))
                answers.update(usual_answers())
                assert session.infer(ROW)["OUT"].shape == (1, 4), name


def test_errors_of_a_server_are_told_however_long() -> None:
    """Texts that would keep a regular expression busy for hours, and numbers without end."""
    texts = [
        "output '" * 99_999, "failed to load" * 99_999, "version" * 99_999,
        "shared memory" * 99_999,
        "stub process " * 99_999, "in ensemble , " * 99_999, "\n" * 999_999, "9" * 999_999,
        "output 'OUT' (1 bytes) should be at least " + "9" * 9999 + " bytes to hold",
        "output 'OUT' (1 bytes) should be at least 999999999999999999 bytes to hold",
        "output 'OUT' (1 bytes) should be at least 0 bytes to hold",
        "output '' (1 bytes) should be at least 5 bytes to hold",
        "unable to find shared memory region",
        "", " ", "\x1b[31m", "<script>",
    ]  # fmt: skip
    with told() as (url, answers), Session(url, "m") as session:
        for text in texts:
            answers["infer"] = reply(json.dumps({"error": text}).encode(), 400)
            started = time.monotonic()
            assert refused(lambda: session.infer(ROW))
            assert time.monotonic() - started < 5, text[:60]
        answers.update(usual_answers())
        session.infer(ROW)


# --- what people see ---------------------------------------------------------------------------

MARKUP = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(
            ["<", ">", '"', "'", "&", "</style>", "</title>", "<script>alert(1)</script>", "-->",
            "]]>",
             "<img src=x onerror=alert(1)>", '" onload="x', "</td></tr></table>", "<!--", "$x",
             "${x}",
             "$$", "\0", "\n", "\x1b[2J", "&lt;b&gt;", "javascript:x", "`", "\ud800", "</details>"]
        ),
    ),
    min_size=1, max_size=5,
).map("".join)  # fmt: skip


class Skeleton(HTMLParser):
    """The tags, and the attributes that are no text, of an HTML document."""

    # ruff: noqa: D102 - HTMLParser says what these are

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts = {"title", "alt", "src"}  # src: a picture's bytes, looked at by themselves
        self.parts.append((tag, [(n, "" if n in texts else value) for n, value in attrs]))
        assert all(value.startswith("data:image/") for n, value in attrs if n == "src" and value)

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    handle_decl = handle_pi = unknown_decl = handle_comment


def skeleton(html: str) -> list[Any]:
    """Return what of an HTML document is no text."""
    assert html.encode()  # a notebook can be saved with it
    parser = Skeleton()
    parser.feed(html)
    parser.close()
    return parser.parts


def shows_safely(text: str) -> bool:
    """Tell whether plain text can be printed, and commands no terminal."""
    return bool(text.encode()) and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text) is None


@fuzz(100)
@given(text=MARKUP)
def test_no_markup_gets_into_a_card(text: str) -> None:
    """A card has the tags that it has for harmless text, and no others."""

    def card(word: str) -> tuple[str, str]:
        table = render.Table(word, (word, word), [(word, word)], numeric=(1,))
        parts = (word, [(word, word)], [table])
        return render.card(*parts), render.plain(*parts)

    html, plain = card(text)
    assert skeleton(html) == skeleton(card("x")[0])
    assert shows_safely(plain)


@fuzz(3)
@given(text=MARKUP)
def test_no_markup_gets_into_a_picture(text: str) -> None:
    """Titles, captions, labels and notes of pictures are text, and nothing else."""
    pixels = np.zeros((4, 4, 3), np.uint8)

    def pictures(word: str) -> list[render.Picture]:
        return [
            render.show(pixels, alt=word, caption=word),
            render.bars([word, word], [0.5, 0.1], title=word),
            render.classification(pixels, [word, word], [0.5, 0.5], title=word, note=word),
        ]

    for hostile, harmless in zip(pictures(f"x{text}"), pictures("x"), strict=True):
        seen, _ = hostile._repr_mimebundle_()
        assert skeleton(seen["text/html"]) == skeleton(harmless._repr_mimebundle_()[0]["text/html"])
        assert shows_safely(seen["text/plain"])
        assert shows_safely(repr(hostile))


@fuzz(50)
@given(text=MARKUP)
def test_no_markup_gets_into_a_result(text: str) -> None:
    """Names and versions that a server gave are text in a result, and nothing else."""

    def result(word: str) -> InferenceResult:
        place = TensorPlace("output", 16, word)
        return InferenceResult(
            word, word, word, {word: ROW}, Timings(1, 1, 1, 1, 4), {("output", word): place}, 9,
            labels=[word] * 4,
        )  # fmt: skip

    assert skeleton(result(text)._repr_html_()) == skeleton(result("x")._repr_html_())
    assert shows_safely(repr(result(text)))
    assert refused(lambda: result(text)["none"])


def test_no_markup_gets_into_a_session() -> None:
    """Names, versions and states that a server gave are text in a session, and nothing else."""
    with told() as (url, answers):

        def shown(word: str) -> tuple[str, str]:
            answers["server"] = {"version": word}
            answers["metadata"] = {
                **METADATA, "name": word, "platform": word,
                "inputs": [{**METADATA["inputs"][0], "name": word, "datatype": word}],
                 # type: ignore[dict-item]
                "outputs": [{**METADATA["outputs"][0], "name": word}],  # type: ignore[dict-item]
            }  # fmt: skip
            answers["config"] = {"backend": word, "max_batch_size": 8}
            # Without shared memory at first: it would look for what dead sessions left, and say so.
            with Session(url, "m", shared_memory="none") as session:
                session.set_shared_memory("system")
                session.register_outputs()
                return session._repr_html_(), repr(session)

        @fuzz(25)
        @given(text=MARKUP)
        def check(text: str) -> None:
            got = outcome(lambda: shown(text))
            if not isinstance(got, TritonicError):
                assert skeleton(got[0]) == skeleton(shown("x")[0])
                assert shows_safely(got[1])

        check()


# --- results -----------------------------------------------------------------------------------


@fuzz(150)
@given(
    scores=hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
                      hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)),
    arguments=st.fixed_dictionaries({}, optional={
        "k": scalars(), "item": scalars(), "output": scalars(),
        "labels": st.one_of(scalars(), st.lists(scalars(), max_size=6), st.just(Raises())),
    }),
)  # fmt: skip
def test_any_scores_are_ranked_or_refused(scores: Any, arguments: dict[str, Any]) -> None:
    """Infinite, missing and odd scores, items, numbers of classes, and labels."""
    places = {("output", "o"): TensorPlace("output", scores.nbytes, "")}
    result = InferenceResult("m", "1", "", {"o": scores}, Timings(1, 1, 1, 1, 4), places, 9)

    def rank() -> None:
        best = result.top_k(**arguments)
        assert best
        assert all(isinstance(each.label, str) for each in best)
        assert operator.index(arguments.get("k", 5)) >= len(best)

    refused(rank)
    assert repr(result)
    assert result._repr_html_()
    pictured = InferenceResult(
        "m", "1", "", {"o": scores}, Timings(1, 1, 1, 1, 4), places, 9, [Image.new("RGB", (9, 9))]
    )
    if FULL:  # drawing takes its time
        arguments.pop("output", None)
        refused(lambda: pictured.picture(**arguments))


@fuzz(150)
@given(metadata=JSON, config=JSON, data=st.data())
def test_any_description_of_a_model_is_read_or_refused(
    metadata: Any, config: Any, data: st.DataObject
) -> None:
    """What a server says of a model is what the protocol says, or refused."""
    place = data.draw(st.sampled_from(places(METADATA)))
    drop = data.draw(st.booleans())
    for pair in (
        (metadata, config),
        (changed(METADATA, place, metadata, drop=drop), CONFIG),
        (METADATA, changed(CONFIG, data.draw(st.sampled_from(places(CONFIG))), config, drop=drop)),
    ):
        spec = outcome(lambda given=pair: ModelSpec.from_server(*given))
        if not isinstance(spec, TritonicError):
            assert isinstance(hash((*spec.inputs.values(), *spec.outputs.values())), int)
            assert all(d >= -1 for each in spec.inputs.values() for d in each.shape)
            refused(lambda given=spec: given.labels)

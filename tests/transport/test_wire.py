"""Tensors over HTTP: requests sent from where arrays lie, replies received into one piece."""

from __future__ import annotations

import gc
import json
import logging
import socket
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from tests.hostile_server import reply, serving
from tritonic_nb.errors import (
    ArgumentError,
    ServerRefusedError,
    ServerTimeoutError,
    ServerUnreachableError,
    TensorDatatypeError,
)
from tritonic_nb.tensors.dtypes import DATATYPES, numpy_dtype
from tritonic_nb.transport import (
    HttpTransport,
    InferRequest,
    InputTensor,
    RegionSlice,
    RequestedOutput,
    sockets,
)
from tritonic_nb.transport.base import Request
from tritonic_nb.transport.curl import CurlEngine
from tritonic_nb.transport.sockets import SocketEngine

Array = npt.NDArray[Any]
Open = Callable[..., Any]
ENGINES = pytest.mark.parametrize("engine_of", [CurlEngine, SocketEngine])
LARGE = 600_000  # elements: of 4 bytes, more than what is received in one piece


def numbers(datatype: str, *shape: int) -> Array:
    """Return an array of a datatype with all kinds of values."""
    lots = np.random.default_rng(3)
    if datatype == "BYTES":
        texts = [b"x" * int(n) + bytes([int(n)]) for n in lots.integers(0, 9, int(np.prod(shape)))]
        return np.array([*texts, None], object)[:-1].reshape(shape)
    if datatype == "BOOL":
        return lots.integers(0, 2, shape).astype(bool)
    dtype = numpy_dtype(datatype)
    raw = lots.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return raw.view(dtype).reshape(shape)


def layouts(datatype: str) -> dict[str, Array]:
    """Return arrays of a datatype in all layouts."""
    full = numbers(datatype, 4, 6)
    swapped = full.astype(full.dtype.newbyteorder()) if datatype != "BF16" else full[::-1]
    frozen = full.copy()
    frozen.flags.writeable = False
    return {
        "contiguous": full,
        "read-only": frozen,
        "transposed": full.T,
        "strided": full[::2, ::-1],
        "repeated": np.broadcast_to(full[:1, :1], (3, 5)),
        "of the other byte order": swapped,
        "empty": full[:0],
        "empty within": full[:, :0],
        "without dimensions": full[1, 2].reshape(()) if datatype != "BYTES" else full[1, 2:3],
        "of more dimensions": full.reshape(1, 1, 2, 1, 12),
    }


def wire(name: str, datatype: str, array: Array) -> InputTensor:
    """Return an input that goes over the wire."""
    return InputTensor(name, datatype, array.shape, array)


def tritonclients(request: InferRequest) -> tuple[bytes, int | None]:
    """Return a request's body as tritonclient makes it of arrays, and the size of its head."""
    inputs, outputs = [], []
    for tensor in request.inputs:
        made = InferInput(tensor.name, list(tensor.shape), tensor.datatype)
        if tensor.region is not None:
            part = tensor.region
            inputs.append(made.set_shared_memory(part.name, part.nbytes, part.offset))
        else:
            array = np.asarray(tensor.array)
            native = array.astype(array.dtype.newbyteorder("="))
            inputs.append(made.set_data_from_numpy(native))
    for output in request.outputs:
        asked = InferRequestedOutput(output.name, binary_data=True)
        if output.region is not None:
            asked.set_shared_memory(output.region.name, output.region.nbytes, output.region.offset)
        outputs.append(asked)
    body, length = InferenceServerClient.generate_request_body(
        inputs,
        outputs=outputs,
        request_id=request.request_id,
        priority=request.priority,
        parameters=dict(request.parameters) or None,
    )
    return bytes(body), length


@contextmanager
def recorded() -> Iterator[tuple[HttpTransport, list[Any]]]:
    """Give a transport, and what the server that it goes to gets."""
    with (
        serving(lambda _: reply(b"{}")) as (url, requests),
        closing(HttpTransport(url)) as transport,
    ):
        yield transport, requests


def check_same(requests: list[Any], wanted: list[InferRequest]) -> None:
    """Claim that what came is what tritonclient would have sent."""
    assert len(requests) == len(wanted)
    for got, request in zip(requests, wanted, strict=True):
        body, length = tritonclients(request)
        assert got.body == body
        said = f"Inference-Header-Content-Length: {length}\r\n" in f"{got.head}\r\n"
        assert said == (length is not None)


# Requests


@pytest.mark.parametrize("datatype", DATATYPES)
def test_a_request_is_what_tritonclient_sends(datatype: str) -> None:
    """Byte for byte, of every datatype and layout, and the second time too."""
    wanted = [
        InferRequest("m", "", [wire("x", datatype, array)], [RequestedOutput("y")])
        for array in layouts(datatype).values()
    ]
    with recorded() as (transport, requests):
        for request in wanted * 2:
            prepared = transport.prepare(request)
            assert prepared.nbytes == len(tritonclients(request)[0])
            transport.infer(prepared, 5)
        check_same(requests, wanted * 2)


def test_several_tensors_follow_in_their_order() -> None:
    """Empty ones among them, ones in regions between them, and more than one call sends."""
    region = RegionSlice("r", 64, 8)
    mixed = [
        wire("a", "FP32", numbers("FP32", 3)),
        wire("b", "FP32", numbers("FP32", 0)),
        InputTensor("c", "FP64", (1,), region=region),
        wire("d", "BYTES", np.array([b"", "é"], object)),
        wire("e", "BOOL", numbers("BOOL", 7)),
        wire("f", "FP32", numbers("FP32", 0, 2)),
    ]
    many = [wire(f"x{i}", "UINT8", numbers("UINT8", i % 3)) for i in range(2500)]
    with recorded() as (transport, requests):
        wanted = [InferRequest("m", "", inputs, []) for inputs in (mixed, many, mixed[1:2])]
        for request in wanted:
            transport.infer(transport.prepare(request), 5)
        wanted[0] = replace(wanted[0], inputs=[*mixed[:3], wire(
            "d", "BYTES", np.array([b"", "é".encode()], object)), *mixed[4:]])  # fmt: skip
        check_same(requests, wanted)


def test_requests_that_differ_in_one_thing_are_told_apart() -> None:
    """Whatever was sent before: a head is used again for the same request only."""
    array = np.arange(6, dtype=np.int32)
    x, y = wire("x", "INT32", array), RequestedOutput("y")
    asked = InferRequest("m", "", [x], [y])
    unlike = [
        asked,
        replace(asked, model="n"),
        replace(asked, version="1"),
        replace(asked, inputs=[replace(x, name="z")]),
        replace(asked, inputs=[wire("x", "UINT32", array.view(np.uint32))]),
        replace(asked, inputs=[wire("x", "INT32", array.reshape(2, 3))]),
        replace(asked, inputs=[wire("x", "INT32", array.reshape(3, 2))]),
        replace(asked, inputs=[wire("x", "INT32", array[:5])]),
        replace(asked, inputs=[wire("x", "BYTES", np.array([b"a"], object))]),
        replace(asked, inputs=[wire("x", "BYTES", np.array([b"aa"], object))]),
        replace(asked, inputs=[InputTensor("x", "INT32", (6,), region=RegionSlice("r", 0, 24))]),
        replace(asked, inputs=[InputTensor("x", "INT32", (6,), region=RegionSlice("r", 8, 24))]),
        replace(asked, inputs=[InputTensor("x", "INT32", (6,), region=RegionSlice("s", 0, 24))]),
        replace(asked, outputs=[]),
        replace(asked, outputs=[RequestedOutput("z")]),
        replace(asked, outputs=[y, RequestedOutput("z")]),
        replace(asked, outputs=[RequestedOutput("z"), y]),
        replace(asked, outputs=[RequestedOutput("y", RegionSlice("r", 0, 24))]),
        replace(asked, outputs=[RequestedOutput("y", RegionSlice("r", 0, 32))]),
        replace(asked, request_id="5"),
        replace(asked, priority=1),
        replace(asked, parameters={"p": 1}),
        replace(asked, parameters={"p": True}),
    ]
    with recorded() as (transport, requests):
        for request in unlike * 2:
            transport.infer(transport.prepare(request), 5)
        check_same(requests, unlike * 2)
        paths = [each.path for each in requests[:3]]
        assert paths == [
            "/v2/models/m/infer", "/v2/models/n/infer", "/v2/models/m/versions/1/infer",
        ]  # fmt: skip
    assert len({(each.path, each.body) for each in requests}) == len(unlike)


def test_a_contiguous_array_is_not_copied_and_read_when_it_is_sent() -> None:
    """Sending needs no memory of the array's size, and takes what lies there each time."""
    array = np.zeros(5_000_000, np.float32)
    with recorded() as (transport, requests):
        request = InferRequest("m", "", [wire("x", "FP32", array)], [])
        prepared = transport.prepare(request)
        tracemalloc.start()
        try:
            assert transport.prepare(request).nbytes > array.nbytes
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        for value in (1, 2):
            array[...] = value
            transport.infer(prepared, 20)
            assert requests.pop().body[-array.nbytes :] == array.tobytes()


@ENGINES
def test_what_the_socket_takes_in_parts_arrives_whole(engine_of: Any) -> None:
    """A server that reads slowly gets all pieces, in order and once."""
    lots = np.random.default_rng(1)
    sizes = (3_000_000, 0, 1, 700_001, 0, 5_000_000, 0)
    pieces = [memoryview(lots.integers(0, 256, size, np.uint8)) for size in sizes]
    total = sum(sizes)
    got = bytearray()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < total + 4:
                    got.extend(peer.recv(500_000))
                peer.sendall(reply(b"done"))

        thread = threading.Thread(target=serve)
        thread.start()
        engine = engine_of(f"http://127.0.0.1:{listener.getsockname()[1]}")
        message = engine.write(Request("POST", "x", {}, b"head", total))
        assert engine.send(message, 20, pieces).body == b"done"
        thread.join()
        engine.close()
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % (total + 4) in head
    assert body == b"head" + b"".join(pieces)


@ENGINES
def test_a_server_that_hangs_up_in_the_middle_of_a_tensor_is_told(engine_of: Any) -> None:
    """It may have begun, and nothing is sent again."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    accepted.append(peer.recv(100_000))

        thread = threading.Thread(target=serve)
        thread.start()
        engine = engine_of(f"http://127.0.0.1:{listener.getsockname()[1]}")
        message = engine.write(Request("POST", "x", {}, b"", 20_000_000))
        with pytest.raises(ServerUnreachableError, match="closed the connection") as caught:
            engine.send(message, 20, [bytes(20_000_000)])
        engine.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert caught.value.sent
    assert len(accepted) == 1


@pytest.mark.parametrize(
    ("datatype", "shape", "array"),
    [
        ("FP32", (3,), np.zeros(3, np.float64)),
        ("FP32", (2,), np.zeros(3, np.float32)),
        ("FP32", (3,), np.zeros((1, 3), np.float32)),
        ("BYTES", (1,), np.array([5], object)),
        ("BYTES", (1,), np.array(["\ud800"], object)),
    ],
)
def test_an_array_that_is_not_what_the_request_says_is_not_sent(
    datatype: str, shape: tuple[int, ...], array: Array
) -> None:
    """The head would tell of other tensors than those that follow."""
    with recorded() as (transport, requests):
        with pytest.raises((ArgumentError, TensorDatatypeError)):
            transport.prepare(InferRequest("m", "", [InputTensor("x", datatype, shape, array)], []))
        assert not requests


def test_the_log_tells_all_bytes_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """The tensors that follow the head are counted too."""
    with recorded() as (transport, _), caplog.at_level(logging.DEBUG, "tritonic_nb.transport"):
        request = InferRequest("m", "", [wire("x", "UINT8", np.zeros(5000, np.uint8))], [])
        prepared = transport.prepare(request)
        transport.infer(prepared, 5)
    assert prepared.nbytes > 5000
    assert f"POST v2/models/m/infer {prepared.nbytes} bytes -> 200" in caplog.text


# Replies


def said(*tensors: tuple[str, Array], **headers: str) -> bytes:
    """Return a server's reply with binary tensors."""
    outputs, data = [], []
    for i, (datatype, array) in enumerate(tensors):
        outputs.append(
            {
                "name": f"o{i}",
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
        )
        data.append(array.tobytes())
    head = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    return reply(head + b"".join(data), **length, **headers)


def arrays_of(answer: Any, count: int = 1) -> list[Array]:
    """Return the arrays of a server's answer, asked for `count` times over one transport."""
    asked_for = InferRequest("m", "", [], [])
    with serving(lambda _: answer) as (url, requests), closing(HttpTransport(url)) as transport:
        for _ in range(count):
            outputs = transport.infer(transport.prepare(asked_for), 20).outputs
        assert {asked.connection for asked in requests} == {1}
    return [array for output in outputs.values() if (array := output.array) is not None]


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each != "BYTES"])
@pytest.mark.parametrize("size", [0, 1, 100, LARGE])
def test_results_are_the_callers_own(datatype: str, size: int) -> None:
    """Of any size: writable, aligned, contiguous, with the bytes that came; on one connection."""
    for wanted in (numbers(datatype, size), numbers(datatype, 2, size, 1)):
        (array,) = arrays_of(said((datatype, wanted)), 2)
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
        assert array.tobytes() == wanted.tobytes()
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous
        array[...] = array  # and nothing says no


@pytest.mark.parametrize("pieces", ["at once", "one byte first", "in the middle of its head"])
def test_outputs_of_one_reply_are_independent(pieces: str) -> None:
    """Large and small, in any order and of datatypes that do not align the next one."""
    sent = [("FP64", numbers("FP64", LARGE)), ("UINT8", numbers("UINT8", 3)),
            ("FP32", numbers("FP32", 0)), ("INT16", numbers("INT16", LARGE))]  # fmt: skip
    for tensors in (sent, sent[::-1]):
        whole = said(*tensors)
        cut = {"at once": 0, "one byte first": 1, "in the middle of its head": 90}[pieces]
        arrays = arrays_of([whole[:cut], whole[cut:]])
        for array, (_, wanted) in zip(arrays, tensors, strict=True):
            assert array.tobytes() == wanted.tobytes()
            assert array.flags.aligned
        for index, array in enumerate(arrays):
            before = [other.tobytes() for other in arrays]
            array.view(np.uint8)[...] ^= 255
            after = [other.tobytes() for other in arrays]
            changed = [i for i in range(len(arrays)) if before[i] != after[i]]
            assert changed == ([index] if array.size else [])


def test_a_small_output_does_not_keep_a_large_one() -> None:
    """What is kept of a reply takes little more memory than itself."""
    large, small = numbers("FP32", LARGE), numbers("FP32", 10_000)
    tracemalloc.start()
    try:
        arrays = arrays_of(said(("FP32", large), ("FP32", small)))
        alive = weakref.ref(arrays[0])
        before = tracemalloc.get_traced_memory()[0]
        del arrays[0]
        gc.collect()
        assert alive() is None
        assert before - tracemalloc.get_traced_memory()[0] > 0.9 * large.nbytes
    finally:
        tracemalloc.stop()
    assert arrays[0].tobytes() == small.tobytes()


def test_a_large_reply_needs_its_own_memory_only() -> None:
    """One piece of memory, which the array has."""
    answer = said(("FP32", numbers("FP32", 4_000_000)))
    with serving(lambda _: answer) as (url, _), closing(HttpTransport(url)) as transport:
        prepared = transport.prepare(InferRequest("m", "", [], []))
        transport.infer(prepared, 20)
        tracemalloc.start()
        try:
            transport.infer(prepared, 20)
            # The server's thread is in this process too.
            assert tracemalloc.get_traced_memory()[1] < len(answer) + 1_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("trusted", [300_000, 1_000_000, 2_399_000])
def test_memory_grows_with_what_has_come(trusted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that is larger than what is trusted arrives whole."""
    monkeypatch.setattr(sockets, "_TRUSTED_NBYTES", trusted)
    monkeypatch.setattr(sockets, "_STEP_NBYTES", 70_000)
    wanted = numbers("FP32", LARGE)
    (array,) = arrays_of(said(("FP32", wanted)), 2)
    assert array.tobytes() == wanted.tobytes()
    assert array.flags.writeable


@pytest.mark.parametrize("told", [2**31, 2**50, 2**63 - 1])
@pytest.mark.parametrize("come", [0, 1, 1_000_000])
def test_a_length_that_never_comes_takes_no_memory(told: int, come: int) -> None:
    """Whatever a server says, memory is taken for what may be meant, and the rest as it comes."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % told + bytes(come)
    with serving(lambda _: answer, keep=False) as (url, _):
        engine = SocketEngine(url)
        message = engine.write(Request("POST", "x", {}, b"x"))
        tracemalloc.start()
        try:
            with pytest.raises(ServerUnreachableError, match="closed the connection"):
                engine.send(message, 20)
            assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
        finally:
            tracemalloc.stop()
        assert len(engine._kept) == 0


@pytest.mark.parametrize(
    "told",
    [
        b"-1",
        b"+9",
        b"1e9",
        b"9, 9",
        b"18446744073709551616",
        b"5\r\nContent-Length: 6",
        b"999999\r\nTransfer-Encoding: chunked",
        b"999999\r\nTransfer-Encoding: identity",
    ],
)
def test_lengths_that_are_none_are_refused(told: bytes) -> None:
    """The parser decides what is a length, before any memory is taken for it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: " + told + b"\r\n\r\n" + bytes(300_000)
    with serving(lambda _: answer, keep=False) as (url, _):
        engine = SocketEngine(url)
        with pytest.raises(ServerUnreachableError, match="not HTTP"):
            engine.send(engine.write(Request("POST", "x", {}, b"x")), 5)


def test_a_large_reply_that_stops_is_a_timeout() -> None:
    """The limit is for the whole exchange."""
    answer = reply(bytes(5_000_000))[:2_000_000]
    with (
        serving(lambda _: answer) as (url, _),
        closing(SocketEngine(url)) as engine,
        pytest.raises(ServerTimeoutError, match=r"0\.3 s"),
    ):
        engine.send(engine.write(Request("POST", "x", {}, b"x")), 0.3)


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"connection: Keep-Alive\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
@pytest.mark.parametrize("nbytes", [5, 5_000_000])
def test_a_connection_is_kept_where_the_server_keeps_it(
    version: bytes, header: bytes, kept: bool, nbytes: int
) -> None:
    """After a large reply as after a small one."""
    body = bytes(nbytes)
    answer = b"HTTP/%s 200 OK\r\n%scontent-LENGTH: %d\r\n\r\n" % (version, header, nbytes) + body
    with serving(lambda _: answer) as (url, requests), closing(SocketEngine(url)) as engine:
        for _ in range(3):
            assert engine.send(engine.write(Request("POST", "x", {}, b"x")), 20).body == body
        assert [asked.connection for asked in requests] == ([1, 1, 1] if kept else [1, 2, 3])


def test_large_replies_after_announcements_and_before_junk() -> None:
    """What comes before and after a large reply is no part of it."""
    body = b"0123456789" * 100_000
    early = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"
    answer = early + reply(body) + b"junk"
    with serving(lambda _: answer) as (url, requests), closing(SocketEngine(url)) as engine:
        for _ in range(3):
            assert engine.send(engine.write(Request("POST", "x", {}, b"x")), 20).body == body
        assert [asked.connection for asked in requests] == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 3])
def test_large_chunked_replies_are_read(count: int) -> None:
    """A proxy may send a large reply in chunks, which has no length before its end."""
    wanted = numbers("FP32", LARGE)
    head, _, body = said(("FP32", wanted)).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    head = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""])
    step = -(-len(body) // count)
    chunks = [body[i : i + step] for i in range(0, len(body), step)]
    answer = head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in [*chunks, b""])
    (array,) = arrays_of(answer, 2)
    assert array.tobytes() == wanted.tobytes()
    assert array.flags.writeable


def test_large_replies_of_other_kinds_are_read() -> None:
    """Errors, lists, pages of something else, and heads that list their elements."""
    long = "x" * 3_000_000
    error = reply(json.dumps({"error": long}).encode(), 400)
    index = reply(json.dumps([{"name": long}]).encode())
    output = {"name": "o", "datatype": "BYTES", "shape": [1], "data": [long]}
    listed = reply(json.dumps({"model_name": "m", "outputs": [output]}).encode())
    answers = [error, index, listed, reply(long.encode()), reply(long.encode(), 500)]
    with (
        serving(lambda asked: answers[asked.number]) as (url, _),
        closing(HttpTransport(url)) as transport,
    ):
        asked = transport.prepare(InferRequest("m", "", [], []))
        with pytest.raises(ServerRefusedError, match="xxx"):
            transport.infer(asked, 20)
        assert transport.repository_index() == [{"name": long}]
        array = transport.infer(asked, 20).outputs["o"].array
        assert array is not None
        assert array.tolist() == [long.encode()]
        with pytest.raises(ServerRefusedError, match="cannot be read"):
            transport.infer(asked, 20)
        with pytest.raises(ServerUnreachableError, match="is not Triton: HTTP 500, 'xxx"):
            transport.infer(asked, 20)


# A real server


@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_arrays_that_change_after_an_inference_change_no_result(
    open_session: Open, size: int
) -> None:
    """What was sent, what came, and what comes the next time are apart."""
    session = open_session("identity_fp32", shared_memory="none")
    array = np.arange(size, dtype=np.float32).reshape(1, size)
    wanted = array.copy()
    first = session.infer(array)["OUTPUT0"]
    array[...] = -1
    second = session.infer(array)["OUTPUT0"]
    assert np.array_equal(first, wanted)
    assert (second == -1).all()
    first[...] = 7
    assert (array == -1).all()
    assert (second == -1).all()


def test_a_session_over_the_wire_takes_arrays_in_any_layout(open_session: Open) -> None:
    """Two inputs at once, as they lie."""
    session = open_session("simple", shared_memory="none")
    base = np.arange(64, dtype=np.int32)
    one, two = base[:32:2].reshape(1, 16), base[::-1][:16].reshape(1, 16).astype(">i4")
    for _ in range(2):
        result = session.infer(INPUT0=one, INPUT1=two)
        assert np.array_equal(result["OUTPUT0"], one + two)
        assert np.array_equal(result["OUTPUT1"], one - two)

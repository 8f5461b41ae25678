"""What goes over the wire, made smaller on request: read by the real server, and from it."""

from __future__ import annotations

import gzip
import time
import zlib
from typing import Any

import numpy as np
import pytest

from tests.hostile_server import reply, serving
from tritonic_nb.errors import ArgumentError, ServerRefusedError, ServerUnreachableError
from tritonic_nb.transport import InferRequest, InputTensor, connect, http
from tritonic_nb.transport.compression import compressed, expanded
from tritonic_nb.transport.curl import CurlEngine

NAMES = ["gzip", "deflate"]
SPARSE = np.zeros((1, 250_000), np.float32)
SPARSE[0, ::1000] = np.arange(250)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_comes_back_as_it_was(server: Any, name: str, protocol: str) -> None:
    """Through the server's own decompression; over HTTP its reply is compressed, too."""
    with server.session(
        model="identity_fp32", shared_memory="none", protocol=protocol, compression=name
    ) as session:
        result = session.infer(SPARSE)
        assert np.array_equal(result["OUTPUT0"], SPARSE)
        if protocol == "http":
            assert result.wire_nbytes < SPARSE.nbytes / 20
        other = SPARSE + 1
        assert np.array_equal(session.infer(other)["OUTPUT0"], other)  # the routine, once more
        small = np.ones((1, 4), np.float32)
        assert np.array_equal(session.infer(small)["OUTPUT0"], small)


def test_the_other_engine_carries_the_same(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of encrypted connections and proxies."""
    monkeypatch.setattr(http, "open_engine", CurlEngine)
    with server.session(model="identity_fp32", shared_memory="none", compression="gzip") as session:
        result = session.infer(SPARSE)
        assert np.array_equal(result["OUTPUT0"], SPARSE)
        assert result.wire_nbytes < SPARSE.nbytes / 20


def test_text_and_shared_memory(server: Any) -> None:
    """Texts shrink as numbers do; what lies in shared memory is left alone."""
    words = np.full((8, 16), "shared memory " * 100, object)
    with server.session(model="simple_identity", shared_memory="none", compression="gzip") as one:
        result = one.infer(words)
        assert result["OUTPUT0"][7, 15].decode() == words[7, 15]
        assert result.wire_nbytes < 20_000
    with server.session(model="identity_fp32", shared_memory="system", compression="gzip") as one:
        one.infer(SPARSE)  # an output of unknown size comes over the wire once
        result = one.infer(SPARSE)
        assert np.array_equal(result["OUTPUT0"], SPARSE)
        assert result.shared_nbytes == 2 * SPARSE.nbytes


@pytest.mark.parametrize("name", ["zip", "", 6, b"gzip"])
def test_another_is_refused(server: Any, name: object) -> None:
    """Before anything is sent, with those that there are."""
    with pytest.raises(ArgumentError, match="give 'gzip', 'deflate', or None"):
        server.session(compression=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pieces", [[b""], [b"ab", memoryview(b"c")], [bytes(9_000_000), b"x"]])
def test_it_is_the_format_that_its_name_says(pieces: list[bytes], name: str) -> None:
    """As Python's own readers take it, and as it is read here."""
    whole = b"".join(pieces)
    body = compressed(pieces, name)
    assert {"gzip": gzip.decompress, "deflate": zlib.decompress}[name](body) == whole
    assert expanded(body, {"content-encoding": name}, "reading") == whole


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b"abc" * 99)[:-9], "gzip"),
        (gzip.compress(b"abc") + b"x", "gzip"),
        (gzip.compress(b"abc") + gzip.compress(b"abc"), "gzip"),
        (b"abc", "br"),
        (b"", "gzip"),
    ],
)
def test_a_reply_that_cannot_be_read_is_told(body: bytes, encoding: str) -> None:
    """With its size, its encoding, and what to do."""
    with pytest.raises(
        ServerRefusedError, match=f"reading: .* of {len(body)} bytes, in '{encoding}'"
    ):
        expanded(body, {"content-encoding": encoding}, "reading")


def test_what_follows_the_end_of_a_reply_is_not_read() -> None:
    """However much it is: each piece of it would be put behind all those before."""
    started = time.process_time()
    with pytest.raises(ServerRefusedError, match="more follows its end"):
        expanded(gzip.compress(b"abc") + bytes(40_000_000), {"content-encoding": "gzip"}, "reading")
    assert time.process_time() - started < 5


def test_a_gateways_error_is_told_whatever_its_compression() -> None:
    """The server may still be at it, which counts for more than a text that cannot be read."""
    with serving(lambda _: reply(b"no gzip", 504, Content_Encoding="gzip")) as (url, _):
        transport = connect(url, compression="gzip")
        with pytest.raises(ServerUnreachableError, match="HTTP 504"):
            transport.infer(transport.prepare(InferRequest("m", "", (), ())), 5)
        transport.close()


def test_a_tensor_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is sent, and within the time limit of all of it."""
    counted = []

    def slowly(*arguments: Any) -> bytes:
        counted.append(arguments)
        time.sleep(0.3)
        return compressed(*arguments)

    monkeypatch.setattr(http, "compressed", slowly)
    inputs = (InputTensor("INPUT0", "FP32", SPARSE.shape, SPARSE),)
    transport = connect("127.0.0.1:1", compression="gzip", retries=3)
    request = transport.prepare(InferRequest("m", "", inputs, ()))
    with pytest.raises(ServerUnreachableError, match="after 4 attempts"):
        transport.infer(request, 20)
    assert len(counted) == 1
    with pytest.raises(ServerUnreachableError) as caught:  # no time is left for a second one
        transport.infer(request, 0.25)
    assert "attempts" not in caught.value.message
    transport.close()

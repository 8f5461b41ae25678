"""What is gRPC's own: addresses, headers, errors, broken replies, its channel."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

import tritonic_nb
from tests.conftest import TEST_GRPC_URL, TEST_URL, place_of, skip_without
from tests.hostile_grpc import frame, headers, serving, speaking
from tritonic_nb.errors import (
    ArgumentError,
    ModelNotFoundError,
    RegionInUseError,
    RestrictedApiError,
    ServerBusyError,
    ServerRefusedError,
    ServerTimeoutError,
    ServerUnreachableError,
    TritonicError,
)
from tritonic_nb.tensors import DATATYPES, numpy_dtype
from tritonic_nb.transport import (
    HttpTransport,
    InferRequest,
    InputTensor,
    RegionSlice,
    RequestedOutput,
    SSLOptions,
    Transport,
    connect,
)
from tritonic_nb.transport.channel import grpc_url
from tritonic_nb.transport.grpc import GrpcTransport

Open = Callable[..., tritonic_nb.Session]
INFER = InferRequest("m", "", [], [RequestedOutput("o")])
Code = grpc.StatusCode


def answered(**fields: Any) -> bytes:
    """Return the reply of an inference."""
    message: bytes = service_pb2.ModelInferResponse(**fields).SerializeToString()
    return message


def output(datatype: str = "FP32", shape: tuple[int, ...] = (1,), **more: Any) -> dict[str, Any]:
    """Return an output of a reply."""
    return {"name": "o", "datatype": datatype, "shape": shape, **more}


# Addresses, headers and options


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("localhost", "grpc://localhost:8001"),
        ("localhost:9", "grpc://localhost:9"),
        ("grpc://host", "grpc://host:8001"),
        ("GRPCS://host", "grpcs://host:8001"),
        ("grpcs://host:443/", "grpcs://host:443"),
        ("[::1]:8001", "grpc://[::1]:8001"),
        ("unix:5", "grpc://unix:5"),  # a host that is named like one of gRPC's own schemes
    ],
)
def test_every_usual_form_of_an_address_is_taken(given: str, full: str) -> None:
    """Host, host:port and full addresses work; Triton's port is the default."""
    assert grpc_url(given) == full


@pytest.mark.parametrize(
    "bad", ["", "http://host:8000", "grpc://", "host:port", "a b", "host\0", "grpc://host/v2", None]
)
def test_what_is_no_address_is_refused(bad: Any) -> None:
    """Anything else is our error with the forms that are taken."""
    with pytest.raises(ArgumentError, match="host:port"):
        grpc_url(bad)


def test_options_mean_an_encrypted_connection() -> None:
    """With SSL options an address without a scheme is grpcs, and grpc:// is a contradiction."""
    assert grpc_url("host:9", SSLOptions()) == "grpcs://host:9"
    with pytest.raises(ArgumentError, match="GRPCS"):
        grpc_url("grpc://host:9", SSLOptions())


@pytest.mark.parametrize(
    ("url", "protocol", "kind"),
    [
        ("localhost", "http", HttpTransport),
        ("localhost", "HTTP", HttpTransport),
        ("localhost", "gRPC", GrpcTransport),
        ("grpc://localhost", "http", GrpcTransport),
        ("grpcs://localhost", "grpc", GrpcTransport),
    ],
)
def test_the_protocol_is_chosen(url: str, protocol: str, kind: type[Transport]) -> None:
    """By its name in any case, or by the address."""
    assert type(connect(url, protocol=protocol)) is kind


@pytest.mark.parametrize("bad", ["", "http2", None, 5, ["grpc"]])
def test_a_protocol_that_is_none_is_refused(bad: Any) -> None:
    """With the names that there are."""
    with pytest.raises(ArgumentError, match="'http' or 'grpc'"):
        tritonic_nb.Session("127.0.0.1:9", protocol=bad)


def test_a_server_without_grpc_is_told() -> None:
    """An object that knows no gRPC address cannot be spoken to in gRPC."""

    class Server:
        url, headers = "127.0.0.1:9", {}

    with pytest.raises(ArgumentError, match="grpc_url"):
        tritonic_nb.Session(Server(), protocol="grpc")


@pytest.mark.parametrize(
    "bad",
    [{"a\r\nb": "c"}, {"a": "b\nc"}, {"": "x"}, {"a b": "c"}, {"a!b": "c"}, {5: "x"}, {"a": None},
     {"Content-Length": "5"}, {"grpc-timeout": "1S"}, {"a": "é"}, [("a", "b")]],
)  # fmt: skip
def test_headers_that_grpc_does_not_take_are_refused(bad: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(ArgumentError, match="header"):
        GrpcTransport("localhost", bad)


def test_headers_go_with_every_call() -> None:
    """In lower case; a name and password of the address as well, which is nowhere shown."""
    with serving(lambda _: b"") as (url, calls):
        transport = GrpcTransport(f"grpc://me:hidden@{url}", {"X-Mine": "a", "x-raw-bin": "b"})
        transport.server_metadata()
        transport.unload_model("m")
        transport.close()
    for call in calls:
        assert call.metadata["x-mine"] == "a"
        assert call.metadata["x-raw-bin"] == b"b"
        assert call.metadata["authorization"] == "Basic bWU6aGlkZGVu"
    assert transport.url == f"grpc://{url}"
    for bad in ("grpc://me:hidden@h/x", "http://me:hidden@h", "grpc://me:hidden@127.0.0.1:9"):
        with pytest.raises(TritonicError) as caught:
            GrpcTransport(bad).server_metadata()
        assert "hidden" not in str(caught.value)


def test_no_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for loopback addresses."""
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(lambda _: b"") as (url, _):
        transport = GrpcTransport(url)
        transport.server_metadata()
        transport.close()


def test_certificates_cannot_go_unchecked() -> None:
    """What gRPC cannot do is said, with what can be done instead."""
    with pytest.raises(ArgumentError, match=r"verify=False.*\n.*ca_file"):
        GrpcTransport("localhost", options=SSLOptions(verify=False))


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_that_is_not_there_is_told(name: str, tmp_path: Path) -> None:
    """Our error names the file."""
    options = SSLOptions(**{name: str(tmp_path / "missing.pem")})
    with pytest.raises(ArgumentError, match="missing.pem"):
        GrpcTransport("localhost", options=options).server_metadata()


def test_without_the_extra_it_says_how_to_get_it() -> None:
    """Where gRPC is not installed, HTTP works and gRPC is our error."""
    script = textwrap.dedent("""
        import sys
        sys.modules["grpc"] = None  # as if it were not installed
        import tritonic_nb
        for address in ("127.0.0.1:9", "grpc://127.0.0.1:9"):
            try:
                tritonic_nb.Session(address)
            except tritonic_nb.TritonicError as error:
                print(type(error).__name__, error.remedy)
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    http, other = done.stdout.splitlines()
    assert http.startswith("ServerUnreachableError")
    assert other.startswith("ArgumentError pip install 'tritonic-nb[grpc]'")


# An encrypted connection


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine that nobody trusts, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    try:
        subprocess.run(
            [*command, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl command to make a certificate with")
    return chain, key


def test_an_encrypted_connection(certificate: tuple[Path, Path]) -> None:
    """It works with the authority's file, with a client's certificate where one is demanded."""
    chain, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, chain)], chain, require_client_auth=True)
    paths = [str(path) for path in certificate]
    with serving(lambda _: b"", credentials) as (url, calls):
        options = SSLOptions(ca_file=paths[0], cert_file=paths[0], key_file=paths[1])
        transport = GrpcTransport(url, options=options)
        transport.server_metadata()
        transport.close()
        assert len(calls) == 1
        without = GrpcTransport(url, options=SSLOptions(ca_file=paths[0]))
        with pytest.raises(ServerUnreachableError):
            without.server_metadata()
        without.close()
        assert len(calls) == 1


def test_a_certificate_that_is_not_trusted_is_told(certificate: tuple[Path, Path]) -> None:
    """The error says which file to pass."""
    chain, key = (path.read_bytes() for path in certificate)
    with serving(lambda _: b"", grpc.ssl_server_credentials([(key, chain)])) as (url, calls):
        transport = GrpcTransport(f"grpcs://{url}")
        with pytest.raises(ServerUnreachableError, match=r"not trusted.*\n.*ca_file") as caught:
            transport.server_metadata()
        transport.close()
    assert not caught.value.sent
    assert not calls


# What comes back


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff",
        b"hello",
        answered(outputs=[output(shape=(-1,))]),
        answered(outputs=[output(datatype="FP99")], raw_output_contents=[b"1234"]),
        answered(outputs=[output(datatype="")], raw_output_contents=[b"1234"]),
        answered(outputs=[output()], raw_output_contents=[b"123"]),
        answered(outputs=[output()], raw_output_contents=[b"12345"]),
        answered(outputs=[output()], raw_output_contents=[b""]),
        answered(outputs=[output()], raw_output_contents=[b"1234"] * 2),
        answered(outputs=[output()] * 2, raw_output_contents=[b"1234"] * 2),
        answered(outputs=[output(shape=(2**40, 2**40))], raw_output_contents=[b"1234"]),
        answered(outputs=[output(shape=(2**62, 0))], raw_output_contents=[b"1234"]),
        answered(outputs=[output("BYTES")], raw_output_contents=[b"\1\0\0\0"]),
        answered(outputs=[output("BYTES")], raw_output_contents=[b"\1\0\0\0ab"]),
        answered(outputs=[output("BYTES", (2**50,))], raw_output_contents=[b"\0\0\0\0"]),
        answered(outputs=[output(contents={"fp32_contents": [1, 2]})]),
        answered(outputs=[output(contents={"int_contents": [1]})]),
        answered(outputs=[output("INT8", contents={"int_contents": [300]})]),
        answered(outputs=[output("UINT8", contents={"int_contents": [1]})]),
        answered(outputs=[output("FP16", contents={"fp32_contents": [1]})]),
    ],
)
def test_a_reply_that_breaks_the_protocol_is_our_error(said: bytes) -> None:
    """Whatever comes back, the caller sees an error of this package."""
    with serving(lambda _: said) as (url, _):
        transport = GrpcTransport(url)
        with pytest.raises(ServerRefusedError, match="cannot be read"):
            transport.infer(transport.prepare(INFER), 5)
        transport.close()


@pytest.mark.parametrize("said", [b"\xff\xff", b"hello"])
def test_control_replies_that_break_the_protocol_are_our_errors(said: bytes) -> None:
    """The same for descriptions and lists."""
    with serving(lambda _: said) as (url, _):
        transport = GrpcTransport(url)
        for call in (transport.server_metadata, transport.repository_index,
                     transport.registered_regions,
                     lambda: transport.model_config("m")):  # fmt: skip
            with pytest.raises(ServerRefusedError, match="cannot be read"):
                call()
        transport.close()


@pytest.mark.parametrize(
    ("datatype", "contents", "wanted"),
    [
        ("BOOL", {"bool_contents": [True, False]}, [True, False]),
        ("INT8", {"int_contents": [-128, 127]}, [-128, 127]),
        ("UINT16", {"uint_contents": [0, 65535]}, [0, 65535]),
        ("INT64", {"int64_contents": [-(2**63), 2**63 - 1]}, [-(2**63), 2**63 - 1]),
        ("UINT64", {"uint64_contents": [0, 2**64 - 1]}, [0, 2**64 - 1]),
        ("FP32", {"fp32_contents": [0.5, -1]}, [0.5, -1]),
        ("FP64", {"fp64_contents": [0.1, 1e300]}, [0.1, 1e300]),
        ("BYTES", {"bytes_contents": [b"a", b""]}, [b"a", b""]),
        ("FP32", {}, []),
    ],
)
def test_tensors_may_come_as_numbers(
    datatype: str, contents: dict[str, Any], wanted: list[Any]
) -> None:
    """A server may list the elements; the array is the result's own, of the right datatype."""
    said = answered(outputs=[output(datatype, (len(wanted),), contents=contents)])
    with serving(lambda _: said) as (url, _):
        transport = GrpcTransport(url)
        array = transport.infer(transport.prepare(INFER), 5).outputs["o"].array
        transport.close()
    assert array is not None
    assert array.dtype == numpy_dtype(datatype)
    assert array.tolist() == wanted
    assert array.flags.writeable


def test_an_output_in_a_region_has_no_array() -> None:
    """Where a region was asked for, nothing lies in the reply."""
    asked = InferRequest("m", "", [], [RequestedOutput("o", RegionSlice("r", 0, 4))])
    with serving(lambda _: answered(outputs=[output()], raw_output_contents=[b""])) as (url, _):
        transport = GrpcTransport(url)
        assert transport.infer(transport.prepare(asked), 5).outputs["o"].array is None
        transport.close()


# What a status becomes


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (Code.NOT_FOUND, "Request for unknown model: 'm' is not found", ModelNotFoundError),
        (Code.UNAVAILABLE, "This protocol is restricted, expecting header", RestrictedApiError),
        (Code.INVALID_ARGUMENT, "region 'x', it is currently in use.", RegionInUseError),
        (Code.INTERNAL, "something new", ServerRefusedError),
        (Code.INTERNAL, "", ServerRefusedError),
        (Code.UNKNOWN, "x" * 100_000, ServerRefusedError),
        (Code.UNAUTHENTICATED, "who are you?", ServerRefusedError),
        (Code.RESOURCE_EXHAUSTED, "Received message larger than max", ServerRefusedError),
        (Code.UNAVAILABLE, "[request id: 7] Exceeds maximum queue size", ServerBusyError),
        (Code.UNAVAILABLE, "in ensemble 'e', Exceeds maximum queue size", ServerRefusedError),
        (Code.UNAVAILABLE, "no healthy upstream", ServerBusyError),
    ],
)
def test_what_the_server_says_is_mapped(code: Code, text: str, kind: type[TritonicError]) -> None:
    """By its text, as over HTTP, whatever the code is."""
    with serving(lambda _: (code, text)) as (url, _):
        transport = GrpcTransport(url)
        with pytest.raises(TritonicError) as caught:
            transport.infer(transport.prepare(INFER), 5)
        transport.close()
    assert type(caught.value) is kind
    assert text[:50] in str(caught.value)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (Code.UNAVAILABLE, "upstream connect error or disconnect/reset before headers"),
        (Code.UNAVAILABLE, "before headers. reset reason: connection termination"),
        (Code.UNAVAILABLE, ""),
        (Code.CANCELLED, "cancelled"),
        (Code.DEADLINE_EXCEEDED, "upstream request timeout"),
    ],
)
def test_a_gateway_that_answers_for_the_server(code: Code, text: str) -> None:
    """Its error is no reply: the server may still be at it, and no memory is used again."""
    with serving(lambda _: (code, text)) as (url, _):
        transport = GrpcTransport(url)
        with pytest.raises((ServerUnreachableError, ServerTimeoutError)) as caught:
            transport.infer(transport.prepare(INFER), 5)
        transport.close()
    assert caught.value.sent


@pytest.mark.parametrize("text", ["", "unknown service x", "Method not found!"])
def test_what_is_not_triton_is_told(text: str) -> None:
    """Another gRPC server at the address does not know the call; the ports are named."""
    with serving(lambda _: (Code.UNIMPLEMENTED, text)) as (url, _):
        transport = GrpcTransport(url)
        with pytest.raises(ServerUnreachableError, match=r"not Triton.*\n.*8001.*8000"):
            transport.server_metadata()
        transport.close()


RESET = 3


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garbage" * 9,
        *(frame(RESET, 0, code.to_bytes(4, "big")) for code in (0, 1, 2, 7, 8, 11, 12)),
        *(headers(status=str(status)) for status in (200, 404, 502, 504)),
        frame(7, 0, bytes(8), stream=0),  # GOAWAY
    ],
)
def test_a_call_that_breaks_off_is_made_once(said: bytes) -> None:
    """A connection that ends instead of a reply: the server may have got it, and gets no other."""
    with speaking(said) as (url, received):
        transport = GrpcTransport(url)
        with pytest.raises(ServerUnreachableError) as caught:
            transport.infer(transport.prepare(INFER), 5)
        assert caught.value.sent
        transport.close()
        time.sleep(0.1)
        assert sum(b"ModelInfer" in data or b"\x00\x01" in data for data in received) == 1


def test_a_reply_without_a_message_is_our_error() -> None:
    """A status that says all is well, and nothing with it."""
    with speaking(headers(status="200", grpc_status="0")) as (url, _):
        transport = GrpcTransport(url)
        with pytest.raises(ServerRefusedError, match="it is empty"):
            transport.infer(transport.prepare(INFER), 5)
        transport.close()


def test_a_server_that_is_silent_is_given_up_in_time() -> None:
    """After the time limit of the call; nobody knows how far it got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = GrpcTransport(f"127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ServerTimeoutError, match=r"0\.3 s"):
            transport.infer(transport.prepare(INFER), 0.3)
        assert time.monotonic() - started < 2
        transport.close()


def test_where_nobody_listens_nothing_was_sent_and_it_works_as_soon_as_somebody_does() -> None:
    """The error says so, and no later call waits for a connection that failed before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    transport = GrpcTransport(f"127.0.0.1:{port}")
    for _ in range(5):
        with pytest.raises(ServerUnreachableError, match=r"(?s)refused.*8001.*8000") as caught:
            transport.infer(transport.prepare(INFER), 5)
        assert not caught.value.sent
    with serving(lambda _: answered(), port=port) as (_, calls):
        transport.infer(transport.prepare(INFER), 5)
        assert len(calls) == 1
    transport.close()


# What is sent


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 2000, "\ud800", None, 5, b"m"])
def test_a_name_that_is_none_is_not_sent(name: Any) -> None:
    """The same names are refused as over HTTP."""
    with serving(lambda _: b"") as (url, calls):
        transport = GrpcTransport(url)
        for call in (transport.model_metadata, transport.load_model, transport.unload_model):
            with pytest.raises(ArgumentError, match="no name of a model"):
                call(name)
        if name:  # without one the server chooses
            with pytest.raises(ArgumentError, match="no name of a version"):
                transport.model_ready("m", name)
        assert not calls
        transport.close()


@pytest.mark.parametrize(
    "given",
    [{"request_id": "\ud800"}, {"request_id": object()}, {"parameters": {1: 2}},
     {"parameters": [(1, 2, 3)]}, {"parameters": {"a": 10**5000}}, {"priority": {1}},
     {"parameters": {"a": [1]}}, {"parameters": {"timeout": 1}}, {"parameters": {"triton_x": 1}},
     {"sequence_id": 2**64}, {"sequence_id": object()}],
)  # fmt: skip
def test_a_request_that_cannot_be_written_is_told(given: dict[str, Any]) -> None:
    """Values that the messages do not have, and names that are none or Triton's own."""
    transport = GrpcTransport("127.0.0.1:9")
    with pytest.raises(ArgumentError, match="cannot be written"):
        transport.prepare(replace(INFER, **given))


def test_a_request_that_is_too_large_for_a_message_is_told() -> None:
    """Before memory is spent on it, with both figures and two ways out."""
    large = np.broadcast_to(np.float32(0), (2**29,))
    given = InputTensor("x", "FP32", large.shape, large)
    with pytest.raises(ArgumentError, match=r"2147483648 bytes.*\n.*shared memory"):
        GrpcTransport("127.0.0.1:9").prepare(replace(INFER, inputs=[given]))


def test_a_prepared_request_is_the_servers_own_message() -> None:
    """Names, regions, sequence, priority and parameters, as the protocol has them."""
    region = RegionSlice("r", 4096, 8)
    request = InferRequest(
        "m", "2",
        [InputTensor("a", "INT32", (2,), region=region),
         InputTensor("b", "BYTES", (1,), np.array(["é"], object))],
        [RequestedOutput("o"), RequestedOutput("p", region)],
        request_id="7", sequence_id=5, sequence_end=True, priority=3,
        parameters={"t": "x", "b": True, "i": -1, "f": 0.5},
    )  # fmt: skip
    with serving(lambda _: answered()) as (url, calls):
        transport = GrpcTransport(url)
        prepared = transport.prepare(request)
        for _ in range(2):
            transport.infer(prepared, 5)
        transport.close()
    assert [call.message for call in calls] == [prepared.message] * 2
    sent = service_pb2.ModelInferRequest.FromString(calls[0].message)
    assert (sent.model_name, sent.model_version, sent.id) == ("m", "2", "7")
    assert list(sent.raw_input_contents) == [b"\2\0\0\0\xc3\xa9"]
    for tensor in (sent.inputs[0], sent.outputs[1]):
        assert tensor.parameters["shared_memory_region"].string_param == "r"
        assert tensor.parameters["shared_memory_offset"].int64_param == 4096
        assert tensor.parameters["shared_memory_byte_size"].int64_param == 8
    kinds = {name: value.WhichOneof("parameter_choice") for name, value in sent.parameters.items()}
    assert kinds == {
        "sequence_id": "int64_param", "sequence_start": "bool_param", "sequence_end": "bool_param",
        "priority": "uint64_param", "t": "string_param", "b": "bool_param", "i": "int64_param",
        "f": "double_param",
    }  # fmt: skip


def test_unregistering_by_the_empty_name_is_refused() -> None:
    """The empty name, by which Triton unregisters everybody's regions, is never sent."""
    with pytest.raises(ArgumentError, match="needs a name"):
        GrpcTransport("127.0.0.1:9").unregister("")


@pytest.mark.parametrize(("refusals", "given_up"), [(0, False), (2, False), (3, True)])
def test_a_region_that_was_just_used_is_asked_for_again(refusals: int, given_up: bool) -> None:
    """A server may answer a moment before it lets go; one that does not is told soon."""
    in_use = (Code.INTERNAL, "Cannot unregister shared memory region 'x', it is currently in use.")
    with serving(lambda _: in_use if len(calls) <= refusals else b"") as (url, calls):
        transport = GrpcTransport(url)
        if given_up:
            with pytest.raises(RegionInUseError):
                transport.unregister("x")
        else:
            transport.unregister("x")
        transport.close()
        assert len(calls) == min(3, refusals + 1)


# With a real server


@pytest.fixture
def both(transports: dict[str, Transport]) -> tuple[Transport, Transport]:
    """The server's operations over HTTP and over gRPC."""
    skip_without("grpc")
    return transports["http"], transports["grpc"]


@pytest.fixture
def open_grpc(server: Any) -> Iterator[Open]:
    """Open sessions that speak gRPC beside those of `open_session`, which are closed too."""
    skip_without("grpc")
    with contextlib.ExitStack() as stack:

        def open_one(model: str, **options: Any) -> tritonic_nb.Session:
            place = TEST_GRPC_URL if TEST_URL else server
            session = tritonic_nb.Session(place, model, load=True, protocol="grpc", **options)
            return stack.enter_context(session)

        yield open_one


def test_both_protocols_describe_the_same(both: tuple[Transport, Transport]) -> None:
    """Server, models, configurations and the repository are the same documents.

    The client's messages may know more fields than the server.
    """
    http, other = both
    assert other.server_metadata() == http.server_metadata()
    for model in ("simple", "simple_sequence", "identity_bytes", "classifier"):
        http.load_model(model)
        assert other.model_ready(model)
        assert not other.model_ready(model, "99")
        assert other.model_metadata(model) == http.model_metadata(model)
        config = http.model_config(model)
        assert {k: v for k, v in other.model_config(model).items() if k in config} == config
    assert sorted(map(str, other.repository_index())) == sorted(map(str, http.repository_index()))
    assert not other.model_ready("no_such_model")


def test_both_protocols_know_the_same_regions(
    both: tuple[Transport, Transport], open_session: Open
) -> None:
    """What the server has registered is told alike, to the byte."""
    session = open_session("simple")
    session.register_inputs()
    listed = [sorted(each.registered_regions(), key=lambda region: region["name"]) for each in both]
    assert listed[0] == listed[1]
    assert {region.name for region in session.regions} <= {r["name"] for r in listed[0]}


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("kind", ["system", "none"])
def test_both_protocols_give_the_same_bits(
    open_session: Open, open_grpc: Open, datatype: str, kind: str
) -> None:
    """Of every datatype, of zero-sized arrays, and in foreign layouts too."""
    lots = np.random.default_rng(5)
    dtype = numpy_dtype(datatype)
    if datatype == "BYTES":
        full = np.array([[b"", b"\0x"], ["é".encode(), b"y" * 300]], object)
    else:
        raw = lots.integers(0, 256, (6, 4, dtype.itemsize), np.uint8)
        full = (raw % 2).astype(bool)[..., 0] if datatype == "BOOL" else raw.view(dtype)[..., 0]
    model = f"identity_{datatype.lower()}"
    sessions = [
        open_session(model, shared_memory=kind),
        open_grpc(model, shared_memory=kind),
    ]
    for sent in (full, full.T, full[::2, ::-1], full[:0], full[:, :0]):
        for _ in range(2):  # the second output comes through a region
            http, other = (session.infer(sent)["OUTPUT0"] for session in sessions)
            assert (http.dtype, http.shape) == (other.dtype, other.shape) == (dtype, sent.shape)
            if datatype == "BYTES":
                assert http.tolist() == other.tolist() == sent.tolist()
            else:
                assert http.tobytes() == other.tobytes() == sent.tobytes()
            assert other.flags.writeable


def test_the_wrong_port_is_told(server: Any) -> None:
    """GRPC to the HTTP port and HTTP to the gRPC port: each error names both default ports."""
    if TEST_URL:
        pytest.skip("only the embedded server tells both addresses")
    for url, protocol in ((server.url, "grpc"), (server.grpc_url, "http")):
        with pytest.raises(ServerUnreachableError, match=r"(?s)8001.*8000|8000.*8001"):
            tritonic_nb.Session(url, protocol=protocol)


@pytest.mark.skipif(bool(TEST_URL), reason="needs a server of its own to add a model to")
def test_closing_lets_calls_under_way_end(server: Any, sleeper: str) -> None:
    """A thread that waits for a slow model gets its answer, and the transport works on."""
    transport = GrpcTransport(server.grpc_url, server.headers)
    transport.load_model(sleeper)
    given = InputTensor("SECONDS", "FP32", (1,), np.array([0.7], np.float32))
    request = transport.prepare(InferRequest(sleeper, "", [given], [RequestedOutput("SLEPT")]))
    slept: list[Any] = []
    slow = threading.Thread(
        target=lambda: slept.append(transport.infer(request, 10).outputs["SLEPT"].array)
    )
    slow.start()
    time.sleep(0.3)
    transport.close()
    transport.close()
    assert transport.model_ready(sleeper)
    slow.join()
    assert slept[0] == np.float32(0.7)
    transport.close()


# In an interpreter of its own: gRPC's servers, which other tests here run, do not take forks.
FORKS = """
import json, os, sys, threading, time
from tritonic_nb.errors import ServerUnreachableError
from tritonic_nb.transport import connect

grpc_place, http_place, threads = json.loads(sys.stdin.read())
grpc, http = (
    connect(place["server"], place["headers"], protocol=place["protocol"])
    for place in (grpc_place, http_place)
)

def child_of(transport):
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = 0 if transport.server_metadata()["version"] else 9
        except ServerUnreachableError as error:
            code = 1 if "forked" in error.message and not error.sent else 9
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def ask():
    while not done.is_set():
        grpc.server_metadata()
        calls.append(None)

done, calls = threading.Event(), []
grpc.server_metadata()
threads = [threading.Thread(target=ask) for _ in range(threads)]
for thread in threads:
    thread.start()
time.sleep(0.1)
ways = {"grpc": grpc, "http": http}
codes = {name: [child_of(way) for _ in range(10)] for name, way in ways.items()}
before = len(calls)
time.sleep(0.1)
done.set()
for thread in threads:
    thread.join()
grpc.server_metadata()
print(json.dumps({**codes, "went on": len(calls) > before}))
"""


def forked(server: Any, threads: int) -> dict[str, Any]:
    """Fork children that ask a server; return their exit codes, 1 where gRPC was refused."""
    places = [place_of(TEST_GRPC_URL or server, "grpc"), place_of(server, "http")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS],
        input=json.dumps([*places, threads]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_a_forked_child_has_a_way_of_its_own(server: Any) -> None:
    """Its calls do not go over the parent's connection, which goes on working."""
    skip_without("grpc")
    assert forked(server, 0) == {"grpc": [0] * 10, "http": [0] * 10, "went on": False}


def test_a_child_that_was_forked_in_the_middle_of_calls_is_refused(server: Any) -> None:
    """There gRPC would crash; the parent's threads go on, and HTTP works in the child."""
    skip_without("grpc")
    seen = forked(server, 2)
    assert seen["went on"]
    assert seen["http"] == [0] * 10
    # With two threads at it, hardly a moment is without a call.
    assert 1 in seen["grpc"]
    assert set(seen["grpc"]) <= {0, 1}

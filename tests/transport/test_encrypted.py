"""HTTPS to the real server, through a small gate that encrypts, and what is told where it fails."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_URL
from tests.hostile_server import reply, serving
from tritonic_nb.errors import RestrictedApiError, ServerUnreachableError, TritonicError
from tritonic_nb.transport import HttpTransport, SSLOptions

SHOWN_NOWHERE = "0123456789abcdef"

pytestmark = pytest.mark.skipif(bool(TEST_URL), reason="the gate stands before a server of ours")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that are their own authorities: of this machine and of another host."""
    made = tmp_path_factory.mktemp("certificates")
    for name, names in (("here", "DNS:localhost,IP:127.0.0.1"), ("elsewhere", "DNS:far.example")):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
        try:
            subprocess.run(
                [*command, "-keyout", str(made / f"{name}.key"), "-out", str(made / f"{name}.pem")],
                check=True, capture_output=True,
            )  # fmt: skip
        except FileNotFoundError:
            pytest.skip("there is no openssl command to make a certificate with")
    return made


@contextlib.contextmanager
def gate(
    server: Any, folder: Path, name: str, demands: str = "", *, mutual: bool = False
) -> Iterator[str]:
    """Take encrypted connections for a server, one at a time; give the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / f"{name}.pem")
    host, _, port = server.url.partition(":")

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:  # it was closed
                return
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as near:
                head = near.recv(65536)
                if not head:
                    continue
                if demands.encode() not in head:
                    near.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 8\r\n\r\nno entry")
                    continue
                with socket.create_connection((host, int(port))) as far:
                    while head:  # small messages, one after another
                        far.sendall(head)
                        near.sendall(far.recv(65536))
                        head = near.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def asked(url: str, options: SSLOptions | None, headers: dict[str, str] | None = None) -> Any:
    """Ask who is there, over a connection of its own."""
    transport = HttpTransport(url, headers, options)
    try:
        return transport.server_metadata()
    finally:
        transport.close()


def refused(ask: Callable[[], Any]) -> TritonicError:
    """Return the error, which must not hold the token."""
    with pytest.raises(TritonicError) as caught:
        ask()
    assert SHOWN_NOWHERE not in str(caught.value)
    return caught.value


def test_a_trusted_certificate(server: Any, folder: Path) -> None:
    """With the authority's file the server answers."""
    with gate(server, folder, "here") as url:
        assert asked(url, SSLOptions(ca_file=str(folder / "here.pem")))["name"] == "triton"


def test_an_unknown_authority(server: Any, folder: Path) -> None:
    """It is not trusted, and the error says which file to pass."""
    with gate(server, folder, "here") as url:
        error = refused(lambda: asked(url, None))
    assert isinstance(error, ServerUnreachableError)
    assert "is not trusted" in error.message
    assert "ca_file" in error.remedy


def test_another_hosts_certificate(server: Any, folder: Path) -> None:
    """No authority's file would help: the error says that the name is another one."""
    with gate(server, folder, "elsewhere") as url:
        options = SSLOptions(ca_file=str(folder / "elsewhere.pem"))
        error = refused(lambda: asked(url, options))
        assert asked(url, SSLOptions(verify=False))["name"] == "triton"
    assert "for another host" in error.message
    assert "ca_file" not in error.remedy


def test_an_authoritys_file_that_is_not_there(server: Any, folder: Path) -> None:
    """The error speaks of the file and not of the server."""
    with gate(server, folder, "here") as url:
        error = refused(lambda: asked(url, SSLOptions(ca_file=str(folder / "missing.pem"))))
    assert "missing.pem" in error.message
    assert "cannot be read" in error.message


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_lets_nothing_through(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """The error speaks of the proxy and of where it stands, and not of the server."""
    with serving(lambda _: reply(b"", status)) as (proxy, seen):
        login = proxy.replace("://", f"://me:{SHOWN_NOWHERE}@")
        monkeypatch.setenv("https_proxy", login)
        error = refused(lambda: asked("https://far.example:8000", None))
    assert seen[0].head.startswith("CONNECT far.example:8000")
    assert f"response {status}" in error.message
    assert "https_proxy" in error.remedy
    assert "port" not in error.remedy


def test_a_certificate_is_looked_at_once(server: Any, folder: Path) -> None:
    """It would not be trusted later either: no retry makes anybody wait for that."""
    with gate(server, folder, "here") as url:
        transport = HttpTransport(url, retries=20)
        error = refused(transport.server_metadata)
        transport.close()
    assert "attempts" not in error.message
    assert "is not trusted" in error.message


def test_a_gate_that_demands_a_token(server: Any, folder: Path) -> None:
    """Without it the error says so, and with a wrong one too; neither shows it."""
    options = SSLOptions(ca_file=str(folder / "here.pem"))
    with gate(server, folder, "here", demands="Bearer right") as url:
        for headers in (None, {"Authorization": f"Bearer {SHOWN_NOWHERE}"}):
            error = refused(lambda given=headers: asked(url, options, given))
            assert isinstance(error, RestrictedApiError)
            assert "HTTP 401, 'no entry'" in error.message
            assert "Authorization" in error.remedy
        assert asked(url, options, {"Authorization": "Bearer right"})["name"] == "triton"


def test_a_gate_that_demands_a_certificate(server: Any, folder: Path) -> None:
    """It takes ours, and hangs up without one; the error says that this may be why."""
    with gate(server, folder, "here", mutual=True) as url:
        ca_file, key_file = (str(folder / f"here.{end}") for end in ("pem", "key"))
        error = refused(lambda: asked(url, SSLOptions(ca_file=ca_file)))
        ours = SSLOptions(ca_file=ca_file, cert_file=ca_file, key_file=key_file)
        assert asked(url, ours)["name"] == "triton"
    assert isinstance(error, ServerUnreachableError)
    assert "cert_file" in error.remedy

"""A header's value and a password are sent to the server, and told to nobody else."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tests.conftest import TEST_URL
from tritonic_nb.errors import TritonicError

TOKEN = "t0ken-that-nobody-sees"  # noqa: S105 - made up
PASSWORD = "passw0rd-that-nobody-sees"  # noqa: S105 - made up

pytestmark = pytest.mark.skipif(bool(TEST_URL), reason="the server's own header is one of those")


def described(thing: Any) -> str:
    """Return all that an object says of itself, to a terminal and to a notebook."""
    texts = [repr(thing), str(thing)]
    for name in ("_repr_html_", "_repr_mimebundle_"):
        if hasattr(thing, name):
            texts.append(str(getattr(thing, name)()))
    return "\n".join(texts)


def failures(session: tritonic_nb.Session) -> list[str]:
    """Return the texts of errors that a session raises, with those that led to them."""
    found = []
    for fails in (
        lambda: session.infer(np.zeros((2, 2), np.int8)),
        lambda: session.infer(Image.new("RGB", (4, 4))),
        lambda: session.use("no_such_model"),
        lambda: session.connect("127.0.0.1:1", headers={"Authorization": f"Bearer {TOKEN}"}),
        lambda: session.connect(f"http://me:{PASSWORD}@127.0.0.1:1"),
        lambda: session.connect(f"http://me:{PASSWORD}@:x"),
        lambda: session.unregister("NOTHING"),
    ):
        with pytest.raises(TritonicError) as caught:
            fails()
        error: BaseException | None = caught.value
        while error is not None:
            found.append(f"{error!r} {error}")
            error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_session_tells_no_secret(
    server: Any, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a repr, card, error, log, recipe, diagnosis, panel or picture of memory."""
    caplog.set_level(logging.DEBUG, "tritonic_nb")
    host = (server.grpc_url if protocol == "grpc" else server.url).rpartition("/")[2]
    scheme = "grpc" if protocol == "grpc" else "http"
    headers = {**server.headers, "X-Token": TOKEN}
    told = []
    with tritonic_nb.Session(
        f"{scheme}://me:{PASSWORD}@{host}", "identity_fp32", headers=headers, load=True, retries=1
    ) as session:
        with session.watch(show=False) as watched:
            result = session.infer(np.zeros((1, 4), np.float32))
        told += failures(session)
        things = [
            session, result, session.regions, session.inputs, session.models(), session.spec,
            session.spec_with_secrets(), session.server_regions(), watched,
            session.preflight({"INPUT0": (1, 4), "OUTPUT0": (1, 4)}),
            session.compare(np.zeros((1, 4), np.float32), seconds=0.1, progress=False),
            session.explain(np.zeros((1, 4), np.float32), seconds=0.1, progress=False),
            session._setup, session._setup.link,
        ]  # fmt: skip
        told += [described(thing) for thing in things]
        panel = session.panel()
        told += panel._static()
        panel.close()
        told.append(pickle.dumps(session.spec).decode("latin-1"))
        assert TOKEN in pickle.dumps(session.spec_with_secrets()).decode("latin-1")
    diagnosis = tritonic_nb.doctor(host, headers=headers) if protocol == "http" else None
    told += [described(diagnosis), json.dumps(diagnosis.document())] if diagnosis else []
    told.append(caplog.text)
    assert "infer" in caplog.text.lower()
    for secret in (TOKEN, PASSWORD, *server.headers.values()):
        assert [text for text in told if secret in text] == []

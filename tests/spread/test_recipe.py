"""A session's recipe opens the same session elsewhere, and keeps secrets to itself."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import BOTH, place_of
from tests.spread import jobs
from tritonic_nb import SessionSpec, SSLOptions
from tritonic_nb.errors import ArgumentError
from tritonic_nb.parcel import Parcel

Open = Callable[..., tritonic_nb.Session]


def test_a_recipe_has_all_that_a_session_takes() -> None:
    """With the same defaults; but what it writes to the terminal is each process's own."""
    takes = {
        name: parameter.default
        for name, parameter in inspect.signature(tritonic_nb.Session).parameters.items()
    }
    del takes["verbose"]
    has = {field.name: field.default for field in dataclasses.fields(SessionSpec)}
    assert has.keys() == takes.keys()
    same = takes.keys() - {"server"}
    assert {name: has[name] for name in same} == {name: takes[name] for name in same}


@BOTH
def test_a_recipe_opens_the_same_session(address: Any, protocol: str, open_session: Open) -> None:
    """Pickled and opened it has the same server, model, and all that was asked for."""
    session = open_session(
        "identity_fp32",
        output_shared_memory="none",
        timeout=7,
        mode=0o666,
        in_flight=3,
        retries=2,
    )
    spec = pickle.loads(pickle.dumps(session.spec))
    with spec.open(headers=place_of(address, protocol)["headers"]) as same:
        assert same.spec == session.spec
        assert hash(same.spec) == hash(session.spec)
        assert (same.url, same.protocol) == (session.url, protocol)
        assert same.infer(np.ones((2, 3), np.float32))["OUTPUT0"].sum() == 6
    assert (spec.model, spec.shared_memory, spec.output_shared_memory) == (
        "identity_fp32", "system", "none",
    )  # fmt: skip
    assert (spec.timeout, spec.mode, spec.in_flight, spec.load) == (7, 0o666, 3, True)
    assert spec.retries == 2


def test_a_recipe_follows_the_session(server: Any, open_session: Open) -> None:
    """It is that of the session as it is now: another model, another way."""
    session = open_session("identity_fp32")
    session.use("identity_int32")
    session.set_shared_memory("none")
    assert session.spec.model == "identity_int32"
    assert session.spec.shared_memory == "none"
    session.connect(**place_of(server, "http"), model="simple")
    assert session.spec.model == "simple"


def test_secrets_go_only_where_somebody_says_so(server: Any) -> None:
    """Neither repr nor pickle nor parcel tells a header's value; one call carries them."""
    headers = {**place_of(server, "http")["headers"], "Authorization": "Bearer s3cret"}
    with tritonic_nb.Session(place_of(server, "http")["server"], headers=headers) as session:
        plain, full = session.spec, session.spec_with_secrets()
    assert b"s3cret" not in pickle.dumps(plain)
    assert "s3cret" not in f"{plain!r} {full!r} {Parcel.of(full, 'it')!r}"
    assert not plain.has_secrets
    assert full.has_secrets
    assert dict(full.headers or ()) == headers
    assert pickle.loads(pickle.dumps(full)) == full != plain == full.without_secrets()


def test_a_password_in_an_address_is_a_secret() -> None:
    """It is not shown, and is left out with the other secrets."""
    spec = SessionSpec("http://me:s3cret@gpu:8000", ssl=SSLOptions(verify=False), mode=0o660)
    assert spec.has_secrets
    assert repr(spec) == (
        "SessionSpec(server='http://gpu:8000', ssl=SSLOptions(ca_file=None, cert_file=None, "
        "key_file=None, verify=False), mode=0o660)"
    )
    assert spec.without_secrets().server == "http://gpu:8000"


def test_headers_do_not_go_to_another_server() -> None:
    """at() takes them off, unless others are given, in whatever order."""
    spec = SessionSpec("a:1", headers={"B": "2", "A": "1"})
    assert spec == SessionSpec("a:1", headers={"A": "1", "B": "2"})
    assert spec.at("b:1").headers is None
    assert spec.at("b:1", {"C": "3"}).headers == (("C", "3"),)
    assert spec.at(jobs.no_server).server is jobs.no_server
    assert "no_server" in repr(spec.at(jobs.no_server))


def test_workers_get_secrets_only_if_that_was_said() -> None:
    """A recipe with secrets and without a word about them is refused for workers."""
    spec = SessionSpec("a:1", headers={"A": "1"})
    with pytest.raises(ArgumentError, match="secrets=True"):
        spec.for_workers(None, secrets=None)
    assert spec.for_workers(None, secrets=True) == spec
    assert spec.for_workers(None, secrets=False).headers is None
    assert spec.for_workers("b:1", secrets=None) == SessionSpec("b:1")


def test_what_is_no_server_is_refused() -> None:
    """A recipe's server is an address or a function."""
    with pytest.raises(ArgumentError, match="an address, or a function"):
        SessionSpec(8000)  # type: ignore[arg-type]
    nameless = SimpleNamespace(url="a:1", headers=None)
    with pytest.raises(ArgumentError, match="is not a server"):
        SessionSpec(lambda: nameless, headers={"A": "1"}).open()


def test_what_are_no_headers_is_refused_and_not_shown() -> None:
    """It may be a secret all the same."""
    for wrong in ("Bearer s3cret", 5, [("A",)]):
        with pytest.raises(ArgumentError, match="give a mapping") as caught:
            SessionSpec("a:1", headers=wrong)  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)


def test_a_result_is_pickled_with_arrays_of_its_own(open_session: Open) -> None:
    """Also one without a copy: what comes out has no region."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    session = open_session("identity_fp32")
    result = session.infer(array, copy=False)
    again = pickle.loads(pickle.dumps(result))
    assert np.array_equal(again["OUTPUT0"], array)
    assert again["OUTPUT0"].flags.writeable
    assert again.timings == result.timings
    assert repr(again) == repr(result)


def test_what_a_server_brings_wins_over_what_another_was_sent(server: Any) -> None:
    """The header of one embedded server would be refused by another."""
    place = place_of(server, "http")
    if not place["headers"]:
        pytest.skip("the server has no header of its own")
    for names in (place["headers"], map(str.upper, place["headers"])):  # case does not count
        wrong = dict.fromkeys(names, "of another")
        spec = SessionSpec(lambda: server, "identity_fp32", headers=wrong, shared_memory="system")
        with spec.open() as session:
            assert session.infer(np.ones((1, 1), np.float32)).shared_nbytes > 0


def test_a_function_of_a_notebook_is_one_and_the_same_parcel() -> None:
    """What is pickled by its code is known again by its bytes, however often it is opened."""
    parcel = Parcel.of(SessionSpec(lambda: "localhost:8000"), "it")
    one, other = parcel.open(), pickle.loads(pickle.dumps(parcel)).open()
    assert one != other  # functions are
    assert one.server() == other.server() == "localhost:8000"
    assert pickle.loads(pickle.dumps(parcel)).digest == parcel.digest
    with pytest.raises(ArgumentError, match="it cannot be sent to other processes"):
        Parcel.of((value for value in ()), "it")

"""What opens the same session elsewhere: :class:`SessionSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.transport import SSLOptions, without_password

if TYPE_CHECKING:
    from tritonic_nb.session import Session

__all__ = ["ServerPlace", "SessionSpec"]

ServerPlace: TypeAlias = str | Callable[[], Any]
"""An address, or what is called where the session is opened and gives one, or a server."""

_Headers: TypeAlias = Mapping[str, str] | tuple[tuple[str, str], ...]


@dataclass(frozen=True, repr=False)
class SessionSpec:
    """A session's recipe: plain values that open the same session in another process.

    Made by :attr:`Session.spec <tritonic_nb.Session.spec>`. It can be pickled, compared and
    hashed. It has no secrets (headers, and a name and password in the address) unless
    :meth:`Session.spec_with_secrets <tritonic_nb.Session.spec_with_secrets>` made it, and its
    repr shows none in any case.

    Attributes
    ----------
    server
        The server's address; or a function without parameters that is called where the
        session is opened, and returns an address, or an object with ``url`` and ``headers``
        such as a :class:`~tritonic_nb.Server`.
    headers
        Pairs of name and value, or None. May be given as a mapping.
    model, version, shared_memory, output_shared_memory, device, timeout, ssl, protocol, load, mode
        As for :class:`~tritonic_nb.Session`.
    in_flight, compression, retries
        As for :class:`~tritonic_nb.Session`.

    Examples
    --------
    >>> spec = session.spec
    >>> with spec.open() as same:  # in another process
    ...     same.infer(images=batch)
    """

    server: ServerPlace
    model: str | None = None
    version: str = ""
    shared_memory: str = "auto"
    output_shared_memory: str | None = None
    device: int = 0
    timeout: float = 60.0
    headers: _Headers | None = None
    ssl: SSLOptions | bool = False
    protocol: str = "http"
    load: bool | None = None
    mode: int = 0o600
    in_flight: int = 4
    compression: str | None = None
    retries: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.server, str) and not callable(self.server):
            raise ArgumentError(
                f"the server is {brief(self.server)}",
                "give an address, or a function that returns an address or a server",
            )
        if self.headers is not None:  # frozen; in one order, so that equal ones are equal
            try:
                pairs = tuple(sorted(dict(self.headers).items()))
            except (TypeError, ValueError):
                raise ArgumentError(  # not shown, and no cause: it may be a secret all the same
                    f"the headers are a {type(self.headers).__name__}",
                    "give a mapping: {'NAME': 'VALUE'}",
                ) from None
            object.__setattr__(self, "headers", pairs or None)

    @property
    def has_secrets(self) -> bool:
        """Whether it carries headers, or a name and password in the address."""
        told = isinstance(self.server, str) and without_password(self.server) != self.server
        return told or self.headers is not None

    def without_secrets(self) -> SessionSpec:
        """Return the same without headers, and without a name and password in the address."""
        server = without_password(self.server) if isinstance(self.server, str) else self.server
        return replace(self, server=server, headers=None)

    def at(self, server: ServerPlace, headers: Mapping[str, str] | None = None) -> SessionSpec:
        """Return the same session's recipe with another server.

        Parameters
        ----------
        server
            As the attribute. Elsewhere: ``"localhost:8000"`` is another server on each
            machine, and ``lambda: os.environ["TRITON_URL"]`` lets each machine say.
        headers
            What that server is to be sent. What the server of before was sent never goes to
            another one.
        """
        return replace(self, server=server, headers=headers)

    def for_workers(self, server: ServerPlace | None, *, secrets: bool | None) -> SessionSpec:
        """Return the recipe that workers get, with secrets only if somebody said so.

        Parameters
        ----------
        server
            Where a worker's server is, if not at the same address.
        secrets
            Whether secrets go to them. None is an error if there are any and no `server`.

        Raises
        ------
        ArgumentError
            If it was not said.
        """
        if server is not None:
            return replace(self, server=server, headers=self.headers if secrets else None)
        if self.has_secrets and secrets is None:
            raise ArgumentError(
                "this session uses headers or a password, which workers do not get unless asked",
                "say where a worker's own Triton is: server=...; or let them have them, and all "
                "that they pass through: secrets=True; or not: secrets=False",
            )
        return self if secrets else self.without_secrets()

    def open(
        self,
        server: ServerPlace | None = None,
        headers: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Session:
        """Open the session here.

        Parameters
        ----------
        server
            Another server than the recipe's; its headers are not used then.
        headers
            Headers, where the recipe has none.
        changes
            Other parameters of :class:`~tritonic_nb.Session` that shall differ.

        Returns
        -------
        Session
            It is open. A server that a function has started is its ``server``, and is the
            caller's to stop.

        Raises
        ------
        TritonicError
            As :class:`~tritonic_nb.Session` raises.
        """
        from tritonic_nb.session import Session

        spec = self if server is None else self.at(server)
        given = {each.name: getattr(spec, each.name) for each in fields(spec)}
        where = given.pop("server")
        # A function that fails says so with its own error, as it is the user's.
        found = where() if callable(where) else where
        # What a server brings itself is right for it, and what another one was sent may not be.
        own = {name.lower() for name in getattr(found, "headers", None) or {}}
        sent = dict(spec.headers or ())
        carried = {name: value for name, value in sent.items() if name.lower() not in own}
        given["headers"] = {**carried, **(headers or {})}
        return Session(found, **{**given, **changes})

    def __repr__(self) -> str:
        shown = [f"server={_shown(self.server)}"]
        for each in fields(self)[1:]:
            value = getattr(self, each.name)
            if value == each.default:
                continue
            if each.name == "headers":
                value = f"<{len(value)} not shown>"
            else:
                value = oct(value) if each.name == "mode" else repr(value)
            shown.append(f"{each.name}={value}")
        return f"SessionSpec({', '.join(shown)})"


def _shown(server: ServerPlace) -> str:
    if isinstance(server, str):
        return repr(without_password(server))
    return str(getattr(server, "__qualname__", type(server).__qualname__))

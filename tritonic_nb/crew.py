"""What an executor can do for a map: take work, tell how many work, and be told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.outposts import retire

__all__ = ["Crew", "crew_of"]

_log = logging.getLogger("tritonic_nb.session")


class Crew(Protocol):
    """Workers behind an executor.

    Futures are the executor's own: they have ``done()``, ``result()`` and
    ``add_done_callback()``.
    """

    def submit(self, job: Callable[..., Any], /, *given: Any) -> Any:
        """Have a worker do a job; return its future."""

    def size(self) -> int:
        """Return how many jobs run at the same time; 0 where nobody knows."""

    def cancel(self, futures: Sequence[Any]) -> None:
        """Cancel what has not begun."""

    def dismiss(self, digest: str) -> bool:
        """Have all workers close the session of a recipe; False where they cannot be told."""


def crew_of(executor: Any) -> Crew:
    """Return the workers behind an executor.

    Parameters
    ----------
    executor
        One of :mod:`concurrent.futures`' kind; or a Dask client, or what its
        ``get_executor()`` gives.

    Raises
    ------
    ArgumentError
        If it is something else, or an asynchronous client.
    """
    client = getattr(executor, "_client", executor)
    if hasattr(client, "get_executor") and hasattr(client, "nthreads"):
        if client.asynchronous:
            raise ArgumentError(
                "the Dask client is asynchronous", "give a Client made without asynchronous=True"
            )
        return _DaskCrew(client, getattr(executor, "_kwargs", {}))
    if not callable(getattr(executor, "submit", None)):
        raise ArgumentError(
            f"the executor is {brief(executor)}",
            "give one as concurrent.futures has them, or a Dask Client",
        )
    return _Pool(executor)


class _Pool:
    """The workers of an executor as :mod:`concurrent.futures` has them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit(self, job: Callable[..., Any], /, *given: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(job, *given)
        return future

    def size(self) -> int:
        # The first is that of the standard library and of loky, the other of mpi4py.
        for name in ("_max_workers", "num_workers"):
            number = getattr(self._executor, name, None)
            if isinstance(number, int) and number > 0:
                return number
        return 0

    def cancel(self, futures: Sequence[Any]) -> None:
        for future in futures:
            future.cancel()

    def dismiss(self, digest: str) -> bool:  # noqa: ARG002
        return False


class _DaskCrew:
    """The workers of a Dask cluster.

    By its own futures and not those of ``get_executor()``: there a result that cannot be
    fetched leaves a future that never ends.
    """

    def __init__(self, client: Any, options: dict[str, Any]) -> None:
        self._client = client
        self._options = {**options, "pure": False}  # the same items twice are two jobs

    def submit(self, job: Callable[..., Any], /, *given: Any) -> Any:
        return self._client.submit(job, *given, **self._options)

    def size(self) -> int:
        return sum(self._client.nthreads().values())

    def cancel(self, futures: Sequence[Any]) -> None:
        if futures and self._reachable():
            self._client.cancel(list(futures))

    def dismiss(self, digest: str) -> bool:
        if self._reachable():
            # Workers that die meanwhile, or just came, have nothing to close.
            self._client.run(_retire, digest, on_error="ignore")
        return True

    def _reachable(self) -> bool:
        """Whether the cluster can be asked, from this thread."""
        return self._client.status == "running" and not self._client.asynchronous


async def _retire(digest: str) -> None:
    """Close a session in another thread than that which keeps a worker in touch."""
    await asyncio.to_thread(retire, digest)

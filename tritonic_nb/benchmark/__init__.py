"""The benchmark: ``python -m tritonic_nb.benchmark``, or ``make bench``.

It measures in one run, in turn, the ways to move a tensor to a Triton server and back:
a session through shared memory, in place or with copies; NVIDIA's client library through
shared memory and over the wire; a request that is written once; and a bare socket.

``--json FILE`` writes one object. Times are in milliseconds, sizes in bytes.

``schema``
    1; counts up when a key changes its meaning or goes.
``machine``
    ``cpu``, ``cores``, ``system``, ``python``, ``load`` (of the minute before), and
    ``libraries``, versions by name.
``triton``, ``embedded``, ``model``
    The server's version, whether it is the embedded one, and the model.
``ways``
    By key: ``label``, ``timed`` (what happens while the clock runs), and ``copies`` that
    this process's Python code makes of the tensor, null where they cannot be told.
``sizes``
    For each size ``nbytes`` and ``ways``, by key: ``median_ms``, ``p99_ms``, ``spread_ms``
    (the tenth and the ninetieth percentile of the connections' medians), ``connections``
    and ``requests``.
``crossing``
    From which size on a session is a quarter faster through shared memory than over the wire:
    ``nbytes``, and the sizes ``below`` and ``above`` between which it was seen to be; or null.
``overhead``
    What a session adds to the prepared request: ``nbytes``, ``connections``,
    ``median_ms`` and ``spread_ms`` of the connections' differences, and ``at_hand_ms``,
    a whole inference whose reply is there at once; or null.
``memory``
    For each size that was looked at ``nbytes``, and ``peak_nbytes`` by key: by how much
    the resident memory of a process grows at its peak.
``in_flight``
    For each model ``model``, ``what`` it does, ``per_second`` and ``ratio`` (to a plain
    loop) by the number of requests in flight; ``"0"`` is the loop.
``targets``
    For each ``what`` is compared, the ``limit``, whether `measured` is to be ``at_most``
    that, the ``unit``, what was ``measured``, what it would be ``at_best`` (if the session
    took no longer than the bare socket), and whether it is ``met``; null where not known.
``left_out``
    Sentences: what was not measured, and why.
"""

from __future__ import annotations

__all__: list[str] = []

"""Where the time of one run went: a bar for each stage, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from tritonic_nb.render.markup import escape, fill, stylesheet

__all__ = ["stages_html", "stages_text"]


def stages_html(stages: Sequence[tuple[str, float]], note: str = "") -> str:
    """Draw stages as bars on one line of time, each beginning where the last one ended.

    Parameters
    ----------
    stages
        The name of each and its milliseconds, in their order.
    note
        A line below.

    Returns
    -------
    str
        HTML with its own style, in the notebook's colours; every text is escaped.
    """
    total = sum(ms for _, ms in stages)
    items, start = [], 0.0
    for name, ms in stages:
        part = 100 * ms / total if total > 0 else 0.0
        items.append(
            fill(
                "stage",
                label=escape(name),
                start=f"{min(start, 99.5):.1f}",  # the shortest bar has room at the end
                percent=f"{part:.1f}",
                value=escape(_ms(ms)),
            )
        )
        start += part
    return fill(
        "stages",
        style=stylesheet(),
        heading=escape(_heading(total)),
        stages="\n".join(items),
        note=f'<div class="tnb-note">{escape(note)}</div>' if note else "",
    )


def stages_text(stages: Sequence[tuple[str, float]]) -> str:
    """Say the same in a line of text."""
    parts = ", ".join(f"{name} {_ms(ms)}" for name, ms in stages)
    return f"{_heading(sum(ms for _, ms in stages))}: {parts}"


def _heading(total: float) -> str:
    return f"time by stage, {_ms(total)} in all"


def _ms(ms: float) -> str:
    return f"{ms:.2f} ms" if ms < 100 else f"{ms:,.0f} ms"

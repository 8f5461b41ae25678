"""Several regions, shown as a table."""

from __future__ import annotations

from tritonic_nb import render
from tritonic_nb.memory.region import RegionDescriptor

__all__ = ["RegionListing"]


class RegionListing(render.Described, tuple[RegionDescriptor, ...]):
    """A tuple of regions that shows itself as a table; all else is a tuple's."""

    __slots__ = ()

    def _described(self) -> render.Description:
        total = render.human_bytes(sum(region.nbytes for region in self))
        count = f"{len(self)} region{'' if len(self) == 1 else 's'}"
        return f"{count}, {total}" if self else "no regions", (), self.tables(None)

    def tables(self, title: str | None = "regions") -> list[render.Table]:
        """Return the table, or none where there is no region."""
        columns = ("tensor", "bytes", "state", "memory", "key")
        rows = [
            (
                f"{r.direction} {r.tensor}",
                render.human_bytes(r.nbytes),
                r.state_text,
                r.place,
                r.key,
            )
            for r in self
        ]
        return [render.Table(title, columns, rows, numeric=(1,))] if rows else []

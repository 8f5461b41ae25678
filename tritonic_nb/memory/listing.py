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
        return f"Regions: {total}" if self else "Regions: none", (), self.tables()

    def tables(self) -> list[render.Table]:
        """Return the table, or none where there is no region."""
        if not self:
            return []
        columns = ("tensor", "memory", "key", "bytes", "state")
        rows = [
            (f"{r.direction} {r.tensor}", r.place, r.key, render.human_bytes(r.nbytes), r.state)
            for r in self
        ]
        return [render.Table("regions", columns, rows, numeric=(3,))]

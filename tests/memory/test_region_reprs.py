"""What regions say of themselves."""

from __future__ import annotations

from dataclasses import replace

from tritonic_nb.memory import RegionDescriptor, RegionListing, SharedMemoryType

NAME = "tritonic_nb-7-0123456789abcdef-images"
REGION = RegionDescriptor(
    name=NAME, key=f"/{NAME}", kind=SharedMemoryType.SYSTEM, device_id=None, nbytes=602_112, fd=9,
    address=4096, tensor="images", direction="input", slots=1, slot_nbytes=602_112,
    state="registered",
)  # fmt: skip
ON_DEVICE = replace(REGION, kind=SharedMemoryType.CUDA, device_id=1, key="", fd=None, slots=4)


def test_a_region_in_a_line_and_in_a_card() -> None:
    """Which tensor, how large, in which memory, under which name, and its state."""
    assert repr(REGION) == f"<Region input images: 602 kB, system memory /{NAME}, registered>"
    assert f"cuda 1 memory {NAME}" in repr(ON_DEVICE)
    text = ON_DEVICE._repr_mimebundle_()
    assert isinstance(text, dict)
    assert text["text/plain"].splitlines() == [
        "Region of input images",
        f"  name    {NAME}",
        "  memory  cuda 1",
        "  bytes   602 kB (602,112)",
        "  slots   4 of 602 kB",
        "  state   registered",
    ]


def test_a_region_that_an_array_holds_says_so() -> None:
    """In its line, in its card and in a table: that is how a leak is found."""
    held = replace(REGION, held=True)
    assert repr(held).endswith(", registered, held by an array>")
    assert "state   registered, held by an array" in str(held._repr_mimebundle_())
    assert "registered, held by an array  system" in repr(RegionListing([REGION, held]))
    assert "held" not in repr(RegionListing([REGION]))


def test_regions_are_a_tuple_and_a_table() -> None:
    """They compare, index and unpack as a tuple does, and show as rows."""
    listing = RegionListing([REGION, ON_DEVICE])
    assert listing == (REGION, ON_DEVICE)
    assert listing[1] is ON_DEVICE
    assert type(listing[:1]) is tuple
    first, *_ = listing
    assert first is REGION
    assert hash(listing) == hash((REGION, ON_DEVICE))
    lines = repr(listing).splitlines()
    assert lines[0] == "2 regions, 1.2 MB"
    assert lines[1].split() == ["tensor", "bytes", "state", "memory", "key"]
    assert lines[2].split() == ["input", "images", "602", "kB", "registered", "system", f"/{NAME}"]
    assert repr(RegionListing()) == "no regions"
    assert "<table" in listing._repr_html_()


def test_names_are_text() -> None:
    """A tensor's name, which the server gave, is no markup and no command."""
    hostile = replace(REGION, tensor="<b>\x1b[2J\n", name="<i>", key="<i>", state="<u>")
    for shown in (hostile, RegionListing([hostile])):
        assert "<b>" not in shown._repr_html_()
        assert "<i>" not in shown._repr_html_()
        assert "<u>" not in shown._repr_html_()
        assert "\x1b" not in repr(shown) + shown._repr_html_()
    assert "\n" not in repr(hostile)

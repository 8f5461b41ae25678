"""Results that stay on a device, shown."""

from __future__ import annotations

from tests.cuda_fixtures import Open, address, cuda, gpu_server, open_session  # noqa: F401
from tritonic_nb import DeviceArray, samples


def test_what_stays_on_the_device_is_shown(open_session: Open) -> None:  # noqa: F811
    """The same pictures as of a copy, and their captions say where it was copied from."""
    session = open_session("classifier")
    here = session.infer(samples.image("cat"))
    there = session.infer(samples.image("cat"), copy=False)
    assert isinstance(there["feature_maps"], DeviceArray)
    first, maps = there.pictures()
    assert first.alt.splitlines()[1:] == here.pictures()[0].alt.splitlines()[1:]
    assert maps.png == here.pictures()[1].png
    assert "Copied from CUDA device 1" in maps.caption
    assert "not read" in repr(there)

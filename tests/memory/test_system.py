"""Regions in /dev/shm."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tritonic_nb.errors import NoCudaDeviceError, NoSpaceError, RegionTooSmallError
from tritonic_nb.memory import SharedMemoryType, create_region
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.memory.system import SystemRegion


@pytest.fixture
def region():
    made = create_region(SharedMemoryType.SYSTEM, "x/y z", "input", 100, slots=3)
    yield made
    made.close()


def test_the_file_is_private_and_tells_whose_it_is(region: SystemRegion) -> None:
    """A region is a file of mode 0600 whose name has our prefix, the process id and the tensor."""
    status = region.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert region.path.name.startswith(f"tritonic_nb-{os.getpid()}-")
    assert region.path.name.endswith("-x_y_z")
    assert not region.name.startswith("triton_python_backend_shm_region_")


def test_its_pages_are_reserved(region: SystemRegion) -> None:
    """The file's blocks are allocated before anything is written."""
    assert region.path.stat().st_blocks * 512 >= region.nbytes


def test_two_regions_of_one_tensor_have_different_names(region: SystemRegion) -> None:
    """Names are unguessable, so nobody can make the file first."""
    other = create_region(SharedMemoryType.SYSTEM, region.tensor, "input", 100)
    assert other.name != region.name
    other.close()


def test_slots_do_not_overlap(region: SystemRegion) -> None:
    """Each slot keeps what was written to it."""
    arrays = [np.full(25, n, np.float32) for n in range(3)]
    for slot, array in enumerate(arrays):
        region.write(array, slot=slot)
    for slot, array in enumerate(arrays):
        assert np.array_equal(region.read("FP32", (25,), nbytes=100, slot=slot), array)
    with pytest.raises(IndexError, match="slot 3"):
        region.offset(3)


def test_a_tensor_larger_than_the_slot_is_refused(region: SystemRegion) -> None:
    """Nothing is written beyond a slot, though the region goes on there."""
    before = region.read("UINT8", (100,), nbytes=100, slot=1)
    with pytest.raises(RegionTooSmallError, match=r"'x/y z' needs 104 bytes.* has 100"):
        region.write(np.ones(26, np.float32), slot=0)
    assert np.array_equal(region.read("UINT8", (100,), nbytes=100, slot=1), before)


def test_the_owner_holds_a_lock_while_it_lives(region: SystemRegion) -> None:
    """Another process cannot take the lock of a live owner's region, and can once it is gone."""
    attempt = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b')\n"
        "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)"
    )
    command = [sys.executable, "-c", attempt, str(region.path)]
    assert subprocess.run(command, check=False).returncode == 7
    region.path.read_bytes()  # as somebody would who wants to see what is in there
    assert subprocess.run(command, check=False).returncode == 7
    region._file.let_go()
    assert subprocess.run(command, check=False).returncode == 0


def test_close_removes_the_file_and_the_descriptor_and_can_be_repeated(
    region: SystemRegion,
) -> None:
    """After close() there is no file, no open descriptor, and a second close does nothing."""
    region.close()
    region.close()
    assert not region.path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(region.fd)


def test_a_view_outlives_its_region(region: SystemRegion) -> None:
    """A view stays readable after close(), and pins the region until it is gone."""
    region.write(np.arange(25, dtype=np.float32))
    view = region.read("FP32", (25,), nbytes=100, copy=False)
    part = view[3:].reshape(2, 11)
    del view
    assert region.pinned()
    region.close()
    assert part[1, 0] == 14
    with pytest.raises(ValueError, match="read-only"):
        part[0, 0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        part.flags.writeable = True


def test_a_region_is_free_again_when_its_view_goes(region: SystemRegion) -> None:
    """Nothing but the view itself pins a region."""
    view = region.read("FP32", (25,), nbytes=100, copy=False)
    assert region.pinned()
    del view
    assert not region.pinned()


def test_a_region_that_does_not_fit_is_an_error_with_the_figures() -> None:
    """More than /dev/shm has gives needed, free and total bytes, and leaves no file."""
    space = os.statvfs(SHM_DIR)
    needed = (space.f_bavail + 1024) * space.f_frsize
    names = set(os.listdir(SHM_DIR))
    figures = rf"(?s)'big' needs {needed} bytes .* free .* of .* available.*What to do"
    with pytest.raises(NoSpaceError, match=figures):
        create_region(SharedMemoryType.SYSTEM, "big", "output", needed)
    assert set(os.listdir(SHM_DIR)) == names


def test_a_forgotten_region_goes_with_the_interpreter(tmp_path) -> None:
    """A process that ends without closing leaves no file."""
    script = textwrap.dedent("""
        from tritonic_nb.memory import create_region, SharedMemoryType
        print(create_region(SharedMemoryType.SYSTEM, "x", "input", 10).path)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    path = done.stdout.strip()
    assert path.startswith(str(SHM_DIR))
    assert not os.path.exists(path)  # noqa: PTH110


def test_a_forked_child_does_not_remove_its_parents_region(region: SystemRegion) -> None:
    """A child that drops the inherited object, or ends, leaves the parent's file and lock."""
    script = textwrap.dedent("""
        import gc, os, sys
        from tritonic_nb.memory import create_region, SharedMemoryType
        region = create_region(SharedMemoryType.SYSTEM, "x", "input", 10)
        child = os.fork()
        if child == 0:
            del region
            gc.collect()
            sys.exit(0)
        os.waitpid(child, 0)
        assert region.path.exists()
    """)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_cuda_memory_without_a_device_says_so() -> None:
    """Asking for a CUDA region where there is no device names the reason."""
    if _has_cuda():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(NoCudaDeviceError, match=r"no CUDA device was found: \w+"):
        create_region(SharedMemoryType.CUDA, "x", "input", 10)


def _has_cuda() -> bool:
    from cuda.bindings import runtime

    status, count = runtime.cudaGetDeviceCount()
    return status == runtime.cudaError_t.cudaSuccess and count > 0

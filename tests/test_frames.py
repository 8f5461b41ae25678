"""Folders, animations and videos, read frame by frame; no server."""

from __future__ import annotations

import gc
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tritonic_nb import images
from tritonic_nb.errors import ArgumentError, ImageReadError, ImageTooLargeError
from tritonic_nb.frames import Frame, FrameSource, open_frames

GREYS = range(0, 250, 10)


def grey(level: int, size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Return a picture of one grey level, with a white corner at the top left."""
    picture = Image.new("RGB", size, (level,) * 3)
    picture.paste((255, 255, 255), (0, 0, 8, 8))
    return picture


def level_of(frame: Frame) -> int:
    """Return the grey level of a frame, at the bottom right, as the nearest of those there are."""
    assert isinstance(frame.picture, Image.Image)
    level = np.asarray(frame.picture.convert("L"))[-1, -1]
    return min(GREYS, key=lambda known: abs(known - int(level)))


def video(path: Path, levels: Any = GREYS, *, rate: int = 10, turned: bool = False) -> Path:
    """Write a video with a frame for each grey level."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_image(grey(level, (64, 32)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if turned:  # a quarter to the right, as a telephone that is held upright notes it
        data = bytearray(path.read_bytes())
        matrix = data.index(b"tkhd") + 44
        data[matrix : matrix + 36] = struct.pack(
            ">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30
        )
        path.write_bytes(data)
    return path


def animation(path: Path, **options: Any) -> Path:
    """Write an animation, or pages, with a frame for each grey level."""
    first, *others = [grey(level) for level in GREYS]
    first.save(path, save_all=True, append_images=others, **options)
    return path


def collect(frames: Iterator[Frame], given: list[Frame]) -> None:
    """Put each frame into a list as it comes."""
    for frame in frames:
        given.append(frame)


# Folders


def test_a_folder_is_read_in_the_order_of_people(tmp_path: Path) -> None:
    """2 comes before 10; hidden files, folders and other files are left out; names tell."""
    for name in ("p10.png", "p2.png", "P1.JPG", ".hidden.png", "p2b.webp", "²3.png"):
        grey(10).save(tmp_path / name)
    grey(10).save(tmp_path / "without", "PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to("nothing")
    frames, total = open_frames(tmp_path)
    found = list(frames)
    names = ["P1.JPG", "p2.png", "p2b.webp", "p10.png", "without", "²3.png"]
    assert [Path(frame.source.path).name for frame in found] == names
    assert [frame.picture for frame in found] == [tmp_path / name for name in names]
    assert total == 6
    assert str(found[3].source) == "p10.png, picture 3"


def test_a_folder_names_what_it_lacks(tmp_path: Path) -> None:
    """A folder that is empty, or has no pictures, is an error with its name."""
    with pytest.raises(ImageReadError, match=f"{tmp_path}' has no pictures\n"):
        open_frames(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "deep").mkdir()
    grey(10).save(tmp_path / "deep" / "p.png")
    with pytest.raises(ImageReadError, match="has no pictures, of 1 file"):
        open_frames(str(tmp_path))


def test_paths_are_taken_as_they_come(tmp_path: Path) -> None:
    """Paths of pictures are given in their own order; anything else among them is refused."""
    for name in ("b.png", "a.png"):
        grey(10).save(tmp_path / name)
    frames, total = open_frames([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert [str(frame.source) for frame in frames] == ["b.png, picture 0", "a.png, picture 1"]
    assert total == 2
    frames, total = open_frames(tmp_path / name for name in ("a.png", "b.png"))
    assert total is None
    assert len(list(frames)) == 2
    frames, _ = open_frames([grey(1)])
    with pytest.raises(ArgumentError, match=r"Image.* among the sources is no path"):
        next(frames)


# Animations


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_an_animation_is_read_frame_by_frame(tmp_path: Path, name: str) -> None:
    """Each frame has its own pixels, its number, and its time, which TIFF has not."""
    options = {} if name == "a.tif" else {"duration": 80, "lossless": True, "quality": 100}
    frames, total = open_frames(animation(tmp_path / name, **options))
    found = list(frames)
    assert [level_of(frame) for frame in found] == list(GREYS)
    assert [frame.source.index for frame in found] == list(range(total or 0))
    times = [None] * 25 if name == "a.tif" else [pytest.approx(n * 0.08) for n in range(25)]
    assert [frame.source.time_s for frame in found] == times
    assert total == 25


def test_a_still_picture_is_one_frame(tmp_path: Path) -> None:
    """A file with a single picture is a stream of one."""
    grey(50).save(tmp_path / "p.jpg")
    frames, total = open_frames(tmp_path / "p.jpg")
    assert total == 1
    assert [level_of(frame) for frame in frames] == [50]


def test_a_broken_animation_tells_the_frame(tmp_path: Path) -> None:
    """Frames before the damage are given; then the error names file and frame."""
    path = animation(tmp_path / "a.png", duration=80)
    data = bytearray(path.read_bytes())
    middle = data.index(b"fdAT", len(data) // 2) + 12  # in the compressed pixels of one frame
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)
    frames, _ = open_frames(path)
    given: list[Frame] = []
    with pytest.raises(ImageReadError, match=r"^frame \d+ of '.*a\.png' cannot be decoded") as told:
        collect(frames, given)
    assert [level_of(frame) for frame in given] == list(GREYS)[: len(given)]
    assert 5 < len(given) < 20
    assert told.value.message.startswith(f"frame {len(given)} of")


def test_an_animation_cut_short_is_told_at_once(tmp_path: Path) -> None:
    """A file whose frames cannot be counted is an error with its name."""
    path = animation(tmp_path / "a.gif", duration=80)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ImageReadError, match=r"a\.gif' cannot be decoded"):
        open_frames(path)


# Videos


def test_a_video_is_read_frame_by_frame(tmp_path: Path) -> None:
    """Each frame has its own pixels, its number and its time."""
    frames, total = open_frames(video(tmp_path / "v.mp4"))
    found = list(frames)
    assert [level_of(frame) for frame in found] == list(GREYS)
    assert [frame.source.time_s for frame in found] == [pytest.approx(n / 10) for n in range(25)]
    assert total == 25
    assert str(found[4].source) == "v.mp4, frame 4 at 0.40 s"
    assert found[4].source == FrameSource(str(tmp_path / "v.mp4"), 4, found[4].source.time_s)


def test_a_video_is_turned_as_it_says(tmp_path: Path) -> None:
    """A video that was filmed with the camera turned comes upright."""
    frames, _ = open_frames(video(tmp_path / "v.mp4", turned=True))
    picture = next(frames).picture
    assert isinstance(picture, Image.Image)
    assert picture.size == (32, 64)
    assert min(picture.getpixel((30, 2))) > 200  # the white corner, now at the right


def test_a_name_is_a_file_s_and_no_address(tmp_path: Path, monkeypatch: Any) -> None:
    """A file whose name looks like one of FFmpeg's protocols is read as a file."""
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "v.mp4").rename(tmp_path / "concat:v|w.mp4")
    frames, _ = open_frames("concat:v|w.mp4")
    assert len(list(frames)) == 25


def test_a_video_is_closed_when_nobody_wants_more(tmp_path: Path) -> None:
    """Of a video that is read in part no file stays open."""
    path = video(tmp_path / "v.mp4")
    frames: Iterator[Frame] | None
    frames, _ = open_frames(path)
    next(frames)
    assert str(path) in opened()
    frames = None
    gc.collect()
    assert str(path) not in opened()


def opened() -> set[str]:
    """Return the files that this process has open."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except FileNotFoundError:  # the one of the listing itself
            continue
    return found


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    """A text, a video cut short and a playlist with an address are errors with the name."""
    (tmp_path / "t.txt").write_text("hello")
    whole = video(tmp_path / "v.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "p.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    )
    for name in ("t.txt", "cut.mp4", "p.m3u8"):
        with pytest.raises(ImageReadError, match=f"{name}' cannot be read as a video"):
            list(open_frames(tmp_path / name)[0])


def test_without_pyav_a_video_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only videos need PyAV, and the error names the extra."""
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "v.mp4"
    path.write_bytes(b"some video")
    with pytest.raises(ImageReadError, match=r"PyAV is missing\n.*'tritonic-nb\[video\]'"):
        open_frames(path)
    assert len(list(open_frames(animation(tmp_path / "a.gif"))[0])) == 25


# All of them


@pytest.mark.parametrize("name", ["folder", "a.gif", "v.mp4"])
def test_some_of_the_frames(tmp_path: Path, name: str) -> None:
    """`every` takes each second and so on, `limit` so many of these; the total follows."""
    (tmp_path / "folder").mkdir()
    for level in GREYS:
        grey(level).save(tmp_path / "folder" / f"{level}.png")
    animation(tmp_path / "a.gif", duration=80)
    video(tmp_path / "v.mp4")
    for every, limit, wanted in (
        (7, None, [0, 7, 14, 21]),
        (7, 3, [0, 7, 14]),
        (100, 3, [0]),
        (1, 2, [0, 1]),
    ):
        frames, total = open_frames(tmp_path / name, every=every, limit=limit)
        assert [frame.source.index for frame in frames] == wanted
        assert total == len(wanted)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_wrong_numbers_are_refused(tmp_path: Path, value: Any) -> None:
    """`every` and `limit` are whole numbers from 1."""
    grey(1).save(tmp_path / "p.png")
    with pytest.raises(ArgumentError, match="every is .*\n.*from 1"):
        open_frames(tmp_path, every=value)
    with pytest.raises(ArgumentError, match="limit is .*\n.*from 1"):
        open_frames(tmp_path, limit=value)


@pytest.mark.parametrize("source", [None, 5, b"png", np.float32(1), grey(1)])
def test_wrong_sources_are_refused(source: Any) -> None:
    """What is no path and no list of paths is refused, with what to give."""
    with pytest.raises(ArgumentError, match="the source is .*\n.*a folder, an animation or a vid"):
        open_frames(source)


@pytest.mark.parametrize(
    "path", ["nowhere", "nowhere.mp4", "http://127.0.0.1/v.mp4", "a\0b", "x" * 5000, "/dev/null"]
)
def test_wrong_paths_are_told(path: str) -> None:
    """What is not there, or no file, is an error at once."""
    with pytest.raises(ImageReadError):
        open_frames(path)


def test_the_limit_of_pixels_holds_for_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame with more pixels than a picture may have is refused, before it is decoded."""
    paths = [animation(tmp_path / "a.gif", duration=80), video(tmp_path / "v.mp4")]
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    for path in paths:
        with pytest.raises(ImageTooLargeError, match="the limit is 500"):
            open_frames(path)

"""Many pictures from one place: a folder, an animation, a video; read one after the other."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from tritonic_nb.errors import (
    ArgumentError,
    ImageError,
    ImageReadError,
    brief,
    check_whole,
)
from tritonic_nb.images import (
    check_size,
    count_frames,
    image_frames,
    is_image_file,
    local_path,
)

__all__ = ["Frame", "FrameSource", "open_frames"]

# What is taken for a picture by its name, and so is an error where it is none.
_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)


_log = logging.getLogger("tritonic_nb.session")


@dataclass(frozen=True)
class FrameSource:
    """What a picture of a stream came from.

    Attributes
    ----------
    path
        The file.
    index
        The frame's number in the file, or the picture's in the folder, from 0.
    time_s
        The frame's time in seconds from the start; None where there is none.
    """

    path: str
    index: int
    time_s: float | None = None

    def __str__(self) -> str:
        name = Path(self.path).name
        if self.time_s is None:
            return f"{name}, picture {self.index}"
        return f"{name}, frame {self.index} at {self.time_s:.2f} s"


@dataclass(frozen=True)
class Frame:
    """One picture of a stream: its file where that is a picture's, else its pixels."""

    source: FrameSource
    picture: Path | Image.Image


def open_frames(
    source: Any, *, every: int = 1, limit: int | None = None
) -> tuple[Iterator[Frame], int | None]:
    """Look at a source of pictures; return them, to be read, and how many where that is known.

    Parameters
    ----------
    source
        A folder of pictures (by name, as people sort: 2 before 10; without hidden files
        and folders in it), an animated GIF, WebP or PNG, a TIFF file with pages, a
        video, or paths of pictures.
    every
        2 for each second frame, and so on.
    limit
        The most frames.

    Raises
    ------
    ArgumentError
        If `every` or `limit` is no whole number from 1, or `source` is no such place.
    ImageReadError, ImageTooLargeError
        If there is nothing there, or it cannot be read; a video needs PyAV.
    """
    check_whole(every, 1, "every", "give a whole number from 1: 2 takes each second frame")
    if limit is not None:
        check_whole(limit, 1, "limit", "give a whole number from 1, or None for all")
    frames, count = _opened(source, every)
    total = None if count is None else -(-count // every)
    if limit is None:
        return frames, total
    return islice(frames, limit), None if total is None else min(total, limit)


def _opened(source: Any, every: int) -> tuple[Iterator[Frame], int | None]:
    """Return each frame that is wanted, and how many there are with the others."""
    if not isinstance(source, (str, os.PathLike)):
        return _listed(source, every)
    path, name = local_path(source)
    try:
        folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise ImageReadError(f"{name} cannot be opened: {error}", "check the path") from error
    if folder:
        return _listed(_pictures_in(path, name), every)
    if is_image_file(path):
        return _animated(path, every), count_frames(path)
    return _video_frames(path, name, every), _count_in_video(path, name)


def _listed(paths: Any, every: int) -> tuple[Iterator[Frame], int | None]:
    """Return the pictures at some paths."""
    if not isinstance(paths, Iterable) or isinstance(paths, (bytes, bytearray, Image.Image)):
        raise ArgumentError(
            f"the source is {brief(paths)}",
            "give the path of a folder, an animation or a video; pictures themselves go to "
            "session.map() or infer()",
        )
    frames = (
        Frame(FrameSource(str(path), number), path)
        for number, path in enumerate(map(_picture_path, paths))
        if number % every == 0
    )
    return frames, len(paths) if isinstance(paths, (list, tuple)) else None


def _picture_path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(
            f"{brief(path)} among the sources is no path", "pictures themselves go to session.map()"
        )
    return local_path(path)[0]


def _pictures_in(folder: Path, name: str) -> list[Path]:
    """Return the pictures of a folder, as people sort their names."""
    try:
        files = [path for path in folder.iterdir() if path.name[0] != "." and path.is_file()]
    except OSError as error:
        raise ImageReadError(
            f"the folder {name} cannot be read: {error.strerror}", "check its permissions"
        ) from error
    found = [path for path in files if _is_picture(path)]
    if not found:
        raise ImageReadError(
            f"the folder {name} has no pictures" + (f", of {len(files)} files" if files else ""),
            "name a folder with pictures in it (folders in that one are not searched)",
        )
    return sorted(found, key=_as_people_sort)


def _is_picture(path: Path) -> bool:
    """Whether a file says so by its name, or else by what is in it."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        return is_image_file(path)
    except ImageReadError:  # it cannot be opened, and nothing says that it is a picture
        return False


def _as_people_sort(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _animated(path: Path, every: int) -> Iterator[Frame]:
    for index, time_s, picture in image_frames(path, every=every):
        yield Frame(FrameSource(str(path), index, time_s), picture)


# Videos


def _count_in_video(path: Path, name: str) -> int | None:
    """Return how many frames a video has; None where it does not tell."""
    with _video(path, name) as (_, stream):
        return stream.frames or None


def _video_frames(path: Path, name: str, every: int) -> Iterator[Frame]:
    with _video(path, name) as (container, stream):
        start_s = float((stream.start_time or 0) * stream.time_base)
        count = 0
        for index, frame in enumerate(container.decode(stream)):
            count += 1
            if index % every == 0:
                check_size((frame.width, frame.height), f"frame {index} of {name}")
                time_s = None if frame.time is None else frame.time - start_s
                yield Frame(FrameSource(str(path), index, time_s), _upright(frame))
        if count < stream.frames:
            _log.warning("%s ends after %d of its %d frames", name, count, stream.frames)


@contextmanager
def _video(path: Path, name: str) -> Iterator[tuple[Any, Any]]:
    """Open a video and its first stream; whatever FFmpeg raises becomes ours."""
    try:
        import av
    except ImportError as error:
        raise ImageReadError(
            f"{name} is no picture in a known format, and to read videos PyAV is missing",
            "pip install 'tritonic-nb[video]'",
        ) from error
    try:
        # Of FFmpeg's, a number sign in a name would be a pattern for other files.
        with av.open(_as_file(path), options={"pattern_type": "none"}) as container:
            if not container.streams.video:
                raise ImageReadError(
                    f"{name} has no video in it", "name a video, a picture or a folder"
                )
            stream = container.streams.video[0]
            check_size((stream.width, stream.height), name)
            yield container, stream
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # FFmpeg's are of many kinds
        raise ImageReadError(
            f"{name} cannot be read as a video: {getattr(error, 'strerror', None) or error}",
            "it is damaged, incomplete or no video; fetch or save it again",
        ) from error


def _as_file(path: Path) -> str:
    """Return how FFmpeg is told that this is a file, whatever its name looks like.

    A playlist in it can then name other files, and nothing in the network.
    """
    return f"file:{path.absolute()}"


def _upright(frame: Any) -> Image.Image:
    """Return a frame as a picture, turned as the camera noted."""
    angle = getattr(frame, "rotation", 0)  # counter-clockwise; older PyAV does not tell
    image: Image.Image = frame.to_image()
    return image.rotate(angle, expand=True) if angle else image

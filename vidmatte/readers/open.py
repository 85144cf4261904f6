"""Where frames come from: movies, picture folders, single pictures.

``open_source`` makes a source (``base``) of a path: of a ``movie`` or of ``pictures``, ``trim``
has its in and out points, ``conform`` wraps one at another rate. ``pixels`` brings what was
decoded into the format that frames travel in, ``view`` makes of it what networks see, ``exact``
R'G'B' as deep as is asked for.
"""

from __future__ import annotations

import os
from pathlib import Path

from vidmatte.core.names import as_url
from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.media.png import is_animated_png
from vidmatte.readers.base import DecodedPicture, Reader
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_rate

__all__ = ["DecodedPicture", "Reader", "is_image", "open_reader"]


def open_reader(path: str | Path, settings: Settings) -> Reader:
    """Open a movie, a folder of pictures or one picture.

    Raises SourceMissingError, SourceError, or UsageError for in and out points
    that do not fit.
    """
    from vidmatte.readers.frame_rate import ConformedReader

    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"source {path!r}: a path is wanted: a str or a pathlib.Path")
    if path == "":  # which Path takes for the current folder
        raise UsageError("the input's name is empty: write a movie, a folder or a picture")
    path = Path(path)
    check_readable(path)
    source = open_by_kind(path, settings)
    if source.clip.has_alpha:
        source.warnings.append(f"{path.name}: its own alpha is not used, a new one is made")
    if settings.conform is None:
        return source
    return ConformedReader(source, parse_rate(settings.conform))


def check_readable(path: Path) -> None:
    """Raise SourceMissingError or SourceError unless a file or folder is there to be read."""
    try:
        is_there = path.exists()
    except OSError as error:  # its name is too long, or its folder closed
        raise SourceMissingError(f"{path}: {error.strerror}: write another name") from error
    if not is_there:
        if (url := as_url(path)) is not None:
            step = f"write the path itself, {url[1]}" if url[1] else "download it first"
            raise SourceMissingError(f"{url[0]}: URLs are not read: {step}")
        if str(path) == "-":
            raise SourceMissingError("-: nothing is read from stdin: write it to a file first")
        raise SourceMissingError(f"{path}: there is no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise SourceError(
            f"{path}: not a regular file, but a pipe, a socket or a device: copy what comes from"
            " it into a file first, and give that"
        )
    if not os.access(path, os.R_OK):
        raise SourceMissingError(f"{path}: no permission to read it")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")


def is_image(path: Path) -> bool:
    """Whether a file is read as one picture: by its suffix, but an animated PNG is a movie."""
    from vidmatte.readers.image_folder import SUFFIXES

    return path.suffix.lower() in SUFFIXES and not path.is_dir() and not is_animated_png(path)


def open_by_kind(path: Path, settings: Settings) -> Reader:
    """The source for what ``path`` is. Raises SourceError, UsageError."""
    from vidmatte.readers.images import ImageReader
    from vidmatte.readers.movie.reader import MovieReader

    if path.is_dir() or is_image(path):
        if settings.deinterlace == "bwdif":
            raise UsageError(f"--deinterlace bwdif is for movies; {path.name} is read as it is")
        return ImageReader(path, settings)
    if settings.fps is not None:
        raise UsageError(f"--fps {settings.fps} is for picture folders; {path.name} has its own")
    return MovieReader(path, settings)

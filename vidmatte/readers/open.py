"""Opening a source by its path: a movie, a folder of pictures or one picture.

``open_reader`` chooses the reader (``movie.reader``, ``images``), which applies the in and out
points (``trim``); ``frame_rate`` wraps a reader to conform it to another rate.
"""

from __future__ import annotations

import os
from pathlib import Path

from vidmatte.core.names import STANDARD_STREAM, as_url
from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.media.heif_items import heif_kind
from vidmatte.media.png import is_animated_png
from vidmatte.media.webp import is_animated_webp
from vidmatte.readers.base import DecodedPicture, Reader
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_rate

__all__ = ["DecodedPicture", "Reader", "is_image", "open_reader"]


def open_reader(path: str | Path, settings: Settings) -> Reader:
    """Open a movie, a folder of pictures or one picture; the text '-' is standard input, which can
    be opened once.

    Raises SourceMissingError, SourceError, or UsageError for in and out points outside the clip.
    """
    from vidmatte.readers.sound_file import take_sound_from

    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"source {path!r}: expected a path: a str or a pathlib.Path")
    if path == "":  # Path would take it for the current folder
        raise UsageError("the input's name is empty: name a movie, a folder or a picture")
    if path == STANDARD_STREAM:
        from vidmatte.readers.stream import StreamReader

        return _conformed(StreamReader(settings), "stdin", settings)
    for name in ("input_size", "input_fps"):
        if (value := getattr(settings, name)) is not None:
            raise UsageError(f"--{name.replace('_', '-')} {value} is for stdin, not for {path}")
    path = Path(path)
    check_readable(path)
    source = open_by_kind(path, settings)
    if settings.audio_from is not None:
        try:
            take_sound_from(source, Path(settings.audio_from), settings)
        except BaseException:
            source.close()
            raise
    return _conformed(source, path.name, settings)


def _conformed(source: Reader, name: str, settings: Settings) -> Reader:
    """The reader at the rate of ``--conform``, if any. name: for a warning."""
    from vidmatte.readers.frame_rate import ConformedReader

    if source.clip.has_alpha:
        source.warnings.append(f"{name}: its own alpha is ignored, a new one is made")
    if settings.conform is None:
        return source
    return ConformedReader(source, parse_rate(settings.conform))


def check_readable(path: Path) -> None:
    """Raise SourceMissingError or SourceError unless ``path`` is a readable file or folder."""
    try:
        is_there = path.exists()
    except OSError as error:  # the name is too long, or its folder may not be searched
        raise SourceMissingError(f"{path}: {error.strerror}: use another name") from error
    if not is_there:
        if (url := as_url(path)) is not None:
            step = f"pass the path itself, {url[1]}" if url[1] else "download it first"
            raise SourceMissingError(f"{url[0]}: cannot read from URLs: {step}")
        if str(path) == "-":
            raise SourceMissingError(
                "-: stdin is read by the main command only: save it to a file first"
            )
        raise SourceMissingError(f"{path}: there is no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise SourceError(
            f"{path}: not a regular file but a pipe, a socket or a device: save its data to a"
            " file first, and pass that"
        )
    if not os.access(path, os.R_OK):
        raise SourceMissingError(f"{path}: no permission to read it")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")


def is_image(path: Path) -> bool:
    """Whether a file is read as one picture, by its suffix, or as HEIF by its content; an
    animated PNG, WebP, HEIC or AVIF is a movie."""
    from vidmatte.readers.image_folder import SUFFIXES

    if kind := heif_kind(path):
        return kind == "picture"
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        return False
    return not is_animated_png(path) and not is_animated_webp(path)


def open_by_kind(path: Path, settings: Settings) -> Reader:
    """The reader for a path by its kind. Raises SourceError, UsageError."""
    from vidmatte.readers.images import ImageReader
    from vidmatte.readers.movie.reader import MovieReader
    from vidmatte.readers.webp_animation import WebpReader

    if path.is_dir() or is_image(path):
        if settings.audio_tracks is not None and settings.audio_from is None:
            raise UsageError(
                f"--audio-tracks {settings.audio_tracks}: {path.name} holds pictures, without sound"
            )
        if settings.deinterlace == "bwdif":
            raise UsageError(
                f"--deinterlace bwdif is for movies: {path.name} holds pictures: omit it"
            )
        if settings.video_track:
            raise UsageError(
                f"--video-track {settings.video_track} is for movies: {path.name} holds pictures;"
                " leave it out"
            )
        return ImageReader(path, settings)
    if is_animated_webp(path):
        if settings.fps is not None:
            raise UsageError(
                f"--fps {settings.fps}: {path.name} has its own rate, which --conform changes"
            )
        return WebpReader(path, settings)
    return MovieReader(path, settings)

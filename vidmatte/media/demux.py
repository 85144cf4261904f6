"""Opening media files for reading: the only place that gives a file's name to FFmpeg.

FFmpeg's demuxers include playlists and lists that open further files and addresses, one that
takes any text for a movie, and one that takes a name like ``shot%03d.png`` for a pattern. None
of them is used here: only demuxers of self-contained movies, pictures and sounds are allowed, and a
name is never interpreted.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Mapping
from pathlib import Path

import av
from av.container import InputContainer

from vidmatte.errors import SourceError
from vidmatte.media.limits import check_chunks, decoder_limits
from vidmatte.media.pipe import PipeReader
from vidmatte.settings.values import MAX_PIXELS

#: FFmpeg's names of the demuxers that may open a file. None of them opens another file.
_MOVIES = (
    "matroska", "mov", "avi", "mxf", "mpegts", "mpeg", "flv", "live_flv", "asf", "ogg", "nut",
    "gif", "apng", "gxf", "lxf", "wtv", "rm", "dv", "ivf", "yuv4mpegpipe", "r3d", "cine", "ser",
    "h261", "h263", "h264", "hevc", "vvc", "evc", "av1", "obu", "apv", "m4v", "mjpeg", "mjpeg_2000",
    "mpegvideo", "dirac", "dnxhd", "vc1", "vc1test", "cavsvideo", "avs2", "avs3",
)  # fmt: skip
_PICTURES = (
    "png", "jpeg", "tiff", "exr", "dpx", "webp", "bmp", "gif", "j2k", "jpegls", "jpegxl", "psd",
    "qoi", "hdr", "sgi", "pam", "pbm", "pgm", "ppm", "pfm", "phm", "sunrast", "pcx", "dds",
)  # fmt: skip
_SOUNDS = (
    "wav", "w64", "aiff", "mp3", "flac", "aac", "caf", "au", "ac3", "eac3", "dts", "truehd", "wv",
    "tta", "amr", "ape",
)  # fmt: skip
#: Pictures that FFmpeg's parser does not divide from a stream of bytes.
_WHOLE_FILES = (".pam", ".ppm", ".pgm", ".pbm")
_STREAM_BUFFER = 1 << 18  # bytes
_FORMATS = ",".join([*_MOVIES, *_SOUNDS, *(f"{name}_pipe" for name in _PICTURES)])


class _Nameless(io.BufferedReader):
    """An open file whose name FFmpeg does not see. It is closed with its container, which holds
    the only reference."""

    name = ""

    def __del__(self) -> None:
        self.close()


def open_media(path: Path, max_pixels: int | None = MAX_PIXELS) -> InputContainer:
    """Open a movie or a picture for reading, whatever its name.

    max_pixels: no larger frames are decoded, not even to find out what they are; None for files
    of our own. Raises av.FFmpegError, OSError, and SourceError for a PNG that would inflate to
    far more than its pixels.
    """
    check_chunks(path)
    limits = {} if max_pixels is None else decoder_limits(max_pixels)
    container = _open(str(path.absolute()), limits)
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = limits
    return container


def open_stream(
    file: PipeReader,
    max_pixels: int,
    kind: str | None = None,
    options: Mapping[str, str] | None = None,
) -> InputContainer:
    """Open what comes through a pipe, with the same demuxers.

    kind: FFmpeg's name of the format, where it cannot be recognised. options: of the demuxer.
    Raises av.FFmpegError, OSError.
    """
    limits = decoder_limits(max_pixels)
    container = av.open(
        file, "r", format=kind, options=limits, buffer_size=_STREAM_BUFFER,
        container_options={"format_whitelist": kind or _FORMATS, **(options or {})},
        metadata_errors="replace",
    )  # fmt: skip
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = limits
    return container


def _open(absolute: str, limits: dict[str, str]) -> InputContainer:
    """``open_media`` by an absolute path, in which FFmpeg takes no colon for a protocol's."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    if absolute.lower().endswith(_WHOLE_FILES):  # with no pattern: the name is taken as it is
        options = {"pattern_type": "none", "protocol_whitelist": "file"}
        return av.open(
            absolute, "r", format="image2", options=limits, container_options=options,
            metadata_errors="replace",
        )  # fmt: skip
    try:
        return av.open(
            absolute, "r", options=limits, container_options=options, metadata_errors="replace"
        )
    except av.error.ArgumentError:
        # No format of the list, by its content or by a name that looks like an image sequence's.
        file = _Nameless(io.FileIO(absolute))
        try:
            return av.open(
                file, "r", options=limits, container_options=options, metadata_errors="replace"
            )
        except BaseException:
            file.close()
            raise


def not_readable(path: Path, error: Exception, kind: str) -> SourceError:
    """The error for a file that ``open_media`` refuses. kind: ``movie`` or ``picture``."""
    if getattr(error, "errno", None) == errno.EINVAL:
        return SourceError(
            f"{path}: not a readable {kind}: its format is none of those that are read, such as"
            " MOV, MP4, MKV, WebM, AVI, MXF, TS, PNG, TIFF, EXR; playlists and lists of files are"
            " not followed: pass a file that they name"
        )
    reason = getattr(error, "strerror", None) or f"it has no {kind}"
    return SourceError(f"{path}: not a readable {kind} ({reason}): is it complete? copy it again")

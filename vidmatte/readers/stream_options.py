"""What the options say of a clip from standard input, and opening it."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from vidmatte.errors import SourceError, UsageError
from vidmatte.media.demux import not_readable, open_stream
from vidmatte.media.limits import too_large
from vidmatte.media.pipe import PipeReader
from vidmatte.readers.movie.timing import Timing
from vidmatte.settings import Settings
from vidmatte.settings.points import SourcePoints, Trim, make_trim
from vidmatte.settings.values import parse_rate

NAME = "stdin"
_PATH = Path(NAME)  # for messages
#: Options that need to read the source twice, or to name it in a file.
_NEED_A_FILE = ("resume", "cache", "subject", "subjects", "timeline", "audio_from", "fps")


def check_options(settings: Settings) -> None:
    """Raise UsageError for an option that a source cannot have that is read once."""
    for name in _NEED_A_FILE:
        if value := getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            given = flag if value is True else f"{flag} {value if isinstance(value, str) else ''}"
            step = (
                "use --input-fps" if name == "fps" else f"save it to a file first, or omit {flag}"
            )
            raise UsageError(f"{given.strip()}: stdin is read once and is no file: {step}")


def open_pipe(file: PipeReader, settings: Settings) -> InputContainer:
    """The container that comes through ``file``. Raises SourceError, UsageError."""
    kind, options = None, {}
    if settings.input_size is not None and settings.input_format is not None:
        rate, layout = settings.input_fps, settings.input_format
        if rate is None:
            raise UsageError(f"--input-size {settings.input_size}: raw video needs --input-fps too")
        try:
            av.VideoFormat(layout)
        except ValueError:
            raise UsageError(
                f"--input-format {layout}: FFmpeg has no such pixel format: write it like yuv420p,"
                " yuv422p10le, rgb24 or rgba"
            ) from None
        kind = "rawvideo"
        options = {"video_size": settings.input_size, "pixel_format": layout}
        options["framerate"] = str(parse_rate(rate))
    try:
        container = open_stream(file, settings.max_pixels, kind, options)
    except av.error.FFmpegError as error:
        file.check()
        if not file.position:
            raise SourceError(f"{NAME}: nothing came: does the program before it run?") from error
        raise not_readable(_PATH, error, "movie") from error
    file.check()
    sizes = [(s.width, s.height) for s in container.streams.video if s.codec_context is not None]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if width * height > settings.max_pixels:
        container.close()
        raise too_large(_PATH, f"{width}x{height}", settings.max_pixels)
    return container


def trim_of(timing: Timing, timecode: str | None, settings: Settings) -> Trim:
    """The range between in and out points. Raises UsageError."""
    given = [("--in", settings.in_point), ("--out", settings.out_point)]
    for flag, point in given:
        if point is not None and not timing.constant:
            raise UsageError(
                f"{flag} {point}: the times of {NAME} are not known in advance: let the program"
                " before it cut, as ffmpeg -ss does, or send Y4M"
            )
    points = SourcePoints(timing.rate, timecode, None)
    return make_trim(points, settings.in_point, settings.out_point, settings.handles)

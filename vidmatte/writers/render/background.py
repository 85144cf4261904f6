"""The background of a composite: a colour, a checkerboard, a picture or a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidmatte.core.colour import RGB_TAGS, ColourTags, is_convertible, same_matrix
from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError, UsageError
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter
from vidmatte.pixels.formats import ACCURATE
from vidmatte.pixels.network_rgb import CURVED, check_convertible
from vidmatte.readers.base import Reader
from vidmatte.settings import Settings
from vidmatte.settings.values import MAX_MEGAPIXELS, parse_blur
from vidmatte.writers.format_spec import OutputFormat, output_colour
from vidmatte.writers.formats import PRORES

#: Colours by name, R, G, B in 0..255; "green" is that of a green screen, for keyers.
_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 177, 64),
    "blue": (0, 71, 187),
    "magenta": (255, 0, 255),
}
CHECKER = "checker"
_CHECKS = 24  # squares across the shorter side
_LIGHT, _DARK = 204, 153


class Background(ABC):
    """Pictures in 4:4:4, 10 bits, in the clip's size and matrix, limited range."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user, complete after the last call of ``at``."""
        return ()

    #: Sigma in pixels of a background that is the frame itself, blurred; 0 for others.
    blur: float = 0.0

    @abstractmethod
    def at(self, seconds: Fraction) -> av.VideoFrame | None:
        """The picture at ``seconds`` of the output; successive calls have increasing times. None
        for one that is made of the frame."""

    @abstractmethod
    def close(self) -> None:
        """Close files; safe to call twice."""


class _StillBackground(Background):
    """One picture for all frames."""

    def __init__(self, picture: av.VideoFrame, notes: Iterator[str]) -> None:
        self._picture, self._notes = picture, tuple(notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Background.notes``."""
        return self._notes

    def at(self, seconds: Fraction) -> av.VideoFrame:  # noqa: ARG002 (one picture)
        """See ``Background.at``."""
        return self._picture

    def close(self) -> None:
        """Does nothing: no file is open."""


class _BlurredBackground(Background):
    """The frame itself, blurred: rendered with it."""

    def __init__(self, sigma: float) -> None:
        self.blur = sigma

    def at(self, seconds: Fraction) -> None:
        """See ``Background.at``."""

    def close(self) -> None:
        """Does nothing: no file is open."""


class _MovingBackground(Background):
    """A clip from its first frame at its own rate, or a folder's pictures at the foreground
    clip's rate. The last frame is repeated."""

    def __init__(self, path: Path, clip: Clip) -> None:
        from vidmatte.readers.open import check_readable, open_by_kind

        check_readable(path)
        # As large as the clip's own frames may be.
        limit = max(MAX_MEGAPIXELS, clip.width * clip.height * 4e-6)
        self._source = open_by_kind(path, Settings(max_megapixels=limit))
        try:
            behind = self._source.clip
            check_convertible(behind)
            self._notes = [f"--background {line}" for line in _colour_mismatch(behind, clip)]
            self._opening_warnings = len(
                self._source.warnings
            )  # about sound and subtitles, which are not used
            fit = _FitToFrame(clip, behind.colour, behind.sample_aspect_ratio)
            self._pictures = _background_times(
                self._source, fit, clip.rate if path.is_dir() else None
            )
            first = next(self._pictures, None)
            if first is None:
                raise SourceError(f"--background {path}: none of its frames decodes: use another")
            self._current = first[1]
            self._next = next(self._pictures, None)
        except BaseException:
            self._source.close()
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """See ``Background.notes``."""
        damage = self._source.warnings[self._opening_warnings :]
        return (*self._notes, *(f"--background {line}" for line in damage))

    def at(self, seconds: Fraction) -> av.VideoFrame:
        """See ``Background.at``."""
        latest = None
        while self._next is not None and self._next[0] <= seconds:
            latest = self._next[1]
            self._next = next(self._pictures, None)
            self._current = latest
        return self._current

    def close(self) -> None:
        """See ``Background.close``."""
        self._pictures.close()  # the generator may still be reading the file
        self._source.close()


def _background_times(
    source: Reader, fit: _FitToFrame, rate: Fraction | None
) -> Generator[tuple[Fraction, av.VideoFrame], None, None]:
    """A reader's pictures, fitted to the frame, and when each is shown, in seconds.

    rate: pictures per second, to replace the reader's own timing.
    """
    for number, picture in enumerate(source.pictures()):
        when = picture.pts * source.clip.time_base if rate is None else number / rate
        yield when, fit(picture.pixels)


def _colour_mismatch(behind: Clip, clip: Clip) -> Iterator[str]:
    """Notes on what the composite ignores of a background: alpha, another transfer curve."""
    name = behind.source.name
    if behind.has_alpha:
        yield f"{name}: its own alpha is ignored: transparent parts are shown"
    yield from _code_mismatch(name, behind.colour, clip)


def _code_mismatch(name: str, colour: ColourTags, clip: Clip) -> Iterator[str]:
    """A note if the transfer curve of ``colour`` differs from the clip's; curves of displays and
    cameras count as the same."""
    found, expected = (
        one.transfer if one.transfer in CURVED else 1 for one in (colour, clip.colour)
    )
    if found != expected:
        own, other = (one.as_names()["transfer"] for one in (colour, clip.colour))
        yield (
            f"{name}: its code values, {own}, are used unchanged beside the clip's, {other}:"
            " its brightness will differ"
        )


class _FitToFrame:
    """Scales a picture until it covers the frame at its display aspect, and crops the rest
    evenly.

    colour: the pictures' tags; YCbCr with another matrix than the clip's is converted through RGB.
    aspect: their sample aspect ratio; None for the clip's.
    """

    def __init__(self, clip: Clip, colour: ColourTags, aspect: Fraction | None = None) -> None:
        self._size = (clip.width, clip.height)
        # Columns of the clip per column of the pictures, at equal height.
        self._widening = Fraction(1) if aspect is None else aspect / clip.sample_aspect_ratio
        target = output_colour(clip, PRORES)
        self._to_rgb: Converter | None = None
        if is_convertible(colour.matrix) and not same_matrix(colour.matrix, target.matrix):
            self._to_rgb, colour = Converter(colour, "gbrp16le", RGB_TAGS), RGB_TAGS
        self._convert = Converter(colour, "yuv444p10le", target)

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A new picture of the clip's size."""
        width, height = self._size
        columns = picture.width * self._widening
        scale = max(width / columns, Fraction(height, picture.height))
        size = (
            max(width, round(columns * scale)),
            max(height, round(picture.height * scale)),
        )
        if size != (picture.width, picture.height):
            picture = picture.reformat(*size, interpolation=ACCURATE, threads=1)
        if self._to_rgb is not None:
            picture = self._to_rgb(picture)
        full = self._convert(picture)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        result = av.VideoFrame(width, height, "yuv444p10le")
        for target, plane in zip(planes.plane_views(result), planes.plane_views(full), strict=True):
            np.copyto(target, plane[top : top + height, left : left + width])
        return result


def main_background(text: str | None, out: Path, row: OutputFormat, clip: Clip) -> Background:
    """The background of a main output without alpha; where ``text`` is None white, with a note.
    Raises UsageError, SourceError."""
    if text is not None:
        return open_background(text, clip)
    note = (
        f"{out.name}: {row.name} stores no alpha, so the subject is on white: --background"
        " chooses another"
    )
    return _StillBackground(_flat(_COLOURS["white"], clip), iter([note]))


def _flat(colour: tuple[int, int, int], clip: Clip) -> av.VideoFrame:
    """A background of one colour, R, G, B in 0..255."""
    return _fitted(np.full((clip.height, clip.width, 3), colour, np.uint8), clip)


def _fitted(picture: np.ndarray, clip: Clip) -> av.VideoFrame:
    """A background from a picture (h, w, 3) uint8 of the clip's size."""
    return _FitToFrame(clip, RGB_TAGS)(av.VideoFrame.from_ndarray(picture, "rgb24"))


def open_background(text: str, clip: Clip) -> Background:
    """A background from a colour (``#rrggbb`` or a name), ``checker``, or a file.

    Raises UsageError, SourceError.
    """
    if (sigma := parse_blur(text)) is not None:
        return _BlurredBackground(sigma)
    notes = _code_mismatch(f"--background {text}", RGB_TAGS, clip)
    if text == CHECKER:
        return _StillBackground(_fitted(checkerboard(clip.width, clip.height), clip), notes)
    if (colour := _parse_colour(text)) is not None:
        return _StillBackground(_flat(colour, clip), notes)
    path = Path(text)
    if not path.exists():
        raise UsageError(
            f"--background {text}: neither a file nor a colour: use #rrggbb,"
            f" {', '.join(_COLOURS)}, {CHECKER}, or the path of a picture or clip"
        )
    return _MovingBackground(path, clip)


def _parse_colour(text: str) -> tuple[int, int, int] | None:
    """R, G, B in 0..255 of ``#rrggbb`` or a name in _COLOURS, else None."""
    if text.lower() in _COLOURS:
        return _COLOURS[text.lower()]
    digits = text.removeprefix("#")
    if len(digits) != 6 or not text.startswith("#"):
        return None
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return None
    return red, green, blue


def checkerboard(width: int, height: int) -> np.ndarray:
    """Light and dark grey squares, (h, w, 3) uint8."""
    side = max(4, min(width, height) // _CHECKS)
    rows, columns = np.arange(height) // side, np.arange(width) // side
    dark = (rows[:, None] + columns[None]) % 2 == 1
    grey = np.where(dark, _DARK, _LIGHT).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)

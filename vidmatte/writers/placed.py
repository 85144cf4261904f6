"""The writer of a still that is cropped, or of another size than its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import av
import cv2
import numpy as np

from vidmatte.alpha.placement import Window, choose_window, cut_off
from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import OutputError, UsageError
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter
from vidmatte.pixels.formats import set_colour
from vidmatte.pixels.planes import is_yuv
from vidmatte.settings import Settings
from vidmatte.settings.still_values import CropMargin, StillSize, parse_crop, parse_size
from vidmatte.writers.base import Writer, WriteResult
from vidmatte.writers.formats import FORMATS
from vidmatte.writers.multi_writer import MultiWriter

_ENLARGED = 1.05  # scale from which the user is told


def _still_size(settings: Settings) -> StillSize | None:
    """The size that the settings ask for."""
    return None if settings.size is None else parse_size(settings.size)


def placed_clip(clip: Clip, settings: Settings) -> Clip:
    """The clip as its outputs have it, as far as that is known before its alpha is.

    Raises UsageError where ``--size`` or ``--crop`` is asked for anything but a single picture.
    """
    if settings.size is None and settings.crop is None:
        return clip
    if clip.kind != "picture":
        asked = f"--size {settings.size}" if settings.size else f"--crop {settings.crop}"
        raise UsageError(
            f"{asked}: {clip.source.name} is not a single picture: pass pictures one by one, as in"
            " folder/*.jpg"
        )
    size = _still_size(settings)
    return clip if size is None else replace(clip, width=size.width, height=size.height)


class PlacedWriter(Writer):
    """Crops and scales the only frame of a still, then writes it.

    open_inner: opens the writer of a clip of the new size.
    """

    spool = None

    def __init__(
        self, clip: Clip, settings: Settings, open_inner: Callable[[Clip], MultiWriter]
    ) -> None:
        self._clip, self._open = clip, open_inner
        self._size = _still_size(settings)
        self._crop = None if settings.crop is None else parse_crop(settings.crop)
        self._inner: MultiWriter | None = None
        self._notes: tuple[str, ...] = ()

    @property
    def slots_held(self) -> int:
        """See ``Writer.slots_held``."""
        return 1

    def busy_seconds(self, writing: float) -> float:
        """See ``Writer.busy_seconds``."""
        return writing if self._inner is None else self._inner.busy_seconds(writing)

    def write(self, frame: Frame) -> None:
        """See ``Writer.write``. Raises OutputError for a matte without a subject."""
        try:
            frame.to_host()
            clip, placed, notes = place(self._clip, frame, self._size, self._crop)
        finally:
            frame.release()
        self._notes = tuple(notes)
        self._inner = self._open(clip)
        self._inner.write(placed)

    def close(self) -> WriteResult:
        """See ``Writer.close``."""
        if self._inner is None:
            raise OutputError(f"{self._clip.source.name}: no picture to write")
        written = self._inner.close()
        notes = (*written.notes, *self._notes, *self._density_notes(written))
        return replace(written, notes=notes)

    def _density_notes(self, written: WriteResult) -> Iterator[str]:
        stores_it = any(row.name == written.format and row.stores_density for row in FORMATS)
        if self._size is not None and self._size.dpi is not None and not stores_it:
            yield (
                f"{written.path.name}: {written.format} stores no density: {self._size.dpi} pixels"
                " per inch are not in the file; jpeg, png and tiff16 keep them"
            )

    def cancel(self) -> None:
        """See ``Writer.cancel``."""
        if self._inner is not None:
            self._inner.cancel()

    def abort(self) -> None:
        """See ``Writer.abort``."""
        if self._inner is not None:
            self._inner.abort()

    def __enter__(self) -> PlacedWriter:
        return self


def place(
    clip: Clip, frame: Frame, size: StillSize | None, crop: CropMargin | None
) -> tuple[Clip, Frame, list[str]]:
    """The clip and its frame, cropped and scaled, and notes for the user; see ``choose_window``.

    Picture and alpha are scaled alike, before the foreground is estimated: what mixes linearly
    keeps its mixture. Beyond the picture alpha is 0. Raises OutputError for an empty matte.
    """
    assert frame.alpha is not None
    window = choose_window(frame.alpha, size, crop)
    if window is None:
        raise OutputError(
            f"{clip.source.name}: no subject was found, so there is nothing to place: choose"
            " another --model, or run without --size and --crop"
        )
    cut = _Cut(window, size, frame.alpha.shape)
    placed_format = _full_chroma(clip.working_format)
    picture = frame.picture
    if placed_format != clip.working_format:
        picture = Converter(clip.colour, placed_format, clip.colour)(picture)
    scaled = av.VideoFrame(*cut.size, placed_format)
    set_colour(scaled, clip.colour)
    for target, plane in zip(planes.plane_views(scaled), planes.plane_views(picture), strict=True):
        np.copyto(target, cut(plane))
    foreground = None if frame.foreground is None else cut(frame.foreground)
    placed = Frame(
        frame.index,
        frame.pts,
        frame.duration,
        frame.time_base,
        scaled,
        cut(frame.rgb),
        alpha=np.clip(cut(frame.alpha, is_alpha=True), 0, 1),
        foreground=foreground,
        name=frame.name,
        findings=frame.findings,
    )
    width, height = cut.size
    changed = replace(clip, width=width, height=height, working_format=placed_format)
    return changed, placed, list(_notes(clip, frame.alpha, window, size, crop))


def _full_chroma(working_format: str) -> str:
    """The working format without chroma subsampling."""
    return f"yuv444{working_format[6:]}" if is_yuv(working_format) else working_format


class _Cut:
    """Cuts a window out of the planes of a picture and scales it to ``size``, else to its own.

    shape: rows and columns of the picture.
    """

    def __init__(self, window: Window, size: StillSize | None, shape: tuple[int, ...]) -> None:
        width, height = round(window.width), round(window.height)
        self.size = (max(1, width), max(1, height)) if size is None else (size.width, size.height)
        self._across = _Span(window.left, window.width, shape[1], self.size[0])
        self._down = _Span(window.top, window.height, shape[0], self.size[1])

    def __call__(self, plane: np.ndarray, *, is_alpha: bool = False) -> np.ndarray:
        """The window of (H, W) or (H, W, C) samples; beyond the picture alpha is 0, and samples
        continue those at its edge."""
        across, down = self._across, self._down
        part = np.ascontiguousarray(plane[down.first : down.end, across.first : across.end])
        inner = (across.length, down.length)
        if inner != part.shape[1::-1]:
            shrinks = inner[0] < part.shape[1]
            kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            part = np.asarray(cv2.resize(part, inner, interpolation=kind))
        border = cv2.BORDER_CONSTANT if is_alpha else cv2.BORDER_REPLICATE
        sides = (down.before, down.after, across.before, across.after)
        return np.asarray(cv2.copyMakeBorder(part, *sides, border))


class _Span:
    """One direction of a cut: which samples are read, and where in the result they lie.

    first, end: of the source. before, length, after: of the result; what is before and after is
    beyond the source.
    """

    def __init__(self, start: float, extent: float, available: int, wanted: int) -> None:
        scale = wanted / max(1, round(extent)) if round(extent) == wanted else wanted / extent
        start = round(start)
        self.first = min(max(0, start), available - 1)
        self.end = max(self.first + 1, min(available, round(start + extent)))
        self.before = min(wanted - 1, max(0, round((self.first - start) * scale)))
        reach = round((self.end - self.first) * scale)
        is_cut = start + extent > available
        self.length = max(1, min(wanted - self.before, reach if is_cut else wanted))
        self.after = wanted - self.before - self.length


def _notes(
    clip: Clip,
    alpha: np.ndarray,
    window: Window,
    size: StillSize | None,
    crop: CropMargin | None,
) -> Iterator[str]:
    """Notes for the user on a placement."""
    name = clip.source.name
    if size is not None and crop is None and not window.is_head:
        yield (
            f"{name}: no head was found in the matte, so the whole subject is shown: --crop subject"
            " asks for that"
        )
    for side, share in cut_off(alpha, window):
        yield (
            f"{name}: the photo cuts the subject off at its {side}, and {100 * share:.0f} % of the"
            " result lies beyond: take a photo with more around the subject"
        )
    scale = 1.0 if size is None else size.height / window.height
    if scale > _ENLARGED:
        yield f"{name}: enlarged {scale:.2g} times: take a larger photo for a sharp result"

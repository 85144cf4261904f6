"""A contact sheet: a few frames of a clip, cut out, to look at before a long run."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vidmatte.alpha.adjustments import despill
from vidmatte.alpha.foreground import estimate
from vidmatte.alpha.masks import check_masks, open_masks
from vidmatte.alpha.trimap import open_trimap
from vidmatte.core.names import absolute_path as whole_path
from vidmatte.errors import OutputError, SourceError, UsageError
from vidmatte.jobs.check import check_replaced, inputs_of
from vidmatte.jobs.stream import Stream, StreamedFrame
from vidmatte.jobs.subjects import frame_number
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.base import as_output_error
from vidmatte.writers.output_paths import check_creatable, check_new_names

CELL = 480  # longest side of a picture on the sheet, pixels
_GAP = 6
_LEAD = 8  # frames before a sample that a recurrent model sees first
TILE, LIGHT, DARK = 12, 0.8, 0.6
_MOMENT = re.compile(r"(?<=frame at )(\d+\.\d\d) s\b")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


def write_sheet(
    clip: Path,
    out: Path,
    model: Model,
    settings: Settings,
    count: int,
    report: Callable[[str], None] = lambda _: None,
    at: Sequence[str] = (),
) -> int:
    """Write a sheet of ``count`` evenly spaced frames of ``clip``; how many it shows.

    ``report`` is called with a line for each of them that is broken or damaged. at: which frames
    instead, written like --in.
    A row a frame: over a checkerboard, over black, over white, and the alpha. Frames
    are matted one by one, so the temporal filter is not seen here. Raises the errors
    of vidmatte.errors.
    """
    check_sheet(clip, out, settings)
    samples = _samples(clip, model, settings, count, report, at)
    rows = [_sheet_row(frame, settings) for frame in samples]
    if not rows:
        raise SourceError(f"{clip}: no frame of it that is to be shown can be decoded")
    save_sheet(np.concatenate(rows), out)
    return len(rows)


def save_sheet(sheet: np.ndarray, out: Path) -> None:
    """Write a picture (H, W, 3) uint8 RGB, complete or not at all. Raises OutputError."""
    done, coded = cv2.imencode(out.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(f"{out}: the sheet of {sheet.shape[1]}x{sheet.shape[0]} does not encode")
    partial = _partial_of(out)
    try:
        partial.unlink(missing_ok=True)  # a link there would lead to another file
        partial.write_bytes(coded.tobytes())
        partial.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one that is reported
            partial.unlink(missing_ok=True)
        raise as_output_error(error, out) from error


def _partial_of(out: Path) -> Path:
    """What the sheet is called until it is complete."""
    return out.with_name(f".{out.name}.part")


def check_sheet(clip: Path, out: Path, settings: Settings) -> None:
    """Raise UsageError, OutputError or OutputExistsError where ``out`` cannot be the sheet of
    ``clip``."""
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{out}: a sheet is a picture: {', '.join(_SUFFIXES)}")
    check_new_names(_partial_of(out))

    def is_taken() -> bool:
        check_replaced(out, [out], inputs_of(clip, settings))  # first: no option helps there
        return out.exists() and not settings.overwrite

    check_creatable(out, whole_path(out).parent, is_taken)


def _samples(
    clip: Path,
    model: Model,
    settings: Settings,
    count: int,
    report: Callable[[str], None],
    at: Sequence[str],
) -> Iterator[StreamedFrame]:
    """The frames of a sheet, each with its alpha and its number in the clip."""
    # Spill goes when the colours are estimated, as in a run; nothing is steadied.
    untrimmed = settings.changed(
        in_point=None,
        out_point=None,
        cache=None,
        smooth_strength=1.0,
        despill=None,
        despill_strength=1.0,
    )
    part = untrimmed.changed(in_point=settings.in_point, out_point=settings.out_point)
    with open_reader(clip, part) as source:
        start, numbers = source.clip.first_frame, frames_to_show(source, count, at)
        check_masks(part, source.clip)
        trimap = open_trimap(part, source.clip)
        garbage, holdout = open_masks(part, source.clip)
    lead = _LEAD if model.network.recurrent else 0
    smooth = settings.smooth if settings.smooth == "strong" else "off"
    for wanted in numbers:
        place = wanted - start
        one = untrimmed.changed(
            in_point=f"f{max(0, wanted - lead)}",
            out_point=f"f{wanted + 1}",
            smooth=smooth,
            trimap=str(trimap.file(place)) if trimap is not None else None,
            garbage_matte=str(garbage.file(place)) if garbage is not None else None,
            holdout=str(holdout.file(place)) if holdout is not None else None,
        )
        source = open_reader(clip, one)
        known = {*source.warnings}
        with Stream(source, model, one) as frames:
            for last in deque(frames, maxlen=1):  # none where a damaged clip does not have it
                yield replace(last, index=wanted)
        begin = source.clip.first_frame / source.clip.rate
        for line in source.warnings:
            if line not in known:
                report(f"frame {wanted}: {_prefix_with_clip(line, begin)}")


def _prefix_with_clip(line: str, begin: Fraction) -> str:
    """A source's warning of a frame, its time counted from the clip's begin, not from an in
    point ``begin`` seconds later."""
    return _MOMENT.sub(lambda time: f"{float(time[1]) + float(begin):.2f} s", line)


def frames_to_show(source: Reader, count: int, at: Sequence[str]) -> list[int]:
    """The numbers in the source of the frames of a sheet: those ``at`` points written like --in,
    in order, or else ``count`` evenly spaced ones. Raises UsageError."""
    if at:
        return sorted({frame_number(source, "--at", point) for point in at})
    total = source.clip.frame_count or count
    return [source.clip.first_frame + place for place in _spaced(total, count)]


def _spaced(total: int, count: int) -> list[int]:
    """``count`` places spread evenly over ``total`` frames, ends excluded."""
    count = min(count, total)
    return [int(Fraction(2 * place + 1, 2 * count) * total) for place in range(count)]


def _sheet_row(frame: StreamedFrame, settings: Settings) -> np.ndarray:
    """One row of the sheet, (h, w, 3) uint8."""
    rgb = frame.rgb if frame.rgb.dtype == np.uint8 else (frame.rgb >> 8).astype(np.uint8)
    colours = frame.foreground
    if colours is None:
        colours = estimate(rgb, frame.alpha)
    if settings.despill is not None:
        colours = despill(colours, settings.despill, settings.despill_strength)
    height, width = frame.alpha.shape
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = cv2.resize(frame.alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    premultiplied = cv2.resize(
        colours * (frame.alpha / np.float32(255))[..., None], size, interpolation=cv2.INTER_AREA
    )
    grounds: list[np.ndarray | float] = [_checkerboard(size), 0.0, 1.0]
    cells = [premultiplied + (1 - alpha) * ground for ground in grounds]
    cells.append(np.repeat(alpha, 3, axis=2))
    framed = [cv2.copyMakeBorder(cell, _GAP, 0, _GAP, 0, cv2.BORDER_CONSTANT, value=(0.2,) * 3)
              for cell in cells]  # fmt: skip
    joined = np.clip(np.concatenate(framed, axis=1), 0, 1)
    row: np.ndarray = np.rint(joined * 255).astype(np.uint8)
    place = (2 * _GAP, _GAP + 18)
    cv2.putText(row, str(frame.index), place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 40, 40), 1, 16)
    return row


def _checkerboard(size: tuple[int, int]) -> np.ndarray:
    """(h, w, 1) float32 tiles of two greys; ``size`` is (width, height)."""
    y, x = np.mgrid[: size[1], : size[0]] // TILE
    return np.asarray(np.where((x + y) % 2, DARK, LIGHT), np.float32).reshape(*y.shape, 1)

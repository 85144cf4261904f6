"""The controls that the settings ask for, frame after frame, with their mattes from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vidmatte.alpha.adjustments import Adjustments, apply
from vidmatte.core.frame import Clip, Frame
from vidmatte.core.orientation import orientation_of, oriented
from vidmatte.errors import SourceMissingError, UsageError
from vidmatte.readers.image_folder import SUFFIXES, list_pictures
from vidmatte.readers.images import read_picture
from vidmatte.settings import AdjustOptions
from vidmatte.settings.values import MAX_PIXELS, parse_threshold


class MaskFile:
    """A grey picture for the entire clip, or a folder with one for each frame of the source:
    all of them, or only those between the in and out points. What is transparent in one
    counts as black.

    Raises SourceMissingError, SourceError, UsageError where their number or shape is another.
    """

    def __init__(self, flag: str, path: Path, clip: Clip) -> None:
        if not path.exists():
            raise SourceMissingError(f"{flag} {path}: there is no such file or folder")
        self._single = not path.is_dir()
        if self._single and path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{flag} {path}: give a picture ({' '.join(sorted(SUFFIXES))}),"
                " or a folder with one for each frame"
            )
        self._files = [path] if self._single else list_pictures(path)
        self._flag = flag
        self._clip = clip
        self._last: tuple[Path, np.ndarray] | None = None
        count = clip.frame_count if clip.source_frame_count is None else clip.source_frame_count
        if self._single or count is None:
            return
        if len(self._files) == clip.untrimmed_count:
            self._files = self._files[clip.first_frame :]
        elif len(self._files) != count:
            of_all = f" (of {clip.untrimmed_count})" if clip.untrimmed_count else ""
            raise UsageError(
                f"{flag} {path}: {len(self._files)} pictures for {count} frames{of_all};"
                " give one for each"
            )

    def at(self, index: int) -> np.ndarray:
        """The mask of ``file``, (H, W) float32 in 0..1."""
        file = self.file(index)
        if self._last is None or self._last[0] != file:
            self._last = file, self._read(file)
        return self._last[1]

    def file(self, index: int) -> Path:
        """The mask of the source's frame ``index``, counted from the in point; the last one
        goes on."""
        return self._files[0 if self._single else min(index, len(self._files) - 1)]

    def _read(self, file: Path) -> np.ndarray:
        # A mask has the frames' shape, and so the limit that these were read with.
        size = self._clip.width, self._clip.height
        mask = _read_mask(file, max(MAX_PIXELS, 4 * size[0] * size[1]))
        height, width = mask.shape
        if not self._clip.has_shape(width, height):
            raise UsageError(
                f"{self._flag} {file}: it is {width}x{height} and the frames are"
                f" {size[0]}x{size[1]}, another shape: draw it over a frame of the clip"
            )
        if (width, height) != size:
            mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR))
        return mask


def _read_mask(file: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The grey of a picture times its alpha, (H, W) float32 in 0..1, as its EXIF orientation
    has it shown. Raises SourceError."""
    picture = read_picture(file, max_pixels)
    # FFmpeg makes 65280 of grey 255 beside an alpha, which 8 bits do without.
    is_deep = picture.format.name != "ya8"
    levels = picture.reformat(format="gray16le" if is_deep else "gray", threads=1).to_ndarray()
    mask = levels.astype(np.float32) / np.float32(65535 if is_deep else 255)
    # A palette's colours may be transparent too.
    if picture.format.has_palette or any(part.is_alpha for part in picture.format.components):
        is_deep = picture.format.components[0].bits > 8
        layers = picture.reformat(format="rgba64le" if is_deep else "rgba", threads=1).to_ndarray()
        mask *= layers[..., 3].astype(np.float32) / np.float32(65535 if is_deep else 255)
    return oriented(mask, orientation_of(picture))


def adjusted_frames(
    frames: Iterable[Frame], settings: AdjustOptions, clip: Clip
) -> Iterator[Frame]:
    """The frames with the settings' controls applied to their alpha, in the order of ``apply``.

    Without any control the frames pass as they are. Raises UsageError, SourceError.
    """
    controls = controls_of(settings)
    garbage, holdout = open_masks(settings, clip)
    untouched = controls == Adjustments() and garbage is None and holdout is None
    for frame in frames:
        if not untouched and frame.alpha is not None:
            now = replace(
                controls,
                garbage=garbage.at(frame.place) if garbage else None,
                holdout=holdout.at(frame.place) if holdout else None,
            )
            np.copyto(frame.alpha, apply(frame.alpha, now))
        yield frame


def controls_of(settings: AdjustOptions) -> Adjustments:
    """The settings' controls, without masks. Raises UsageError."""
    return Adjustments(
        threshold=parse_threshold(settings.threshold) if settings.threshold else (0.0, 1.0),
        gamma=settings.gamma,
        keep_largest=settings.keep_largest,
        remove_specks=settings.remove_specks,
        fill_holes=settings.fill_holes,
        dilate=settings.dilate,
        erode=settings.erode,
        feather=settings.feather,
        invert=settings.invert,
    )


def open_masks(settings: AdjustOptions, clip: Clip) -> tuple[MaskFile | None, MaskFile | None]:
    """The garbage matte and the holdout, each where it is given."""
    garbage, holdout = settings.garbage_matte, settings.holdout
    return (
        MaskFile("--garbage-matte", Path(garbage), clip) if garbage is not None else None,
        MaskFile("--holdout", Path(holdout), clip) if holdout is not None else None,
    )


def check_masks(settings: AdjustOptions, clip: Clip) -> None:
    """Raise UsageError or SourceError where a mask does not fit the clip."""
    for mask in open_masks(settings, clip):
        if mask is not None:
            mask.at(0)

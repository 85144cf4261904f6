"""Views of one frame: what an editor looks at before the run. Pure functions of numpy arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from vidmatte.alpha.adjustments import Adjustments, apply
from vidmatte.alpha.box import box_around
from vidmatte.alpha.foreground import estimate
from vidmatte.core.colour import RGB_TAGS
from vidmatte.errors import UsageError
from vidmatte.service.frame_matte import ShownFrame
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_threshold
from vidmatte.writers.render.background import checkerboard
from vidmatte.writers.render.despill import Despill, SpillRemover

#: The view that needs no matte.
PLAIN = "source"
_MARGIN = 4  # pixels around the subject that are worked on at least
_ENCODERS = {
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 92]),
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 90]),
}


@dataclass(frozen=True)
class _Cutout:
    """Straight colours (h, w, 3) uint8 and alpha (h, w) float32 in 0..1."""

    colours: np.ndarray
    alpha: np.ndarray

    def over(self, ground: np.ndarray) -> np.ndarray:
        """Composited over (h, w, 3) uint8, rounded."""
        rest = 1 - self.alpha
        return np.asarray(cv2.blendLinear(self.colours, ground, self.alpha, rest))


def _scaled_adjustments(settings: Settings, scale: float) -> Adjustments:
    """The settings' adjustments for a frame reduced by ``scale``, 0..1: pixels by it, areas by its
    square, and an area that is asked for is at least one pixel."""

    def area(pixels: int) -> int:
        return max(1, round(pixels * scale * scale)) if pixels else 0

    full = Adjustments(
        threshold=parse_threshold(settings.threshold) if settings.threshold else (0.0, 1.0),
        gamma=settings.gamma,
        keep_largest=settings.keep_largest,
        invert=settings.invert,
    )
    return replace(
        full,
        remove_specks=area(settings.remove_specks),
        fill_holes=area(settings.fill_holes),
        dilate=settings.dilate * scale,
        erode=settings.erode * scale,
        feather=settings.feather * scale,
    )


def adjusted_alpha(
    shown: ShownFrame,
    settings: Settings,
    garbage: np.ndarray | None = None,
    holdout: np.ndarray | None = None,
) -> np.ndarray:
    """The frame's alpha after the manual adjustments, (h, w) float32 in 0..1.

    garbage, holdout: masks of the frame's size, see ``Adjustments``. Without a holdout only the
    box around the subject is worked on: outside of it, and of what the adjustments reach, alpha
    stays 0 (with ``invert``, 1).
    """
    controls = _scaled_adjustments(settings, shown.scale)
    if holdout is not None:
        return apply(shown.alpha, replace(controls, garbage=garbage, holdout=holdout))
    reach = _MARGIN + math.ceil(controls.dilate + 3 * controls.feather)
    box = box_around(shown.alpha > 0).grown(reach, *shown.alpha.shape)
    result = np.full(shown.alpha.shape, 1.0 if controls.invert else 0.0, np.float32)
    if not box.is_empty:
        part = np.ascontiguousarray(box.crop(shown.alpha))
        garbage = None if garbage is None else box.crop(garbage)
        box.crop(result)[...] = apply(part, replace(controls, garbage=garbage))
    return result


def cut_out(shown: ShownFrame, alpha: np.ndarray, settings: Settings) -> _Cutout:
    """The frame's foreground by the settings, with its adjusted alpha: as a run gives it, but in
    8-bit R'G'B' at the shown size."""
    colours = shown.rgb
    if settings.foreground != "source":
        if shown.foreground is not None and settings.foreground != "estimate":
            soft = cv2.inRange(alpha, 1e-6, 1 - 1e-6)
            colours = np.asarray(cv2.copyTo(shown.foreground, soft, colours.copy()))
        else:
            colours = estimate(colours, np.ascontiguousarray(alpha), 255)
    spill = Despill.of(settings)
    if spill is not None:
        colours, _ = SpillRemover(spill, "rgb24", RGB_TAGS)(colours)
    return _Cutout(colours, np.ascontiguousarray(alpha, np.float32))


def grey(alpha: np.ndarray) -> np.ndarray:
    """Alpha as a picture, (h, w) uint8, rounded."""
    return np.asarray(cv2.multiply(alpha, 255.0, dtype=cv2.CV_8U))


def wiped(left: np.ndarray, right: np.ndarray, split: float) -> np.ndarray:
    """The first picture up to the share ``split`` of the width, then the second."""
    column = round(split * left.shape[1])
    return np.concatenate([left[:, :column], right[:, column:]], axis=1)


def difference(source: np.ndarray, cutout: _Cutout) -> np.ndarray:
    """What the cut-out takes away from the source: |source - cut-out over black|.

    Black is kept as it is; what shows within the subject is lost, and what is black outside of it
    is left over.
    """
    return np.asarray(cv2.absdiff(source, cutout.over(np.zeros_like(source))))


@lru_cache(maxsize=4)
def flat_ground(text: str, width: int, height: int) -> np.ndarray:
    """A background (h, w, 3) uint8, not to be changed: checker, black, white or RRGGBB. Raises
    UsageError."""
    if text == "checker":
        return checkerboard(width, height)
    digits = {"black": "000000", "white": "ffffff"}.get(text, text)
    try:
        colour = bytes.fromhex(digits)
    except ValueError:
        colour = b""
    if len(colour) != 3:
        raise UsageError(f"background {text}: use checker, black, white, RRGGBB or clip:ID")
    return np.full((height, width, 3), tuple(colour), np.uint8)


def covering(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture scaled until it covers a frame, the rest cropped evenly."""
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    size = max(width, round(columns * scale)), max(height, round(rows * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if size != (columns, rows):
        picture = cv2.resize(picture, size, interpolation=way)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def cropped(picture: np.ndarray, crop: tuple[int, int, int, int] | None) -> np.ndarray:
    """The part x, y, width, height of a picture, as far as it has one. Raises UsageError where
    none of it is within the picture."""
    if crop is None:
        return picture
    x, y, width, height = crop
    part = picture[y : y + height, x : x + width]
    if not part.size:
        rows, columns = picture.shape[:2]
        raise UsageError(f"crop {x},{y},{width},{height}: outside the {columns}x{rows} picture")
    return part


def encoded(picture: np.ndarray, kind: str) -> bytes:
    """A picture (h, w, 3) RGB or (h, w), uint8, as jpeg, png or webp. Raises UsageError where the
    format cannot hold it."""
    suffix, options = _ENCODERS[kind]
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(suffix, np.ascontiguousarray(stored), options)
    if not done:
        raise UsageError(f"{kind} cannot hold {picture.shape[1]}x{picture.shape[0]} pixels")
    return bytes(data.tobytes())

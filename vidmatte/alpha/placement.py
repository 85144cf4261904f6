"""Which part of a still is shown: the subject's box, or the head placed as in ID photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vidmatte.settings.still_values import CropMargin, StillSize

#: Of an ID photo's height: the head from crown to chin, and the space above it. ISO/IEC 39794-5
#: and the rules that follow it ask for 70 to 80 %.
_HEAD_SHARE, _ABOVE = 0.75, 0.09
_BOX_LEVEL = 8 / 255  # alpha from which a pixel belongs to the subject's box
_SOLID = 0.5
_NARROWER, _WIDER = 0.8, 1.12  # a neck against the head above it and the shoulders below
_AT_NECK = 1.04  # width that counts as that of the neck
_LEAST_HEAD = 8  # pixels
_HEAD_SHAPE = (0.9, 1.9)  # crown to chin, in widths of the head
_BROAD = 1.2  # the same of a head whose hair is wider than the face, if less
_HEAD_PER_NECK = 2.05  # crown to chin, in widths of the neck
_MARGIN = CropMargin(0.05, is_share=True)


@dataclass(frozen=True)
class Window:
    """The part of a picture that is shown, in its pixels; it may extend beyond the picture.

    is_head: it was placed by the head.
    """

    left: float
    top: float
    width: float
    height: float
    is_head: bool = False


@dataclass(frozen=True)
class Head:
    """A head in a matte, in pixels: rows of crown and chin, column of its middle."""

    crown: float
    chin: float
    middle: float


def choose_window(
    alpha: np.ndarray, size: StillSize | None, crop: CropMargin | None
) -> Window | None:
    """What to show of a still with ``alpha``, (H, W) float32 in 0..1; None where it is empty.

    With ``crop`` the subject's box and a margin, else, where the matte shows one, the head as in
    ID photos. The window has the aspect of ``size``.
    """
    box = _subject_box(alpha)
    if box is None:
        return None
    if crop is None and size is not None and (head := _find_head(alpha)) is not None:
        height = (head.chin - head.crown) / _HEAD_SHARE
        width = height * size.width / size.height
        top = head.crown - _ABOVE * height
        return Window(head.middle - width / 2, top, width, height, is_head=True)
    margin = crop or _MARGIN
    around = round(margin.value * (max(box.width, box.height) if margin.is_share else 1))
    width, height = box.width + 2 * around, box.height + 2 * around
    middle, centre = box.left + box.width / 2, box.top + box.height / 2
    if size is not None:
        aspect = size.width / size.height
        width, height = max(width, height * aspect), max(height, width / aspect)
    return Window(middle - width / 2, centre - height / 2, width, height)


def _subject_box(alpha: np.ndarray) -> Window | None:
    visible = np.asarray(cv2.compare(alpha, _BOX_LEVEL, cv2.CMP_GT))
    left, top, width, height = cv2.boundingRect(visible)
    return Window(left, top, width, height) if width else None


def _find_head(alpha: np.ndarray) -> Head | None:
    """The head of a person seen from the front, by the outline of the matte: it widens from the
    crown, and narrows to the neck. None where there is no such outline.

    The outline of the neck hides the chin. A head is close to an ellipse, so the row where it has
    narrowed to the neck's width says how far below that it would close. Where hair is wider than
    the face that ellipse is too flat, and the width of the neck counts twice as much.
    """
    solid = (alpha > _SOLID).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
    if count < 2:
        return None
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    rows = np.flatnonzero(largest.any(axis=1))
    crown = int(rows[0])
    part = largest[crown : rows[-1] + 1]
    first = part.argmax(axis=1)
    last = part.shape[1] - 1 - part[:, ::-1].argmax(axis=1)
    widths = _smoothed(last - first + 1)
    neck = _neck_row(widths)
    if neck is None:
        return None
    widest = int(np.argmax(widths[:neck]))
    below = np.flatnonzero(widths[widest : neck + 1] <= _AT_NECK * widths[neck])
    junction = widest + int(below[0])
    share = min(1.0, widths[junction] / widths[widest])
    length = junction / ((1 + np.sqrt(1 - share**2)) / 2)
    if length < _BROAD * widths[widest]:
        length = (length + 2 * _HEAD_PER_NECK * widths[junction]) / 3
    if not _HEAD_SHAPE[0] <= length / widths[widest] <= _HEAD_SHAPE[1]:
        return None
    around = slice(max(0, widest - widest // 4), junction)
    middle = float(np.median((first[around] + last[around] + 1) / 2))
    return Head(crown, crown + float(length), middle)


def _smoothed(widths: np.ndarray) -> np.ndarray:
    """Row widths without single rows that stick out: medians, then means, of a few rows."""
    reach = max(1, len(widths) // 100)
    padded = np.pad(widths.astype(np.float32), reach, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.asarray(np.median(windows, axis=1), np.float32)


def _neck_row(widths: np.ndarray) -> int | None:
    """The narrowest row below the first bulge that is followed by wider ones, or by the end."""
    head = narrowest = 0
    for row, width in enumerate(widths):
        if width > widths[head] and widths[narrowest] >= _NARROWER * widths[head]:
            head = narrowest = row
        elif width < widths[narrowest]:
            narrowest = row
        elif width > _WIDER * widths[narrowest] and widths[narrowest] < _NARROWER * widths[head]:
            break
    is_neck = widths[narrowest] < _NARROWER * widths[head] and widths[head] >= _LEAST_HEAD
    return narrowest if is_neck and narrowest < len(widths) - 1 else None


def cut_off(alpha: np.ndarray, window: Window) -> Iterator[tuple[str, float]]:
    """The sides at which the picture ends within the window although the subject goes on there,
    and the share of the window beyond, in 0..1."""
    height, width = alpha.shape
    sides = (
        ("left", -window.left / window.width, alpha[:, 0]),
        ("right", (window.left + window.width - width) / window.width, alpha[:, -1]),
        ("top", -window.top / window.height, alpha[0]),
        ("bottom", (window.top + window.height - height) / window.height, alpha[-1]),
    )
    for name, share, border in sides:
        if share > 0.005 and (border > _SOLID).any():
            yield name, share

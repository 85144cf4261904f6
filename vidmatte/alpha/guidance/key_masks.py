"""From the prompts of one frame to its key: the mask of the subject at the work size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np

from vidmatte.alpha.guidance import box_mask
from vidmatte.alpha.guidance.candidates import choose, find_candidates
from vidmatte.alpha.guidance.coarse import FEWEST_PIXELS, CoarseFrame, reduced
from vidmatte.alpha.guidance.near_motion import NearMotion
from vidmatte.alpha.guidance.selection import Click, mask_from_clicks
from vidmatte.core.prompts import Box, Choice, Mask, Point, Prompt
from vidmatte.errors import SourceError, UsageError
from vidmatte.models.efficient_sam import EfficientSam
from vidmatte.readers.images import read_picture

_ASPECT_TOLERANCE = 0.02


class KeyLooks(NamedTuple):
    """What networks see of a key frame besides its alpha, (h, w) float32 0..1 at the work size.

    person: a person network's alpha, for the rule of that name. close_ups: of the first point.
    of_boxes: close-ups of each box. motions: to the frames around. See ``selection``.
    """

    person: np.ndarray | None = None
    close_ups: Sequence[np.ndarray] = ()
    of_boxes: Mapping[Box, Sequence[np.ndarray]] = MappingProxyType({})
    motions: Sequence[NearMotion] = ()


class MaskMaker:
    """Masks (h, w) float32 0..1 of what clicks and boxes on a frame mean; see ``selection`` and
    ``box_mask``."""

    def from_clicks(
        self, frame: CoarseFrame, clicks: Sequence[Click], looks: KeyLooks
    ) -> np.ndarray:
        """Raises ValueError without a wanted click."""
        return mask_from_clicks(frame, clicks, looks.close_ups, looks.motions)

    def from_box(
        self,
        frame: CoarseFrame,
        box: box_mask.Box,
        close_ups: Sequence[np.ndarray],
        motions: Sequence[NearMotion],
    ) -> np.ndarray:
        """close_ups: of the box."""
        return box_mask.mask_from_box(frame, box, close_ups, motions)


class PromptedMasks(MaskMaker):
    """The same by a network, from the detail picture of a frame, else from the work picture."""

    def __init__(self, network: EfficientSam) -> None:
        self._network = network

    def from_clicks(
        self,
        frame: CoarseFrame,
        clicks: Sequence[Click],
        looks: KeyLooks,  # noqa: ARG002 (it sees the frame itself)
    ) -> np.ndarray:
        places: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for click in clicks:
            places[click.wanted].append(self._place(frame, click.x, click.y))
        found = self._network.mask(_detail(frame), places[True], places[False])
        return reduced(found, *_size(frame))

    def from_box(
        self,
        frame: CoarseFrame,
        box: box_mask.Box,
        close_ups: Sequence[np.ndarray],  # noqa: ARG002
        motions: Sequence[NearMotion],  # noqa: ARG002
    ) -> np.ndarray:
        corners = *self._place(frame, *box[:2]), *self._place(frame, *box[2:])
        return reduced(self._network.mask(_detail(frame), [], box=corners), *_size(frame))

    def _place(self, frame: CoarseFrame, x: float, y: float) -> tuple[float, float]:
        """A place of the work picture in the picture that the network sees."""
        height, width = _detail(frame).shape[:2]
        return x * width / frame.width, y * height / frame.height


def _detail(frame: CoarseFrame) -> np.ndarray:
    return frame.picture if frame.detail is None else frame.detail


def _size(frame: CoarseFrame) -> tuple[int, int]:
    return frame.width, frame.height


def key_mask(
    frame: CoarseFrame,
    prompts: Sequence[Prompt],
    width: int,
    height: int,
    looks: KeyLooks | None = None,
    masks: MaskMaker | None = None,
) -> np.ndarray:
    """The subject's mask on a frame of width x height, (h, w) float32 0..1 at the work size.

    Masks and boxes that are wanted add up, clicks add what they select, and what is not wanted
    is taken away. With nothing but unwanted prompts the subject is all else that the network
    marks. looks: what networks see of it besides its alpha.
    masks: makes those of points and boxes. Raises
    UsageError for a place outside the frame, a mask that cannot be read or does
    not fit, and where nothing is left.
    """
    for prompt in prompts:
        if isinstance(prompt, Point | Box):
            prompt.check(width, height)
    scale, maker = (frame.width / width, frame.height / height), masks or MaskMaker()
    looks = looks or KeyLooks()
    wanted = [p for p in prompts if p.wanted]
    areas = [
        (p.wanted, _area(frame, p, (width, height), looks, maker))
        for p in prompts
        if not isinstance(p, Point)
    ]
    mask = np.zeros(frame.alpha.shape, np.float32)
    if not wanted:
        mask = (frame.alpha > 0.5).astype(np.float32)
    for area in (values for is_wanted, values in areas if is_wanted):
        mask = np.maximum(mask, area)
    clicks = [_click(p, scale) for p in prompts if isinstance(p, Point)]
    mask = _with_clicks(frame, mask, clicks, looks, maker)
    for area in (values for is_wanted, values in areas if not is_wanted):
        mask = mask * (1 - area)
    only_masks = wanted and all(isinstance(p, Mask) for p in wanted)
    if mask.sum() < FEWEST_PIXELS and not only_masks:
        raise UsageError(
            "the subject's points and boxes select nothing: use further points, or a mask picture"
        )
    return np.asarray(mask, np.float32)


def _with_clicks(
    frame: CoarseFrame,
    mask: np.ndarray,
    clicks: Sequence[Click],
    looks: KeyLooks,
    maker: MaskMaker,
) -> np.ndarray:
    """A mask with what clicks select, or, if none is wanted, without it."""
    if any(click.wanted for click in clicks):
        return np.asarray(np.maximum(mask, maker.from_clicks(frame, clicks, looks)), np.float32)
    if clicks:
        away = [Click(click.x, click.y) for click in clicks]
        return np.asarray(mask * (1 - maker.from_clicks(frame, away, looks)), np.float32)
    return mask


def check_keys(keys: Sequence[np.ndarray], subject: str) -> None:
    """Raises UsageError where no key shows the subject: it must be seen once.

    An empty mask on one frame among others says that the subject is not there.
    """
    if not any(key.sum() >= FEWEST_PIXELS for key in keys):
        raise UsageError(
            f"all masks of '{subject}' are black: paint what is wanted white on one frame"
        )


def _click(point: Point, scale: tuple[float, float]) -> Click:
    return Click(point.x * scale[0], point.y * scale[1], point.wanted)


def _area(
    frame: CoarseFrame,
    prompt: Box | Mask | Choice,
    full: tuple[int, int],
    looks: KeyLooks,
    maker: MaskMaker,
) -> np.ndarray:
    """What a box, a mask or a rule selects, (h, w) float32 0..1.

    full: the frame's width and height.
    """
    if isinstance(prompt, Choice):
        return choose(find_candidates(frame.alpha), prompt.rule, looks.person)
    if isinstance(prompt, Box):
        across, down = frame.width / full[0], frame.height / full[1]
        left, top = prompt.left * across, prompt.top * down
        box = box_mask.Box(left, top, prompt.right * across, prompt.bottom * down)
        return maker.from_box(frame, box, looks.of_boxes.get(prompt, ()), looks.motions)
    return _fitted_mask(_read_mask(prompt), _size(frame), full, _mask_name(prompt))


def _mask_name(mask: Mask) -> str:
    """What to call a mask in a message."""
    return f"mask '{mask.source}'" if isinstance(mask.source, Path) else "a mask"


def _read_mask(mask: Mask) -> np.ndarray:
    """A mask's picture or array as (H, W) float32 0..1. Raises UsageError.

    Of a picture with transparency the alpha counts, else its brightness.
    """
    values = _decoded(mask.source) if isinstance(mask.source, Path) else mask.source
    if values.ndim == 3 and values.shape[2] == 4 and values[..., 3].min() < _full(values):
        values = values[..., 3]
    elif values.ndim == 3:
        values = values[..., :3].mean(-1).astype(values.dtype)
    if values.ndim != 2 or not values.size:
        raise UsageError(f"{_mask_name(mask)} has the shape {values.shape}: expected (H, W)")
    return np.asarray(np.clip(values.astype(np.float32) / np.float32(_full(values)), 0, 1))


def _full(values: np.ndarray) -> float:
    """The value of white."""
    return float(np.iinfo(values.dtype).max) if values.dtype.kind in "ui" else 1.0


def _decoded(path: Path) -> np.ndarray:
    """The samples of a picture, 8 or 16 bits: (H, W) of a grey one, else (H, W, 3) or with its
    alpha (H, W, 4). Raises UsageError."""
    try:
        path.open("rb").close()
        picture = read_picture(path)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"mask '{path}' cannot be read: {reason}") from None
    except SourceError as error:
        raise UsageError(
            f"mask '{path}' is not a picture that can be read: use PNG or TIFF"
        ) from error
    parts = picture.format.components
    is_deep = parts[0].bits > 8
    if picture.format.has_palette or any(part.is_alpha for part in parts):
        return picture.to_ndarray(format="rgba64le" if is_deep else "rgba")
    if len(parts) == 1:
        return picture.to_ndarray(format="gray16le" if is_deep else "gray")
    return picture.to_ndarray(format="rgb48le" if is_deep else "rgb24")


def _fitted_mask(
    values: np.ndarray, size: tuple[int, int], full: tuple[int, int], name: str
) -> np.ndarray:
    """A mask (H, W) float32 0..1 at the work size. Raises UsageError where it does not fit.

    size, full: of the work picture and of the frame, width and height.
    """
    width, height = size
    aspect = (values.shape[1] / values.shape[0]) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE + 1.0 / min(width, height):
        raise UsageError(
            f"{name} is {values.shape[1]}x{values.shape[0]} and the frame is {full[0]}x{full[1]},"
            " another shape: draw it over a frame of the clip"
        )
    if values.min() > 0.5:
        raise UsageError(f"{name} is all white: paint what is not wanted black")
    smaller = values.shape[1] >= width
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (width, height), interpolation=way), np.float32)

"""Pictures to choose a subject by: the candidates of a frame, and the masks of key frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vidmatte.alpha.guidance import CoarseFrameMaker, contact_sheet, find_candidates, key_mask
from vidmatte.errors import SourceError
from vidmatte.jobs.follow import choose_follower
from vidmatte.jobs.subjects import alpha_of_frame, person_alpha, prompts_of
from vidmatte.models.registry import Model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

_TINT = np.array([255, 64, 32], np.float32)  # of what is selected, R'G'B'
_TINTED = 0.45
_LONGEST_SIDE = 1280  # pixels of a sheet's frame


def candidate_sheet(
    clip: Path, model: Model, settings: Settings, at: str | None
) -> tuple[np.ndarray, int]:
    """A frame with the regions that the network marks, numbered as ``--subject`` takes them; and
    how many there are.

    (H, W, 3) uint8 RGB. at: the frame, written like --in; None: the first. Raises UsageError,
    SourceError where the network marks nothing.
    """
    with open_reader(clip, settings) as source:
        number = source.clip.first_frame
        if at is not None and source.points is not None:
            number = source.points.number("--at", at)
    rgb, alpha = alpha_of_frame(clip, number, model, settings)
    frame = CoarseFrameMaker().make(rgb, alpha)
    candidates = find_candidates(frame.alpha)
    if not candidates:
        raise SourceError(f"{clip}: the network marks nothing on frame {number}: choose --at")
    return contact_sheet(_shown(rgb), candidates), len(candidates)


def key_mask_sheet(
    clip: Path, model: Model, settings: Settings, report: Callable[[str], None]
) -> tuple[np.ndarray, int]:
    """Each key frame with the mask of its subject tinted, one below the other; how many.

    (H, W, 3) uint8 RGB. Only these frames go through the network. Raises UsageError, SourceError.
    """
    with open_reader(clip, settings) as source:
        prompts, size = prompts_of(source, settings), (source.clip.width, source.clip.height)
    follower = choose_follower(settings, model.device, report)
    features = follower.features(model, report, quiet=True)
    rows = []
    for name, frames in prompts.items():
        for number, given in sorted(frames.items()):
            rgb, alpha = alpha_of_frame(clip, number, model, settings)
            maker = CoarseFrameMaker(follower.detail_size(*size))
            frame = maker.make(rgb, alpha, features(rgb))
            person = person_alpha(clip, number, given, frame, settings, report)
            mask = key_mask(frame, given, *size, person, follower.masks)
            rows.append(_tinted(_shown(rgb), mask, f"{name} f{number}"))
    return np.concatenate(rows), len(rows)


def _shown(rgb: np.ndarray) -> np.ndarray:
    """A frame at a size to look at."""
    scale = _LONGEST_SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _tinted(rgb: np.ndarray, mask: np.ndarray, label: str) -> np.ndarray:
    """The frame with the mask (h, w) float32 0..1 tinted and outlined, and a label."""
    height, width = rgb.shape[:2]
    large = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    share = (_TINTED * large)[..., None]
    shown = np.rint(rgb * (1 - share) + _TINT * share).astype(np.uint8)
    inside = (large > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, (255, 255, 0), max(1, width // 640))
    for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(shown, label, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thick, 16)
    return np.asarray(shown)

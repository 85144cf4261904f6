"""Pictures to choose a subject by: a frame's candidates, the masks of key frames, the fields."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from vidmatte.alpha.guidance.candidates import (
    TINTS,
    YELLOW,
    contact_sheet,
    find_candidates,
    tinted,
)
from vidmatte.alpha.guidance.coarse import CoarseFrameMaker
from vidmatte.alpha.guidance.key_masks import key_mask
from vidmatte.errors import SourceError
from vidmatte.jobs.follow import choose_follower
from vidmatte.jobs.key_looks import KeyLooker, KeyPictures, alpha_of_frame
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.subjects import (
    frame_number,
    naming_key,
    prompts_of,
    subject_fields,
)
from vidmatte.models.registry import Model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.tools.preview import frames_to_show

_WHITE = (255, 255, 255)
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
        if at is not None:
            number = frame_number(source, "--at", at)
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
    looker, rows = KeyLooker(model, settings, report, close_ups=follower.sam is None), []
    for name, frames in prompts.items():
        for number, given in sorted(frames.items()):
            rgb, alpha = alpha_of_frame(clip, number, model, settings)
            maker = CoarseFrameMaker(follower.detail_size(*size))
            frame = maker.make(rgb, alpha, features(rgb))
            around = KeyPictures(clip, number, settings).nearby
            looks = looker.looks(number, frame, given, partial(np.asarray, rgb), around)
            with naming_key(name, number):
                mask = key_mask(frame, given, *size, looks, follower.masks)
            rows.append(_labelled(_shown(rgb), {f"{name} f{number}": mask}))
    return np.concatenate(rows), len(rows)


def field_sheet(
    clip: Path,
    model: Model,
    settings: Settings,
    reporter: Reporter,
    count: int,
    at: Sequence[str],
) -> tuple[np.ndarray, int]:
    """Frames with what belongs to each subject tinted, one below the other; how many.

    (H, W, 3) uint8 RGB. count, at: see ``frames_to_show``. All frames from the first to the last
    of these and of the key frames go through the network; with --cache those of the whole clip,
    which a run then finds there. Raises UsageError, SourceError, InterruptedRunError.
    """
    with open_reader(clip, settings) as source:
        numbers = frames_to_show(source, count, at)
        keys = [key for frames in prompts_of(source, settings).values() for key in frames]
    part = settings
    if settings.cache is None:
        first, last = min(numbers + keys), max(numbers + keys)
        part = settings.changed(in_point=f"f{first}", out_point=f"f{last + 1}")
    rows = []
    with (
        open_reader(clip, part) as source,
        subject_fields(source, model, part, reporter, second_look=False) as fields,
    ):
        assert fields is not None  # as there are prompts
        for number in numbers:
            index = min(bisect_left(fields.numbers, number), len(fields.numbers) - 1)
            labels = {}
            for name, share in fields.shares(index).items():
                is_lost = fields.reports[name][index].lost
                labels[f"{name} f{number}{', not found' if is_lost else ''}"] = share
            rgb = KeyPictures(clip, number, settings).rgb()
            rows.append(_labelled(_shown(rgb), labels))
    return np.concatenate(rows), len(rows)


def _shown(rgb: np.ndarray) -> np.ndarray:
    """A frame at a size to look at."""
    scale = _LONGEST_SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _labelled(rgb: np.ndarray, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """The frame with the masks (h, w) float32 0..1 tinted and outlined, each in a colour of its
    own, and their labels."""
    shown = rgb
    for place, (label, mask) in enumerate(masks.items()):
        tint = TINTS[place % len(TINTS)]
        outline, of_text = (YELLOW, _WHITE) if len(masks) == 1 else (tint, tint)
        shown = tinted(shown, mask, tint, outline)
        origin = np.array([10, 28 + 26 * place])
        for shift in ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)):
            colour = of_text if shift == (0, 0) else (0, 0, 0)
            at = origin + shift
            cv2.putText(shown, label, at.tolist(), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 1, 16)
    return shown

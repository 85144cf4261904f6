"""The matte of one frame of a clip, as a run makes it, up to the manual adjustments.

Without smoothing a frame is taken through the run's own steps at its full size (network, gate of
the subject's prompts, edge refinement) and then reduced to the height that is shown. With smoothing
the frames of the temporal filter's window are reduced first, and the filter runs at that height. A
recurrent network sees at least ``_LEAD`` frames before the wanted one, not all of the clip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vidmatte._version import __version__
from vidmatte.alpha.foreground import uses_model_foreground
from vidmatte.alpha.guidance.coarse import (
    CoarseFrame,
    CoarseFrameMaker,
    SmallPicture,
    reduced,
    small_picture,
    work_size,
)
from vidmatte.alpha.guidance.gate import make_gate
from vidmatte.alpha.guidance.key_masks import key_mask
from vidmatte.alpha.guidance.near_motion import DISTANCES
from vidmatte.alpha.guidance.tracker import shared_fields
from vidmatte.alpha.shot_detection import CutDetector
from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.core.frame import Frame
from vidmatte.core.stored import key_of
from vidmatte.jobs.key_looks import KeyLooker
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.jobs.subjects import prompts_of
from vidmatte.models.features import FrameFeatures
from vidmatte.models.load import augment_schedule
from vidmatte.models.registry import RAW_ALPHA_OPTIONS, Model
from vidmatte.models.runtimes.onnx_file import check_numbers
from vidmatte.service.clip_frames import ByteCache, ClipFrames, NoFrameError
from vidmatte.service.kept_alpha import KeptAlphas, RawMatte
from vidmatte.service.loaded import BusyError
from vidmatte.service.smooth_window import SmallFrame, Smoother, filtered, resized
from vidmatte.settings import Settings

#: A recurrent network begins so many frames before a group of so many frames: within a group
#: each frame goes on from the one before, and each has one result wherever one begins to look.
_LEAD, _GROUP = 6, 8
#: After so long a request that needs other frames' mattes is answered that it is to come again, so
#: that others have their turn.
_PATIENCE_SECONDS = 10.0
#: Which frames there are does not change a frame's raw alpha.
_RANGES = {"in_point", "out_point", "handles", "conform"}


@dataclass(frozen=True)
class ShownFrame:
    """A frame at the height that is shown, ready for the adjustments.

    rgb: (h, w, 3) uint8. alpha: (h, w) float32 in 0..1. foreground: (h, w, 3) uint8, the network's,
    None where it is not used. scale: h over the clip's height. is_gated: its alpha is that of the
    chosen subject only.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    foreground: np.ndarray | None
    scale: float
    is_gated: bool

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return self.rgb.nbytes * (2 if self.foreground is not None else 1) + self.alpha.nbytes


class FrameMatter:
    """Mattes of single frames of one clip, with one group of settings. Not thread-safe.

    sha256: of the clip's file. settings: the strength of smoothing is not read from them. folder:
    of the kept raw alphas. shown: where frames that are ready are kept in memory, for several
    clips. features: gives those of the model. Raises UsageError, SourceError, ModelError.
    """

    def __init__(
        self,
        frames: ClipFrames,
        sha256: str,
        model: Model,
        settings: Settings,
        folder: Path,
        shown: ByteCache[ShownFrame],
        features: Callable[[Model], FrameFeatures],
    ) -> None:
        self._frames, self._model, self._settings = frames, model, settings
        self._shown = shown
        self._uses_foreground = uses_model_foreground(settings, frames.clip)
        self._key = _raw_key(frames, sha256, model, settings)
        self._kept = KeptAlphas(folder / self._key)
        self._prompts = prompts_of(frames.reader, settings) if settings.subject else {}
        self._features = features
        self._smoother, self._looker = Smoother(), KeyLooker(model, settings)
        self._group: tuple[int, Iterator[Frame]] | None = None
        model.network.begin(frames.clip, frames.settings)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the clip."""
        return self._frames.clip.width, self._frames.clip.height

    def ready(self, number: int, height: int, strength: float) -> ShownFrame | None:
        """The frame where it is in memory. For any thread."""
        return self._shown.get(self._shown_key(number, height, strength))

    def shown(self, number: int, height: int, strength: float) -> ShownFrame:
        """Frame ``number`` reduced to ``height``; strength: of the smoothing, as in the settings.
        Raises NoFrameError, SourceError, UsageError."""
        found = self.ready(number, height, strength)
        if found is None:
            found = self._made(number, height, strength)
            self._shown.put(self._shown_key(number, height, strength), found, found.bytes)
        return found

    def coarse(self, number: int) -> CoarseFrame:
        """The frame as prompts and candidates see it, without a network's features."""
        return CoarseFrameMaker().make(self._frames.rgb(number), self._raw(number).alpha)

    def mask(self, number: int) -> np.ndarray | None:
        """What the prompts of a frame select, (h, w) float32 in 0..1 at the work size; None where
        the frame has none. Raises UsageError."""
        settings = self._settings
        given = {name: at[number] for name, at in self._prompts.items() if number in at}
        if settings.only is not None and settings.only not in given:
            return None
        if not given:
            return None
        rgb, features = self._frames.rgb(number), self._features(self._model)
        frame = CoarseFrameMaker().make(rgb, self._raw(number).alpha, features(rgb))
        masks = {}
        for name, prompts in given.items():
            looks = self._looker.looks(
                number,
                frame,
                prompts,
                partial(self._frames.rgb, number),
                partial(self._around, number),
            )
            masks[name] = key_mask(frame, prompts, *self.size, looks)
        if len(masks) > 1:
            masks = shared_fields(masks)
        wanted = list(masks) if settings.only is None else [settings.only]
        total = np.sum([masks[name] for name in wanted], axis=0)
        return np.asarray(np.minimum(total, np.float32(1)), np.float32)

    def _around(self, number: int) -> dict[int, SmallPicture]:
        """The frames at ``DISTANCES`` from one that the clip has."""
        found = {}
        for distance in DISTANCES:
            with suppress(NoFrameError):
                found[distance] = small_picture(self._frames.rgb(number + distance))
        return found

    def _shown_key(self, number: int, height: int, strength: float) -> tuple[object, ...]:
        how = self._settings
        return (
            self._key, number, height, how.smooth, strength, how.refine, how.cuts,
            how.foreground, how.invert, how.subject, how.only,
        )  # fmt: skip

    def _made(self, number: int, height: int, strength: float) -> ShownFrame:
        """See ``shown``."""
        network = self._model.network
        smooth = temporal_filter_for(network.recurrent, self._settings, network.filter_profile)
        smooth = replace(smooth, strength=strength)
        mask = self.mask(number) if self._settings.subject else None
        rgb, raw = self._frames.rgb(number), self._raw(number)
        width, full = self.size
        size = max(1, round(width * height / full)), height
        if smooth.look_back and mask is None and self._frames.clip.frame_count != 1:
            alpha = self._smoothed(number, size, smooth)
        else:
            alone = TemporalFilter(_OFF.window, smooth.refine, smooth.strength, smooth.profile)
            alpha = raw.alpha
            if mask is not None:
                small = reduced(alpha, *work_size(width, full))
                alpha = np.ascontiguousarray(make_gate(mask, small).apply(alpha, rgb))
            if smooth.refine == "best":
                rgb, alpha = resized(rgb, size), resized(alpha, size)
            alpha = filtered([SmallFrame(rgb, alpha, True, False, 0)], 0, alone)
        colours = raw.foreground if self._uses_foreground else None
        return ShownFrame(
            rgb=resized(rgb, size),
            alpha=np.clip(resized(alpha, size), 0, 1),
            foreground=None if colours is None else resized(colours, size),
            scale=height / full,
            is_gated=mask is not None,
        )

    def _smoothed(self, number: int, size: tuple[int, int], smooth: TemporalFilter) -> np.ndarray:
        """The alpha at ``size`` (width, height) after the temporal filter over the neighbours."""
        first = max(0, number - smooth.look_back)
        window = self._window_of(first, number, size, smooth)
        return self._smoother.alpha((number, size), window, number - first, smooth)

    def _window_of(
        self, first: int, number: int, size: tuple[int, int], smooth: TemporalFilter
    ) -> Iterator[SmallFrame]:
        """The frames from ``first`` on that the filter needs for frame ``number``, reduced."""
        detector, began = CutDetector(), time.monotonic()
        last = number + smooth.look_ahead
        for each in range(first, last + 1):
            if not self._frames.has(each):
                return
            is_late = time.monotonic() - began > _PATIENCE_SECONDS
            if is_late and self._kept.load(each) is None:  # what is done is kept
                left = f"{last + 1 - each} of its {last + 1 - first} frames"
                raise BusyError(f"frame {number}: smoothing still needs the mattes of {left}")
            raw, rgb = self._raw(each), self._frames.rgb(each)
            is_cut = self._settings.cuts and detector.is_new_shot(rgb) and each > first
            alpha = np.ascontiguousarray(resized(raw.alpha, size))
            yield SmallFrame(
                resized(rgb, size), alpha, each == 0 or is_cut, raw.mirrored, raw.augment_phase
            )

    def _raw(self, number: int) -> RawMatte:
        """The raw matte of a frame, kept or new."""
        found = self._kept.load(number)
        if found is not None and found.codes.shape == self.size[::-1]:
            return found
        if not self._model.network.recurrent:
            return self._run_alone(number)
        start = number // _GROUP * _GROUP
        if self._group is None or not start <= self._group[0] <= number:
            self._end_group()
            first = max(0, start - _LEAD)
            frames = self._frames_in(first, start + _GROUP)
            self._group = first, self._model.network.predict(frames)
        began, (place, frames) = time.monotonic(), self._group
        for frame in frames:
            found = self._keep(frame) if frame.index >= start else None
            self._group = frame.index + 1, frames
            if frame.index == number and found is not None:
                return found
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise BusyError(f"frame {number}: the network runs over the frames before it")
        self._end_group()
        self._frames.picture(number)  # raises where there is none
        raise RuntimeError(f"no matte of frame {number} after frame {place}")

    def _run_alone(self, number: int) -> RawMatte:
        """The raw matte of a network that takes each frame alone."""
        frames = self._frames_in(number, number + 1)
        found = [self._keep(frame) for frame in self._model.network.predict(frames)]
        return found[0]

    def _frames_in(self, first: int, stop: int) -> Iterator[Frame]:
        """The frames from ``first`` to before ``stop`` or the clip's end."""
        detector, clip = CutDetector(), self._frames.clip
        for number in range(first, stop):
            if not self._frames.has(number):
                return
            picture, rgb = self._frames.picture(number), self._frames.rgb(number)
            begins = self._settings.cuts and stop - first > 1 and detector.is_new_shot(rgb)
            yield Frame(
                index=number,
                pts=picture.pts,
                duration=picture.duration,
                time_base=clip.time_base,
                picture=picture.pixels,
                rgb=rgb,
                new_shot=number == 0 or begins,
            )

    def _keep(self, frame: Frame) -> RawMatte:
        """A frame's matte, rounded to 16 bits, after it was stored."""
        check_numbers(frame)
        assert frame.alpha is not None
        codes = RawMatte.coded(frame.alpha)
        matte = RawMatte(codes, frame.foreground, frame.mirrored, frame.augment_phase)
        self._kept.save(frame.index, matte)
        return matte

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is not None and isinstance(group[1], Generator):
            group[1].close()


_OFF = temporal_filter_for(True, Settings(smooth="off"))


def _raw_key(frames: ClipFrames, sha256: str, model: Model, settings: Settings) -> str:
    """The name of a folder of kept alphas: 32 hexadecimal digits of what decides them."""
    names = sorted({*RAW_ALPHA_OPTIONS} - _RANGES)
    facts = {
        "clip": sha256,
        "options": {name: getattr(settings, name) for name in names},
        "weights": [(part.family, part.sha256) for part in model.weights],
        "views": [augment_schedule(part.family, settings) for part in model.weights],
        "runtimes": model.runtimes,
        "group": [_LEAD, _GROUP],
        "version": __version__,
        "size": [frames.clip.width, frames.clip.height],
    }
    return key_of(facts)

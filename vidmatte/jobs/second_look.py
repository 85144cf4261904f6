"""The pass that shows an ignored subject to the network again; see ``guidance.second_look``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from vidmatte.alpha.guidance.gate import unseen_share
from vidmatte.alpha.guidance.second_look import (
    crop_of,
    frames_to_show,
    is_ignored,
    without_others,
)
from vidmatte.alpha.guidance.store import CoarseStore
from vidmatte.alpha.guidance.subject_fields import SubjectFields
from vidmatte.core.frame import Clip, Frame
from vidmatte.jobs.key_looks import alpha_of_picture
from vidmatte.jobs.pipeline import build_raw_pipeline
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.models.base import Network
from vidmatte.models.registry import Model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


def look_again(
    clip: Clip,
    model: Model,
    settings: Settings,
    reporter: Reporter,
    frames: CoarseStore,
    fields: SubjectFields,
) -> None:
    """Show the network again the frames of a clip on which it ignores what is kept, where that is
    not done yet, and report it. Raises SourceError, ModelError, DeviceError."""
    look, path = _SecondLook(frames, fields), clip.source.path
    network = model.per_frame_network() if look.missing else None
    if network is not None and path is not None:
        progress = Progress(clip.source.name, len(look.missing), phase="second look")
        reporter.start(progress)
        try:
            for _ in look.run(path, model, settings, network):
                progress.done += 1
                reporter.advance(progress)
        finally:
            reporter.finish()
    look.report(reporter.note)


class _SecondLook:
    """The frames of a clip on which the network ignores what is kept.

    ignored: their numbers. missing: those that were not shown again yet.
    """

    def __init__(self, frames: CoarseStore, fields: SubjectFields) -> None:
        assert fields.looks is not None
        self._frames, self._fields, self._looks = frames, fields, fields.looks
        unseen = [
            unseen_share(fields.field(index), frames[index].alpha) for index in range(len(frames))
        ]
        self.ignored = frames_to_show(unseen)
        self._keys = {index: self._key(index) for index in self.ignored}
        self.missing = [i for i in self.ignored if not self._looks.has(i, self._keys[i])]
        self._looks.keep_only(self.ignored)

    def _key(self, index: int) -> str:
        """Of the field and the alpha that a frame's second look depends on."""
        codes = np.rint(255 * self._fields.field(index)).astype(np.uint8)
        seen = self._frames[index].alpha_codes
        return hashlib.sha256(codes.tobytes() + seen.tobytes()).hexdigest()[:32]

    def run(self, path: Path, model: Model, settings: Settings, network: Network) -> Iterator[int]:
        """Show the missing frames again; yields the number of each. Raises SourceError."""
        wanted = set(self.missing)
        with open_reader(path, settings) as source:
            pipeline = build_raw_pipeline(source, model, settings, self._fields.cache)
            with closing(pipeline):
                for frame in pipeline.pipeline:
                    if frame.index in wanted:
                        self._look_at(frame, network)
                        yield frame.index
                    frame.release()

    def _look_at(self, frame: Frame, network: Network) -> None:
        field, coarse = self._fields.field(frame.index), self._frames[frame.index]
        height, width = frame.rgb.shape[:2]
        crop = crop_of(field, width, height)
        if crop is None:
            return
        shown = without_others(frame.rgb, field, coarse.alpha)[crop.part]
        alpha = alpha_of_picture(
            np.ascontiguousarray(shown), network, frame.index, new_shot=frame.new_shot
        )
        self._looks.put(frame.index, self._keys[frame.index], crop, (width, height), alpha)

    def report(self, note: Callable[[str], None]) -> None:
        """Say on how many frames the network ignores the subject, and what came of it."""
        if not self.ignored:
            return
        count, still = len(self.ignored), len(self._still_ignored())
        line = (
            f"the network misses most of the subject on {count} of {len(self._frames)} frames, and"
            " ran there again on the subject alone"
        )
        if still:
            line += f"; on {still} that did not help, and the edge is coarse (the tracked mask's)"
        note(line)

    def _still_ignored(self) -> list[int]:
        """The frames of which the network sees too little even so."""
        return [
            index
            for index in self.ignored
            if is_ignored(
                unseen_share(
                    self._fields.field(index), self._looks.seen(index, self._frames[index].alpha)
                )
            )
        ]

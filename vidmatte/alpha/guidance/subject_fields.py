"""The solved fields of a clip's subjects, applied to the network's alphas frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidmatte.alpha.guidance.coarse import reduced, work_size
from vidmatte.alpha.guidance.gate import make_gate
from vidmatte.alpha.guidance.passes import FrameReport, most_doubtful
from vidmatte.alpha.guidance.second_look import LookStore
from vidmatte.alpha.guidance.store import FieldStore
from vidmatte.alpha.guidance.tracker import shared_fields
from vidmatte.core.frame import Frame


@dataclass(frozen=True)
class SubjectFields:
    """What belongs to which subject on every frame.

    stores: the field of each subject, by name. wanted: the names of those that are kept.
    reports: of the wanted subjects, by name. numbers: of each frame in the source, as --in counts.
    cache: the folder with the raw alphas of the pass that the fields come from. looks: what the
    network sees of them where it was shown them again.
    """

    stores: Mapping[str, FieldStore]
    wanted: Sequence[str]
    reports: Mapping[str, Sequence[FrameReport]]
    numbers: Sequence[int]
    cache: Path
    looks: LookStore | None = None
    _shown: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def shares(self, index: int) -> dict[str, np.ndarray]:
        """How much a pixel of a frame belongs to each subject, (h, w) float32 in 0..1, by name;
        together at most 1."""
        fields = {name: store[index] for name, store in self.stores.items()}
        return shared_fields(fields) if len(fields) > 1 else fields

    def field(self, index: int) -> np.ndarray:
        """Whether a pixel of a frame belongs to what is kept, (h, w) float32 in 0..1."""
        shares = self.shares(index)
        total = np.sum([shares[name] for name in self.wanted], axis=0)
        return np.asarray(np.minimum(total, np.float32(1)))

    def seen_frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, each with what a second look adds to the network's alpha."""
        for frame in frames:
            assert frame.alpha is not None
            if self.looks is not None:
                np.copyto(frame.alpha, self.looks.seen(frame.index, frame.alpha))
            yield frame

    def gated_frames(self, frames: Iterator[Frame], *, again: bool = False) -> Iterator[Frame]:
        """The frames, each with only the alpha of what is kept; where the network does not see its
        edge, field and colours place it.

        again: the same frames a second time, whose fields are in memory since the first.
        """
        for frame in frames:
            assert frame.alpha is not None
            if again:
                field = self._shown.pop(frame.index)
            else:
                field = self._shown[frame.index] = self.field(frame.index)
            alpha = reduced(frame.alpha, *work_size(frame.rgb.shape[1], frame.rgb.shape[0]))
            gate = make_gate(field, alpha, fill=not again)
            np.copyto(frame.alpha, gate.apply(frame.alpha, None if again else frame.rgb))
            yield frame

    @property
    def lost(self) -> list[int]:
        """The frames in which a wanted subject was not found."""
        found = {one.index for reports in self.reports.values() for one in reports if one.lost}
        return sorted(found)

    @property
    def doubtful(self) -> list[int]:
        """The source's frames where a correction is likely worth most, the best first."""
        every = [one for reports in self.reports.values() for one in reports]
        return [self.numbers[one.index] for one in most_doubtful(every)]

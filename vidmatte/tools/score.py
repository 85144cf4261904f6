"""One sequence of mattes against its truth, frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import zip_longest
from pathlib import Path

import numpy as np

from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.pixels import planes
from vidmatte.readers.image_folder import list_pictures
from vidmatte.readers.images import read_picture
from vidmatte.tools.mattes import Mattes, open_mattes
from vidmatte.tools.metrics import Score

_WORST = 5  # frames that are named


@dataclass(frozen=True)
class Comparison:
    """What was measured. Scales are those of ``vidmatte.tools.metrics``.

    shown: what was taken as the matte of prediction and truth, ``alpha`` or
    ``luminance``. scores: means over frames, or pairs of frames; a measure that the
    sequence is too short for is omitted. motion: along which MESSDdt was found,
    ``known`` or ``estimated``, None for a single frame. worst: number and MAD of the
    frames with the largest MAD, worst first.
    """

    prediction: Path
    truth: Path
    shown: tuple[str, str]
    size: tuple[int, int]
    frames: int
    scores: dict[str, float]
    motion: str | None
    worst: tuple[tuple[int, float], ...]
    notes: tuple[str, ...]


def compare(
    prediction: Path,
    truth: Path,
    motion: Path | None = None,
    advance: Callable[[int, int | None], None] = lambda *_: None,
) -> Comparison:
    """Score the mattes of ``prediction`` against those of ``truth``.

    Both are movies, folders of pictures or single pictures; two frames of each are held
    at a time. motion: a folder, see ``Motion``. ``advance`` is called with the frames done and
    of how many. Raises SourceError, SourceMissingError, UsageError where they do not fit
    each other.
    """
    predicted, true = open_mattes(prediction), open_mattes(truth)
    _check_fit(predicted, true)
    count = true.frame_count
    known = None
    if motion is not None:
        known = _Motion(motion, count or _counted(true), true.size)
    score = Score(estimates=True)
    errors: list[float] = []
    lowest = [1.0, 1.0]
    for index, pair in enumerate(_pairs(predicted, true)):
        errors.append(score.add(*pair, known.at(index) if known else None)["mad"])
        lowest = [min(low, float(matte.min())) for low, matte in zip(lowest, pair, strict=True)]
        advance(index + 1, count)
    worst = nlargest(_WORST, range(len(errors)), key=errors.__getitem__)
    notes = [line for mattes in (predicted, true) for line in mattes.notes]
    notes += [
        f"{mattes.path}: its alpha is 1 everywhere"
        for mattes, low in zip((predicted, true), lowest, strict=True)
        if low == 1 and mattes.shown == "alpha"
    ]
    return Comparison(
        prediction=prediction,
        truth=truth,
        shown=(predicted.shown, true.shown),
        size=true.size,
        frames=len(errors),
        scores=score.means(),
        motion=None if len(errors) < 2 else "known" if known else "estimated",
        worst=tuple((index, errors[index]) for index in worst),
        notes=tuple(notes),
    )


def _check_fit(predicted: Mattes, true: Mattes) -> None:
    """Raise UsageError where sizes or known numbers of frames differ."""
    if predicted.size != true.size:
        ours, theirs = (f"{width}x{height}" for width, height in (predicted.size, true.size))
        raise UsageError(
            f"{predicted.path} is {ours} and {true.path} is {theirs}: score mattes of one size"
        )
    if None not in (predicted.frame_count, true.frame_count):
        _check_counts(predicted, true, predicted.frame_count, true.frame_count)


def _check_counts(predicted: Mattes, true: Mattes, ours: int | None, theirs: int | None) -> None:
    """Raise UsageError where the numbers of frames differ."""
    if ours != theirs:
        raise UsageError(
            f"{predicted.path} has {ours} frames and {true.path} has {theirs}: score the same"
            " frames, like those of one --in and --out"
        )


def _pairs(predicted: Mattes, true: Mattes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The mattes of both, frame after frame. Raises UsageError where one has fewer."""
    found = [0, 0]
    for pair in zip_longest(predicted.frames(), true.frames()):
        here, there = pair
        found = [had + (matte is not None) for had, matte in zip(found, pair, strict=True)]
        if here is not None and there is not None:
            yield here, there
    _check_counts(predicted, true, *found)


def _counted(mattes: Mattes) -> int:
    """The number of frames where the container does not say."""
    return sum(1 for _ in mattes.frames())


#: Steps of a pixel and the code of no motion: the flow development kit of Menze and
#: Geiger, "Object Scene Flow for Autonomous Vehicles" (CVPR 2015).
STEPS, ZERO = 64.0, 32768.0
_NOWHERE = -1e5  # where what is not known is said to come from: outside of any picture


class _Motion:
    """16-bit PNGs (x, y, valid), one a frame: where each pixel was one frame earlier.

    The first frame has none; a picture for it, if there is one, is passed over.
    Raises SourceMissingError, SourceError, UsageError where their number does not fit.
    """

    def __init__(self, folder: Path, frames: int, size: tuple[int, int]) -> None:
        if not folder.is_dir():
            raise SourceMissingError(f"--motion {folder}: there is no such folder")
        files = list_pictures(folder)
        if len(files) not in (frames - 1, frames):
            raise UsageError(
                f"--motion {folder}: {len(files)} pictures for {frames} frames; give one for"
                " each frame but the first"
            )
        self._files = files[len(files) - frames + 1 :]
        self._size = size

    def at(self, index: int) -> np.ndarray | None:
        """The motion from frame ``index`` to the one before it, (H, W, 2) float32 pixels,
        x then y; what is not valid comes from outside the picture. None for the first."""
        return self._read(self._files[index - 1]) if index else None

    def _read(self, file: Path) -> np.ndarray:
        picture = read_picture(file)
        if picture.format.name != "rgb48be":
            raise SourceError(
                f"{file}: {picture.format.name}, not motion; write x, y and valid as 16-bit RGB PNG"
            )
        if (picture.width, picture.height) != self._size:
            raise SourceError(
                f"{file}: it is {picture.width}x{picture.height} and the mattes"
                f" {self._size[0]}x{self._size[1]}; give motion of their size"
            )
        codes = planes.plane_views(picture)[0].view(">u2")
        motion = (codes[..., :2].astype(np.float32) - np.float32(ZERO)) / np.float32(STEPS)
        motion[codes[..., 2] == 0] = _NOWHERE
        return motion

"""Known motion between the frames of a clip, as the KITTI benchmark stores it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.sink.make import planes
from vidmatte.source.pictures.folder import list_pictures
from vidmatte.source.pictures.pictures import read_picture

#: Steps of a pixel and the code of no motion: the flow development kit of Menze and
#: Geiger, "Object Scene Flow for Autonomous Vehicles" (CVPR 2015).
STEPS, ZERO = 64.0, 32768.0
NOWHERE = -1e5  # where what is not known is said to come from: outside of any picture


class Motion:
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
        codes = planes.views(picture)[0].view(">u2")
        motion = (codes[..., :2].astype(np.float32) - np.float32(ZERO)) / np.float32(STEPS)
        motion[codes[..., 2] == 0] = NOWHERE
        return motion

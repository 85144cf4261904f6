"""Raw alphas of single frames on disk, so that a slider's change needs no network.

One PNG of 16 bits a frame, in a folder whose name stands for everything that decides the raw alpha.
Any file may be removed at any time: it is then made again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from vidmatte.errors import OutputError

_FULL_SCALE = np.float32(65535)
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True)
class RawMatte:
    """What a network gives for a frame.

    codes: (H, W) uint16, alpha of 0..65535. foreground: (H, W, 3) uint8 RGB, None where the network
    gives none. mirrored, augment_phase: see ``Frame``.
    """

    codes: np.ndarray
    foreground: np.ndarray | None = None
    mirrored: bool = False
    augment_phase: int = 0

    @classmethod
    def coded(cls, alpha: np.ndarray) -> np.ndarray:
        """Alpha (H, W) float32 in 0..1 as 16 bits."""
        return np.rint(alpha * _FULL_SCALE).astype(np.uint16)

    @property
    def alpha(self) -> np.ndarray:
        """(H, W) float32 in 0..1, a new array."""
        return self.codes * np.float32(1 / _FULL_SCALE)


class KeptAlphas:
    """The raw mattes of one clip and one group of settings, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[int, RawMatte] | None = None

    def load(self, number: int) -> RawMatte | None:
        """The matte of a frame; None where it is not kept or cannot be read."""
        if self._last is None or self._last[0] != number:
            found = self._read(number)
            self._last = None if found is None else (number, found)
        return None if self._last is None else self._last[1]

    def _read(self, number: int) -> RawMatte | None:
        for file in self._folder.glob(f"{number}.alpha-*.png"):
            phase = file.name.split("alpha-")[1].removesuffix(".png")
            codes = _read(file, cv2.IMREAD_UNCHANGED)
            colours = self._folder / f"{number}.foreground.png"
            has_colours = phase.endswith("f")
            found = _read(colours, cv2.IMREAD_COLOR) if has_colours else None
            if codes is None or codes.dtype != np.uint16 or (has_colours and found is None):
                return None
            os.utime(file)
            foreground = None if found is None else np.ascontiguousarray(found[..., ::-1])
            return RawMatte(codes, foreground, "m" in phase, int(phase[0]))
        return None

    def save(self, number: int, matte: RawMatte) -> None:
        """Keep the matte of a frame. Raises OutputError."""
        self._last = number, matte
        colours = matte.foreground
        if colours is not None:
            self._write(f"{number}.foreground.png", np.ascontiguousarray(colours[..., ::-1]))
        marks = "m" * matte.mirrored + "f" * (colours is not None)
        self._write(f"{number}.alpha-{matte.augment_phase}{marks}.png", matte.codes)

    def _write(self, name: str, picture: np.ndarray) -> None:
        done, coded = cv2.imencode(".png", picture, _FAST)
        if not done:
            raise OutputError(f"{name}: a picture of {picture.shape[1]}x{picture.shape[0]} fails")
        write_new(self._folder / name, coded.tobytes())


def write_new(file: Path, data: bytes) -> None:
    """Write a file, complete or not at all, with its folder. Raises OutputError."""
    part = file.with_name(f".{uuid4().hex}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"the folder of views cannot be written: {error.strerror}") from error


def _read(file: Path, way: int) -> np.ndarray | None:
    """A picture; None where it was removed meanwhile, or is damaged."""
    try:
        data = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, way) if len(data) else None

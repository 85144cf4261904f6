"""Shared by the tests of writers: write a real clip's frames with a known alpha."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from media import Movie

from vidmatte.core.frame import Clip, Frame
from vidmatte.jobs.check import _check_outputs
from vidmatte.jobs.outputs import open_writer
from vidmatte.pixels.formats import copy_planes, set_colour
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult
from vidmatte.writers.extra_outputs import ExtraOutputs

#: (index, width, height) -> alpha (H, W) float32
Alpha = Callable[[int, int, int], np.ndarray]


def disc(index: int, width: int, height: int) -> np.ndarray:
    """A disc that moves to the right, opaque inside, with an edge of 12 pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre_x, centre_y = width * (0.35 + 0.01 * index), height * 0.5
    distance = np.hypot(x - centre_x, y - centre_y)
    return np.clip((0.3 * height - distance) / 12 + 0.5, 0, 1).astype(np.float32)


def levels(index: int, width: int, height: int) -> np.ndarray:
    """Every alpha from 0 to 1 in even steps, row by row through the picture."""
    return np.linspace(0, 1, width * height, dtype=np.float32).reshape(height, width)


def read_frames(path: Path, settings: Settings, alpha: Alpha) -> tuple[Clip, Iterator[Frame]]:
    """The clip at ``path`` and its frames, copied, with ``alpha``."""
    with open_reader(path, settings) as source:
        clip = source.clip
        frames = []
        for index, picture in enumerate(source.pictures()):
            # As in the ring buffer: samples in the slot's own planes.
            slot = av.VideoFrame(clip.width, clip.height, clip.working_format)
            copy_planes(picture.pixels, slot)
            set_colour(slot, clip.colour)
            frames.append(
                Frame(
                    index=index,
                    pts=picture.pts,
                    duration=picture.duration,
                    time_base=clip.time_base,
                    picture=slot,
                    rgb=np.zeros((clip.height, clip.width, 3), np.uint8),
                    alpha=alpha(index, clip.width, clip.height),
                    name=picture.name,
                )
            )
    return clip, iter(frames)


def write_clip(
    movie: Movie | Path,
    out: Path,
    alpha: Alpha = disc,
    extras: ExtraOutputs | None = None,
    alpha_kind: str = "auto",
    **options: object,
) -> tuple[Clip, WriteResult]:
    """Write a clip's frames with ``alpha`` to ``out``; every slot must be returned."""
    chosen = (
        {}
        if extras is None
        else {
            "matte": extras.matte and str(extras.matte),
            "foreground_file": extras.foreground and str(extras.foreground),
            "comp": extras.comp and str(extras.comp),
            "background": extras.background,
        }
    )
    settings = Settings(**{"foreground": "source", "alpha": alpha_kind, **chosen, **options})
    path = movie if isinstance(movie, Path) else movie.path
    clip, frames = read_frames(path, settings, alpha)
    count, returned = 0, []
    _check_outputs(out, clip, settings)
    with open_writer(out, clip, settings) as writer:
        for frame in frames:
            count += 1
            frame.return_slot = lambda: returned.append(1)
            writer.write(frame)
        result = writer.close()
    assert len(returned) == count, f"{count} frames in, {len(returned)} slots returned"
    return clip, result

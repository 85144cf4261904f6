"""Colours of the subject made over torch's CPU device against those made by numpy."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_movie
from torch_frames import shot

from vidmatte.core.frame import Clip, Frame
from vidmatte.models.runtimes.torch_device import DeviceFrame, TorchDevice
from vidmatte.pixels.planes import full_scale, plane_views, to_native_order
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.formats import by_name
from vidmatte.writers.render.cutout import CutoutPicture

pytestmark = pytest.mark.torch

SIZES = [(128, 192), (270, 402)]


def clip_and_frame(folder: Path, size: tuple[int, int]) -> tuple[Clip, Frame]:
    """A clip of one size, and its first frame with a matte that has nothing to do with it."""
    path = make_movie(folder / "clip.mp4", size=size[::-1], frames=1).path
    with open_reader(path, Settings()) as source:
        picture = next(iter(source.pictures())).pixels
        copy = av.VideoFrame.from_ndarray(picture.to_ndarray(), picture.format.name)
        copy.colorspace, copy.color_range = picture.colorspace, picture.color_range
        matte = shot(1, size, 0)[0]
        frame = Frame(0, 0, 1, Fraction(1, 25), copy, matte.rgb, matte.alpha)
        return source.clip, frame


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["prores", "vp9", "png"])
def test_both_colours_agree(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    clip, frame = clip_and_frame(tmp_path, size)
    row, device = by_name(name), TorchDevice("cpu")
    assert frame.alpha is not None
    expected = CutoutPicture(clip, row, "estimate").render(frame)
    pixels = DeviceFrame(device, alpha=device.upload(frame.alpha))
    found = CutoutPicture(clip, row, "estimate").render(replace(frame, on_device=pixels))
    plain = CutoutPicture(clip, row, "source").render(frame)
    assert device.copies.uploads == 2 and device.copies.downloads == 1
    top = full_scale(to_native_order(expected.format.name))
    changed = 0
    for one, other, source in zip(*map(plane_views, (found, expected, plain)), strict=True):
        apart = np.abs(one.astype(int) - other) * (255 / top)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01
        changed += (other != source).sum()
    assert changed > 1000, "the estimate did nothing"

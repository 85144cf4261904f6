"""Colours of the subject made over torch's CPU device against those made by numpy."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import make_movie
from torch_frames import shot

from vidmatte.core.colour import FULL, LIMITED
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.runtimes.torch_device import Copies, DeviceFrame, TorchDevice
from vidmatte.pixels.formats import set_colour
from vidmatte.pixels.planes import full_scale, plane_views
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.formats import by_name
from vidmatte.writers.render.cutout import CutoutPicture
from vidmatte.writers.render.despill import Despill

pytestmark = pytest.mark.torch


def summary_of(alpha: Any, device: TorchDevice) -> Any:
    return importlib.import_module("vidmatte.alpha.torch_adjust")._summary_of(alpha, device)


SIZES = [(128, 192), (270, 402), (67, 121)]
SOURCES = ["yuv420p", "yuv422p10le", "yuv444p", "gbrp", "gray"]
RARELY = 1e-3  # of samples that are two codes apart


def clip_and_frame(
    folder: Path, size: tuple[int, int], pixel_format: str = "yuv420p", range_: int = LIMITED
) -> tuple[Clip, Frame]:
    """A clip of one size, and a frame of it with a matte that has nothing to do with it."""
    path = make_movie(folder / "clip.mkv", codec="ffv1", size=size[::-1], frames=1).path
    with open_reader(path, Settings()) as source:
        clip = source.clip
    rng, smooth = np.random.default_rng(1), (9, 9)
    picture = av.VideoFrame(size[1], size[0], pixel_format)
    for plane in plane_views(picture):
        noise = rng.integers(0, full_scale(pixel_format) + 1, plane.shape, np.uint16)
        np.copyto(plane, cv2.blur(noise, smooth), casting="unsafe")
    colour = replace(clip.colour, range=range_ if pixel_format.startswith("yuv") else FULL)
    set_colour(picture, colour)
    matte = shot(1, size, 0)[0]
    frame = Frame(0, 0, 1, Fraction(1, 25), picture, matte.rgb, matte.alpha)
    return replace(clip, colour=colour, working_format=pixel_format), frame


def compare(
    clip: Clip, frame: Frame, name: str, policy: str = "estimate", despill: Despill | None = None
) -> TorchDevice:
    """Both cut-outs agree to a code, rarely two; returns the device."""
    row, device = by_name(name), TorchDevice("cpu")
    assert frame.alpha is not None
    expected = CutoutPicture(clip, row, policy, despill).render(frame)
    pixels = DeviceFrame(device, alpha=device.upload(frame.alpha))
    pixels.summary = summary_of(pixels.alpha, device)
    if frame.foreground is not None:
        pixels.foreground = device.upload(frame.foreground).permute(2, 0, 1)
    device.copies = Copies()
    there = replace(frame, on_device=pixels, alpha=None, foreground=None)
    cutout = CutoutPicture(clip, row, policy, despill)
    found = [plane_views(cutout.render(there)) for _ in range(2)]
    plain = CutoutPicture(clip, row, "source").render(frame)
    changed = 0
    for one, again, other, source in zip(*found, *map(plane_views, (expected, plain)), strict=True):
        assert (one == again).all()
        if expected.format.is_big_endian:
            one, other = one.byteswap(), other.byteswap()
        apart = np.abs(one.astype(int) - other)
        assert apart.max() <= 2 and (apart > 1).mean() < RARELY
        assert (apart > 0).mean() < 0.05
        changed += int((other != source).sum())
    assert changed > 500, "nothing was drawn"
    return device


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["prores", "vp9", "png", "ffv1"])
def test_both_cutouts_agree(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """One copy each way: the source's planes and the encoder's."""
    copies = compare(*clip_and_frame(tmp_path, size), name).copies
    assert (copies.uploads, copies.downloads) == (2, 2)  # it was drawn twice


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["prores", "cineform", "png16", "webp"])
def test_cutouts_of_other_sources(name: str, source: str, tmp_path: Path) -> None:
    compare(*clip_and_frame(tmp_path, (96, 160), source), name)


@pytest.mark.parametrize("source", ["yuv420p", "yuv444p10le"])
def test_full_range_becomes_limited(source: str, tmp_path: Path) -> None:
    compare(*clip_and_frame(tmp_path, (96, 160), source, FULL), "prores")


@pytest.mark.parametrize("name", ["prores", "vp9", "png"])
def test_the_networks_own_colours(name: str, tmp_path: Path) -> None:
    clip, frame = clip_and_frame(tmp_path, (96, 160))
    frame.foreground = np.random.default_rng(2).integers(0, 256, frame.rgb.shape, np.uint8)
    compare(clip, frame, name, "auto")


def test_what_is_for_the_cpu(tmp_path: Path) -> None:
    """The alpha comes to host memory for despill."""
    despill = Despill.of(Settings(despill="green"))
    device = compare(*clip_and_frame(tmp_path, (96, 160)), "prores", "estimate", despill)
    assert device.copies.down == 96 * 160 * 4


def test_nothing_is_visible(tmp_path: Path) -> None:
    clip, frame = clip_and_frame(tmp_path, (96, 160))
    device = TorchDevice("cpu")
    pixels = DeviceFrame(device, alpha=device.upload(np.zeros((96, 160), np.float32)))
    pixels.summary = summary_of(pixels.alpha, device)
    picture = CutoutPicture(clip, by_name("prores"), "estimate").render(
        replace(frame, on_device=pixels, alpha=None)
    )
    assert [int(plane.max()) for plane in plane_views(picture)] == [64, 512, 512, 0]

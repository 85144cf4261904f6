"""The temporal filter over torch's CPU device against the one over numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch_frames import CLIPS, alphas_from, on_device, shot

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import WINDOWS
from vidmatte.core.families import PER_FRAME, RECURRENT, FilterProfile
from vidmatte.models.runtimes.torch_device import TorchDevice

pytestmark = pytest.mark.torch


def differences(
    clip: tuple[int, int, float], mode: str, refine: str, profile: FilterProfile, count: int = 6
) -> np.ndarray:
    """|torch - numpy| of every pixel of every frame, in parts of 255."""
    from vidmatte.alpha.torch_filter import DeviceFilter

    *size, speed = clip
    how = TemporalFilter(WINDOWS[mode], refine, 1.0, profile)
    frames = shot(count, (size[0], size[1]), speed)
    copies = [replace(frame, alpha=frame.alpha.copy()) for frame in frames]
    before = np.stack([frame.alpha for frame in frames])
    expected = [frame.alpha for frame in how.average_stage(how.track_stage(copies))]
    device = TorchDevice("cpu")
    same = DeviceFilter.like(how, device)
    tracked = same.track_stage(on_device(frames, device))
    found = alphas_from(same.average_stage(tracked), device)
    assert len(found) == len(expected) == count
    assert np.abs(np.stack(expected) - before).max() > 0.01, "the filter did nothing"
    return 255 * np.abs(np.stack(found) - np.stack(expected))


@pytest.mark.parametrize("mode", ["off", "live", "on"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.thinned(2)
def test_both_filters_agree(clip: tuple[int, int, float], mode: str) -> None:
    assert differences(clip, mode, "fast", PER_FRAME).max() < 1


@pytest.mark.parametrize("refine", ["fast", "off"])
def test_both_filters_agree_on_a_recurrent_network(refine: str) -> None:
    assert differences(CLIPS[1], "on", refine, RECURRENT).max() < 1

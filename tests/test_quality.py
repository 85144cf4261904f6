"""The quality report: what it counts and what it ignores."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np

from vidmatte.alpha.quality import Quality, QualityMonitor, _ranges, _ranges_text
from vidmatte.core.frame import Frame

SIZE = (180, 320)


def frame(index: int, x: float, alpha: np.ndarray | None = None, new_shot: bool = False) -> Frame:
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    disc = np.clip(40 - np.hypot(xx - x, yy - 90), 0, 1)
    texture = 90 + 40 * np.sin((xx - x) / 5) * np.cos(yy / 7)
    ground = 60 + 30 * np.sin(xx / 11) * np.cos(yy / 9)
    grey = disc * (texture + 80) + (1 - disc) * ground
    rgb = np.repeat(grey[..., None], 3, 2).clip(0, 255).astype(np.uint8)
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    made = Frame(index, index, 1, Fraction(1, 25), picture, rgb, new_shot=new_shot)
    made.alpha = disc.astype(np.float32) if alpha is None else alpha
    return made


def observe(frames: list[Frame]) -> Quality:
    watcher = QualityMonitor()
    assert list(watcher.observe(frames)) == frames
    return watcher.quality


def test_a_good_matte_has_no_findings() -> None:
    quality = observe([frame(index, 60 + 9 * index) for index in range(20)])
    assert quality.lines() == []
    assert quality.frames == 20


def test_empty_and_full_mattes_are_counted() -> None:
    frames = [frame(index, 100) for index in range(10)]
    frames[3].alpha = np.zeros(SIZE, np.float32)
    frames[7].alpha = np.ones(SIZE, np.float32)
    quality = observe(frames)
    assert (quality.empty, quality.full) == ([3], [7])
    assert "1 of 10 frames without a subject: 3" in quality.lines()


def test_a_flickering_part_is_a_jump_and_a_cut_is_not() -> None:
    frames = [frame(index, 100) for index in range(10)]
    assert frames[5].alpha is not None
    cv2.rectangle(frames[5].alpha, (200, 20), (290, 90), 1.0, -1)
    assert observe(frames).jumps == [5, 6]
    frames = [
        frame(index, 60 if index < 5 else 260, new_shot=index in (0, 5)) for index in range(9)
    ]
    assert observe(frames).jumps == []


def test_ranges() -> None:
    assert _ranges([3, 4, 5, 9]) == [[3, 5], [9, 9]]
    assert _ranges_text([3, 4, 5, 9]) == "3-5, 9"
    assert _ranges_text(list(range(0, 40, 2))).endswith("and 15 more ranges")

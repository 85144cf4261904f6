"""The cut-out picture for encoders: opaque pixels unchanged, soft ones clean, no edge bleed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import Movie
from readback import decode_limited
from writer_support import disc, read_frames

from vidmatte.alpha.box import Box
from vidmatte.alpha.foreground import uses_model_foreground
from vidmatte.core.colour import FULL, ColourTags
from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import UsageError
from vidmatte.jobs.check import check_matting
from vidmatte.pixels import planes
from vidmatte.pixels.network_rgb import _curve_for
from vidmatte.readers.base import FileSource
from vidmatte.settings import Settings
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.formats import FORMATS, by_name
from vidmatte.writers.render import cutout, extension
from vidmatte.writers.render.cutout import CutoutPicture, check_fit, quantised

SIZE = (320, 192)
#: Formats with integer samples; float and palette formats have their own renderers.
INTEGER = [
    row for row in FORMATS if row.codec not in ("exr-half", "exr-float", "gif") and row.has_alpha
]


def make_clip(working_format: str = "yuv444p10le", **changes: object) -> Clip:
    """A clip of SIZE, not backed by a file."""
    depth = max(component.bits for component in av.VideoFormat(working_format).components)
    clip = Clip(
        source=FileSource(Path("clip.mov")),
        kind="movie",
        width=SIZE[0],
        height=SIZE[1],
        rate=Fraction(25),
        time_base=Fraction(1, 25),
        pixel_format=working_format,
        working_format=working_format,
        bit_depth=depth,
        colour=ColourTags(1, 1, 1, 1),
        declared_colour=ColourTags(),
    )
    return replace(clip, **changes)


def two_colours(clip: Clip, alpha: np.ndarray) -> Frame:
    """A frame with a bright subject over a dark background, mixed by ``alpha``."""
    frame = av.VideoFrame(clip.width, clip.height, clip.working_format)
    top = planes.full_scale(clip.working_format)
    arrays = planes.plane_views(frame)
    if len(arrays) == 1:
        arrays = [arrays[0][..., channel] for channel in range(3)]
    # Both colours are well inside the range, as Y'CbCr and as R'G'B'.
    for plane, (subject, ground) in zip(
        arrays, [(0.6, 0.25), (0.45, 0.53), (0.55, 0.48)], strict=True
    ):
        small = cv2.resize(alpha, plane.shape[1::-1], interpolation=cv2.INTER_AREA)
        plane[...] = np.rint((small * subject + (1 - small) * ground) * top)
    return Frame(
        index=0,
        pts=7,
        duration=1,
        time_base=clip.time_base,
        picture=frame,
        rgb=np.zeros((clip.height, clip.width, 3), np.uint8),
        alpha=alpha,
    )


def samples(picture: av.VideoFrame) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) and alpha (H, W) in this machine's byte order."""
    colour, alpha = planes.read_colours(picture), planes.plane_views(picture)[-1]
    alpha = alpha[..., 3] if alpha.ndim == 3 else alpha
    if picture.format.is_big_endian and sys.byteorder == "little":
        colour, alpha = colour.byteswap(), alpha.byteswap()
    return colour.astype(int), alpha.astype(int)


def make(name: str, foreground: str, clip: Clip, frame: Frame) -> av.VideoFrame:
    return CutoutPicture(clip, by_name(name), foreground).render(frame)


@pytest.mark.parametrize(
    "kind",
    ["8-bit 709", "8-bit full range", "601 SD", "10-bit 709", "10-bit 2020 PQ", "12-bit 4:4:4",
     "anamorphic 720x576", "rotated by 90", "odd size"],
)  # fmt: skip
def test_prores_input_equals_ffmpegs_conversion(
    kind: str, source_movie: Callable[[str], Movie]
) -> None:
    """Sample for sample; full range is converted exactly and rounded once."""
    movie = source_movie(kind)
    clip, frames = read_frames(movie.path, Settings(), disc)
    renderer = CutoutPicture(clip, by_name("prores"), "source")
    made = np.stack([np.stack(planes.plane_views(renderer.render(f))[:3], axis=-1) for f in frames])
    assert np.array_equal(made, decode_limited(movie.path, clip.colour.range == FULL))


@pytest.mark.parametrize("full_scale", [255, 1023, 4095, 65535])
def test_alpha_is_rounded_not_truncated(full_scale: int) -> None:
    alpha = np.linspace(0, 1, 70001, dtype=np.float32).reshape(1, -1)
    levels = quantised(alpha, full_scale)
    exact = alpha.astype(np.float64) * full_scale
    assert np.abs(levels - exact).max() <= 0.5 + 1e-3
    assert abs((levels - exact).mean()) < 1e-3
    assert (levels[0, 0], levels[0, -1]) == (0, full_scale)
    assert len(np.unique(levels)) == full_scale + 1


@pytest.mark.parametrize("row", INTEGER, ids=lambda row: row.name)
def test_alpha_outside_0_to_1_is_clipped(row: OutputFormat) -> None:
    clip = make_clip()
    alpha = np.full(SIZE[::-1], 1.3, np.float32)
    alpha[:96] = -0.2
    picture = CutoutPicture(clip, row, "source").render(two_colours(clip, alpha.clip(0, 1)))
    expected = planes.plane_views(picture)[-1].copy()
    frame = two_colours(clip, alpha.clip(0, 1))
    frame.alpha = alpha
    again = planes.plane_views(CutoutPicture(clip, row, "source").render(frame))[-1]
    assert np.array_equal(again, expected)


@pytest.mark.parametrize("name", ["prores", "webm", "ffv1", "png", "png16", "cineform"])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p10le", "yuv444p10le", "rgb24", "gbrp12le"])
def test_the_estimate_does_not_change_opaque_pixels(name: str, layout: str) -> None:
    clip = make_clip(layout)
    if not layout.startswith("yuv"):
        clip = replace(clip, colour=ColourTags(0, FULL, 1, 13))
    alpha = disc(0, *SIZE)
    plain = planes.plane_views(make(name, "source", clip, two_colours(clip, alpha)))
    clean = planes.plane_views(make(name, "estimate", clip, two_colours(clip, alpha)))
    assert any(not np.array_equal(one, two) for one, two in zip(plain, clean, strict=True))
    opaque = alpha == 1
    for one, two in zip(plain, clean, strict=True):
        step_y, step_x = SIZE[1] // one.shape[0], SIZE[0] // one.shape[1]
        # A chroma sample that covers any opaque pixel is unchanged.
        cells = opaque.reshape(one.shape[0], step_y, one.shape[1], step_x).any(axis=(1, 3))
        assert np.array_equal(one[cells], two[cells])


@pytest.mark.parametrize("name", ["prores", "ffv1", "png"])
def test_pixels_that_are_stored_as_opaque_are_unchanged(name: str) -> None:
    """Alpha 0.9996 is rounded to 1 in 8 and in 10 bits."""
    clip = make_clip("yuv444p")
    frame = two_colours(clip, np.minimum(disc(0, *SIZE), np.float32(0.9996)))
    for plane in planes.plane_views(frame.picture):
        plane[...] = np.random.default_rng(6).integers(16, 236, plane.shape)
    plain, clean = (make(name, how, clip, frame) for how in ("source", "auto"))
    (expected, levels), (found, _) = samples(plain), samples(clean)
    opaque = levels == planes.full_scale(plain.format.name)
    assert opaque.any() and np.array_equal(found[opaque], expected[opaque])
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["prores", "webm", "ffv1", "png", "png16"])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv411p", "yuv422p10le", "gbrp10le"])
def test_a_subject_that_fills_a_part_of_the_picture(
    name: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that part is converted, and gets the samples that it has in the full picture."""
    width, height = 900, 640
    colour = ColourTags(1, 1, 1, 1) if layout.startswith("yuv") else ColourTags(0, FULL, 1, 13)
    clip = make_clip(layout, width=width, height=height, colour=colour)
    frame = two_colours(clip, np.zeros((height, width), np.float32))
    for plane in planes.plane_views(frame.picture):
        noise = np.random.default_rng(4).integers(0, 8, plane.shape)
        plane += noise.astype(plane.dtype)
    assert frame.alpha is not None
    frame.alpha[300:420, 400:500] = disc(0, 100, 120)
    found = samples(make(name, "estimate", clip, frame))
    monkeypatch.setattr(cutout, "_GRID", 1 << 16)
    monkeypatch.setattr(extension, "boxes_over", lambda mask, *_: [Box(0, 0, *mask.shape)])
    for one, other in zip(found, samples(make(name, "estimate", clip, frame)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["prores", "png", "webm"])
def test_soft_pixels_lose_the_old_background(name: str) -> None:
    clip = make_clip("yuv444p10le")
    alpha = disc(0, *SIZE)
    soft = (alpha > 0.1) & (alpha < 0.9)

    def error(foreground: str) -> float:
        picture = make(name, foreground, clip, two_colours(clip, alpha))
        subject = make(name, "source", clip, two_colours(clip, np.ones_like(alpha)))
        apart = planes.read_colours(picture).astype(int) - planes.read_colours(subject)
        return float(np.abs(apart)[soft].mean())

    assert error("estimate") < 0.1 * error("source")


def test_the_models_foreground_is_used_if_present() -> None:
    clip = make_clip("yuv444p10le")
    alpha = disc(0, *SIZE)
    frame = two_colours(clip, alpha)
    frame.foreground = np.full((SIZE[1], SIZE[0], 3), (30, 200, 90), np.uint8)
    soft, opaque = (alpha > 0.05) & (alpha < 0.95), alpha == 1
    made = planes.read_colours(make("png", "auto", clip, frame))
    assert np.abs(made[soft].astype(int) - (30, 200, 90)).max() <= 1
    plain = planes.read_colours(make("png", "source", clip, two_colours(clip, alpha)))
    assert np.array_equal(made[opaque], plain[opaque])
    estimated = planes.read_colours(make("png", "estimate", clip, frame))
    assert np.abs(estimated[soft].astype(int) - (30, 200, 90)).max() > 20


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("transfer", [1, 13, 8, 9, 10, 16, 18])
def test_the_models_foreground_is_for_display_referred_clips_only(
    invert: bool, transfer: int
) -> None:
    clip = make_clip("yuv444p10le", colour=ColourTags(9, 1, 9, transfer))
    is_used = uses_model_foreground(Settings(invert=invert), clip)
    assert is_used == (transfer in (1, 13) and not invert)
    assert (transfer in (1, 13)) == (_curve_for(transfer) is None)
    settings = Settings(invert=invert, foreground="model")
    if is_used:
        assert uses_model_foreground(settings, clip)
        return
    with pytest.raises(UsageError, match=r"--foreground model: .*use estimate"):
        check_matting(clip, settings)


@pytest.mark.parametrize("row", INTEGER, ids=lambda row: row.name)
def test_transparent_pixels_extend_the_subjects_colour_then_become_black(
    row: OutputFormat,
) -> None:
    """The old background is gone, and filtering across the edge finds no step."""
    clip = make_clip("yuv444p10le")
    alpha = disc(0, *SIZE)
    picture = CutoutPicture(clip, row, "estimate").render(two_colours(clip, alpha))
    ground = CutoutPicture(clip, row, "source").render(two_colours(clip, np.zeros_like(alpha)))
    subject = CutoutPicture(clip, row, "source").render(two_colours(clip, np.ones_like(alpha)))
    colour, levels = samples(picture)
    old, own = samples(ground)[0][0, 0], samples(subject)[0][0, 0]
    scale = planes.full_scale(picture.format.name)
    distance = cv2.distanceTransform((levels == 0).astype(np.uint8), cv2.DIST_L2, 5)
    beside = (distance > 0) & (distance < 8)
    assert np.abs(colour[beside] - own).max() < 0.04 * scale
    away = colour[distance > 60]
    assert (away == away[0]).all(), "far from the edge there is a single colour"
    assert np.abs(away[0] - old).max() > 0.05 * scale


@pytest.mark.parametrize("name", ["prores", "webm", "png", "png16"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_frames_with_a_constant_alpha(name: str, value: float) -> None:
    clip = make_clip("yuv420p")
    alpha = np.full(SIZE[::-1], value, np.float32)
    picture = make(name, "estimate", clip, two_colours(clip, alpha))
    colour, found = samples(picture)
    assert (found == found[0, 0]).all()
    if value == 0:
        assert (colour == colour[0, 0]).all()


def test_odd_sizes_keep_every_pixel() -> None:
    clip = make_clip("yuv420p", width=161, height=91)
    alpha = disc(0, 161, 91)
    for row in INTEGER:
        if row.limits.width_multiple > 1:
            continue
        picture = CutoutPicture(clip, row, "estimate").render(two_colours(clip, alpha))
        assert (picture.width, picture.height) == (161, 91)
        assert picture.pts == 7


def test_a_frame_without_alpha_is_a_programming_error() -> None:
    clip = make_clip()
    frame = two_colours(clip, disc(0, *SIZE))
    frame.alpha = None
    with pytest.raises(ValueError, match="without alpha"):
        make("prores", "auto", clip, frame)


def test_unsupported_sizes_and_colours_are_refused_before_writing() -> None:
    with pytest.raises(UsageError, match="multiple of 16"):
        check_fit(make_clip(width=330), by_name("cineform"))
    with pytest.raises(UsageError, match="height 31 is less than the 32 that cineform needs"):
        check_fit(make_clip(height=31), by_name("cineform"))
    check_fit(make_clip(height=32), by_name("cineform"))
    with pytest.raises(UsageError, match="16384"):
        check_fit(make_clip(width=20000), by_name("webm"))
    with pytest.raises(UsageError, match="65535 pixels a side of png: make it smaller"):
        check_fit(make_clip(width=70000), by_name("png"))
    ycgco = make_clip(colour=ColourTags(8, 1, 1, 1))
    with pytest.raises(UsageError, match="ycgco"):
        check_fit(ycgco, by_name("prores"))

"""``--despill``: the screen's light is removed from visible pixels, all else is unchanged."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import BT709, BT709_FULL, make_movie
from readback import decode
from scene import Picture, draw_ball
from test_cutout import make_clip, samples, two_colours
from tiny_onnx import make_recurrent, make_salient
from writer_support import disc, write_clip

import vidmatte
from vidmatte.alpha import adjustments
from vidmatte.cli.main import main
from vidmatte.core.colour import FULL, LINEAR, ColourTags
from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import UsageError
from vidmatte.pixels import planes
from vidmatte.pixels.convert import _rgb_matrix
from vidmatte.pixels.planes import is_yuv
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.format_spec import output_colour
from vidmatte.writers.formats import by_name
from vidmatte.writers.output import RenderContext
from vidmatte.writers.render.cutout import CutoutPicture
from vidmatte.writers.render.despill import Despill
from vidmatte.writers.render.layers import CutoutLayer

SIZE = (320, 192)
CHANNEL = {"red": 0, "green": 1, "blue": 2}


def draw_lit(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The usual scene, the left half in green light, the right half in warm light."""
    picture = draw_ball(position, width, height, lit)
    rgb = picture.rgb * np.float32(0.7)
    rgb[:, : width // 2, 1] += 0.25
    rgb[:, width // 2 :, 0] += 0.25
    return Picture(rgb, picture.alpha)


def excess(rgb: np.ndarray, colour: str = "green") -> np.ndarray:
    """How far a channel exceeds the mean of the others; (..., 3) in, (...) out."""
    rgb = rgb.astype(np.float64)
    screen = rgb[..., CHANNEL[colour]]
    return np.asarray(1.5 * screen - rgb.sum(axis=-1) / 2)


def colourful(layout: str, full_range: bool = False) -> tuple[Clip, Frame]:
    """A frame with all kinds of colours, well inside the range."""
    clip = make_clip(layout)
    if not is_yuv(layout):
        clip = replace(clip, colour=ColourTags(0, FULL, 1, 13))
    elif full_range:
        clip = replace(clip, colour=BT709_FULL)
    frame = two_colours(clip, disc(0, *SIZE))
    top, random = planes.full_scale(layout), np.random.default_rng(3)
    arrays = planes.plane_views(frame.picture)
    for number, plane in enumerate(arrays):
        low, high = (0.42, 0.58) if is_yuv(layout) and number else (0.35, 0.65)
        coarse = random.uniform(low, high, (12, 20, *plane.shape[2:])).astype(np.float32)
        plane[...] = np.rint(cv2.resize(coarse, plane.shape[1::-1]) * top)
    return clip, frame


def make(
    name: str, clip: Clip, frame: Frame, despill: Despill | None, foreground: str = "estimate"
) -> av.VideoFrame:
    return CutoutPicture(clip, by_name(name), foreground, despill).render(frame)


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
@pytest.mark.parametrize("foreground", ["estimate", "source"])
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *product(
            ["yuv420p", "yuv422p10le", "rgb24", "gbrp12le"],
            ["png", "png16", "tiff16", "cineform", "webp"],
        ),
        ("rgb24", "ffv1"),
        ("gbrp12le", "ffv1"),
    ],
)
def test_rgb_pictures_are_despilled_to_the_code(
    layout: str, name: str, foreground: str, colour: str
) -> None:
    clip, frame = colourful(layout)
    plain, levels = samples(make(name, clip, frame, None, foreground))
    clean, same_levels = samples(make(name, clip, frame, Despill(colour), foreground))
    order = {"gbr": [2, 0, 1], "bgr": [2, 1, 0]}.get(by_name(name).pixel_format(clip)[:3])
    if order is not None:
        plain, clean = plain[..., order], clean[..., order]
    visible = levels > 0
    expected = adjustments.despill(plain.astype(np.uint16), colour)
    assert (np.abs(expected - plain)[visible].max(axis=-1) > 0).any()
    assert np.array_equal(clean[visible], expected[visible])
    assert np.array_equal(levels, same_levels)
    if foreground == "source":
        assert np.array_equal(clean[~visible], plain[~visible])


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
@pytest.mark.parametrize("foreground", ["estimate", "source"])
@pytest.mark.parametrize(
    ("name", "layout", "full_range"),
    [
        ("prores", "yuv420p", False),
        ("prores", "yuv422p10le", False),
        ("prores", "yuv444p12le", True),
        ("prores", "rgb24", False),
        ("ffv1", "yuv444p", True),
        ("ffv1", "yuv444p16le", False),
    ],
)
def test_full_chroma_is_despilled_and_the_rest_is_unchanged(
    name: str, layout: str, full_range: bool, foreground: str, colour: str
) -> None:
    clip, frame = colourful(layout, full_range)
    plain = make(name, clip, frame, None, foreground)
    clean = make(name, clip, frame, Despill(colour), foreground)
    top = planes.full_scale(clean.format.name)
    to_rgb = _rgb_matrix(output_colour(clip, by_name(name)), top + 1, top, top)

    def rgb(picture: av.VideoFrame) -> np.ndarray:
        return samples(picture)[0] @ to_rgb[:, :3].T + to_rgb[:, 3]

    was, now = rgb(plain), rgb(clean)
    visible, over = samples(plain)[1] > 0, excess(was, colour)
    assert (over[visible] > 0.03 * top).any()
    # Three samples, each rounded by up to half a code; luma does not affect the excess.
    rounding = np.abs([excess(column, colour) for column in to_rgb[:, :3].T])[1:].sum() / 2
    assert excess(now, colour)[visible].max() <= rounding + 1e-6
    others = [place for place in range(3) if place != CHANNEL[colour]]
    step = 0.5 * np.abs(to_rgb[others, :3]).sum(axis=1).max()
    assert np.abs(now - was)[visible][:, others].max() <= step + 1e-6
    # Opaque pixels without excess are identical.
    free = (frame.alpha == 1) & (over <= 0)
    assert free.any()
    assert np.array_equal(samples(plain)[0][free], samples(clean)[0][free])


@pytest.mark.parametrize("foreground", ["estimate", "source"])
@pytest.mark.parametrize(
    ("name", "layout"), [("webm", "yuv420p"), ("ffv1", "yuv422p10le"), ("ffv1", "yuv411p")]
)
def test_shared_chroma_follows_the_visible_pixels(name: str, layout: str, foreground: str) -> None:
    clip, frame = colourful(layout)
    plain = make(name, clip, frame, None, foreground)
    clean = make(name, clip, frame, Despill("green"), foreground)
    top = planes.full_scale(clean.format.name)
    to_rgb = _rgb_matrix(clip.colour, top + 1, top, top)
    was, levels = samples(plain)
    now, _ = samples(clean)
    over_was = excess(was @ to_rgb[:, :3].T + to_rgb[:, 3])
    over_now = excess(now @ to_rgb[:, :3].T + to_rgb[:, 3])
    opaque = levels == top
    rounding = np.abs([excess(column) for column in to_rgb[:, :3].T])[1:].sum() / 2
    inside = cv2.erode(opaque.astype(np.uint8), np.ones((9, 9))) > 0
    assert over_was[inside].max() > 0.03 * top
    assert over_now[inside].max() <= rounding + 1e-6
    # At the edge soft and opaque pixels share a sample, which is the mean of both.
    assert over_now[levels > 0].max() <= 4 * rounding
    assert np.array_equal(was[inside & (over_was <= 0)], now[inside & (over_was <= 0)])


@pytest.mark.parametrize("name", ["prores", "webm", "ffv1", "png16"])
def test_grey_is_unchanged(name: str) -> None:
    clip = make_clip("yuv422p10le")
    frame = two_colours(clip, disc(0, *SIZE))
    for plane in planes.plane_views(frame.picture)[1:]:
        plane[...] = 512
    plain, clean = (make(name, clip, frame, one, "source") for one in (None, Despill("green")))
    for one, other in zip(planes.plane_views(plain), planes.plane_views(clean), strict=True):
        assert np.array_equal(one, other)


def test_half_the_strength_removes_half_the_light() -> None:
    clip, frame = colourful("gbrp12le")
    plain, half, full = (
        samples(make("png16", clip, frame, one, "source"))[0].astype(float)
        for one in (None, Despill("green", 0.5), Despill("green"))
    )
    np.testing.assert_allclose(half, (plain + full) / 2, atol=0.51)
    assert np.abs(full - plain).max() > 1000
    assert Despill.of(Settings(despill="green", despill_strength=0)) is None
    assert Despill.of(Settings()) is None


def test_the_models_foreground_is_despilled_too() -> None:
    clip, frame = colourful("yuv444p")
    frame.foreground = np.full((SIZE[1], SIZE[0], 3), (90, 200, 50), np.uint8)
    colour, levels = samples(make("png", clip, frame, Despill("green"), "model"))
    soft = (levels > 0) & (levels < 255)
    assert np.abs(colour[soft] - (90, 70, 50)).max() <= 1


def test_float_pictures_are_despilled_above_white_too() -> None:
    clip = replace(make_clip("gbrpf32le"), bit_depth=32, colour=ColourTags(0, FULL, 1, LINEAR))
    picture = av.VideoFrame(*SIZE, "gbrpf32le")
    for plane, value in zip(planes.plane_views(picture), (3.0, 0.5, 1.5), strict=True):
        plane[...] = value
    frame = two_colours(make_clip("rgb24"), disc(0, *SIZE))
    frame.picture = picture
    scene = RenderContext(clip, "source", Despill("green"))
    scene.begin(frame)
    made = CutoutLayer().renderer(clip, by_name("exr32")).render(scene)
    green, blue, red, alpha = planes.plane_views(made)
    opaque = alpha == 1
    assert (green[opaque] == 1.0).all()
    assert (blue[opaque] == 0.5).all()
    assert (red[opaque] == 1.5).all()
    assert (planes.plane_views(picture)[0] == 3.0).all(), "the frame was modified"


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("o.mov", {}, 0.01),
        ("o.webm", {}, 0.06),
        ("o.mkv", {}, 0.012),
        ("png", {"format": "png"}, 0.004),
        ("png16", {"format": "png16"}, 0.0001),
    ],
)
@pytest.mark.parametrize("foreground", ["auto", "source"])
@pytest.mark.thinned(2)
def test_written_files_read_back_without_spill(
    name: str, options: dict[str, str], most: float, foreground: str, tmp_path: Path
) -> None:
    """Read by ffmpeg. ``most``: rounding, swscale's chroma and the codec's loss."""
    movie = make_movie(
        tmp_path / "clip.mov", codec="prores_ks", pixel_format="yuv422p10le", size=SIZE,
        colour=BT709, frames=3, draw=draw_lit,
    )  # fmt: skip
    inside = np.stack([disc(index, *SIZE) == 1 for index in range(3)])
    inside[:, :, SIZE[0] // 2 - 8 : SIZE[0] // 2 + 8] = False  # chroma mixes where the lights meet
    warm = inside.copy()
    warm[:, :, : SIZE[0] // 2] = False

    def read(despill: str | None) -> np.ndarray:
        out = tmp_path / name
        chosen = {**options, "foreground": foreground, "despill": despill}
        write_clip(movie, out, overwrite=True, **chosen)
        where = out if out.is_file() else out / "%06d.png"
        return decode(where, "rgb48le") / 65535

    plain, clean = read(None), read("green")
    assert np.median(excess(plain)[inside & ~warm]) > 0.15
    assert np.quantile(excess(clean)[inside], 0.999) <= most
    assert np.quantile(np.abs(clean - plain)[warm], 0.99) <= most


@pytest.mark.parametrize("extra", ["comp", "foreground"])
def test_extra_outputs_are_despilled(extra: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=2, draw=draw_lit)
    out = tmp_path / f"{extra}.mov"
    write_clip(movie, tmp_path / "o.mov", extras=ExtraOutputs(**{extra: out}), despill="green")
    inside = np.stack([disc(index, *SIZE) == 1 for index in range(2)])
    assert np.quantile(excess(decode(out, "rgb48le"))[inside] / 65535, 0.999) < 0.02


def test_a_complete_run_and_the_streaming_api(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=3, draw=draw_lit)
    model = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    vidmatte.matte(movie.path, tmp_path / "o.mov", despill="green", **model)
    pixels = decode(tmp_path / "o.mov", "yuva444p10le")
    colours = decode(tmp_path / "o.mov", "rgb48le") / 65535
    assert (pixels[..., 3] == 1023).any()
    assert np.quantile(excess(colours)[pixels[..., 3] == 1023], 0.999) < 0.02
    with vidmatte.stream(movie.path, **model) as frames:
        plain = next(iter(frames))
    with vidmatte.stream(movie.path, despill="green", despill_strength=0.5, **model) as frames:
        clean = next(iter(frames))
    visible = plain.alpha > 0
    expected = adjustments.despill(plain.rgb, "green", 0.5)
    assert np.array_equal(clean.rgb[visible], expected[visible])
    assert np.array_equal(clean.rgb[~visible], plain.rgb[~visible])
    assert (clean.rgb != plain.rgb).any()
    recurrent = {"model": str(make_recurrent(tmp_path / "own.onnx")), "family": "rvm"}
    with vidmatte.stream(movie.path, despill="green", **recurrent) as frames:
        foreground = next(iter(frames)).foreground
    assert foreground is not None
    assert excess(foreground).max() <= 0.5


def test_the_preview_shows_it(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=3, draw=draw_lit)
    words = [str(movie.path), "--model", str(make_salient(tmp_path / "tiny.onnx")),
             "--family", "isnet", "--frames", "1"]  # fmt: skip
    sheets = []
    for name, more in (("plain.png", []), ("clean.png", ["--despill", "green"])):
        assert main(["preview", *words, "-o", str(tmp_path / name), *more]) == 0
        sheets.append(cv2.imread(str(tmp_path / name))[..., ::-1].astype(int))
    plain, clean = (np.quantile(excess(sheet), 0.99) for sheet in sheets)
    assert plain > 30
    assert clean < 3


def test_invalid_options_are_refused() -> None:
    with pytest.raises(UsageError, match="red, green, blue"):
        Settings(despill="purple")
    with pytest.raises(UsageError, match="needs --despill"):
        Settings(despill_strength=0.5)
    with pytest.raises(UsageError, match="0 to 1"):
        Settings(despill="green", despill_strength=1.5)

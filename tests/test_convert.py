"""Conversions between pixel formats, compared with ITU-T H.273 computed in float64."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from codes import KR_KB

from vidmatte.core.colour import FULL, LIMITED, ColourTags
from vidmatte.pixels import planes
from vidmatte.pixels.convert import PLANAR_RGB, Converter, pack_rgb
from vidmatte.pixels.formats import ACCURATE, reformatted
from vidmatte.pixels.network_rgb import full_range_rgb

RGB_TAGS = ColourTags(0, FULL, 1, 13)
#: One rounding to an integer, plus the error of float32 at 16 bits.
ONE_ROUNDING = 0.52


def random_rgb(pixel_format: str) -> tuple[av.VideoFrame, np.ndarray]:
    """A noise picture, and its R, G, B in 0..1."""
    generator = np.random.default_rng(5)
    frame = av.VideoFrame(64, 48, pixel_format)
    arrays = planes.plane_views(frame)
    is_float = arrays[0].dtype == np.float32
    top = 1 if is_float else planes.full_scale(pixel_format)
    for array in arrays:
        noise = generator.random(array.shape) * top
        array[...] = noise if is_float else np.rint(noise)
    if len(arrays) == 1:
        packed = arrays[0] if arrays[0].ndim == 3 else np.stack([arrays[0]] * 3, axis=-1)
        return frame, packed[..., :3].astype(np.float64) / top
    green, blue, red = arrays[:3]
    return frame, np.stack([red, green, blue], axis=-1).astype(np.float64) / top


def coded(rgb: np.ndarray, colour: ColourTags, bits: int) -> np.ndarray:
    """Y', Cb, Cr codes before rounding, ITU-T H.273."""
    kr, kb = KR_KB[colour.matrix]
    red, green, blue = np.moveaxis(rgb, -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    unit, top = 2 ** (bits - 8), 2**bits - 1
    full = colour.range == FULL
    scales = (top, top, top) if full else (219 * unit, 224 * unit, 224 * unit)
    zero = 0 if full else 16 * unit
    return np.stack(
        [
            luma * scales[0] + zero,
            (blue - luma) / (2 * (1 - kb)) * scales[1] + 128 * unit,
            (red - luma) / (2 * (1 - kr)) * scales[2] + 128 * unit,
        ],
        axis=-1,
    )


def channels(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) float64: R, G, B, or Y', Cb, Cr."""
    arrays = planes.plane_views(frame)
    name = frame.format.name
    if len(arrays) == 1:
        rgb = arrays[0][..., :3]
        return (rgb[..., ::-1] if name.startswith("bgr") else rgb).astype(np.float64)
    order = (2, 0, 1) if name.startswith("gbr") else (0, 1, 2)
    return np.stack([arrays[plane] for plane in order], axis=-1).astype(np.float64)


@pytest.mark.parametrize("colour", [ColourTags(matrix, LIMITED) for matrix in (1, 5, 6, 9)])
@pytest.mark.parametrize(
    "source", ["rgb24", "rgb48le", "gbrp", "gbrp10le", "gbrp12le", "gray", "gray10le", "gbrpf32le"]
)
def test_rgb_becomes_ycbcr_with_one_rounding(source: str, colour: ColourTags) -> None:
    frame, rgb = random_rgb(source)
    found = channels(Converter(RGB_TAGS, "yuva444p10le", colour)(frame))
    assert np.abs(found - coded(rgb, colour, 10)).max() <= ONE_ROUNDING


@pytest.mark.parametrize("target", ["rgba", "bgra", "rgba64le", "gbrap10le", "gbrap12le"])
@pytest.mark.parametrize("source", ["rgb24", "rgb48le", "gbrp10le", "gbrp16le", "gray", "gray12le"])
def test_rgb_becomes_rgb_of_another_depth_with_one_rounding(source: str, target: str) -> None:
    frame, rgb = random_rgb(source)
    found = channels(Converter(RGB_TAGS, target, RGB_TAGS)(frame))
    assert np.abs(found - rgb * planes.full_scale(target)).max() <= ONE_ROUNDING


@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("target", ["rgba", "rgba64le", "gbrap12le", "gbrap16le"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_ycbcr_becomes_rgb_of_any_depth(bits: int, target: str, matrix: int, range_: int) -> None:
    """White stays white: swscale alone gives 65283 of 65535."""
    colour = ColourTags(matrix, range_)
    _, rgb = random_rgb("rgb48le")
    codes = np.rint(coded(rgb, colour, bits))
    name = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    frame = av.VideoFrame(64, 48, name)
    for plane, code in zip(planes.plane_views(frame), np.moveaxis(codes, -1, 0), strict=True):
        plane[...] = code
    found = channels(Converter(colour, target, RGB_TAGS)(frame))
    # The R, G, B of the rounded codes: the formula inverted.
    basis = np.stack([coded(one, colour, bits) for one in np.vstack([np.zeros(3), np.eye(3)])])
    solved = (codes - basis[0]) @ np.linalg.inv(basis[1:] - basis[0])
    expected = np.clip(solved, 0, 1) * planes.full_scale(target)
    # swscale's 8-bit path also rounds its coefficients.
    allowed = ONE_ROUNDING if target != "rgba" else 1.0
    assert np.abs(found - expected).max() <= allowed


@pytest.mark.parametrize("target", ["yuva420p", "yuva422p10le"])
def test_chroma_of_odd_sizes_is_aligned_with_its_pixels(target: str) -> None:
    """Red up to column 20, blue beyond: no chroma sample covers both."""
    rgb = np.zeros((17, 33, 3), np.uint8)
    rgb[:, :20, 0] = rgb[:, 20:, 2] = 255
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    tags = ColourTags(1, LIMITED)
    _, cb, cr, _ = planes.plane_views(Converter(RGB_TAGS, target, tags)(frame))
    bits = planes.full_scale(target).bit_length()
    codes = np.rint(coded(np.array([[1, 0, 0], [0, 0, 1]]), tags, bits))
    for plane, (left, right) in zip((cb, cr), codes.T[1:], strict=True):
        assert (plane[:, :10] == left).all()
        assert (plane[:, 10:] == right).all()


def padded_to_full_chroma(odd: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """A picture whose last row and column are repeated until all chroma samples are full."""
    even = av.VideoFrame(width, height, odd.format.name)
    even.colorspace, even.color_range = odd.colorspace, odd.color_range
    for to, plane in zip(planes.plane_views(even), planes.plane_views(odd), strict=True):
        rows, columns = (
            np.minimum(range(n), m - 1) for n, m in zip(to.shape, plane.shape, strict=True)
        )
        to[...] = plane[np.ix_(rows, columns)]
    return even


@pytest.mark.parametrize("target", ["rgba", "rgba64le", "gbrap16le", "yuva444p10le", "yuva420p"])
@pytest.mark.parametrize(
    ("source", "step_y", "step_x"),
    [("yuv420p", 2, 2), ("yuv420p10le", 2, 2), ("yuv422p10le", 1, 2), ("yuv411p", 1, 4),
     ("yuv410p", 4, 4)],
)  # fmt: skip
def test_chroma_of_odd_sizes_is_not_stretched(
    source: str, step_y: int, step_x: int, target: str
) -> None:
    """33x17 equals the same area of a picture padded to full chroma samples."""
    tags = ColourTags(1, LIMITED)
    odd = av.VideoFrame(33, 17, source)
    odd.colorspace, odd.color_range = tags.matrix, tags.range
    unit = (planes.full_scale(source) + 1) // 256
    for plane in planes.plane_views(odd):
        plane[...] = np.random.default_rng(7).integers(16 * unit, 235 * unit, plane.shape)
    even = padded_to_full_chroma(odd, -(-33 // step_x) * step_x, -(-17 // step_y) * step_y)
    pictures = [Converter(tags, target, tags)(frame) for frame in (odd, even)]
    for one, other in zip(*(planes.plane_views(picture)[:3] for picture in pictures), strict=True):
        assert same(one, other[: one.shape[0], : one.shape[1]])
    one, other = (full_range_rgb(frame) for frame in (odd, even))
    assert same(one, other[:17, :33])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal samples; 16-bit ones up to OpenCV's rounding, which depends on the column."""
    least = 1 if one.max() > 1023 else 0
    return bool(np.abs(one.astype(int) - other).max() <= least)


@pytest.mark.parametrize(("given", "wanted"), [(FULL, LIMITED), (LIMITED, FULL)])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_range_change_is_rounded_once(bits: int, given: int, wanted: int) -> None:
    """8-bit full-range white becomes 940, not the 937 of a shifted 255."""
    source, target = ColourTags(1, given), ColourTags(1, wanted)
    _, rgb = random_rgb("rgb48le")
    rgb[0, :2] = [[0, 0, 0], [1, 1, 1]]
    codes = np.rint(coded(rgb, source, bits))
    name = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    frame = av.VideoFrame(64, 48, name)
    for plane, code in zip(planes.plane_views(frame), np.moveaxis(codes, -1, 0), strict=True):
        plane[...] = code
    found = channels(Converter(source, "yuva444p10le", target)(frame))
    basis = np.stack([coded(one, source, bits) for one in np.vstack([np.zeros(3), np.eye(3)])])
    solved = (codes - basis[0]) @ np.linalg.inv(basis[1:] - basis[0])
    expected = np.clip(coded(solved, target, 10), 0, 1023)
    # swscale first converts a 12-bit source to 10 bits, with dithering.
    apart = found - expected
    assert np.abs(apart).max() <= (ONE_ROUNDING if bits <= 10 else 1.7)
    assert abs(apart.mean()) < 0.02
    if wanted == LIMITED and bits <= 10:
        assert found[0, :2, 0].tolist() == [64, 940]


@pytest.mark.parametrize("wanted", [LIMITED, FULL])
def test_yuvj_formats_are_read_as_their_plain_formats(wanted: int) -> None:
    """JPEG and full-range H.264 decode to yuvj420p, which swscale would make limited range."""
    given, tags = ColourTags(6, FULL), ColourTags(6, wanted)
    frames = [av.VideoFrame(64, 48, name) for name in ("yuv444p", "yuvj444p")]
    for frame in frames:
        for plane, code in zip(planes.plane_views(frame), (88, 101, 208), strict=True):
            plane[...] = code
    one, other = (channels(Converter(given, "yuv444p10le", tags)(frame)) for frame in frames)
    assert np.array_equal(one, other)


def test_another_matrix_is_refused_in_one_step_and_exact_in_two() -> None:
    """Codes with the wrong matrix tag would silently change the colours."""
    source, target = ColourTags(6, LIMITED), ColourTags(1, LIMITED)
    frame = av.VideoFrame(64, 48, "yuv444p10le")
    _, rgb = random_rgb("rgb48le")
    codes = np.rint(coded(rgb, source, 10))
    for plane, code in zip(planes.plane_views(frame), np.moveaxis(codes, -1, 0), strict=True):
        plane[...] = code
    with pytest.raises(ValueError, match="matrix 6 to 1"):
        Converter(source, "yuv444p10le", target)(frame)
    between = Converter(source, "gbrp16le", RGB_TAGS)(frame)
    found = channels(Converter(RGB_TAGS, "yuv444p10le", target)(between))
    # A 10-bit code is rounded on both sides.
    assert np.abs(found - coded(rgb, target, 10)).max() <= 1.5


def test_a_deep_ramp_keeps_its_levels_in_16_bit_rgb() -> None:
    frame = av.VideoFrame(1024, 2, "yuv444p10le")
    luma, *chroma = planes.plane_views(frame)
    luma[...] = np.arange(1024)
    for plane in chroma:
        plane[...] = 512
    found = channels(Converter(ColourTags(1, FULL), "rgba64le", RGB_TAGS)(frame))
    assert len(np.unique(found[0, :, 0])) == 1024
    assert found[0, [0, 1023], 0].tolist() == [0, 65535]


@pytest.mark.parametrize("range_", [LIMITED, FULL])
@pytest.mark.parametrize(
    "layout",
    ["yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv420p10le", "yuv422p12le", "yuv444p16le"],
)
def test_planar_rgb_has_the_samples_of_packed_rgb(layout: str, range_: int) -> None:
    """It is made because swscale makes it faster."""
    random, frame = np.random.default_rng(8), av.VideoFrame(333, 77, layout)
    for plane in planes.plane_views(frame):
        plane[...] = random.integers(0, planes.full_scale(layout) + 1, plane.shape)
    packed, planar = (
        reformatted(
            VideoReformatter(), frame, name, interpolation=ACCURATE, threads=1,
            src_colorspace=5, src_color_range=range_, dst_color_range=FULL,
        )
        for name in ("rgb24", PLANAR_RGB)
    )  # fmt: skip
    expected = planes.plane_views(packed)[0]
    for depth in (3, 4):
        found = np.empty((77, 333, depth), np.uint8)
        pack_rgb(planar, found)
        assert np.array_equal(found[..., :3], expected) and (found[..., 3:] == 255).all()
        pack_rgb(planar, found, is_bgr=True)
        assert np.array_equal(found[..., 2::-1], expected)

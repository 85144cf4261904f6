"""OpenEXR, animated WebP and GIF; premultiplied colours."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import Movie, make_movie, make_pictures
from readback import decode, probe_frames
from test_cutout import make_clip
from writer_support import disc, levels, read_frames, write_clip

from vidmatte.core.colour import FULL, LINEAR, ColourTags
from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import OutputError, UsageError, VerificationError
from vidmatte.media.exr_writer import FLOAT, ExrWriter
from vidmatte.media.webp import read_webp
from vidmatte.pixels import planes
from vidmatte.pixels.convert import Converter
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.formats import FORMATS, by_name
from vidmatte.writers.output import RenderContext
from vidmatte.writers.render.layers import CutoutLayer


def read_exr(path: Path) -> np.ndarray:
    """(H, W, 4) float32 R, G, B, alpha."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    half = picture.format.name == "gbrapf16le"
    arrays = planes.plane_views(picture)
    green, blue, red, alpha = (a.view(np.float16) if half else a for a in arrays)
    return np.stack([red, green, blue, alpha], axis=-1).astype(np.float32)


def codes_of(movie: Movie) -> tuple[Clip, np.ndarray]:
    """The clip and R', G', B' (N, H, W, 3) in 0..1."""
    clip, frames = read_frames(movie.path, Settings(), disc)
    convert = Converter(clip.colour, "rgba64le", ColourTags(0, 2))
    rgb = [planes.plane_views(convert(frame.picture))[0][..., :3] / 65535 for frame in frames]
    return clip, np.stack(rgb)


def to_light(code: np.ndarray) -> np.ndarray:
    """The inverse of the BT.709 transfer curve, ITU-R BT.709 item 1.2."""
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


@pytest.mark.parametrize(("name", "step"), [("exr", 2.0**-11), ("exr32", 1e-6)])
def test_exr_is_linear_light_and_tagged_so(
    name: str, step: float, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("10-bit 709")
    write_clip(movie, out := tmp_path / "frames", format=name)
    clip, codes = codes_of(movie)
    alpha = disc(0, clip.width, clip.height)
    found = read_exr(out / "000000.exr")
    opaque = alpha == 1
    expected = to_light(codes[0])
    apart = np.abs(found[..., :3] - expected)[opaque]
    assert (apart <= step * np.maximum(expected[opaque], 2.0**-14) + 1e-6).all()
    assert np.abs(found[..., 3] - alpha).max() <= step
    head = (out / "000000.exr").read_bytes()[:2000]
    assert b"transfer\0string\0" in head
    assert b"linear" in head
    assert b"chromaticities" in head
    assert b"premultiplied alpha; colours are linear light" in head


def test_exr_keeps_pq_code_values(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    movie = source_movie("10-bit 2020 PQ")
    write_clip(movie, out := tmp_path / "frames", format="exr")
    clip, codes = codes_of(movie)
    opaque = disc(0, clip.width, clip.height) == 1
    found = read_exr(out / "000000.exr")[..., :3]
    assert np.abs(found - codes[0])[opaque].max() < 2.0**-11
    assert b"smpte2084" in (out / "000000.exr").read_bytes()[:2000]


def test_coded_exr_keeps_code_values(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    movie = source_movie("8-bit 709")
    write_clip(movie, out := tmp_path / "frames", format="exr-coded")
    clip, codes = codes_of(movie)
    opaque = disc(3, clip.width, clip.height) == 1
    found = read_exr(out / "000003.exr")[..., :3]
    assert np.abs(found - codes[3])[opaque].max() < 2.0**-11


def test_exr_alpha_has_full_precision(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    movie = source_movie("8-bit 709")
    write_clip(movie, out := tmp_path / "frames", alpha=levels, format="exr32")
    found = read_exr(out / "000000.exr")[..., 3]
    assert np.array_equal(found, levels(0, *movie.size))


def test_ffmpeg_reads_the_exr(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    """An independent reader gets the same picture; odd sizes end in a short block."""
    movie = source_movie("odd size")
    write_clip(movie, out := tmp_path / "frames", format="exr-coded")
    found = decode(out / "%06d.exr", "rgba")
    assert found.shape == (movie.frames, movie.size[1], movie.size[0], 4)
    opaque = disc(0, *movie.size) == 1
    expected = decode(movie.path, "rgb24")[0]
    assert np.abs(found[0, ..., :3].astype(int) - expected)[opaque].max() <= 1


@pytest.mark.parametrize("working", ["gbrpf32le", "grayf32le"])
def test_float_pictures_keep_their_highlights(working: str) -> None:
    """Values above 1 are unchanged where the subject is opaque."""
    clip = make_clip(working, colour=ColourTags(0, FULL, 1, LINEAR))
    picture = av.VideoFrame(clip.width, clip.height, working)
    generator = np.random.default_rng(3)
    for plane in planes.plane_views(picture):
        plane[...] = generator.random(plane.shape) * 4 - 0.5
    alpha = disc(0, clip.width, clip.height)
    blank = np.zeros((*alpha.shape, 3), np.uint8)
    scene = RenderContext(clip, "estimate")
    scene.begin(Frame(0, 0, 1, clip.time_base, picture, blank, alpha))
    made = CutoutLayer().renderer(clip, by_name("exr32")).render(scene)
    opaque = alpha == 1
    given = planes.plane_views(picture) * (3 if working == "grayf32le" else 1)
    for found, plane in zip(planes.plane_views(made)[:3], given, strict=True):
        assert np.array_equal(found[opaque], plane[opaque])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "largest"), [("exr", 65504), ("exr32", 1e6), ("png16", 65535)])
def test_values_out_of_range_and_nan(name: str, largest: float, tmp_path: Path) -> None:
    """Clipped to the largest value without a warning; integer formats store 0 for NaN."""
    folder = tmp_path / "plates"
    folder.mkdir()
    clip = make_clip("gbrpf32le", colour=ColourTags(0, FULL, 1, LINEAR))
    picture = av.VideoFrame(clip.width, clip.height, "gbrapf32le")
    for plane in planes.plane_views(picture):
        plane[...] = 0.5
        plane[8:16, 8:16], plane[8:16, 24:32] = 1e6, np.nan
    data = ExrWriter(clip, FLOAT, clip.colour, "straight").encode(picture)
    (folder / "1.exr").write_bytes(b"".join(data))
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    write_clip(folder, out := tmp_path / "out", opaque, format=name, fps="25")
    (file,) = out.iterdir()
    if name == "png16":
        found = cv2.imread(str(file), cv2.IMREAD_UNCHANGED).astype(float)
    else:
        found = read_exr(file)
    assert (found[8:16, 8:16, :3] == largest).all()
    nothing = found[8:16, 24:32, :3]
    assert (nothing == 0).all() if name == "png16" else np.isnan(nothing).all()


def alpha_of(movie: Movie, index: int) -> np.ndarray:
    return disc(index, *movie.size)


@pytest.mark.parametrize("kind", ["8-bit 709", "variable rate"])
def test_webp_keeps_timing_and_alpha(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    _, written = write_clip(movie, out := tmp_path / "out.webp")
    found = read_webp(out)
    assert (found.width, found.height, found.has_alpha) == (*movie.size, True)
    assert len(found.lengths) == movie.frames
    pts = [*movie.pts, movie.pts[-1] + movie.pts[-1] - movie.pts[-2]]
    for index, length in enumerate(found.lengths[:-1]):
        expected = (pts[index + 1] - pts[index]) * movie.time_base
        assert abs(length - expected) <= Fraction(1, 1000)
    assert abs(sum(found.lengths) - written.seconds) <= Fraction(1, 2000)
    assert found.loops == 0, "it has to loop for ever, like GIF"
    ok, animation = cv2.imreadanimation(str(out))
    assert ok
    assert np.abs(animation.frames[2][..., 3] / 255 - alpha_of(movie, 2)).mean() < 0.01
    if movie.audio:
        assert written.notes == ("webp has no sound",)


def test_one_frame_of_webp(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=1)
    _, written = write_clip(movie, tmp_path / "out.webp")
    assert written.frames == 1


@pytest.mark.parametrize("frames", [1, 3])
def test_an_opaque_webp_has_no_alpha(frames: int, tmp_path: Path) -> None:
    """A subject that fills the frame; a single opaque frame is a simple WebP."""
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    (tmp_path / "plates").mkdir()
    for index in range(frames):  # no static area, which a later frame would store as transparent
        noise = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "plates" / f"{index}.png"), noise)
    _, written = write_clip(tmp_path / "plates", tmp_path / "out.webp", opaque)
    found = read_webp(tmp_path / "out.webp")
    assert (written.frames, found.has_alpha) == (frames, False)
    assert (found.width, found.height) == (64, 48)
    assert len(found.lengths) == (0 if frames == 1 else frames)


def test_a_webp_of_identical_opaque_frames_is_refused_with_the_reason(tmp_path: Path) -> None:
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    (picture,) = make_pictures(tmp_path / "plates", frames=1)
    shutil.copy(picture, picture.with_name("shot_0002.png"))
    with pytest.raises(
        VerificationError, match="libwebp merges identical frames: choose another format"
    ):
        write_clip(tmp_path / "plates", tmp_path / "out.webp", opaque)


def test_gif_counts_hundredths_of_a_second(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    """Faster clips are refused before the run; variable rates fail at the frame in question."""
    fast = make_movie(tmp_path / "fast.mp4", rate=Fraction(120), frames=3)
    with pytest.raises(UsageError, match=r"fast\.mp4: 120 frames .* the 100 .* --conform 50"):
        write_clip(fast, tmp_path / "fast.gif")
    _, written = write_clip(fast, tmp_path / "fast.webp")
    assert written.frames == 3
    _, written = write_clip(fast, tmp_path / "slower.gif", conform="50")
    assert written.frames == 1
    message = (
        r"frame 7, at 0\.268 s, is less than 1/100 s after the previous one, .* add --conform 50"
    )
    with pytest.raises(OutputError, match=message):
        write_clip(source_movie("variable rate"), tmp_path / "out.gif")


def test_gif_keeps_timing_and_is_transparent_where_alpha_is_below_half(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    write_clip(movie, out := tmp_path / "out.gif")
    assert len(probe_frames(out)) == movie.frames
    found = decode(out, "rgba")
    expected = decode(movie.path, "rgb24").astype(int)
    for index in range(movie.frames):
        alpha = alpha_of(movie, index)
        assert np.array_equal(found[index, ..., 3] == 255, np.rint(alpha * 255) >= 128)
        apart = (found[index, ..., :3] - expected[index])[alpha == 1]
        assert np.abs(apart).mean() < 25, "six or seven levels a channel, dithered"
        assert np.abs(apart.mean(axis=0)).max() < 3, "the mean colour changed"


@pytest.mark.parametrize(("size", "rows"), [((40, 24), slice(9, 10)), ((40, 1), slice(None))])
def test_a_single_row_is_visible_in_a_gif(
    size: tuple[int, int], rows: slice, tmp_path: Path
) -> None:
    def row(index: int, width: int, height: int) -> np.ndarray:
        alpha = np.zeros((height, width), np.float32)
        alpha[rows, 5 : 20 + index] = 1
        return alpha

    make_pictures(tmp_path / "plates", size=size, frames=2)
    write_clip(tmp_path / "plates", out := tmp_path / "out.gif", row)
    found = decode(out, "rgba")[..., 3]
    assert np.array_equal(found > 0, [row(index, *size) > 0 for index in range(2)])


@pytest.mark.parametrize("name", ["prores", "ffv1", "webm", "png", "png16", "exr32"])
def test_premultiplied_colours_are_straight_colours_times_alpha(
    name: str, source_movie: Callable[[str], Movie]
) -> None:
    """Relative to black, for RGB and for luma; opaque pixels are equal."""
    clip, frames = read_frames(source_movie("8-bit 709").path, Settings(), disc)
    row, frame = by_name(name), next(frames)
    scene = RenderContext(clip, "estimate")
    scene.begin(frame)
    straight = CutoutLayer().renderer(clip, row).render(scene)
    multiplied = CutoutLayer(premultiplied=True).renderer(clip, row).render(scene)

    def first_channel(picture: av.VideoFrame) -> np.ndarray:
        if picture.format.name.endswith("be"):
            picture = picture.reformat(format="rgba64le")
        plane = planes.plane_views(picture)[0]
        return (plane[..., 0] if plane.ndim == 3 else plane).astype(np.float64)

    alpha = disc(0, clip.width, clip.height).astype(np.float64)
    is_float = row.pixel_format(clip) == "gbrapf32le"
    scale = 1 if is_float else planes.full_scale(row.pixel_format(clip))
    zero = (scale + 1) // 16 if row.pixel_format(clip).startswith("yuv") else 0
    expected = zero + (first_channel(straight) - zero) * alpha
    step = 1e-6 if is_float else 1.01
    assert np.abs(first_channel(multiplied) - expected).max() <= step
    for one, two in zip(planes.plane_views(straight), planes.plane_views(multiplied), strict=True):
        if one.shape[:2] == alpha.shape:
            assert np.array_equal(one[alpha == 1], two[alpha == 1])


@pytest.mark.parametrize("name", ["exr", "exr32", "exr-coded"])
def test_exr_composites_as_nukes_merge_does(name: str, tmp_path: Path) -> None:
    """A + B (1 - a), Nuke's "over", gives the subject's own colours mixed with the ground."""
    (picture,) = make_pictures(tmp_path, frames=1, size=(64, 48))
    colours = {}
    for kind in ("auto", "straight", "premultiplied"):
        _, written = write_clip(
            picture, out := tmp_path / f"{kind}.exr", levels, alpha_kind=kind, format=name
        )
        colours[kind] = read_exr(out)
        is_told = any("is read as premultiplied alpha" in note for note in written.notes)
        assert is_told is (kind == "straight")
    rgb, alpha = colours["straight"][..., :3], colours["straight"][..., 3:]
    ground = np.float32([0.18, 0.5, 1.0])
    merged = colours["auto"][..., :3] + ground * (1 - colours["auto"][..., 3:])
    assert np.abs(merged - (rgb * alpha + ground * (1 - alpha))).max() < 2e-3
    assert np.array_equal(colours["auto"], colours["premultiplied"])
    assert b"premultiplied alpha" in (tmp_path / "auto.exr").read_bytes()[:2000]


def test_only_exr_is_premultiplied_by_default() -> None:
    chosen = [row.name for row in FORMATS if row.premultiplies("auto")]
    assert chosen == ["exr", "exr32", "exr-coded"]
    assert not any(row.premultiplies("straight") for row in FORMATS)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_premultiplied_chroma_is_aligned_at_odd_sizes(pixel_format: str, tmp_path: Path) -> None:
    """The last chroma sample of 33 pixels covers one pixel and shifts none of the others."""
    clip_path = make_movie(
        tmp_path / "odd.mkv", size=(33, 17), frames=1, codec="ffv1", pixel_format=pixel_format
    ).path
    clip, frames = read_frames(clip_path, Settings(), disc)
    scene = RenderContext(clip, "source")
    scene.begin(next(frames))
    row = by_name("ffv1")
    straight = CutoutLayer().renderer(clip, row).render(scene)
    multiplied = CutoutLayer(premultiplied=True).renderer(clip, row).render(scene)
    *_, alpha = planes.plane_views(straight)
    neutral = (planes.full_scale(straight.format.name) + 1) // 2
    for given, found in zip(
        planes.plane_views(straight)[1:3], planes.plane_views(multiplied)[1:3], strict=True
    ):
        down = 2 if pixel_format == "yuv420p" else 1
        padded = np.pad(alpha, ((0, -17 % down), (0, 1)), "edge").astype(np.float64)
        share = padded.reshape(given.shape[0], down, 17, 2).mean(axis=(1, 3))
        share /= planes.full_scale(straight.format.name)
        expected = (given.astype(np.float64) - neutral) * share + neutral
        assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize(("alpha_kind", "value"), [("straight", 2), ("premultiplied", 1)])
def test_tiff_declares_its_kind_of_alpha(alpha_kind: str, value: int, tmp_path: Path) -> None:
    """ExtraSamples of TIFF 6.0: 1 for associated alpha, 2 for unassociated."""
    make_pictures(tmp_path / "plates", frames=2, size=(64, 48))
    write_clip(tmp_path / "plates", out := tmp_path / "out", format="tiff16", alpha_kind=alpha_kind)
    for path in out.glob("*.tif"):
        data = path.read_bytes()
        (place,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, place)
        entries = [struct.unpack_from("<HHIH", data, place + 2 + 12 * n) for n in range(count)]
        assert [entry for entry in entries if entry[0] == 338] == [(338, 3, 1, value)]
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (48, 64, 4)
    assert len(list(out.glob("*.tif"))) == 2


@pytest.mark.parametrize(
    ("name", "noted"),
    [("o.png", True), ("o.webm", True), ("o.webp", True), ("o.mov", False), ("o.tif", False),
     ("o.exr", False), ("o.gif", False), ("o.mkv", False)],
)  # fmt: skip
@pytest.mark.parametrize("alpha_kind", ["straight", "premultiplied"])
def test_premultiplied_alpha_in_a_straight_format_is_noted(
    alpha_kind: str, name: str, noted: bool, tmp_path: Path
) -> None:
    (picture,) = make_pictures(tmp_path, frames=1, size=(64, 48))
    _, written = write_clip(picture, tmp_path / name, alpha_kind=alpha_kind)
    notes = [note for note in written.notes if "is read as straight alpha" in note]
    assert bool(notes) is (noted and alpha_kind == "premultiplied")


@pytest.mark.parametrize(
    ("pixel_format", "layout"),
    [("yuv420p", None), ("yuv422p", None), ("yuv444p", None), ("yuv440p", "4:4:0")],
)
def test_chroma_resampling_for_ffv1_is_noted(
    pixel_format: str, layout: str | None, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mkv", frames=1, size=(64, 48), codec="ffv1",
                       pixel_format=pixel_format)  # fmt: skip
    extras = ExtraOutputs(comp=tmp_path / "c.mkv")
    _, written = write_clip(movie, tmp_path / "out.mkv", extras=extras)
    notes = [note for note in written.notes if "chroma is resampled" in note]
    assert len(notes) == (layout is not None)
    assert all(f"from {layout} to 4:4:4" in note for note in notes)
    assert not any("resampled" in note for note in written.extra_outputs[0].notes)


def test_a_premultiplied_movie_is_written(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    write_clip(movie, out := tmp_path / "out.mov", alpha_kind="premultiplied")
    found = decode(out, "rgba")
    clear = alpha_of(movie, 0) == 0
    assert found[0, ..., :3][clear].max() <= 8
    assert found[0, ..., 3][clear].max() == 0

"""Extra outputs of a run: the matte, the foreground, the composite over a background."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import pytest
from codes import code_planes
from media import BT601_525, BT2020_PQ, Movie, make_movie, make_pictures
from readback import beep_time, decode, frame_times, probe_stream
from scene import Picture, read_index
from writer_support import disc, write_clip

from vidmatte.core.colour import FULL, LIMITED, ColourTags
from vidmatte.errors import OutputError, OutputExistsError, UsageError
from vidmatte.jobs.finished import _noted_result
from vidmatte.jobs.outputs import open_writer
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import _FOREGROUND_FORMATS, ExtraOutputs
from vidmatte.writers.format_spec import OutputFormat
from vidmatte.writers.render.background import _COLOURS, _parse_colour, open_background


def alphas(movie: Movie) -> np.ndarray:
    """(N, H, W) float64, the disc of every frame."""
    return np.stack([disc(i, *movie.size) for i in range(movie.frames)]).astype(np.float64)


@pytest.fixture
def movie(source_movie: Callable[[str], Movie]) -> Movie:
    return source_movie("8-bit 709")


@pytest.mark.parametrize(
    ("name", "pixel_format", "low", "high"),
    [
        ("m.mov", "yuv422p10le", 64, 940),
        ("m.mkv", "gray16le", 0, 65535),
        ("m", "gray16be", 0, 65535),
    ],
)
def test_the_matte_contains_alpha(
    name: str, pixel_format: str, low: int, high: int, movie: Movie, tmp_path: Path
) -> None:
    _, written = write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(matte=tmp_path / name))
    (extra,) = written.extra_outputs
    assert (extra.frames, extra.pixel_format) == (movie.frames, pixel_format)
    path = tmp_path / name
    picture = path / "%06d.png" if path.is_dir() else path
    found = decode(picture, "gray10le" if low else "gray16le")[..., 0].astype(np.float64)
    expected = low + alphas(movie) * (high - low)
    if low:
        # ffmpeg converts limited luma to full-range grey.
        expected, high = (expected - low) * 1023 / (high - low), 1023
        assert np.abs(found - expected).max() < 0.02 * high, "ProRes is lossy at the edge"
        assert np.abs(found - expected)[(alphas(movie) == 0) | (alphas(movie) == 1)].mean() < 0.5
    else:
        assert np.abs(found - expected).max() <= 0.51


def test_a_matte_in_h264_is_a_grey_movie(movie: Movie, tmp_path: Path) -> None:
    write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(matte=tmp_path / "m.mp4"))
    found = decode(tmp_path / "m.mp4", "rgb24").astype(float)
    assert np.abs(found - alphas(movie)[..., None] * 255).mean() < 1


@pytest.mark.parametrize("policy", ["source", "estimate"])
@pytest.mark.thinned(2)
def test_the_foreground_equals_the_cut_outs_colours(
    policy: str, movie: Movie, tmp_path: Path
) -> None:
    write_clip(
        movie,
        out := tmp_path / "out.mov",
        extras=ExtraOutputs(foreground=tmp_path / "f.mov"),
        foreground=policy,
    )
    stream = probe_stream(tmp_path / "f.mov")
    assert (stream["codec_tag_string"], stream["pix_fmt"]) == ("ap4h", "yuv444p12le")
    assert np.array_equal(
        decode(tmp_path / "f.mov", "yuv444p12le"), decode(out, "yuva444p12le")[..., :3]
    )


@pytest.mark.parametrize("name", ["f.mkv", "f", "f16"])
@pytest.mark.thinned(2)
def test_foreground_images_and_ffv1(name: str, movie: Movie, tmp_path: Path) -> None:
    write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(foreground=tmp_path / name))
    path = tmp_path / name
    found = decode(path / "%06d.png" if path.is_dir() else path, "rgb24")
    expected = decode(movie.path, "rgb24")
    assert np.abs(found.astype(int) - expected).max() <= 1, "'source' colours, everywhere"


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("row", _FOREGROUND_FORMATS, ids=lambda row: row.name)
@pytest.mark.thinned(3)
def test_every_foreground_format_keeps_an_rgb_sources_colours(
    row: OutputFormat, bits: int, tmp_path: Path
) -> None:
    """With opaque alpha the foreground is the source: each sample in its own channel."""
    folder = tmp_path / "plates"
    make_pictures(folder, frames=2, size=(64, 48), bits=bits, draw=coloured)
    opaque = lambda index, width, height: np.ones((height, width), np.float32)  # noqa: E731
    name = f"f{row.suffixes[0]}" if row.container else f"f_%06d{row.suffixes[0]}"
    main = tmp_path / ("out.mov" if row.container else "out")
    _, written = write_clip(folder, main, opaque, extras=ExtraOutputs(foreground=tmp_path / name))
    (extra,) = written.extra_outputs
    is_deep = bits == 16 or extra.pixel_format not in ("rgb24", "bgr0")
    peak = 65535 if is_deep else 255
    before = () if row.container else ("-start_number", "0")
    found = decode(tmp_path / name, "rgb48le" if is_deep else "rgb24", before=before)
    expected = np.stack([coloured(index, 64, 48).rgb for index in range(2)])
    allowed = 0.02 if row.name == "prores" else 0.51 / (255 if bits == 8 else 65535)
    assert np.abs(found / peak - expected).max() < allowed, extra.pixel_format


@pytest.mark.parametrize("name", ["c.mov", "c.mkv", "c"])
@pytest.mark.parametrize(
    ("background", "colour"), [("#3366cc", (0x33, 0x66, 0xCC)), ("green", _COLOURS["green"])]
)
@pytest.mark.thinned(4)
def test_a_composite_is_the_subject_over_the_background(
    name: str, background: str, colour: tuple[int, int, int], movie: Movie, tmp_path: Path
) -> None:
    extras = ExtraOutputs(comp=tmp_path / name, background=background)
    write_clip(movie, tmp_path / "out.mov", extras=extras)
    path = tmp_path / name
    found = decode(path / "%06d.png" if path.is_dir() else path, "rgb24").astype(float)
    alpha = alphas(movie)[..., None]
    expected = alpha * decode(movie.path, "rgb24") + (1 - alpha) * np.array(colour)
    apart = np.abs(found - expected)
    if name == "c.mov":
        # 4:2:2 and ProRes at the edge of a saturated background.
        assert apart.mean() < 2
        assert apart[alphas(movie) == 1].mean() < 1.5
    else:
        assert apart.mean() < 0.6
        assert apart.max() <= 3


@pytest.mark.parametrize("name", ["c_%06d.png", "c_%06d.tif", "c.mkv"])
def test_a_composite_of_a_deep_source_has_the_right_byte_order(name: str, tmp_path: Path) -> None:
    """PNG is big-endian."""
    clip = make_movie(
        tmp_path / "deep.mkv",
        size=(64, 48),
        frames=2,
        codec="ffv1",
        pixel_format="yuv444p10le",
    )
    extras = ExtraOutputs(comp=tmp_path / name, background="#3366cc")
    write_clip(clip, tmp_path / "out.mkv", extras=extras)
    before = ("-start_number", "0") if "%" in name else ()
    found = decode(tmp_path / name, "rgb48le", before=before) / 65535
    alpha = alphas(clip)[..., None]
    subject = decode(clip.path, "rgb48le") / 65535
    expected = alpha * subject + (1 - alpha) * np.array([0x33, 0x66, 0xCC]) / 255
    assert np.abs(found - expected).max() < 2 / 255


@pytest.mark.parametrize("size", [(65, 48), (64, 47)])
def test_prores_of_odd_sizes_keeps_its_last_column(size: tuple[int, int], tmp_path: Path) -> None:
    """Without padding 4:2:2 has no chroma for the last column: players show a green line."""
    odd = make_movie(tmp_path / "odd.mkv", size=size, frames=2, codec="ffv1",
                     pixel_format="yuv444p")  # fmt: skip
    extras = ExtraOutputs(comp=tmp_path / "c.mov", matte=tmp_path / "m.mov", background="grey")
    write_clip(odd, tmp_path / "out.mov", extras=extras)
    comp, matte = (decode(tmp_path / name, "rgb24").astype(int) for name in ("c.mov", "m.mov"))
    assert not alphas(odd)[..., -1].any()
    assert np.abs(comp[:, :, -1] - 128).max() <= 2
    assert matte[:, :, -1].max() <= 2


def test_an_mp4_composite_is_h264_with_audio(movie: Movie, tmp_path: Path) -> None:
    def ruler(index: int, width: int, height: int) -> np.ndarray:
        alpha = disc(index, width, height)
        alpha[height // 2 :] = 1
        return alpha

    write_clip(movie, tmp_path / "out.mov", ruler, extras=ExtraOutputs(comp=tmp_path / "c.mp4"))
    stream = probe_stream(tmp_path / "c.mp4")
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert stream["color_range"] == "tv"
    assert [read_index(picture) for picture in decode(tmp_path / "c.mp4")] == list(range(10))
    assert movie.flash is not None
    flash = float(frame_times(tmp_path / "c.mp4")[movie.flash])
    assert abs(beep_time(tmp_path / "c.mp4") - flash) < 0.003
    # Without --background the background is a checkerboard of two greys.
    corner = decode(tmp_path / "c.mp4")[0, :8, :8]
    assert set(np.unique(np.round(corner / 25.5).astype(int))) <= {6, 8}


def test_a_background_clip_keeps_its_own_rate(movie: Movie, tmp_path: Path) -> None:
    """At half the rate each of its frames shows twice; the last one stays to the end."""
    behind = make_movie(tmp_path / "behind.mov", rate=movie.rate / 2, frames=4, size=(384, 216))
    extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(behind.path))
    nothing = lambda index, width, height: np.zeros((height, width), np.float32)  # noqa: E731
    write_clip(movie, tmp_path / "out.mov", alpha=nothing, extras=extras)
    shown = [read_index(picture) for picture in decode(tmp_path / "c.mkv")]
    assert shown == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_a_background_folder_has_one_image_per_frame(tmp_path: Path) -> None:
    """Images have no frame rate, so the clip's is used."""
    movie = make_movie(tmp_path / "clip.mov", rate=Fraction(50), frames=6)
    make_pictures(tmp_path / "behind", frames=6)
    extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(tmp_path / "behind"))
    nothing = lambda index, width, height: np.zeros((height, width), np.float32)  # noqa: E731
    write_clip(movie, tmp_path / "out.mov", alpha=nothing, extras=extras)
    assert [read_index(picture) for picture in decode(tmp_path / "c.mkv")] == [*range(6)]


def test_a_background_that_is_not_shown_unchanged_is_noted(movie: Movie, tmp_path: Path) -> None:
    layers = np.full((108, 192, 4), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "layer.png"), layers)
    cv2.imwrite(str(tmp_path / "plain.png"), layers[..., :3])
    hdr = make_movie(tmp_path / "hdr.mkv", frames=1, codec="ffv1", pixel_format="yuv420p10le",
                     colour=BT2020_PQ)  # fmt: skip

    def notes_on(clip: Movie, background: Path | str) -> list[str]:
        extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(background))
        _, written = write_clip(clip, tmp_path / "out.mov", extras=extras, overwrite=True)
        return [note for note in written.extra_outputs[0].notes if "--background" in note]

    assert (
        notes_on(movie, tmp_path / "plain.png")
        == notes_on(movie, "white")
        == notes_on(hdr, hdr.path)
        == []
    )
    (line,) = notes_on(movie, tmp_path / "layer.png")
    assert "layer.png: its own alpha is ignored" in line
    (line,) = notes_on(movie, hdr.path)
    assert "hdr.mkv: its code values, smpte2084, are used unchanged" in line
    (line,) = notes_on(hdr, "white")
    assert "white: its code values, iec61966-2-1" in line
    assert "the clip's, smpte2084" in line


@pytest.fixture
def no_gc() -> Iterator[None]:
    """No garbage collection, so that cycles are not freed."""
    gc.disable()
    yield
    gc.enable()


def is_open(path: Path) -> bool:
    return any(Path(file.path) == path for file in psutil.Process().open_files())


@pytest.mark.usefixtures("no_gc")
def test_a_background_clip_is_closed(movie: Movie, tmp_path: Path) -> None:
    behind = make_movie(tmp_path / "behind.mov", frames=60)
    with open_reader(movie.path, Settings()) as source:
        ground = open_background(str(behind.path), source.clip)
        ground.at(Fraction(0))
        assert is_open(behind.path)
        ground.close()
        assert not is_open(behind.path)
        ground.close()


@pytest.mark.usefixtures("no_gc")
def test_a_background_clip_is_closed_if_nothing_is_written(movie: Movie, tmp_path: Path) -> None:
    behind = make_movie(tmp_path / "behind.mov", frames=60)
    extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(behind.path))
    out = tmp_path / "out.mov"
    clip, _ = write_clip(movie, out, extras=extras, resume=True)
    settings = Settings(
        foreground="source", comp=str(extras.comp), background=extras.background, resume=True
    )
    assert _noted_result(out, clip, settings, {}) is not None
    assert not is_open(behind.path)
    with pytest.raises(UsageError, match="belongs to a different job"):
        open_writer(out, clip, settings, {"model": "another"})
    assert not is_open(behind.path)


def test_a_background_image_covers_the_frame(movie: Movie, tmp_path: Path) -> None:
    """A tall image is scaled to the width and cropped at the top and bottom."""
    (path,) = make_pictures(tmp_path / "plates", frames=1, size=(100, 300))
    extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(path))
    write_clip(movie, tmp_path / "out.mov", extras=extras)
    corner = decode(tmp_path / "c.mkv")[0, :30, :30]
    assert corner.mean() > 10, "the picture reaches the corner"


def ring(index: float, width: int, height: int, lit: bool = False) -> Picture:
    """A white disc in the middle with half the picture's height."""
    y, x = np.mgrid[0:height, 0:width]
    inside = np.hypot(x + 0.5 - width / 2, y + 0.5 - height / 2) < height / 4
    rgb = np.repeat(inside[..., None], 3, axis=2).astype(np.float32)
    return Picture(rgb, np.ones((height, width), np.float32))


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(64, 45), Fraction(8, 9)])
@pytest.mark.parametrize("behind", [Fraction(1), Fraction(4, 3)])
def test_the_background_keeps_its_display_aspect(
    aspect: Fraction, behind: Fraction, tmp_path: Path
) -> None:
    """A disc's displayed width and height, for any pixel aspect of clip and background."""
    clip = make_movie(tmp_path / "c.mp4", size=(180, 144), frames=1, sample_aspect_ratio=aspect)
    made = make_movie(
        tmp_path / "b.mp4", size=(320, 180), frames=1, sample_aspect_ratio=behind, draw=ring
    )
    with open_reader(clip.path, Settings()) as source:
        assert source.clip.sample_aspect_ratio == aspect
        ground = open_background(str(made.path), source.clip)
        luma = plane_arrays(ground.at(Fraction(0)))[0]
        ground.close()
    wide, high = (luma[72] > 500).sum() * float(aspect), (luma[:, 90] > 500).sum()
    assert wide / high == pytest.approx(float(behind), rel=0.03)


def flat(index: float, width: int, height: int, lit: bool = False) -> Picture:
    """One colour everywhere: (200, 40, 40) of 255."""
    rgb = np.full((height, width, 3), np.array([200, 40, 40]) / 255, np.float32)
    return Picture(rgb, np.ones((height, width), np.float32))


def coloured(index: float, width: int, height: int, lit: bool = False) -> Picture:
    """Different gradients of red, green and blue, so that swapped channels show."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rgb = np.stack([x / width, 0.9 * y / height, 0.2 + 0.02 * index + 0.5 * x / width], axis=-1)
    return Picture(rgb.astype(np.float32), np.ones((height, width), np.float32))


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("#c82828", 1),
        ("a.png", 1),
        ("a.jpg", 6),
        ("a.jpeg", 6),
        ("601.mp4", 6),
        ("full.mov", 6),
        ("2020.mkv", 3),
    ],
)
@pytest.mark.parametrize("clip", ["untagged HD", "untagged SD"])
@pytest.mark.thinned(3)
def test_a_background_colour_is_the_same_from_every_kind_of_file(
    clip: str, name: str, allowed: int, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    """10-bit codes; 8-bit YCbCr has steps of 4, and JPEG and H.264 are lossy."""
    path, options = tmp_path / name, {"size": (640, 360), "frames": 2, "draw": flat}
    if name.startswith("a."):
        folder = tmp_path / "made"
        (made,) = make_pictures(folder, frames=1, suffix=path.suffix, draw=flat)
        made.rename(path)
    elif name == "2020.mkv":
        colour, deep = ColourTags(9, LIMITED, 9, 14), "yuv444p10le"
        make_movie(path, codec="ffv1", pixel_format=deep, colour=colour, **options)
    elif not name.startswith("#"):
        colour = BT601_525 if name == "601.mp4" else ColourTags(5, FULL, 5, 6)
        make_movie(path, colour=colour, options={"qp": "0"}, **options)
    with open_reader(source_movie(clip).path, Settings()) as source:
        ground = open_background(name if name.startswith("#") else str(path), source.clip)
        picture = ground.at(Fraction(0))
        ground.close()
    tags = source.clip.colour
    (rgb,) = flat(0, 2, 2).rgb[:1, :1]
    expected = [plane[0, 0] for plane in code_planes(rgb[None], "yuv444p10le", tags)]
    apart = [
        int(np.abs(plane.astype(int) - int(code)).max())
        for plane, code in zip(plane_arrays(picture), expected, strict=True)
    ]
    assert max(apart) <= allowed, apart


def test_a_background_clip_with_an_unsupported_matrix_is_refused(
    movie: Movie, tmp_path: Path
) -> None:
    behind = make_movie(
        tmp_path / "b.mkv", codec="ffv1", pixel_format="yuv444p", draw=flat, frames=1
    )
    tagged = tmp_path / "ycgco.mp4"
    with av.open(str(behind.path)) as given, av.open(str(tagged), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *behind.size, "yuv444p"
        stream.codec_context.colorspace = 8
        for frame in given.decode(video=0):
            frame.colorspace, frame.pts = 8, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    extras = ExtraOutputs(comp=tmp_path / "c.mkv", background=str(tagged))
    with pytest.raises(UsageError, match="its colour matrix is ycgco"):
        write_clip(movie, tmp_path / "out.mov", extras=extras)


def test_extra_outputs_do_not_change_the_main_output(movie: Movie, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone.mov", tmp_path / "together.mov"
    write_clip(movie, alone, foreground="estimate")
    extras = ExtraOutputs(
        matte=tmp_path / "m.mkv",
        foreground=tmp_path / "f.mov",
        comp=tmp_path / "c.mp4",
        background="white",
    )
    _, written = write_clip(movie, together, extras=extras, foreground="estimate")
    assert [extra.path.name for extra in written.extra_outputs] == ["m.mkv", "f.mov", "c.mp4"]
    assert alone.read_bytes() == together.read_bytes()


@pytest.mark.parametrize("existing", [[], [".DS_Store"]])
def test_extra_outputs_may_be_in_the_main_outputs_folder(
    existing: list[str], movie: Movie, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    out.mkdir()
    for name in existing:
        (out / name).write_bytes(b"")
    write_clip(movie, out, extras=ExtraOutputs(matte=out / "matte.mov"))
    names = {f"{index:06d}.png" for index in range(movie.frames)}
    assert {path.name for path in out.iterdir()} == {*names, "matte.mov", *existing}


def test_a_failing_extra_output_fails_the_run(
    movie: Movie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidmatte.writers.render.layers import _MatteRenderer

    def failing_render(maker: _MatteRenderer, scene: object) -> None:
        raise MemoryError("no memory for the matte")

    monkeypatch.setattr(_MatteRenderer, "render", failing_render)
    folder = tmp_path / "results"
    folder.mkdir()
    extras = ExtraOutputs(matte=folder / "m.mov", comp=folder / "c.mp4")
    with pytest.raises(MemoryError, match="the matte"):
        write_clip(movie, folder / "out.mov", extras=extras)
    assert list(folder.iterdir()) == []


def test_invalid_extra_outputs_are_refused_before_the_run(movie: Movie, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    with pytest.raises(UsageError, match="two outputs share this path"):
        write_clip(movie, out, extras=ExtraOutputs(matte=out))
    (tmp_path / "sub").mkdir()
    with pytest.raises(UsageError, match="two outputs share this path"):
        write_clip(movie, out, extras=ExtraOutputs(matte=tmp_path / "sub" / ".." / "out.mov"))
    with pytest.raises(UsageError, match="neither a file nor a colour"):
        write_clip(movie, out, extras=ExtraOutputs(comp=tmp_path / "c.mp4", background="#12345"))
    with pytest.raises(UsageError, match=r"\.webm"):
        write_clip(movie, out, extras=ExtraOutputs(matte=tmp_path / "m.webm"))
    (tmp_path / "m.mov").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        write_clip(movie, out, extras=ExtraOutputs(matte=tmp_path / "m.mov"))
    with pytest.raises(OutputError):
        write_clip(movie, out, extras=ExtraOutputs(matte=tmp_path / "none" / "m.mov"))
    assert not out.exists()


@pytest.mark.parametrize("size", [(65, 48), (64, 47)])
def test_h264_accepts_even_sizes_only(size: tuple[int, int], tmp_path: Path) -> None:
    odd = make_movie(tmp_path / "odd.mkv", size=size, frames=2, pixel_format="yuv444p").path
    for extras in (ExtraOutputs(comp=tmp_path / "c.mp4"), ExtraOutputs(matte=tmp_path / "m.mp4")):
        with pytest.raises(UsageError, match="not a multiple of 2, which h264 needs"):
            write_clip(odd, tmp_path / "out.mov", extras=extras)
    extras = ExtraOutputs(comp=tmp_path / "c.mov", matte=tmp_path / "m.mov")
    _, written = write_clip(odd, tmp_path / "out.mov", extras=extras)
    assert [(extra.width, extra.height) for extra in written.extra_outputs] == [size, size]


def test_colour_names_and_codes_are_parsed() -> None:
    assert _parse_colour("#00ff7F") == (0, 255, 127)
    assert _parse_colour("White") == (255, 255, 255)
    for text in ("00ff7f", "#00ff7", "#00ff7g", "mauve", ""):
        assert _parse_colour(text) is None

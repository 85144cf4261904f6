"""Written image files: names, depths, folders, single images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import Movie, make_movie, make_pictures
from readback import decode
from scene import read_index
from writer_support import disc, levels, write_clip

from vidmatte.errors import OutputError, OutputExistsError, UsageError
from vidmatte.writers.extra_outputs import ExtraOutputs


def read(path: Path) -> np.ndarray:
    """(H, W, 4) R, G, B, alpha as stored, by OpenCV."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, f"{path} does not decode"
    return picture[..., [2, 1, 0, 3]]


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_movie_becomes_numbered_images(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    _, written = write_clip(movie, out := tmp_path / "frames")
    assert names(out) == [f"{index:06d}.png" for index in range(movie.frames)]
    assert written.frames == movie.frames
    assert written.bytes == sum(file.stat().st_size for file in out.iterdir())
    assert [read_index(read(file)) for file in sorted(out.iterdir())] == list(range(movie.frames))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["8-bit 709", "8-bit full range", "601 SD", "odd size"])
def test_png_colours_equal_ffmpegs(
    kind: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    clip, _ = write_clip(movie, out := tmp_path / "frames")
    found = np.stack([read(file) for file in sorted(out.iterdir())])
    expected = decode(movie.path, "rgb24")
    alpha = np.stack([disc(i, clip.width, clip.height) for i in range(len(found))])
    assert np.abs(found[..., :3].astype(int) - expected)[alpha == 1].max() <= 1
    assert np.abs(found[..., 3] - alpha.astype(float) * 255).max() <= 0.51


@pytest.mark.parametrize("name", ["png", "png16"])
def test_every_chunk_of_a_png_is_valid(
    name: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("anamorphic 720x576")
    clip, _ = write_clip(movie, out := tmp_path / "frames", format=name)
    for file in out.iterdir():
        found = chunks(file.read_bytes())
        assert list(found) == [b"IHDR", b"pHYs", b"cICP", b"cHRM", b"gAMA", b"IDAT", b"IEND"]
        assert struct.unpack(">II", found[b"IHDR"][:8]) == (clip.width, clip.height)
        # FFmpeg uses pHYs for the pixel's width and height.
        assert Fraction(*struct.unpack(">II", found[b"pHYs"][:8])) == clip.sample_aspect_ratio
        assert found[b"cICP"] == bytes([clip.colour.primaries, clip.colour.transfer, 0, 1])


def chunks(data: bytes) -> dict[bytes, bytes]:
    """A PNG's chunks by kind, with verified checksums."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length
        assert struct.unpack_from(">I", data, at - 4) == (zlib.crc32(kind + content),)
        found[kind] = content
    return found


@pytest.mark.parametrize(("name", "suffix"), [("png16", ".png"), ("tiff16", ".tif")])
def test_16_bits_hold_every_level_of_alpha_and_of_a_10_bit_ramp(
    name: str, suffix: str, tmp_path: Path
) -> None:
    from scene import draw_ramp

    movie = make_movie(
        tmp_path / "ramp.mov",
        size=(1024, 64),
        frames=2,
        codec="prores_ks",
        options={"profile": "4444"},
        pixel_format="yuv444p10le",
        draw=draw_ramp,
    )
    write_clip(movie, out := tmp_path / "frames", alpha=levels, format=name)
    assert names(out) == [f"00000{index}{suffix}" for index in range(2)]
    picture = read(out / f"000000{suffix}")
    assert picture.dtype == np.uint16
    assert len(np.unique(picture[..., 3])) == 65536
    ramp = picture[32, :, 1].astype(int)
    assert len(np.unique(ramp)) > 700, "877 codes of limited range, some lost to ProRes"
    assert abs(ramp[-8:].mean() - 65535) < 300


def test_images_keep_their_names(tmp_path: Path) -> None:
    make_pictures(tmp_path / "plates", frames=3, pattern="shot.v2_{:04d}", start=1001)
    write_clip(tmp_path / "plates", out := tmp_path / "cut", fps="25")
    assert names(out) == [f"shot.v2_{number}.png" for number in (1001, 1002, 1003)]


def test_equal_names_with_two_suffixes_do_not_collide(tmp_path: Path) -> None:
    make_pictures(tmp_path / "plates", frames=1, pattern="a{:.0f}", start=1)
    make_pictures(tmp_path / "plates", frames=1, pattern="a{:.0f}", start=1, suffix=".jpg")
    _, written = write_clip(tmp_path / "plates", out := tmp_path / "cut", fps="25")
    assert written.frames == len(names(out)) == 2


def test_16_bit_images_stay_16_bit(tmp_path: Path) -> None:
    (path,) = make_pictures(tmp_path / "plates", frames=1, bits=16)
    write_clip(path, out := tmp_path / "cut.png", format="png16")
    original = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
    opaque = disc(0, 192, 108) == 1
    assert np.array_equal(read(out)[..., :3][opaque], original[opaque])


def test_one_image_becomes_one_file(tmp_path: Path) -> None:
    (path,) = make_pictures(tmp_path / "plates", frames=1, suffix=".jpg")
    _, written = write_clip(path, out := tmp_path / "cutout.png")
    assert (written.frames, written.path) == (1, out)
    assert cv2.imread(str(out), cv2.IMREAD_UNCHANGED).shape[2] == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cutout.png", "cwd", "plates"]


def test_one_image_into_a_folder(tmp_path: Path) -> None:
    (path,) = make_pictures(tmp_path / "plates", frames=1)
    write_clip(path, out := tmp_path / "cut")
    assert names(out) == [path.name]


def test_many_frames_to_one_file_are_refused(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="write -o out/"):
        write_clip(source_movie("8-bit 709"), tmp_path / "out.png")


def test_a_folder_with_files_is_not_touched(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    out = tmp_path / "frames"
    out.mkdir()
    write_clip(source_movie("8-bit 709"), out)  # an empty folder is accepted
    (out / "000000.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_clip(source_movie("8-bit 709"), out)
    assert (out / "000000.png").read_bytes() == b"mine"
    (out / "notes.txt").write_text("keep")
    write_clip(source_movie("8-bit 709"), out, overwrite=True)
    assert read(out / "000000.png").shape == (108, 192, 4)
    assert (out / "notes.txt").read_text() == "keep"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["frames", "frames/cut_%03d.png"])
def test_images_of_an_earlier_run_are_noted(name: str, tmp_path: Path) -> None:
    """They are kept, because a part of a clip may be done again on purpose."""
    long, short = (make_movie(tmp_path / f"{n}.mp4", frames=n).path for n in (6, 2))
    assert write_clip(long, tmp_path / name)[1].notes == ()
    _, written = write_clip(short, tmp_path / name, overwrite=True)
    (note,) = written.notes
    assert "the 2 pictures of this run, the folder has others of earlier runs: 4" in note
    assert len(names(tmp_path / "frames")) == 6
    assert list(written.files) == names(tmp_path / "frames")[:2]


@pytest.mark.parametrize(
    ("row", "part"),
    [("exr", "code values of smpte2084"), ("exr-coded", ""), ("png", "8 bits"), ("png16", "")],
)
def test_the_loss_of_hdr_in_a_format_is_noted(
    row: str, part: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    extras = ExtraOutputs(matte=tmp_path / "m")
    hdr = source_movie("10-bit 2020 PQ")
    _, written = write_clip(hdr, tmp_path / "out", extras=extras, format=row)
    assert len(written.notes) == bool(part)
    assert part in "".join(written.notes)
    assert written.extra_outputs[0].notes == ()


def test_a_file_in_place_of_the_folder(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    (tmp_path / "frames").write_text("a file")
    with pytest.raises((OutputError, UsageError)):
        write_clip(source_movie("8-bit 709"), tmp_path / "frames", format="png", overwrite=True)
    assert (tmp_path / "frames").read_text() == "a file"


def test_a_pattern_names_the_images(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    movie = source_movie("8-bit 709")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "other.txt").write_text("keep")
    pattern = tmp_path / "cut" / "shot_%04d.png"
    _, written = write_clip(movie, pattern, start_number=1001)
    expected = [f"shot_{number}.png" for number in range(1001, 1001 + movie.frames)]
    assert names(tmp_path / "cut") == ["other.txt", *expected]
    assert written.path == pattern
    with pytest.raises(OutputExistsError):
        write_clip(movie, pattern)
    write_clip(movie, tmp_path / "cut" / "matte_%04d.png")
    assert len(names(tmp_path / "cut")) == 1 + 2 * movie.frames
    assert not list(tmp_path.glob(".*"))


def test_a_pattern_creates_its_folder(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    movie = source_movie("8-bit 709")
    write_clip(movie, tmp_path / "new" / "%d.tif")
    assert names(tmp_path / "new") == sorted(f"{number}.tif" for number in range(movie.frames))
    assert read(tmp_path / "new" / "0.tif").dtype == np.uint16


@pytest.mark.parametrize("name", ["take_%02d", "take_%04d.v2", "50% of%d"])
def test_a_folder_name_may_look_like_a_pattern(
    name: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("8-bit 709")
    folder = tmp_path / "cuts" / name
    folder.parent.mkdir()
    _, written = write_clip(movie, folder, format="png")
    assert written.path == folder
    assert len(names(folder)) == movie.frames
    assert [*folder.parent.iterdir()] == [folder]


def test_a_pattern_for_a_movie_is_refused(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="one file"):
        write_clip(source_movie("8-bit 709"), tmp_path / "out_%d.mov")

"""Image folders: the order of the names, missing numbers, alpha."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_pictures

from vidmatte.cli.main import main
from vidmatte.errors import SourceError, UsageError
from vidmatte.readers.image_folder import _frame_number, files_of
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


def named(folder: Path, *names: str) -> Path:
    """A folder of images with those names."""
    for file, name in zip(make_pictures(folder, frames=len(names)), names, strict=True):
        file.rename(folder / name)
    return folder


def test_pictures_are_not_deinterlaced(tmp_path: Path) -> None:
    folder = named(tmp_path / "plates", "a_1.png")
    for path in (folder, folder / "a_1.png"):
        with pytest.raises(
            UsageError, match=f"^--deinterlace bwdif is for movies: {path.name} holds"
        ):
            open_reader(path, Settings(deinterlace="bwdif"))


@pytest.mark.parametrize(
    "names",
    [
        ["sh.-0002.png", "sh.-0001.png", "sh.00000.png", "sh.00001.png"],
        ["h_-2.png", "h_-1.png", "h_0.png", "h_10.png"],
        ["-2.png", "-1.png", "0.png"],
        ["v1.-2_beauty.png", "v1.-1_beauty.png", "v1.0_beauty.png", "v2.-5_beauty.png"],
        ["shot-0001.png", "shot-0002.png", "shot-0010.png"],
        ["2024-01-02.png", "2024-01-03.png", "2024-02-01.png"],
        ["take -1.png", "take -2.png"],
        ["1²2.png", "1²10.png"],
    ],
)
def test_a_minus_is_a_sign_only_where_it_is_no_separator(names: list[str], tmp_path: Path) -> None:
    folder = named(tmp_path / "in", *reversed(names))
    assert [file.name for file in files_of(folder)] == names


def test_missing_numbers_are_counted_through_zero(tmp_path: Path) -> None:
    complete = named(
        tmp_path / "complete", "sh.-0002.png", "sh.-0001.png", "sh.0000.png", "sh.0001.png"
    )
    with open_reader(complete, Settings(fps="25")) as source:
        assert source.warnings == []
    incomplete = named(tmp_path / "incomplete", "sh.-0003.png", "sh.-0001.png", "sh.0001.png")
    with open_reader(incomplete, Settings(fps="25")) as source:
        (line,) = source.warnings
    assert "2 numbers are missing, the first after sh.-0003.png" in line
    assert _frame_number(Path("shot-0002.png")) == 2
    assert _frame_number(Path("shot_2b.png")) is None


def test_a_broken_link_is_an_error_and_no_missing_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    *_, last = make_pictures(folder, frames=3)
    target = last.rename(tmp_path / "target.png")
    last.symlink_to(target)
    with open_reader(folder, Settings(fps="25")) as source:
        assert source.clip.frame_count == 3
    target.unlink()
    with pytest.raises(
        SourceError, match=r"shot_0003\.png: a link to .*target\.png, which does not"
    ):
        open_reader(folder, Settings(fps="25"))
    assert main(["info", str(folder)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def cmyk_jpeg() -> bytes:
    """A grey JPEG of 8x8 pixels with four components, as Adobe's programs write them."""

    def segment(kind: int, *data: int) -> bytes:
        return bytes([0xFF, kind, *(len(data) + 2).to_bytes(2, "big"), *data])

    one_code = (1, *[0] * 15, 0)  # of one bit, for the value 0
    return b"".join([
        b"\xff\xd8",
        segment(0xEE, *b"Adobe", 0, 100, 0, 0, 0, 0, 0),
        segment(0xDB, 0, *[1] * 64),
        segment(0xC0, 8, 0, 8, 0, 8, 4, *[part for n in range(4) for part in (n + 1, 0x11, 0)]),
        segment(0xC4, 0x00, *one_code),
        segment(0xC4, 0x10, *one_code),
        segment(0xDA, 4, *[part for n in range(4) for part in (n + 1, 0)], 0, 63, 0),
        b"\x00\xff\xd9",
    ])  # fmt: skip


def lossless_webp(alpha: int) -> bytes:
    """A WebP picture of 24x16 pixels, some of them of ``alpha`` (0..255)."""
    pixels = np.full((16, 24, 4), 255, np.uint8)
    pixels[4:8, 4:8, 3] = alpha
    encoder = av.CodecContext.create("libwebp", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 24, 16, "bgra"
    encoder.time_base, encoder.options = Fraction(1, 25), {"lossless": "1"}
    frame = av.VideoFrame.from_ndarray(pixels, "bgra")
    frame.pts = 0
    return b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))


@pytest.mark.parametrize(
    ("pictures", "warned"),
    [
        ({"a.jpg": cmyk_jpeg()}, False),
        ({"a.webp": lossless_webp(255), "b.webp": lossless_webp(255)}, False),
        ({"a.webp": lossless_webp(255), "b.webp": lossless_webp(0)}, True),
    ],
)
def test_an_opaque_alpha_is_not_reported(
    pictures: dict[str, bytes], warned: bool, tmp_path: Path
) -> None:
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    with open_reader(tmp_path, Settings(fps="25")) as source:
        assert any("its own alpha" in line for line in source.warnings) is warned
        assert source.clip.pixel_format in ("gbrap", "argb")
        assert len(list(source.pictures())) == len(pictures)


def test_a_picture_removed_during_the_run_is_reported(tmp_path: Path) -> None:
    files = make_pictures(tmp_path / "shots", frames=4)
    with open_reader(tmp_path / "shots", Settings(fps="25")) as source:
        files[2].unlink()
        message = rf"{files[2].name}: it was removed during the run: put it back and run again"
        with pytest.raises(SourceError, match=message):
            list(source.pictures())

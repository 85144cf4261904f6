"""HEIC and AVIF photos: grids, rotation, crops, alpha and what else a file may hold."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from picture_files import HeifPart, coded_part, grid_part, same_priority, write_heif
from tiny_onnx import make_salient
from writer_support import write_clip

from vidmatte import matte
from vidmatte.core.colour import BT709, FULL
from vidmatte.errors import SourceError
from vidmatte.readers.images import read_picture
from vidmatte.readers.open import is_image, open_reader
from vidmatte.settings import Settings

WIDTH, HEIGHT, TILE = 200, 150, 64
SIZE = ("ispe", struct.pack(">4xII", WIDTH, HEIGHT))


def drawn() -> np.ndarray:
    """Red grows to the right, green downward, and there is a blue patch near the top left."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, 40 + 0 * x], axis=-1).astype(np.uint8)
    rgb[16:48, 16:48] = (30, 30, 220)
    return rgb


def tiles(codec: str = "libx265", pixel_format: str = "yuv420p") -> list[HeifPart]:
    """The picture's tiles, 4 x 3, the last ones repeated beyond its edge."""
    padded = np.pad(drawn(), ((0, 3 * TILE - HEIGHT), (0, 4 * TILE - WIDTH), (0, 0)), "edge")
    return [
        coded_part(np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]), codec, pixel_format)
        for y in range(0, 3 * TILE, TILE)
        for x in range(0, 4 * TILE, TILE)
    ]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """SVT-AV1 writes its settings to stderr."""
    monkeypatch.setenv("SVT_LOG", "1")


@pytest.fixture(scope="module")
def hevc() -> list[HeifPart]:
    return tiles()


def grid(path: Path, parts: list[HeifPart], *properties: tuple[str, bytes], **more: Any) -> Path:
    head = grid_part(3, 4, WIDTH, HEIGHT, properties=[SIZE, *properties])
    return write_heif(path, [head, *parts], **more)


def rgb_of(picture: av.VideoFrame) -> np.ndarray:
    return picture.to_ndarray(format="rgb24").astype(int)


def apart(picture: av.VideoFrame, expected: np.ndarray) -> float:
    """The mean difference of codes. The edge of the patch has blurred chroma."""
    found = rgb_of(picture)
    assert found.shape == expected.shape
    return float(np.abs(found - expected.astype(int)).mean())


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [("libx265", "yuv420p", "a.heic"), ("libx265", "yuv422p10le", "a.HIF"),
     ("libsvtav1", "yuv420p", "a.avif")],
)  # fmt: skip
def test_a_grid_is_one_picture(codec: str, pixel_format: str, name: str, tmp_path: Path) -> None:
    path = grid(tmp_path / name, tiles(codec, pixel_format))
    assert is_image(path)
    with open_reader(path, Settings()) as source:
        clip = source.clip
        assert (clip.kind, clip.width, clip.height, clip.frame_count) == ("picture", 200, 150, 1)
        assert clip.pixel_format == pixel_format
        (picture,) = source.pictures()
    assert apart(picture.pixels, drawn()) < 3


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ([("irot", b"\1")], lambda rgb: np.rot90(rgb, 1)),  # counter-clockwise
        ([("irot", b"\2")], lambda rgb: np.rot90(rgb, 2)),
        ([("irot", b"\3")], lambda rgb: np.rot90(rgb, 3)),
        ([("imir", b"\0")], lambda rgb: rgb[::-1]),
        ([("imir", b"\1")], lambda rgb: rgb[:, ::-1]),
        ([("irot", b"\1"), ("imir", b"\1")], lambda rgb: np.rot90(rgb, 1)[:, ::-1]),
        ([("clap", struct.pack(">8i", 100, 1, 60, 1, -11, 1, 21, 2))],
         lambda rgb: rgb[56:116, 39:139]),
        ([("clap", struct.pack(">8i", 100, 1, 60, 1, -10, 1, 5, 1)), ("irot", b"\1")],
         lambda rgb: np.rot90(rgb[50:110, 40:140])),
    ],
)  # fmt: skip
def test_rotation_mirroring_and_crops_apply_in_order(
    properties: list[tuple[str, bytes]], expected: Any, hevc: list[HeifPart], tmp_path: Path
) -> None:
    """As libheif and FFmpeg have them; compared with libheif's output when this was written."""
    path = grid(tmp_path / "a.heic", hevc, *properties)
    assert apart(read_picture(path), expected(drawn())) < 3


def test_a_photo_becomes_one_png(hevc: list[HeifPart], tmp_path: Path) -> None:
    path = grid(tmp_path / "IMG_0001.HEIC", hevc, ("irot", b"\3"))
    weights = make_salient(tmp_path / "net.onnx")
    result = matte(path, tmp_path / "cut.png", model=weights, family="isnet")
    assert cv2.imread(str(tmp_path / "cut.png"), cv2.IMREAD_UNCHANGED).shape == (200, 150, 4)
    assert result.written.frames == 1


def test_a_single_picture_and_its_tags(tmp_path: Path) -> None:
    part = coded_part(drawn()[:, :192])
    nclx = struct.pack(">4s3HB", b"nclx", 12, 13, 1, 0x80)
    path = write_heif(tmp_path / "p3.heic", [_with(part, ("colr", nclx))])
    with open_reader(path, Settings()) as source:
        names = source.clip.colour.as_names()
    assert names == {
        "matrix": "bt709", "range": "pc", "primaries": "smpte432", "transfer": "iec61966-2-1"
    }  # fmt: skip
    plain = read_picture(write_heif(tmp_path / "plain.heic", [part]))
    assert (plain.colorspace, plain.color_range) == (5, FULL)


def test_an_icc_profile_stays_with_png(tmp_path: Path) -> None:
    profile = bytearray(struct.pack(">I", 132) + bytes(128))
    profile[16:20], profile[36:40] = b"RGB ", b"acsp"
    part = _with(coded_part(drawn()[:128, :192]), ("colr", b"prof" + bytes(profile)))
    write_clip(write_heif(tmp_path / "icc.heic", [part]), out := tmp_path / "out.png")
    assert b"iCCP" in out.read_bytes()
    with open_reader(tmp_path / "icc.heic", Settings()) as source:
        assert source.clip.icc_profile == bytes(profile)


def test_alpha_is_noticed(tmp_path: Path) -> None:
    part = coded_part(drawn()[:128, :192])
    alpha = _with(part, ("auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"))
    alpha.alpha_of = 1
    path = write_heif(tmp_path / "alpha.heic", [part, alpha])
    with open_reader(path, Settings()) as source:
        assert any("its own alpha is ignored" in line for line in source.warnings)


def test_the_content_decides_not_the_name(hevc: list[HeifPart], tmp_path: Path) -> None:
    """Phones and messengers rename photos."""
    for name in ("photo.jpg", "photo.bin"):
        assert apart(read_picture(grid(tmp_path / name, hevc)), drawn()) < 3
        with open_reader(tmp_path / name, Settings()) as source:
            assert source.clip.width == WIDTH
    cv2.imwrite(str(tmp_path / "a.png"), drawn()[..., ::-1])
    (tmp_path / "a.png").rename(tmp_path / "really_png.heic")
    assert np.array_equal(rgb_of(read_picture(tmp_path / "really_png.heic")), drawn())


def test_a_folder_of_photos(hevc: list[HeifPart], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        grid(tmp_path / "in" / f"{number}.heic", hevc)
    with open_reader(tmp_path / "in", Settings(fps="24")) as source:
        assert [one.name for one in source.pictures()] == ["1", "2"]


def _with(part: HeifPart, one: tuple[str, bytes]) -> HeifPart:
    return HeifPart(part.kind, part.data, [*part.properties, one])


def _broken(hevc: list[HeifPart], path: Path, what: str) -> None:
    if what == "few tiles":
        head = grid_part(3, 4, WIDTH, HEIGHT)
        head.parts = range(2, 8)
        write_heif(path, [head, *hevc])
    elif what == "too large":
        write_heif(path, [grid_part(3, 4, 2000, HEIGHT), *hevc])
    elif what == "other tile":
        other = coded_part(drawn()[:32, :64])
        write_heif(path, [grid_part(3, 4, WIDTH, HEIGHT), *hevc[:5], other, *hevc[6:]])
    elif what == "overlay":
        head = grid_part(3, 4, WIDTH, HEIGHT)
        head.kind = "iovl"
        write_heif(path, [head, *hevc])
    elif what == "itself":
        write_heif(path, [HeifPart("iden", b"", parts=[1])])
    elif what == "crop":
        grid(path, hevc, ("clap", struct.pack(">8i", 300, 1, 60, 1, 0, 1, 0, 1)))
    else:
        grid(path, hevc)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if what == "cut" else data[:120])


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("few tiles", "its grid of 4x3 has 6 tiles"),
        ("too large", "its tiles do not cover the picture"),
        ("other tile", "its tiles differ in size or format"),
        ("overlay", "its kind of picture, iovl, is not supported"),
        ("itself", "its pictures refer to each other"),
        ("crop", "its crop lies outside the picture"),
        ("cut", "it is truncated"),
        ("header", "its header is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(
    what: str, reason: str, hevc: list[HeifPart], tmp_path: Path
) -> None:
    _broken(hevc, path := tmp_path / "a.heic", what)
    with pytest.raises(SourceError, match=rf"a\.heic: not a readable HEIF picture \(({reason})"):
        read_picture(path)


def test_an_animated_avif_is_a_movie(tmp_path: Path) -> None:
    """Its still picture is a stream of its own for FFmpeg."""
    path = tmp_path / "moving.avif"
    with same_priority(), av.open(str(path), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=10)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
        context.options = {"preset": "10"}
        context.color_primaries = BT709
        for level in (40, 120, 200):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert not is_image(path)
    with open_reader(path, Settings()) as source:
        assert (source.clip.frame_count, source.clip.rate) == (3, 10)
        levels = [int(rgb_of(one.pixels).mean()) for one in source.pictures()]
    assert levels == pytest.approx([40, 120, 200], abs=4)

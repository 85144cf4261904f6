"""Pages, layers, views and pictures that are not read, and kinds of files that are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import coded_part, write_exr, write_heif
from test_stated_colour import RGB

from vidmatte.errors import SourceError
from vidmatte.readers.images import read_picture
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

ROWS = np.broadcast_to(np.array(RGB, np.uint8), (24, 32, 3))


def write_tiff(path: Path, pages: int = 1, *, magic: bytes = b"II*\0", **tags: int) -> Path:
    """Uncompressed R, G, B; ``tags`` overrule those of every page, by name."""
    numbers = {"subfile": 254, "bits": 258, "compression": 259, "photometric": 262, "format": 339}
    data = bytearray(magic + struct.pack("<I", 8))
    for page in range(pages):
        entries = {256: 32, 257: 24, 258: 8, 259: 1, 262: 2, 277: 3, 278: 24, 279: ROWS.size}
        entries |= {numbers[name]: value for name, value in tags.items() if name in numbers}
        if page == 0:
            entries.pop(254, None)
        size = 2 + 12 * (len(entries) + 1) + 4
        entries[273] = len(data) + size
        data += struct.pack("<H", len(entries))
        for tag in sorted(entries):
            data += struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, entries[tag])
        following = len(data) + 4 + ROWS.size
        data += struct.pack("<I", following if page + 1 < pages else 0) + ROWS.tobytes()
    path.write_bytes(data)
    return path


def notes_of(path: Path) -> list[str]:
    with open_reader(path, Settings()) as source:
        assert len(list(source.pictures())) == 1
        return list(source.warnings)


def test_further_pages_of_a_tiff_are_said(tmp_path: Path) -> None:
    assert notes_of(write_tiff(tmp_path / "one.tif")) == []
    path = write_tiff(tmp_path / "a.tif", 3)
    assert notes_of(path) == ["a.tif: it has 3 pages: the first one is used"]
    assert np.array_equal(read_picture(path).to_ndarray(format="rgb24"), ROWS)
    thumbnails = write_tiff(tmp_path / "b.tif", 2, subfile=1)
    assert notes_of(thumbnails) == []


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({"magic": b"II+\0"}, r"with 64-bit offsets \(BigTIFF\)"),
        ({"compression": 50000}, "compressed by Zstandard"),
        ({"compression": 50001}, "compressed by WebP"),
        ({"compression": 34925}, "compressed by LZMA"),
        ({"compression": 4711}, "compressed by method 4711"),
        ({"photometric": 8}, r"of CIE L\*a\*b\* colours"),
        ({"photometric": 9}, r"of CIE L\*a\*b\* colours"),
        ({"bits": 32}, "of 32-bit whole numbers"),
    ],
)
def test_tiffs_that_are_not_read_are_refused(
    tags: dict[str, object], kind: str, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "a.tif", **tags)
    with pytest.raises(SourceError, match=rf"a\.tif: a TIFF {kind} is not supported: save it"):
        read_picture(path)


def plane(value: float) -> np.ndarray:
    return np.full((24, 32), value, np.float32)


MAIN = {"R": plane(0.5), "G": plane(0.25), "B": plane(0.125)}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, []),
        ({"A": plane(1)}, []),
        ({"Z": plane(7)}, ["its main layer is used, without Z"]),
        ({"right.R": plane(1), "right.G": plane(1), "right.B": plane(1)},
         ["its main layer is used, without right"]),
        ({f"l{n}.R": plane(1) for n in range(6)},
         ["its main layer is used, without l0, l1, l2, l3, ..."]),
    ],
)  # fmt: skip
def test_further_layers_of_an_exr_are_said(
    more: dict[str, np.ndarray], said: list[str], tmp_path: Path
) -> None:
    path = write_exr(tmp_path / "a.exr", {**MAIN, **more}, {})
    notes = [note for note in notes_of(path) if "own alpha" not in note]
    assert notes == [f"a.exr: {clause}" for clause in said]
    found = read_picture(path)
    assert found.to_ndarray(format="gbrpf32le")[0, 0] == pytest.approx([0.5, 0.25, 0.125], abs=1e-2)


def test_a_layer_is_read_where_there_is_no_main_one(tmp_path: Path) -> None:
    """As Blender names them: the view layer, the pass, the channel."""
    named = {f"ViewLayer.Combined.{name}": value for name, value in MAIN.items()}
    path = write_exr(tmp_path / "a.exr", {**named, "ViewLayer.Depth.V": plane(9)}, {})
    assert notes_of(path) == [
        "a.exr: its layer ViewLayer.Combined is used, without ViewLayer.Depth"
    ]
    found = read_picture(path)
    assert found.to_ndarray(format="gbrpf32le")[0, 0] == pytest.approx([0.5, 0.25, 0.125], abs=1e-2)


@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        (("Y", "RY", "BY"), "an OpenEXR of luma and chroma is not supported"),
        (("Z", "id"), "it has no channels R, G, B or Y, but Z, id"),
    ],
)
def test_exrs_without_rgb_are_refused(
    channels: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    path = write_exr(tmp_path / "a.exr", dict.fromkeys(channels, plane(0.5)), {})
    with pytest.raises(SourceError, match=rf"a\.exr: {reason}"):
        read_picture(path)


def test_further_pictures_of_a_heic_are_said(tmp_path: Path) -> None:
    part = coded_part(np.ascontiguousarray(np.tile(ROWS, (3, 3, 1))))
    assert notes_of(write_heif(tmp_path / "one.heic", [part])) == []
    path = write_heif(tmp_path / "a.heic", [part, part, part])
    assert notes_of(path) == ["a.heic: its main picture is used; it has 2 other pictures"]


def test_ycbcr_of_a_tiff_is_bt601_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    coded = cv2.cvtColor(np.tile(ROWS, (40, 48, 1)), cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    height, width = coded.shape[:2]
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 6, 273: 0, 277: 3, 278: height,
            279: coded.size, 530: 1 | 1 << 16}  # fmt: skip
    data = bytearray(b"II*\0" + struct.pack("<IH", 8, len(tags)))
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, count = (3, 2) if tag == 530 else (4, 1)
        data += struct.pack("<HHII", tag, kind, count, tags[tag])
    path.write_bytes(data + bytes(4) + coded.tobytes())
    with open_reader(path, Settings()) as source:
        assert source.clip.colour.as_names()["matrix"] == "bt470bg"

"""An image file decoded from one packet equals the one opened as a container."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vidmatte.alpha.masks import _read_mask
from vidmatte.cli.main import main
from vidmatte.core.colour import FULL, ColourTags
from vidmatte.errors import SourceError
from vidmatte.pixels.formats import plane_arrays
from vidmatte.pixels.network_rgb import full_range_rgb
from vidmatte.readers.images import read_picture
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

SIZE = (64, 96)  # height, width


def encoded(suffix: str, depth: type = np.uint8) -> bytes:
    noise = np.random.default_rng(4).integers(0, 255, (*SIZE, 3)).astype(np.float32)
    picture = cv2.GaussianBlur(noise, (0, 0), 3)
    picture *= np.iinfo(depth).max / 255
    done, data = cv2.imencode(suffix, picture.astype(depth))
    assert done
    return data.tobytes()


def exif_block(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with another chunk after its header."""
    checked = kind + data
    chunk = struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))
    return png[:33] + chunk + png[33:]


def turned_jpeg(orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    exif = b"Exif\0\0" + exif_block(orientation)
    plain = encoded(".jpg")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


def opened(file: Path) -> av.VideoFrame:
    with av.open(str(file)) as container:
        return next(container.decode(video=0))


def assert_same(file: Path) -> None:
    read, reference = read_picture(file), opened(file)
    assert read.format.name == reference.format.name
    assert (read.width, read.height) == SIZE[::-1]
    assert np.array_equal(read.to_ndarray(format="rgb48le"), reference.to_ndarray(format="rgb48le"))
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc", "rotation"):
        assert getattr(read, tag) == getattr(reference, tag), tag


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"])
def test_pixels_and_tags_are_those_of_the_container(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"picture{suffix}"
    file.write_bytes(encoded(suffix))
    assert_same(file)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"deep{suffix}"
    file.write_bytes(encoded(suffix, np.uint16))
    assert "48" in read_picture(file).format.name
    assert_same(file)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1, 0), (0, -3), (100, 50)])
def test_an_exr_with_an_offset_display_window_is_refused(
    left: int, top: int, tmp_path: Path
) -> None:
    """FFmpeg places its pixels relative to 0, 0, not to the window's corner."""
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 32, 16, "gbrpf32le"
    encoder.time_base = Fraction(1, 25)
    picture = av.VideoFrame(32, 16, "gbrpf32le")
    for plane in picture.planes:
        plane.update(np.full(plane.buffer_size // 4, 0.5, np.float32).tobytes())
    data = b"".join(map(bytes, encoder.encode(picture)))
    window = struct.pack("<4i", 0, 0, 31, 15)
    moved = struct.pack("<4i", left, top, left + 31, top + 15)
    assert data.count(window) == 2  # of the data and of the display
    path = tmp_path / "window.exr"
    path.write_bytes(data.replace(window, moved))
    if (left, top) == (0, 0):
        assert (plane_arrays(read_picture(path))[0] == 0.5).all()
        return
    with pytest.raises(
        SourceError, match=rf"window\.exr: its display window begins at {left}, {top}"
    ):
        read_picture(path)


def tiff_of(samples: np.ndarray, order: str, *more: tuple[int, int]) -> bytes:
    """A TIFF of (16, 16, 3) samples in one strip or one tile; ``more``: 16-bit entries."""
    bits, strip = samples.dtype.itemsize * 8, samples.astype(samples.dtype.newbyteorder(order))
    is_tile = any(tag == 322 for tag, _ in more)
    entries = {256: [16], 257: [16], 258: [bits] * 3, 259: [1], 262: [2], 277: [3], **{
        tag: [value] * (3 if tag == 339 else 1) for tag, value in more}}  # fmt: skip
    entries |= {} if is_tile else {278: [16]}
    places = {324 if is_tile else 273: 8, 325 if is_tile else 279: strip.nbytes}
    body, directory = strip.tobytes(), []
    for tag, values in entries.items():
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            body, packed = body + packed, struct.pack(order + "I", 8 + len(body))
        directory.append(struct.pack(order + "HHI", tag, 3, len(values)) + packed.ljust(4, b"\0"))
    directory += [struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in places.items()]
    directory.sort(key=lambda entry: struct.unpack_from(order + "H", entry))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return b"".join([head, body, struct.pack(order + "H", len(directory)), *directory, bytes(4)])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "dtype", "more"),
    [
        ("in tiles", np.uint8, [(322, 16), (323, 16)]),
        ("of half floats", np.float16, [(339, 3)]),
        ("of signed numbers", np.int8, [(339, 2)]),
        (None, np.uint8, []),
        (None, np.uint16, [(339, 1)]),
        (None, np.float32, [(339, 3)]),
    ],
)
def test_tiffs_that_would_be_misread_are_refused(
    kind: str | None, dtype: type, more: list[tuple[int, int]], order: str, tmp_path: Path
) -> None:
    rgb = np.random.default_rng(4).integers(0, 128, (16, 16, 3)).astype(np.uint8)
    scale = 1 / 255 if np.dtype(dtype).kind == "f" else 257.0 if dtype is np.uint16 else 1.0
    path = tmp_path / "some.tif"
    path.write_bytes(tiff_of((rgb * scale).astype(dtype), order, *more))
    if kind is None:
        assert np.abs(read_picture(path).to_ndarray(format="rgb24").astype(int) - rgb).max() <= 1
        return
    with pytest.raises(SourceError, match=rf"some\.tif: a TIFF {kind} is not supported: .* strips"):
        read_picture(path)


def test_a_tiff_compressed_as_jpeg_is_refused(tmp_path: Path) -> None:
    """FFmpeg silently decodes it to a black picture."""
    noise = np.random.default_rng(4).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    for name, compression in (("jpeg.tif", 7), ("lzw.tif", 5), ("none.tif", 1)):
        path = tmp_path / name
        how = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 8]
        assert cv2.imwrite(str(path), noise, how)
    for read in (read_picture, _read_mask):
        with pytest.raises(SourceError, match=r"jpeg\.tif: a TIFF compressed as JPEG .* LZW"):
            read(tmp_path / "jpeg.tif")
    for name in ("lzw.tif", "none.tif"):
        assert np.array_equal(read_picture(tmp_path / name).to_ndarray(format="bgr24"), noise)


#: By EXIF 2.32's orientation number (4.6.4, tag 0x0112): the operation that makes the stored
#: picture upright.
EXIF_ORIENTATIONS = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: stored[::-1, ::-1],
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("number", EXIF_ORIENTATIONS)
def test_a_picture_is_shown_as_its_exif_orientation_says(number: int, tmp_path: Path) -> None:
    file = tmp_path / "turned.jpg"
    file.write_bytes(turned_jpeg(number))
    assert_same(file)
    stored = opened(file).to_ndarray(format="rgb24")
    with open_reader(file, Settings()) as source:
        picture = next(source.pictures()).pixels
    upright = EXIF_ORIENTATIONS[number](stored)
    assert (source.clip.height, source.clip.width) == upright.shape[:2]
    # Chroma is resampled before the rotation here, after it there.
    assert np.abs(picture.to_ndarray(format="rgb24").astype(int) - upright).max() <= 2


@pytest.mark.parametrize("number", EXIF_ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_mask_follows_its_exif_orientation(suffix: str, number: int, tmp_path: Path) -> None:
    stored = np.zeros(SIZE, np.uint8)
    stored[:20, :40] = 255
    plain = cv2.imencode(suffix, stored)[1].tobytes()
    exif = b"Exif\0\0" + exif_block(number)
    file = tmp_path / f"mask{suffix}"
    if suffix == ".jpg":
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        file.write_bytes(plain[:2] + segment + plain[2:])
    else:
        file.write_bytes(with_chunk(plain, b"eXIf", exif_block(number)))
    assert np.array_equal(_read_mask(file) > 0.5, EXIF_ORIENTATIONS[number](stored) > 127)


def test_transparent_colours_of_a_palette_are_transparent(tmp_path: Path) -> None:
    """Transparent white is black in a mask; a source with alpha gets a warning."""
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "pal8"
    encoder.time_base = Fraction(1, 25)
    picture = av.VideoFrame(64, 48, "pal8")
    indices = np.zeros((48, picture.planes[0].line_size), np.uint8)
    indices[:, 32:64] = 1
    picture.planes[0].update(indices.tobytes())
    for clear, expected in ((0, [0, 1]), (255, [1, 1])):
        picture.planes[1].update(bytes([255, 255, 255, clear]) + b"\xff" * 4 * 255)
        (tmp_path / "palette.png").write_bytes(b"".join(map(bytes, encoder.encode(picture))))
        assert _read_mask(tmp_path / "palette.png")[24, [10, 50]].tolist() == expected
        with open_reader(tmp_path / "palette.png", Settings()) as source:
            assert any("its own alpha" in line for line in source.warnings) is (clear == 0)


@pytest.mark.parametrize("subsampling", ["420", "422"])
@pytest.mark.parametrize("number", EXIF_ORIENTATIONS)
def test_colours_of_odd_sizes_stay_with_their_pixels(
    number: int, subsampling: str, tmp_path: Path
) -> None:
    """The red area ends between two chroma samples of the stored picture."""
    stored = np.full((17, 33, 3), (200, 60, 30), np.uint8)  # B, G, R
    stored[:8, :16] = 30, 60, 200
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{subsampling}")
    how = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_QUALITY, 100]
    plain = cv2.imencode(".jpg", stored, how)[1].tobytes()
    exif = b"Exif\0\0" + exif_block(number)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "odd.jpg").write_bytes(plain[:2] + segment + plain[2:])
    with open_reader(tmp_path / "odd.jpg", Settings()) as source:
        found = full_range_rgb(next(source.pictures()).pixels).astype(int)
    expected = EXIF_ORIENTATIONS[number](stored[..., ::-1].astype(int))
    # Chroma between two samples is a mix of both, alike on either side of the edge.
    share = (found[..., 0] - 30) / 170
    expected_share = (expected[..., 0] - 30) / 170
    assert abs((share - expected_share).mean()) < 0.01
    assert np.abs(share - expected_share).max() < 0.35


@pytest.mark.parametrize("subsampling", ["420", "422"])
def test_square_pictures_of_different_orientations(subsampling: str, tmp_path: Path) -> None:
    """Rotated 4:2:2 is 4:4:0, but the first picture's format is upright 4:2:2."""
    slope = np.linspace(20, 230, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{subsampling}")
    done, data = cv2.imencode(".jpg", slope, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])
    assert done
    plain = data.tobytes()
    for number in (1, 6):
        exif = b"Exif\0\0" + exif_block(number)
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        (tmp_path / f"{number}.jpg").write_bytes(plain[:2] + segment + plain[2:])
    with open_reader(tmp_path, Settings(fps="25")) as source:
        assert source.clip.working_format == f"yuv{subsampling}p"
        one, other = (p.pixels.to_ndarray(format="rgb24") for p in source.pictures())
    assert np.abs(EXIF_ORIENTATIONS[6](one).astype(int) - other).max() <= 3


@pytest.mark.parametrize("number", EXIF_ORIENTATIONS)
def test_a_png_is_shown_as_its_exif_orientation_says(number: int, tmp_path: Path) -> None:
    file = tmp_path / "turned.png"
    file.write_bytes(with_chunk(encoded(".png"), b"eXIf", exif_block(number)))
    stored = opened(file).to_ndarray(format="rgb24")
    with open_reader(file, Settings()) as source:
        picture = next(source.pictures()).pixels
    assert np.array_equal(picture.to_ndarray(format="rgb24"), EXIF_ORIENTATIONS[number](stored))


def test_a_colour_profile_beside_the_orientation_does_no_harm(tmp_path: Path) -> None:
    """FFmpeg names a PNG's profile, and reading that name crashes PyAV 18.1."""
    file = tmp_path / "turned.png"
    profile = with_chunk(encoded(".png"), b"iCCP", b"a name\0\0" + zlib.compress(bytes(200)))
    file.write_bytes(with_chunk(profile, b"eXIf", exif_block(5)))
    script = (
        "import sys, av; from vidmatte.core.orientation import orientation_of\n"
        "with av.open(sys.argv[1]) as container:\n"
        "    print(*orientation_of(next(container.decode(video=0))))"
    )
    words = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "90 True"), done.stderr


@pytest.mark.parametrize("content", [".png", ".jpg", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".exr", ".dpx", ".tga"])
def test_the_content_may_differ_from_the_suffix(content: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"picture{suffix}"
    file.write_bytes(encoded(content))
    assert_same(file)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_a_truncated_file_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"short{suffix}"
    complete = encoded(suffix)
    for length in (len(complete) // 2, 3, 0):
        file.write_bytes(complete[:length])
        with pytest.raises(SourceError, match=f"short{suffix}: not a readable picture"):
            read_picture(file)


@pytest.mark.parametrize(("suffix", "matrix"), [(".jpg", 5), (".png", 0), (".webp", 5)])
@pytest.mark.parametrize("size", [(48, 64), (720, 1280)])
def test_undeclared_colour_tags_of_a_picture_default_to_srgb(
    suffix: str,
    matrix: int,
    size: tuple[int, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / f"picture{suffix}"
    lossy = [cv2.IMWRITE_WEBP_QUALITY, 90]
    assert cv2.imwrite(str(file), np.full((*size, 3), 90, np.uint8), lossy)
    with open_reader(file, Settings()) as source:
        clip = source.clip
        pixels = next(source.pictures()).pixels
    assert (clip.colour.primaries, clip.colour.transfer, clip.colour.matrix) == (1, 13, matrix)
    assert (pixels.color_primaries, pixels.color_trc) == (1, 13)
    if suffix != ".png":
        assert (clip.declared_colour.primaries, clip.declared_colour.transfer) == (2, 2)
        assert main(["info", str(file)]) == 0
        assert "not declared, assumed as in sRGB: primaries, transfer" in capsys.readouterr().out
    if suffix == ".jpg":
        assert clip.declared_colour == ColourTags(matrix=5, range=FULL)

"""ICC profiles: read from image files, written to PNG and TIFF, with a note where they are lost."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from writer_support import write_clip

from vidmatte.cli.main import main
from vidmatte.media.icc import is_srgb, profile_name, profile_of
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs


def made_profile(name: str = "Made P3", version: int = 4, space: bytes = b"RGB ") -> bytes:
    """A profile with a single tag, its name; 70000 bytes do not fit a JPEG segment."""
    if version == 4:
        text = name.encode("utf-16-be")
        content = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(text), 28) + text
    else:
        content = b"desc" + struct.pack(">II", 0, len(name) + 1) + name.encode() + bytes(79)
    table = struct.pack(">I4sII", 1, b"desc", 144, len(content))
    head = bytearray(128)
    head[16:20], head[36:40] = space, b"acsp"
    noise = np.random.default_rng(2).integers(0, 256, 70000, np.uint8).tobytes()
    profile = bytearray(bytes(head) + table + content + noise)
    profile[:4] = struct.pack(">I", len(profile))
    return bytes(profile)


def picture(suffix: str) -> bytes:
    slope = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    done, data = cv2.imencode(suffix, slope)
    assert done
    return data.tobytes()


def with_profile(suffix: str, profile: bytes) -> bytes:
    """A 64x48 picture with an embedded profile."""
    plain = picture(suffix)
    if suffix == ".png":
        content = b"iCCPsome name\0\0" + zlib.compress(profile)
        chunk = struct.pack(">I", len(content) - 4) + content
        return plain[:33] + chunk + struct.pack(">I", zlib.crc32(content)) + plain[33:]
    if suffix == ".jpg":
        segments = []
        for number, part in enumerate([profile[:65000], profile[65000:]], 1):
            content = b"ICC_PROFILE\0" + bytes([number, 2]) + part
            segments.append(b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content)
        # They are numbered because any order is allowed.
        return plain[:2] + b"".join(reversed(segments)) + plain[2:]
    if suffix == ".webp":
        chunk = b"VP8X" + struct.pack("<IB3x", 10, 0x20) + b"\x3f\0\0\x2f\0\0"
        chunk += b"ICCP" + struct.pack("<I", len(profile)) + profile + bytes(len(profile) % 2)
        size = len(plain) - 8 + len(chunk)
        return b"RIFF" + struct.pack("<I", size) + b"WEBP" + chunk + plain[12:]
    (place,) = struct.unpack_from("<I", plain, 4)
    (count,) = struct.unpack_from("<H", plain, place)
    entries = plain[place + 2 : place + 2 + 12 * count]
    entries += struct.pack("<HHII", 34675, 7, len(profile), len(plain))
    body = plain[:4] + struct.pack("<I", len(plain) + len(profile)) + plain[8:] + profile
    return body + struct.pack("<H", count + 1) + entries + bytes(4)


SUFFIXES = [".png", ".jpg", ".tif", ".webp"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_profile_of_each_image_format_is_read(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"photo{suffix}"
    file.write_bytes(picture(suffix))
    assert profile_of(file) is None
    file.write_bytes(with_profile(suffix, made_profile()))
    assert cv2.imread(str(file)) is not None
    with open_reader(file, Settings()) as source:
        assert source.clip.icc_profile == made_profile()
        assert len([*source.pictures()]) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_truncated_in_its_profile_has_none(suffix: str, tmp_path: Path) -> None:
    file, complete = tmp_path / f"photo{suffix}", with_profile(suffix, made_profile())
    for length in (*range(0, 60), 30000, 69000):
        file.write_bytes(complete[:length])
        assert profile_of(file) in (None, made_profile())
    file.write_bytes(complete.replace(b"acsp", b"****"))
    assert profile_of(file) is None or suffix == ".png", "in a PNG it is deflated"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(("name", "sort"), [("png", "png"), ("png16", "png"), ("tiff16", "tif")])
def test_png_and_tiff_keep_the_profile(suffix: str, name: str, sort: str, tmp_path: Path) -> None:
    file, out = tmp_path / f"photo{suffix}", tmp_path / f"cut.{sort}"
    file.write_bytes(with_profile(suffix, made_profile()))
    extras = ExtraOutputs(matte=tmp_path / f"matte.{sort}", foreground=tmp_path / f"colours.{sort}")
    _, written = write_clip(file, out, format=name, extras=extras)
    assert profile_of(out) == profile_of(extras.foreground or out) == made_profile()
    assert profile_of(tmp_path / f"matte.{sort}") is None, "alpha is no colour"
    assert written.notes == ()
    # The samples are the same as without a profile, also in other readers.
    plain = tmp_path / f"plain{suffix}"
    plain.write_bytes(picture(suffix))
    write_clip(plain, other := tmp_path / f"other.{sort}", format=name)
    read = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (out, other)]
    assert np.array_equal(*read)
    if sort == "png":
        data = out.read_bytes()
        assert not [kind for kind in (b"sRGB", b"cICP", b"gAMA", b"cHRM") if kind in data[:200]]
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).width == 64


@pytest.mark.parametrize("version", [2, 4])
def test_a_format_without_profiles_notes_the_loss(version: int, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(with_profile(".png", made_profile(version=version)))
    _, written = write_clip(file, tmp_path / "cut.mov")
    (note,) = written.notes
    assert "prores has no ICC profile: the source's (Made P3) is lost" in note
    assert "png and tiff16 keep it" in note


def test_an_srgb_profile_is_dropped_without_a_note(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    profile = made_profile("sRGB IEC61966-2.1", version=2)
    assert is_srgb(profile)
    file.write_bytes(with_profile(".png", profile))
    assert write_clip(file, tmp_path / "cut.mov")[1].notes == ()


def test_a_grey_profile_does_not_fit_rgb(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(with_profile(".png", made_profile("Dot Gain 20%", space=b"GRAY")))
    _, written = write_clip(file, out := tmp_path / "cut.png")
    assert profile_of(out) is None
    assert written.notes == (
        "png stores R, G, B: the source's ICC profile (Dot Gain 20%) is not for RGB",
    )


def test_a_different_profile_within_a_folder_is_reported_once(tmp_path: Path) -> None:
    folder = tmp_path / "shot"
    folder.mkdir()
    for number, name in enumerate(["Made P3", "Made P3", "Adobe RGB (1998)", "sRGB"]):
        data = with_profile(".png", made_profile(name, version=2))
        (folder / f"{number}.png").write_bytes(data)
    with open_reader(folder, Settings(fps="25")) as source:
        assert len([*source.pictures()]) == 4
        (warning,) = source.warnings
    assert warning.startswith("2.png: its ICC profile differs from that of 0.png")


def test_info_names_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(with_profile(".jpg", made_profile()))
    assert main(["info", str(file)]) == 0
    assert "ICC profile: Made P3" in capsys.readouterr().out
    assert profile_name(made_profile(version=2)) == "Made P3"

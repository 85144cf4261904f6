"""What OpenEXR and DPX headers say beside the samples: primaries, frame rate, timecode."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from picture_files import ACESCG, Attributes, chromaticities, rgb_channels, write_exr
from test_palette_and_float import read_exr
from tiny_onnx import make_salient
from writer_support import read_frames, write_clip

from vidmatte import matte
from vidmatte.core import timecode
from vidmatte.core.colour import BT709, BT2020, LINEAR, SRGB, UNSPECIFIED
from vidmatte.core.frame import Frame
from vidmatte.errors import UsageError
from vidmatte.jobs.manifest import verify
from vidmatte.media.exr import exr_chromaticities, exr_time
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.formats import by_name
from vidmatte.writers.render.cutout import check_fit

#: Linear ACEScg to bt709, as the Academy publishes it (https://github.com/ampas/aces-dev).
ACESCG_TO_BT709 = np.array(
    [[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055], [-0.02400, -0.12897, 1.15297]]
)
RGB = np.array([0.5, 0.4, 0.1])
NTSC = Fraction(24000, 1001)


TIMED: Attributes = {
    "framesPerSecond": ("rational", struct.pack("<iI", 24000, 1001)),
    "timeCode": ("timecode", struct.pack("<II", 0x01020304, 0)),
}


def opaque(index: int, width: int, height: int) -> np.ndarray:
    return np.ones((height, width), np.float32)


def plates(folder: Path, attributes: Attributes, count: int = 3, suffix: str = "") -> Path:
    """A folder of flat OpenEXR pictures; the timecode, if any, counts on."""
    folder.mkdir()
    for number in range(count):
        own = dict(attributes)
        if "timeCode" in own:
            word = struct.unpack_from("<I", own["timeCode"][1])[0] + number
            own["timeCode"] = ("timecode", struct.pack("<II", word, 0))
        rgb = np.broadcast_to(RGB.astype(np.float32), (24, 32, 3))
        write_exr(folder / f"plate{suffix}.{number:04}.exr", rgb_channels(rgb), own)
    return folder


@pytest.mark.parametrize("name", ["exr", "exr32", "exr-coded"])
def test_exr_keeps_samples_and_chromaticities(name: str, tmp_path: Path) -> None:
    folder = plates(tmp_path / "in", chromaticities(*ACESCG))
    clip, written = write_clip(folder, out := tmp_path / "out", opaque, format=name, fps="24")
    assert clip.colour.as_names()["primaries"] == "acescg"
    (found,) = {exr_chromaticities(file) for file in out.iterdir()}
    assert found == pytest.approx(ACESCG)
    half = 2.0**-11 if name != "exr32" else 0
    pixels = read_exr(out / "plate.0000.exr")[..., :3]
    assert np.abs(pixels - RGB.astype(np.float32)).max() <= half
    assert not any("primaries" in note for note in written.notes)


def test_other_formats_get_bt709(tmp_path: Path) -> None:
    folder = plates(tmp_path / "in", chromaticities(*ACESCG))
    expected = np.rint(ACESCG_TO_BT709 @ RGB * 65535)
    _, written = write_clip(folder, out := tmp_path / "out", opaque, format="png16", fps="24")
    found = cv2.imread(str(out / "plate.0001.png"), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    assert np.abs(found - expected).max() <= 2
    assert any("cannot store acescg primaries" in note for note in written.notes)
    write_clip(folder, movie := tmp_path / "out.mov", opaque, fps="24")
    with av.open(str(movie)) as file:
        assert next(file.decode(video=0)).color_primaries == BT709


def test_networks_see_bt709(tmp_path: Path) -> None:
    """What the network sees is as bright and as saturated as the same picture in bt709."""
    (tmp_path / "709").mkdir()
    light = np.broadcast_to(ACESCG_TO_BT709 @ RGB, (24, 32, 3)).astype(np.float32)
    write_exr(tmp_path / "709" / "a.exr", rgb_channels(light), {})
    seen = []
    for folder in (tmp_path / "709", plates(tmp_path / "ap1", chromaticities(*ACESCG))):
        clip, frames = read_frames(folder, Settings(), opaque)
        out = np.empty((24, 32, 3), np.uint8)
        frame: Frame = next(frames)
        NetworkRgb(clip).view(frame.picture, out)
        seen.append(out.astype(int))
    assert np.abs(seen[0] - seen[1]).max() <= 1


@pytest.mark.parametrize(
    ("points", "primaries", "name"),
    [
        ((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329), BT709, "bt709"),
        ((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.313, 0.329), BT709, "bt709"),
        ((0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329), BT2020, "bt2020"),
        ((1, 0, 0, 1, 0, 0, 1 / 3, 1 / 3), UNSPECIFIED, "xyz"),
        ((0.7, 0.3, 0.2, 0.7, 0.1, 0.1, 0.33, 0.33), UNSPECIFIED, "0.7 0.3 0.2 0.7 0.1 0.1 0.33"),
        ((0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), BT709, "bt709"),  # no colours: as if none
    ],
)
def test_primaries_are_known_by_their_chromaticities(
    points: tuple[float, ...], primaries: int, name: str, tmp_path: Path
) -> None:
    with open_reader(plates(tmp_path / "in", chromaticities(*points)), Settings()) as source:
        assert source.clip.colour.primaries == primaries
        assert source.clip.colour.as_names()["primaries"].startswith(name)
        assert source.clip.colour.transfer == LINEAR


def test_a_run_records_what_it_wrote(tmp_path: Path) -> None:
    folder = plates(tmp_path / "in", {**chromaticities(*ACESCG), **TIMED})
    weights = make_salient(tmp_path / "net.onnx")
    options = {"format": "exr", "model": weights, "family": "isnet"}
    matte(folder, out := tmp_path / "cut", **options)
    found = json.loads((tmp_path / "cut.json").read_text())
    assert found["alpha"] == "premultiplied"
    assert found["colour"]["primaries"] == "acescg"
    assert (found["rate"], found["timecode"]) == ("24000/1001", "01:02:03:04")
    assert verify(out) == []
    matte(folder, out, **options, alpha="straight", overwrite=True)
    assert json.loads((tmp_path / "cut.json").read_text())["alpha"] == "straight"


def test_another_space_in_the_same_folder_is_said(tmp_path: Path) -> None:
    folder = plates(tmp_path / "in", chromaticities(*ACESCG), 1)
    rgb = np.broadcast_to(RGB.astype(np.float32), (24, 32, 3))
    for name in ("q1", "q2"):
        write_exr(folder / f"{name}.exr", rgb_channels(rgb), {})
    with open_reader(folder, Settings()) as source:
        assert len(list(source.pictures())) == 3
        (line,) = [line for line in source.warnings if "colour space differs" in line]
        assert line.startswith("q1.exr")


def test_rate_and_timecode_are_carried(tmp_path: Path) -> None:
    """Into pictures, a number each, and into movies; from the in point on."""
    folder = plates(tmp_path / "in", TIMED, 5)
    clip, written = write_clip(folder, out := tmp_path / "out", opaque, format="exr", in_point="f2")
    assert (clip.rate, clip.timecode) == (NTSC, "01:02:03:06")
    assert not any("--fps" in note for note in written.notes)
    times = [exr_time(file) for file in sorted(out.iterdir())]
    assert [word for _, word in times] == [0x01020306, 0x01020307, 0x01020308]
    assert times[0][0] == pytest.approx(24000 / 1001)
    by_timecode = {"in_point": "01:02:03:05", "out_point": "01:02:03:07"}
    clip, _ = write_clip(folder, movie := tmp_path / "out.mov", opaque, **by_timecode)
    assert (clip.frame_count, clip.timecode) == (2, "01:02:03:05")
    with av.open(str(movie)) as file:
        assert file.streams.video[0].average_rate == NTSC
        assert file.streams.video[0].metadata["timecode"] == "01:02:03:05"


def test_the_first_header_with_a_rate_counts_and_fps_overrules_it(tmp_path: Path) -> None:
    folder = plates(tmp_path / "in", {}, 2)
    rgb = np.broadcast_to(RGB.astype(np.float32), (24, 32, 3))
    write_exr(folder / "z.exr", rgb_channels(rgb), TIMED)
    with open_reader(folder, Settings()) as source:
        assert (source.clip.rate, source.clip.timecode, source.warnings) == (NTSC, None, [])
    with open_reader(folder, Settings(fps="30")) as source:
        assert source.clip.rate == 30
        assert source.warnings == ["in: its files state 24000/1001 fps; --fps 30 is used"]


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(
    ("film", "television", "word", "rate", "start"),
    [
        (float("nan"), 24.0, 0x10203005, Fraction(24), "10:20:30:05"),
        (23.976, float("nan"), 0xFFFFFFFF, NTSC, None),
        (29.97, 0.0, 0x00010042, Fraction(30000, 1001), "00:01:00;02"),
        (50.0, float("inf"), 0x80000012, Fraction(50), "00:00:00:25"),
        (float("nan"), float("nan"), 0x0000000F, Fraction(25), None),
    ],
)
def test_dpx_states_its_rate_and_timecode(
    film: float, television: float, word: int, rate: Fraction, start: str | None, order: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    data = bytearray(2048 + 24 * 32 * 3)  # 8-bit R, G, B, uncompressed, without padding
    data[:4] = b"SDPX" if order == ">" else b"XPDS"
    struct.pack_into(order + "I", data, 4, 2048)
    struct.pack_into(order + "HHII", data, 768, 0, 1, 32, 24)
    data[800:804] = bytes([50, 0, 0, 8])  # RGB, user-defined transfer and primaries, 8 bits
    struct.pack_into(order + "HHI", data, 804, 0, 0, 2048)
    struct.pack_into(order + "f", data, 1724, film)
    struct.pack_into(order + "I", data, 1920, word)
    struct.pack_into(order + "f", data, 1940, television)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.dpx").write_bytes(data)
    with open_reader(tmp_path / "in", Settings()) as source:
        assert (source.clip.rate, source.clip.timecode) == (rate, start)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(50), Fraction(60000, 1001)])
def test_timecode_words_go_there_and_back(rate: Fraction) -> None:
    for text in ("00:00:00:00", "09:58:37:23", "23:59:59:19"):
        assert timecode.from_bcd(timecode.to_bcd(text, rate), rate) == text
    assert timecode.to_bcd("10:20:30:11", Fraction(60)) == 0x10203005 | 1 << 15
    assert timecode.to_bcd("10:20:30:11", Fraction(50)) == 0x10203005 | 1 << 31


def test_chromaticities_of_coded_light_need_a_word(tmp_path: Path) -> None:
    """No conversion of codes is made by a matrix for light."""
    with open_reader(plates(tmp_path / "in", chromaticities(*ACESCG)), Settings()) as source:
        colour = source.clip.colour
        clip = replace(source.clip, colour=replace(colour, transfer=SRGB))
    with pytest.raises(UsageError, match="are for linear light, and it is read as iec61966-2-1"):
        check_fit(clip, by_name("png"))

"""Linear light where code values are expected: reported, and ignored in low-bit DPX headers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from writer_support import write_clip

from vidmatte.cli.main import main
from vidmatte.core.colour import LINEAR, SRGB
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings


def encoded(path: Path, pixel_format: str) -> Path:
    """A 64x32 ramp from left to right, written by FFmpeg."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (32, 64, 3))
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(ramp), "rgb24")
    encoder = av.CodecContext.create(path.suffix[1:], "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 32, pixel_format
    encoder.time_base = Fraction(1, 25)
    packets = encoder.encode(rgb.reformat(format=pixel_format))
    path.write_bytes(b"".join(map(bytes, packets)))
    return path


@pytest.mark.parametrize(
    ("out", "noted"), [("cut.mov", True), ("cut.png", True), ("cut.webm", True), ("cut.exr", False)]
)
def test_linear_light_in_a_format_of_code_values_is_noted(
    out: str, noted: bool, tmp_path: Path
) -> None:
    picture = encoded(tmp_path / "light.exr", "gbrpf32le")
    clip, written = write_clip(picture, tmp_path / out)
    assert clip.colour.transfer == LINEAR
    notes = [note for note in written.notes if "linear light unchanged" in note]
    assert len(notes) == noted
    assert all("write exr, or convert the source" in note for note in notes)


def test_info_notes_linear_light(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(encoded(tmp_path / "light.exr", "gbrpf32le"))]) == 0
    assert "note         png stores the source's linear light unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pixel_format", "transfer"),
    [("rgb24", SRGB), ("gbrp10le", SRGB), ("gbrp12be", SRGB), ("rgb48be", LINEAR)],
)
def test_a_low_bit_dpx_is_display_referred_whatever_its_header_says(
    pixel_format: str, transfer: int, tmp_path: Path
) -> None:
    path = encoded(tmp_path / "plate.dpx", pixel_format)
    data = bytearray(path.read_bytes())
    data[801] = 2  # linear, as FFmpeg 5.1 writes
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).color_trc == LINEAR
    with open_reader(path, Settings()) as source:
        assert source.clip.colour.transfer == transfer
        warnings = [line for line in source.warnings if "its header says linear light" in line]
        assert len(warnings) == (transfer == SRGB)
        (picture,) = source.pictures()
        assert picture.pixels.color_trc == transfer

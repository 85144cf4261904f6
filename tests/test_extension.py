"""A format or a family is added as one row: no other code knows its name."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_movie
from tiny_onnx import make_two_states, make_wide, salient_alpha, two_states_alphas
from writer_support import disc, write_clip

from vidmatte.core.families import (
    FAMILY_TABLE,
    RECURRENT,
    CoarsePass,
    Family,
    InputSize,
    Recurrence,
    State,
)
from vidmatte.core.frame import Frame
from vidmatte.errors import ModelError, UsageError, VerificationError
from vidmatte.models.alpha_cache import RecordingNetwork
from vidmatte.models.base import Network
from vidmatte.models.load import check_options, load_network
from vidmatte.models.runtimes.device import Device
from vidmatte.models.runtimes.torch_device import _SeveralDevices
from vidmatte.pixels.planes import plane_views
from vidmatte.settings import Settings
from vidmatte.writers import formats
from vidmatte.writers.containers import MOV
from vidmatte.writers.encoders import png_encoder
from vidmatte.writers.format_spec import ColourRules, EncoderSpec, OutputFormat, always

SIZE = (64, 48)


class PamEncoder:
    """Portable arbitrary maps, which FFmpeg reads: https://netpbm.sourceforge.net/doc/pam.html"""

    def __init__(self, spec: EncoderSpec) -> None:
        self._head = (
            f"P7\nWIDTH {spec.clip.width}\nHEIGHT {spec.clip.height}\nDEPTH 4\nMAXVAL 255\n"
            "TUPLTYPE RGB_ALPHA\nENDHDR\n"
        ).encode()

    def encode(self, picture: av.VideoFrame) -> Sequence[bytes]:
        return [self._head, plane_views(picture)[0].tobytes()]


class RawEncoder:
    """Width and height in four bytes each, then R, G, B, A: a format only of this test."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._alpha = b"pre " if spec.premultiplied else b"keep"

    def encode(self, picture: av.VideoFrame) -> Sequence[bytes]:
        head = struct.pack("<2I", picture.width, picture.height)
        return [head, self._alpha, plane_views(picture)[0].tobytes()]


def read_raw(path: Path) -> tuple[int, int, str]:
    data = path.read_bytes()
    width, height = struct.unpack_from("<2I", data)
    if len(data) != 12 + 4 * width * height:
        raise ValueError(f"{len(data)} bytes for {width}x{height}")
    return width, height, "rgba"


class PngPacketEncoder:
    """Packets of a movie of PNG pictures, deflated by ISA-L."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._png = png_encoder(spec)

    def encode(self, picture: av.VideoFrame) -> Sequence[av.Packet]:
        packet = av.Packet(b"".join(self._png.encode(picture)))
        packet.is_keyframe = True
        return [packet]


PAM = OutputFormat(
    "pam",
    (".pam",),
    None,
    "pam",
    "RGB, 8 bits",
    "straight, 256 levels",
    "tools of netpbm",
    always("rgba"),
    encoder=PamEncoder,
    straight_only=True,
)
RAW = replace(PAM, name="raw8", suffixes=(".raw8",), encoder=RawEncoder, read_back=read_raw)
PNG_MOVIE = OutputFormat(
    "png-movie",
    (".mov",),
    MOV,
    "png",
    "RGB, 8 bits",
    "straight, 256 levels",
    "animation",
    always("rgba"),
    codec_tag="png ",
    encoder=PngPacketEncoder,
    colour_rules=ColourRules(tagged=False),
)


@pytest.fixture
def with_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of formats with three more rows."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, PAM, RAW, PNG_MOVIE))


def pictures_of(path: Path) -> list[np.ndarray]:
    """The pictures at ``path``, (H, W, 4) uint8 each."""
    if path.is_file():
        with av.open(str(path)) as movie:
            return [frame.to_ndarray(format="rgba") for frame in movie.decode(video=0)]
    if any(path.glob("*.raw8")):
        return [
            np.frombuffer(file.read_bytes(), np.uint8, offset=12).reshape(SIZE[1], SIZE[0], 4)
            for file in sorted(path.iterdir())
        ]
    return [picture for file in sorted(path.iterdir()) for picture in pictures_of(file)]


@pytest.mark.usefixtures("with_rows")
@pytest.mark.parametrize(
    ("row", "name"), [(PAM, "out"), (RAW, "out"), (PNG_MOVIE, "out.mov")], ids=lambda each: each
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_format_with_an_encoder_outside_ffmpeg_is_one_row_and_one_class(
    row: OutputFormat, name: str, resume: bool, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=5)
    expected, out = tmp_path / "expected", tmp_path / name
    write_clip(movie, expected, format="png")
    _, result = write_clip(movie, out, format=row.name, resume=resume)
    assert (result.format, result.frames) == (row.name, 5)
    for actual, reference in zip(pictures_of(out), pictures_of(expected), strict=True):
        np.testing.assert_array_equal(actual, reference)


@pytest.mark.usefixtures("with_rows")
def test_a_row_describes_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=2)
    _, result = write_clip(movie, tmp_path / "pre", format="raw8", alpha_kind="premultiplied")
    assert any("raw8 is read as straight alpha" in note for note in result.notes)
    assert all(file.read_bytes()[8:12] == b"pre " for file in (tmp_path / "pre").iterdir())
    _, result = write_clip(movie, tmp_path / "shot_%02d.pam")
    assert result.format == "pam", "its suffix chooses the row"
    with pytest.raises(UsageError, match=r"--format raw8 is written to \.raw8"):
        formats.check_suffix(tmp_path / "out.pam", RAW)
    monkeypatch.setattr(RawEncoder, "encode", lambda *_: [bytes(20)])
    with pytest.raises(VerificationError, match="cannot be read back: 20 bytes for 0x0"):
        write_clip(movie, tmp_path / "bad", format="raw8")


TWO_STATES = Family(
    "two-states",
    None,
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.5),
    recurrence=Recurrence(
        states=(
            State("memory_in", "memory_out", channels=2, stride=4),
            State("trace_in", "trace_out"),
        ),
        picture="image",
        alpha="alpha",
    ),
    filter_profile=replace(RECURRENT, black=0.01),
)


@pytest.fixture
def with_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of families with one more row."""
    monkeypatch.setitem(FAMILY_TABLE, TWO_STATES.name, TWO_STATES)


def noise(count: int, cuts: tuple[int, ...] = ()) -> list[Frame]:
    """Frames of SIZE with noise that grows brighter."""
    random = np.random.default_rng(0)
    frames = []
    for index in range(count):
        rgb = random.integers(0, 100 + 20 * index, (*SIZE[::-1], 3), np.uint8)
        picture = av.VideoFrame.from_ndarray(rgb, "rgb24")
        new_shot = index == 0 or index in cuts
        frames.append(Frame(index, index, 1, Fraction(1, 25), picture, rgb, new_shot=new_shot))
    return frames


@pytest.mark.usefixtures("with_family")
@pytest.mark.parametrize("devices", [1, 2])
def test_a_second_recurrent_family_is_one_row(devices: int, tmp_path: Path) -> None:
    path = make_two_states(tmp_path / "two.onnx")
    device = Device() if devices == 1 else _SeveralDevices([Device()] * devices)
    network = load_network(path, TWO_STATES.name, Settings(threads=1), device)
    assert (network.recurrent, network.state_count) == (True, 1)
    assert network.filter_profile == TWO_STATES.filter_profile
    frames = noise(7, cuts=(4,))
    done = list(network.predict(iter(frames)))
    colours = [frame.rgb.astype(np.float32) / 255 for frame in frames]
    expected = two_states_alphas([colours[:4], colours[4:]])
    for frame, alpha in zip(done, expected, strict=True):
        np.testing.assert_allclose(frame.alpha, alpha, atol=1e-5)
        assert frame.foreground is None


@pytest.mark.usefixtures("with_family")
def test_its_state_is_passed_from_one_run_to_the_next(tmp_path: Path) -> None:
    path = make_two_states(tmp_path / "two.onnx")
    frames, again = noise(6), noise(6)
    frames[3].wants_state = True
    network = load_network(path, TWO_STATES.name, Settings(threads=1), Device())
    expected = [frame.alpha.copy() for frame in network.predict(iter(frames))]
    state = frames[3].state
    assert {name: value.shape for name, value in state.items()} == {
        "memory_in": (1, 2, 12, 16),
        "trace_in": (1, 1, 1, 1),
    }
    again[3].state = state
    other = load_network(path, TWO_STATES.name, Settings(threads=1), Device())
    for frame, alpha in zip(other.predict(iter(again[3:])), expected[3:], strict=True):
        np.testing.assert_array_equal(frame.alpha, alpha)


#: The command line with one more family in the table.
COMMAND = """
import sys
from vidmatte.core import families
families.FAMILY_TABLE["two-states"] = families.Family(
    "two-states", None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5),
    recurrence=families.Recurrence(
        (families.State("memory_in", "memory_out", 2, 4), families.State("trace_in", "trace_out")),
        picture="image", alpha="alpha"))
families.FAMILIES = tuple(families.FAMILY_TABLE)
if "--die" in sys.argv:
    sys.argv.remove("--die")
    from vidmatte.jobs.report import Progress
    Progress.has_worked = lambda self, busy: self.done >= 45 and os._exit(9)
    import os
from vidmatte.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_command_line_runs_and_resumes_it(tmp_path: Path) -> None:
    model = make_two_states(tmp_path / "two.onnx")
    clip = make_movie(tmp_path / "clip.mp4", size=SIZE, frames=70).path

    def run(out: str, *more: str) -> int:
        words = [str(clip), "-o", str(tmp_path / out), "--model", str(model), "--no-cuts", *more]
        options = ["--family", "two-states", "--threads", "1", "--format", "png", "-q"]
        command = [sys.executable, "-c", COMMAND, *words, *options]
        return subprocess.run(command, check=False, timeout=240).returncode

    assert run("complete/") == 0
    assert run("resumed/", "--resume", "--die") == 9
    assert not (tmp_path / "resumed").exists()
    assert any((tmp_path / ".resumed.resume").iterdir()), "no checkpoint to resume from"
    assert run("resumed/", "--resume") == 0
    names = sorted(file.name for file in (tmp_path / "complete").iterdir())
    assert len(names) == 70
    for name in names:
        pairs = [(tmp_path / folder / name).read_bytes() for folder in ("complete", "resumed")]
        assert pairs[0] == pairs[1], name


@pytest.mark.usefixtures("with_family")
def test_options_and_files_are_checked_by_the_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--downsample 0\.5 has no effect on two-states"):
        check_options(TWO_STATES.name, Settings(downsample=0.5))
    with pytest.raises(UsageError, match="--batch 4: a recurrent model runs frame by frame"):
        check_options(TWO_STATES.name, Settings(batch=4))
    path = make_two_states(tmp_path / "two.onnx")
    with pytest.raises(ModelError, match=r"not of the family rvm: its inputs are .*missing: src"):
        load_network(path, "rvm", Settings(), Device())
    with pytest.raises(ValueError, match="a recurrent network takes the frame at its own size"):
        replace(TWO_STATES, size=InputSize(320))
    with pytest.raises(ValueError, match="only a network with plain R'G'B' input can be split"):
        replace(TWO_STATES, recurrence=replace(TWO_STATES.recurrence, splits=True))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1920, 1080), (896, 512)), ((1080, 1920), (512, 896)), ((64, 48), (672, 512))],
)
def test_an_input_of_the_frames_own_aspect(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert InputSize(512, is_square=False, multiple=32).of(*size) == expected
    assert InputSize(320).of(*size) == (320, 320)


def test_a_family_that_keeps_the_aspect_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Family(
        "wide",
        InputSize(96, is_square=False, multiple=32),
        (0.5, 0.5, 0.5),
        logits=True,
        default_batch=2,
    )
    monkeypatch.setitem(FAMILY_TABLE, "wide", row)
    path = make_wide(tmp_path / "wide.onnx")
    for smooth in ("off", "strong"):
        network = load_network(path, "wide", Settings(threads=1, smooth=smooth), Device())
        assert network.batch == 2
        bright = disc(0, *SIZE)
        rgb = np.rint(np.dstack([bright] * 3) * 255).astype(np.uint8)
        frames = noise(3)
        for frame in frames:
            frame.rgb[:] = rgb
        for frame in network.predict(iter(frames)):
            apart = np.abs(frame.alpha - salient_alpha(rgb.astype(np.float32) / 255))
            assert apart.mean() < 0.01, smooth


def test_a_coarse_pass_keeps_strips_wide_enough() -> None:
    coarse = CoarsePass("scale", side=512, least_side=6)
    assert coarse.ratio(1920, 1080) == 512 / 1920
    assert coarse.ratio(1920, 1080, 0.5) == 0.5
    assert coarse.ratio(20000, 30) * 30 == 6


@pytest.mark.usefixtures("with_family")
def test_a_recording_network_passes_on_all_attributes(tmp_path: Path) -> None:
    path = make_two_states(tmp_path / "two.onnx")
    network = load_network(path, TWO_STATES.name, Settings(threads=1), Device())
    network.batch = 3
    recording = RecordingNetwork(network, tmp_path, "key")
    attributes = [*Network.__annotations__, "batch_stride"]
    assert {"state_count", "description", "filter_profile", "recurrent", "batch"} <= {*attributes}
    for name in attributes:
        assert getattr(recording, name) == getattr(network, name), name

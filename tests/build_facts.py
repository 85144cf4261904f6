"""The contents of a result, fact by fact, for ``compare_builds.py``: names and texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

STREAM_FACTS = (
    "type", "time_base", "start_time", "duration", "frames", "average_rate", "base_rate",
    "disposition", "metadata", "profile", "sample_aspect_ratio",
)  # fmt: skip
CODEC_FACTS = (
    "name", "codec_tag", "pix_fmt", "width", "height", "color_range", "colorspace",
    "color_primaries", "color_trc", "sample_rate", "layout", "extradata",
)  # fmt: skip
FRAME_FACTS = (
    "pts", "duration", "time_base", "width", "height", "color_range", "colorspace",
    "color_primaries", "color_trc", "interlaced_frame", "key_frame", "rotation",
)  # fmt: skip
#: FFmpeg writes random identifiers into them.
UNREPEATABLE = (".mkv", ".webm")
#: FFmpeg does not decode animated WebP; the bytes are compared instead.
UNDECODED = (".webp",)
#: Keys of manifests and events (not of settings) that differ between versions or runs.
LEFT_OUT = {"vidmatte", "command", "seconds", "fps", "busy_seconds", "resumed_at"}
#: Keys that hold sentences, which may be reworded.
SENTENCES = {"warnings", "message", "text"}
WORDS = ", words"  # suffix of the name of a fact that is a sentence


@dataclass
class Facts:
    """Texts by name, in the order of comparison, and counts of what was read.

    flat: whether every alpha plane read holds a single value.
    """

    texts: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    packets: int = 0
    flat: bool = True

    def read_folder(self, folder: Path) -> None:
        """Every file below a folder, by name."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self._read_file(path, path.relative_to(folder).as_posix())

    def read_output(self, stdout: str, name: str) -> None:
        """A command's stdout: one JSON value, one JSON value per line, or a sentence."""
        lines = stdout.splitlines()
        try:
            self.read_json(json.loads(stdout), name)
        except ValueError:
            if not all(line.startswith("{") for line in lines):
                self.texts[f"{name}{WORDS}"] = stdout
                return
            for number, line in enumerate(lines):
                self.read_json(json.loads(line), f"{name} line {number}")

    def read_json(self, value: Any, name: str) -> None:
        """A JSON value, recursively."""
        if isinstance(value, dict):
            file = str(value.get("name", value.get("output", "")))
            left_out = set() if name.endswith("settings") else LEFT_OUT
            left_out = left_out | ({"sha256", "bytes"} if file.endswith(UNREPEATABLE) else set())
            for key, part in value.items():
                if key in SENTENCES:
                    self.texts[f"{name} {key}"] = str(len(part)) if isinstance(part, list) else "1"
                    self.texts[f"{name} {key}{WORDS}"] = str(part)
                elif key not in left_out:
                    self.read_json(part, f"{name} {key}")
        elif isinstance(value, list):
            self.texts[f"{name} length"] = str(len(value))
            for index, part in enumerate(value):
                self.read_json(part, f"{name} {index}")
        else:
            # The Grad score uses OpenCV's magnitude, whose rounding depends on memory alignment:
            # two runs of one version agree to nine digits.
            self.texts[name] = f"{value:.7g}" if isinstance(value, float) else repr(value)

    def _read_file(self, path: Path, name: str) -> None:
        self.texts[name] = "there"
        if path.suffix == ".json":
            self.read_json(json.loads(path.read_text()), name)
            return
        if path.suffix not in UNDECODED:
            self._read_media(path, name)
        if path.suffix not in UNREPEATABLE:
            self.texts[f"{name} bytes"] = digest(path.read_bytes())

    def _read_media(self, path: Path, name: str) -> None:
        with av.open(str(path)) as container:
            self.texts[f"{name} container"] = f"{container.format.name} {container.duration}"
            self.texts[f"{name} tags"] = str(sorted(container.metadata.items()))
            for stream in container.streams:
                self._read_attributes(stream, STREAM_FACTS, f"{name} stream {stream.index}")
                context = stream.codec_context
                self._read_attributes(context, CODEC_FACTS, f"{name} stream {stream.index} codec")
            sums = [hashlib.sha256() for _ in container.streams]
            decoders = [decoder_of(stream) for stream in container.streams]
            number = 0
            for packet in container.demux():
                index = packet.stream.index
                for frame in decoders[index].decode(packet) if decoders[index] else ():
                    self._read_frame(frame, f"{name} frame {number}")
                    number += 1
                self.packets += packet.stream.type == "audio" and packet.size > 0
                sums[index].update(packet_text(packet))
            for index, sum_ in enumerate(sums):
                self.texts[f"{name} packets of stream {index}"] = sum_.hexdigest()

    def _read_attributes(self, source: Any, attributes: tuple[str, ...], name: str) -> None:
        for attribute in attributes:
            value = getattr(source, attribute, None)
            if isinstance(value, dict):
                value = sorted(value.items())
            self.texts[f"{name} {attribute}"] = str(value)

    def _read_frame(self, frame: av.VideoFrame, name: str) -> None:
        self.frames += 1
        self.texts[f"{name} format"] = frame.format.name
        self._read_attributes(frame, FRAME_FACTS, name)
        for index, samples in enumerate(planes(frame)):
            mean = samples.mean(dtype=np.float64)
            self.texts[f"{name} plane {index}"] = f"{digest(samples.tobytes())} (mean {mean:.6g})"
        if has_alpha(frame.format):
            self.flat &= bool(np.ptp(samples[:, :, -1]) == 0)


def planes(frame: av.VideoFrame) -> Iterator[np.ndarray]:
    """The samples of each plane, (h, w, samples a pixel), without line padding."""
    components = frame.format.components
    bits = components[0].bits
    kind = "f" if frame.format.name.endswith(("f16le", "f16be", "f32le", "f32be")) else "u"
    order = ">" if frame.format.is_big_endian else "<"
    dtype = np.dtype(f"{order}{kind}{1 if bits <= 8 else 2 if bits <= 16 else 4}")
    for index, plane in enumerate(frame.planes):
        each = sum(component.plane == index for component in components)
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        used = lines[: plane.height, : plane.width * each * dtype.itemsize]
        yield np.ascontiguousarray(used).view(dtype).reshape(plane.height, plane.width, each)


def has_alpha(pixel_format: av.VideoFormat) -> bool:
    """Whether the last component is alpha: grey and colour have one and three without."""
    return len(pixel_format.components) in (2, 4)


def decoder_of(stream: Any) -> Any:
    """The decoder of a video stream, else None. FFmpeg's own VP9 decoder ignores alpha."""
    if stream.type != "video":
        return None
    if stream.codec_context.name == "vp9":
        return av.CodecContext.create("libvpx-vp9", "r")
    return stream.codec_context


def packet_text(packet: av.Packet) -> bytes:
    """A packet's times, flags, side data (which includes VP9's alpha) and content."""
    head = (packet.pts, packet.dts, packet.duration, packet.time_base, packet.is_keyframe)
    beside = b"".join(bytes(data) for data in packet.iter_sidedata())
    return repr(head).encode() + beside + bytes(packet)


def digest(data: bytes) -> str:
    """The first half of SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:32]

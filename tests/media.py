"""Small real media for the tests, written with PyAV and OpenCV while the tests run.

``make_movie`` and ``make_pictures`` write what ``scene.py`` draws; ``SOURCE_KINDS``
names the kinds of clip that an editor meets, each ready to be made.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from codes import code_planes, frame_of
from scene import Draw, Picture, draw_ball

from vidmatte.core.colour import FULL, HLG, LIMITED, PQ, ColourTags

BT709 = ColourTags(1, LIMITED, 1, 1)
BT709_FULL = ColourTags(1, FULL, 1, 1)
BT601_525 = ColourTags(6, LIMITED, 6, 6)
BT601_625 = ColourTags(5, LIMITED, 5, 6)
BT2020_PQ = ColourTags(9, LIMITED, 9, PQ)
BT2020_HLG = ColourTags(9, LIMITED, 9, HLG)
UNTAGGED = ColourTags()

#: What each encoder needs to be quick, quiet and close to what it is given.
ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "12"},
    "libx265": {"preset": "veryfast", "crf": "12", "x265-params": "log-level=error"},
    "prores_ks": {"profile": "hq", "vendor": "apl0"},
    "libvpx-vp9": {"crf": "16", "b": "0", "cpu-used": "8", "row-mt": "1"},
}

BEEP_HZ, BEEP_LEVEL, HUM_LEVEL = 1000.0, 0.8, 0.03


@dataclass(frozen=True)
class Tone:
    """A sound track: a quiet hum of its own pitch, and the loud beep at the flash.

    ``offset``: seconds on the clip's timeline at which the track's first sample lies.
    """

    codec: str = "aac"
    rate: int = 48000
    channels: int = 2
    offset: Fraction = Fraction(0)
    hum: float = 220.0
    language: str | None = None


@dataclass(frozen=True)
class Movie:
    """A written clip. ``size`` is (width, height) as displayed upright.

    ``pts`` are the presentation times in units of ``time_base``, in order;
    ``flash`` is the index of the lit frame. ``colour`` are the stream's tags.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    pts: tuple[int, ...]
    pixel_format: str
    colour: ColourTags
    audio: tuple[Tone, ...] = ()
    timecode: str | None = None
    rotation: int = 0
    sample_aspect_ratio: Fraction | None = None
    interlaced: bool = False
    flash: int | None = None
    draw: Draw = draw_ball

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.pts)

    @property
    def flash_time(self) -> Fraction:
        """When the flash and the beep begin, in seconds on the clip's timeline."""
        if self.flash is None:
            raise ValueError("this clip has no flash")
        return self.pts[self.flash] * self.time_base

    @property
    def end(self) -> Fraction:
        """When the last frame ends, in seconds on the clip's timeline."""
        return self.pts[-1] * self.time_base + 1 / self.rate if self.pts else Fraction(0)

    def picture(self, index: int) -> Picture:
        """Frame ``index`` as drawn: upright, before any codec; its alpha is exact."""
        return self.draw(index, *self.size, index == self.flash)

    def coded_picture(self, position: float) -> Picture:
        """The picture as stored in the file, turned against the display rotation."""
        upright = self.draw(position, *self.size, int(position) == self.flash)
        return turned(upright, self.rotation)


def make_movie(
    path: Path,
    *,
    size: tuple[int, int] = (192, 108),
    rate: Fraction = Fraction(25),
    frames: int = 10,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    colour: ColourTags = BT709,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: Sequence[Tone] = (),
    timecode: str | None = None,
    reel: str | None = None,
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    interlaced: bool = False,
    flash: int | None = None,
    draw: Draw = draw_ball,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Movie:
    """Write a clip; the container follows from the suffix.

    size: as displayed; a rotation of 90 or 270 stores it on its side.
    pts: one for each frame, in units of ``time_base`` (then ``frames`` is ignored);
        by default 0, 1, 2... in units of 1 / rate.
    colour: exactly these tags are written; a matrix of 2 means unspecified, then the
        samples are coded as BT.709 or BT.601 by size.
    timecode: like 01:00:00:00, or with ; before the frames for drop frame.
    rotation: counter-clockwise degrees by which a player turns the stored picture.
    interlaced: top field first, the lower field half a frame later.
    flash: index of the frame that lights up; every track of ``audio`` beeps with it.
    options: for the encoder, over ENCODER_OPTIONS; container_options: for the muxer.
    """
    time_base = time_base or 1 / rate
    movie = Movie(
        path=path,
        size=size,
        rate=rate,
        time_base=time_base,
        pts=tuple(pts) if pts is not None else tuple(range(frames)),
        pixel_format=pixel_format,
        colour=colour,
        audio=tuple(audio),
        timecode=timecode,
        rotation=rotation,
        sample_aspect_ratio=sample_aspect_ratio,
        interlaced=interlaced,
        flash=flash,
        draw=draw,
    )
    texts = tuple((options or {}).items()), tuple((container_options or {}).items())
    encoded = remembered(_encoded, draw)
    path.write_bytes(encoded(path.suffix, replace(movie, path=Path()), codec, reel, *texts))
    return movie


def remembered(function: Any, draw: Draw) -> Any:
    """A function with an ``lru_cache``, or without, if the drawing may change with a variable."""
    return function if getattr(draw, "__closure__", None) is None else function.__wrapped__


@lru_cache(maxsize=64)
def _encoded(
    suffix: str,
    movie: Movie,
    codec: str,
    reel: str | None,
    options: tuple[tuple[str, str], ...],
    container_options: tuple[tuple[str, str], ...],
) -> bytes:
    """The file of a movie. Most tests of a module start from the same clip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        _write(path, movie, codec, reel, dict(options), dict(container_options))
        return path.read_bytes()


def _write(
    path: Path,
    movie: Movie,
    codec: str,
    reel: str | None,
    options: dict[str, str],
    container_options: dict[str, str],
) -> None:
    with av.open(str(path), "w", options=container_options) as container:
        video = add_video(container, movie, codec, options)
        if movie.timecode:
            video.metadata["timecode"] = movie.timecode
        if reel:
            video.metadata["reel_name"] = reel
        sounds = [add_sound(container, tone) for tone in movie.audio]
        container.start_encoding()
        for frame in coded_frames(movie):
            container.mux(video.encode(frame))
        if movie.pts:
            container.mux(video.encode(None))
        for tone, sound in zip(movie.audio, sounds, strict=True):
            for block in sound_blocks(movie, tone):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))


def add_video(
    container: av.container.OutputContainer, movie: Movie, codec: str, options: dict[str, str]
) -> av.VideoStream:
    """The video stream of ``movie``, set up and tagged, before its first frame."""
    stream = container.add_stream(codec, rate=movie.rate)
    context = stream.codec_context
    width, height = movie.size if movie.rotation % 180 == 0 else movie.size[::-1]
    context.width, context.height = width, height
    context.pix_fmt = movie.pixel_format
    context.time_base = stream.time_base = movie.time_base
    context.options = ENCODER_OPTIONS.get(codec, {}) | options
    context.thread_count = 2
    context.colorspace, context.color_range = movie.colour.matrix, movie.colour.range
    context.color_primaries, context.color_trc = movie.colour.primaries, movie.colour.transfer
    if codec == "libx265":
        if container.format.name != "matroska":
            context.codec_tag = "hvc1"
        if len(movie.pts) < 3:
            # x265 takes the first dts from the third frame; without one from unset memory.
            parameters = context.options.get("x265-params", "log-level=error")
            context.options |= {"x265-params": f"{parameters}:bframes=0"}
    if movie.sample_aspect_ratio:
        context.sample_aspect_ratio = movie.sample_aspect_ratio
    if movie.rotation:
        stream.set_display_rotation(movie.rotation)
    if movie.interlaced:
        context.options |= {"flags": "+ildct+ilme"}
        context.field_order = 2  # AV_FIELD_TT: top field first, coded first
    return stream


def add_sound(container: av.container.OutputContainer, tone: Tone) -> av.AudioStream:
    """An audio stream, set up, before its first sample."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[tone.channels]
    stream = container.add_stream(tone.codec, rate=tone.rate, layout=layout)
    stream.time_base = Fraction(1, tone.rate)
    if tone.language:
        stream.metadata["language"] = tone.language
    return stream


def coded_frames(movie: Movie) -> Iterator[av.VideoFrame]:
    """The frames of ``movie`` as its encoder takes them."""
    set_fields = field_setter(movie) if movie.interlaced else None
    for index, pts in enumerate(movie.pts):
        planes = coded_planes(movie, index)
        if movie.interlaced:
            planes = [plane.copy() for plane in planes]
            for plane, late in zip(planes, coded_planes(movie, index + 0.5), strict=True):
                plane[1::2] = late[1::2]
        frame = frame_of(planes, movie.pixel_format)
        frame.colorspace, frame.color_range = movie.colour.matrix, movie.colour.range
        frame.color_primaries = movie.colour.primaries
        frame.color_trc = movie.colour.transfer
        frame.pts, frame.time_base = pts, movie.time_base
        if set_fields:
            set_fields.push(frame)
            frame = set_fields.pull()
        yield frame


def coded_planes(movie: Movie, position: float) -> list[np.ndarray]:
    """The code values of the picture at ``position``."""
    look = movie.draw, movie.size, movie.rotation, movie.pixel_format, movie.colour
    return remembered(_coded_planes, movie.draw)(*look, position, int(position) == movie.flash)


@lru_cache(maxsize=512)
def _coded_planes(
    draw: Draw,
    size: tuple[int, int],
    rotation: int,
    pixel_format: str,
    colour: ColourTags,
    position: float,
    is_lit: bool,
) -> list[np.ndarray]:
    """The same. Clips of different codecs show the same frames."""
    upright = draw(position, *size, is_lit)
    return code_planes(turned(upright, rotation).rgb, pixel_format, colour)


def turned(upright: Picture, rotation: int) -> Picture:
    """A picture as stored in a file of that display rotation."""
    turns = rotation // 90
    return Picture(np.rot90(upright.rgb, -turns), np.rot90(upright.alpha, -turns))


def field_setter(movie: Movie) -> av.filter.Graph:
    """A filter that marks frames as interlaced: the flag has no setter in PyAV."""
    graph = av.filter.Graph()
    width, height = movie.size
    source = graph.add_buffer(
        width=width,
        height=height,
        format=av.VideoFormat(movie.pixel_format),
        time_base=movie.time_base,
    )
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    return graph


def sound_blocks(movie: Movie, tone: Tone, block: int = 1024) -> Iterator[av.AudioFrame]:
    """The samples of one track, from its offset to the end of the last frame."""
    count = max(0, round((movie.end - tone.offset) * tone.rate))
    seconds = float(tone.offset) + np.arange(count) / tone.rate
    wave = HUM_LEVEL * np.sin(2 * np.pi * tone.hum * seconds)
    if movie.flash is not None:
        start = float(movie.flash_time)
        beeping = (seconds >= start) & (seconds < start + float(1 / movie.rate))
        wave += beeping * BEEP_LEVEL * np.cos(2 * np.pi * BEEP_HZ * (seconds - start))
    first = round(tone.offset * tone.rate)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[tone.channels]
    for at in range(0, count, block):
        part = np.tile(wave[at : at + block].astype(np.float32), (tone.channels, 1))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = tone.rate, Fraction(1, tone.rate)
        frame.pts = first + at
        yield frame


def with_matrix(movie: Movie, a: int, b: int, c: int, d: int) -> Path:
    """A copy of a .mov or .mp4 whose picture track has another display matrix, of -1, 0 and 1."""
    data = bytearray(movie.path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of version 0, ISO/IEC 14496-12 (8.3.2)
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path = movie.path.with_stem(f"{movie.path.stem} {a} {b} {c} {d}")
    path.write_bytes(data)
    return path


def without_sound_data(movie: Movie) -> Path:
    """A transport stream of ``movie``'s packets that declares its audio but contains none."""
    path = movie.path.with_suffix(".ts")
    with av.open(str(movie.path)) as source, av.open(str(path), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = streams[packet.stream]
                target.mux(packet)
    return path


def without_times(path: Path, numbers: Sequence[int]) -> Path:
    """A copy of a transport stream in which some video packets have no timestamp."""
    data = bytearray(path.read_bytes())
    at = -1
    for number in range(max(numbers) + 1):
        at = data.index(b"\x00\x00\x01\xe0", at + 1)  # the head of a packet
        if number in numbers:
            data[at + 7] = 0  # the flags that announce timestamps; the stored ones become stuffing
    result = path.with_name(f"untimed{path.suffix}")
    result.write_bytes(data)
    return result


def with_time_moved(path: Path, number: int, ticks: int) -> Path:
    """A copy of a transport stream in which one video packet's timestamp is moved by ``ticks``
    of 1/90000 s: a duplicate or out-of-order timestamp."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(number + 1):
        at = data.index(b"\x00\x00\x01\xe0", at + 1)  # the head of a packet
    for begin in (at + 9, at + 14)[: 2 if data[at + 7] >> 6 == 3 else 1]:
        high, middle, low = data[begin], *struct.unpack(">HH", data[begin + 1 : begin + 5])
        time = (high >> 1 & 7) << 30 | (middle >> 1) << 15 | low >> 1
        time = (time + ticks) % (1 << 33)
        data[begin] = high & 0xF0 | (time >> 30) << 1 | 1
        words = (time >> 15 & 0x7FFF) << 1 | 1, (time & 0x7FFF) << 1 | 1
        data[begin + 1 : begin + 5] = struct.pack(">HH", *words)
    result = path.with_name(f"moved{path.suffix}")
    result.write_bytes(data)
    return result


def make_pictures(
    folder: Path,
    *,
    size: tuple[int, int] = (192, 108),
    frames: int = 10,
    bits: int = 8,
    suffix: str = ".png",
    pattern: str = "shot_{:04d}",
    start: int = 1,
    draw: Draw = draw_ball,
) -> list[Path]:
    """A folder of images (8-bit .png, .jpg or .tif; 16-bit .png or .tif), in order.

    ``pattern`` makes each name from ``start``, ``start + 1``...; the ruler counts from 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(frames):
        path = folder / (pattern.format(start + index) + suffix)
        path.write_bytes(remembered(_encoded_picture, draw)(index, size, bits, suffix, draw))
        paths.append(path)
    return paths


@lru_cache(maxsize=256)
def _encoded_picture(
    index: int, size: tuple[int, int], bits: int, suffix: str, draw: Draw
) -> bytes:
    """The file of one image."""
    peak, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    rgb = np.round(draw(index, *size, False).rgb.astype(np.float64) * peak).astype(kind)
    chosen = [cv2.IMWRITE_JPEG_QUALITY, 98] if suffix in (".jpg", ".jpeg") else []
    is_written, data = cv2.imencode(suffix, rgb[..., ::-1], chosen)
    if not is_written:
        raise OSError(f"OpenCV wrote no {suffix}")
    return data.tobytes()


@dataclass(frozen=True)
class SourceKind:
    """A kind of clip that editors work with: its suffix and the options of ``make_movie``."""

    suffix: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, folder: Path, name: str = "clip", **changes: Any) -> Movie:
        """Write one into ``folder``; ``changes`` override the kind's own options."""
        return make_movie(folder / (name + self.suffix), **(self.options | changes))


HUM, LOW_HUM = Tone(), Tone(rate=44100, channels=1, hum=110.0, language="ger")
NTSC = Fraction(30000, 1001)

SOURCE_KINDS = {
    "8-bit 709": SourceKind(".mp4", {"audio": [HUM], "flash": 4}),
    "8-bit full range": SourceKind(".mp4", {"colour": BT709_FULL}),
    "601 SD": SourceKind(
        ".mp4", {"size": (176, 120), "rate": NTSC, "colour": BT601_525, "codec": "mpeg2video",
                 "options": {"b": "4M"}}
    ),
    "untagged SD": SourceKind(".mp4", {"size": (176, 120), "colour": UNTAGGED}),
    "untagged HD": SourceKind(".mp4", {"size": (1280, 720), "frames": 4, "colour": UNTAGGED}),
    "10-bit 709": SourceKind(".mp4", {"pixel_format": "yuv420p10le"}),
    "10-bit 2020 PQ": SourceKind(
        ".mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "colour": BT2020_PQ}
    ),
    "10-bit 2020 HLG": SourceKind(
        ".mov", {"codec": "libx265", "pixel_format": "yuv420p10le", "colour": BT2020_HLG}
    ),
    "12-bit 4:4:4": SourceKind(".mov", {"codec": "libx265", "pixel_format": "yuv444p12le"}),
    "4:2:2 interlaced": SourceKind(
        ".mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le", "interlaced": True}
    ),
    "drop frame timecode": SourceKind(
        ".mov",
        {"rate": NTSC, "frames": 120, "timecode": "01:00:00;00", "reel": "A001C003",
         "audio": [HUM], "flash": 45},
    ),
    "variable rate": SourceKind(
        ".mp4",
        {"pts": [0, 20, 41, 60, 85, 140, 160, 161, 200, 240], "time_base": Fraction(1, 600),
         "rate": Fraction(30), "audio": [HUM], "flash": 5, "options": {"bf": "0"}},
    ),
    "rotated by 90": SourceKind(".mp4", {"size": (108, 192), "rotation": 90}),
    "anamorphic 720x576": SourceKind(
        ".mp4",
        {"size": (720, 576), "frames": 5, "colour": BT601_625,
         "sample_aspect_ratio": Fraction(16, 15)},
    ),
    "late sound": SourceKind(
        ".mov", {"frames": 25, "audio": [Tone(offset=Fraction(2, 5))], "flash": 15}
    ),
    "several tracks": SourceKind(
        ".mov",
        {"frames": 25, "flash": 10, "audio": [
            Tone(language="eng"), LOW_HUM, Tone(codec="pcm_s16le", channels=1, hum=330.0)]},
    ),
    "late start": SourceKind(
        ".mkv", {"pts": range(30, 45), "audio": [Tone(offset=Fraction(6, 5))], "flash": 7}
    ),
    "odd size": SourceKind(
        ".mkv", {"size": (161, 91), "codec": "ffv1", "pixel_format": "yuv444p"}
    ),
}  # fmt: skip

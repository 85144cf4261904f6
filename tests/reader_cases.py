"""The inputs of the contract suite over all readers: movies in many containers, image sequences,
single images, trimmed clips, and conformed clips.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from field_files import make_field_coded, packed, without_composition_times
from media import (
    BT601_525,
    BT709_FULL,
    Tone,
    make_movie,
    make_pictures,
    with_time_moved,
    without_times,
)
from scene import draw_ball

from vidmatte.readers.base import Reader
from vidmatte.readers.frame_rate import ConformedReader
from vidmatte.readers.images import ImageReader
from vidmatte.readers.movie.reader import MovieReader

SIZE = (96, 64)
LONG = 76  # frames: enough for a seek to a key frame from the last third
NTSC = Fraction(30000, 1001)
GROUPS = {"g": "12", "bf": "2"}
OPEN_GOP = GROUPS | {"x264-params": "open-gop=1"}
#: Presentation times of a variable rate, in units of 1/600 s.
UNEVEN = [330 * (number // 5) + (0, 20, 85, 141, 160)[number % 5] for number in range(LONG)]


@dataclass(frozen=True)
class Case:
    """An input, the options it is opened with, and what is expected.

    make: writes the input into an empty folder and returns the path to open. frames: expected
    frame count. reader: expected class. warns: whether warnings are expected. repeatable:
    whether every read decodes to the same samples; with frame threads FFmpeg conceals damage
    from whatever the other threads have decoded so far, which varies.
    """

    make: Callable[[Path], Path]
    frames: int
    reader: type[Reader] = MovieReader
    options: dict[str, Any] = field(default_factory=dict)
    warns: bool = False
    repeatable: bool = True


def movie(suffix: str, **options: Any) -> Callable[[Path], Path]:
    """A maker of movies."""
    return lambda folder: make_movie(folder / f"clip{suffix}", **({"size": SIZE} | options)).path


def h264(suffix: str, frames: int = LONG, **options: Any) -> Callable[[Path], Path]:
    """A maker of H.264 clips with open GOPs of 12 frames, and sound."""
    return movie(suffix, frames=frames, **({"options": OPEN_GOP, "audio": [Tone()]} | options))


def mpeg2(suffix: str, frames: int = 40, **options: str) -> Callable[[Path], Path]:
    """A maker of MPEG-2 clips."""
    coded = GROUPS | {"b": "2M"} | options
    return movie(suffix, frames=frames, codec="mpeg2video", options=coded)


def folder_of(*suffixes: str, lost: int | None = None, **options: Any) -> Callable[[Path], Path]:
    """A maker of folders with six images of each suffix; ``lost``: number of a missing one."""

    def make(folder: Path) -> Path:
        plates = folder / "plates"
        for number, suffix in enumerate(suffixes):
            pattern = "shot_{:04d}" + "b" * number
            chosen = {"size": SIZE, "frames": 6, "pattern": pattern, "suffix": suffix}
            files = make_pictures(plates, **(chosen | options))
            if lost is not None:
                files[lost].unlink()
        return plates

    return make


def with_alpha(folder: Path) -> Path:
    """A folder of PNGs with an alpha channel."""
    for number in range(4):
        scene = draw_ball(number, *SIZE)
        rgba = np.dstack([scene.rgb[..., ::-1], scene.alpha])
        cv2.imwrite(str(folder / f"{number}.png"), np.rint(rgba * 255).astype(np.uint8))
    return folder


def one_picture(folder: Path) -> Path:
    """A single PNG of 16 bits."""
    return make_pictures(folder, size=SIZE, frames=1, bits=16)[0]


def turned_picture(folder: Path) -> Path:
    """A JPEG stored on its side, with EXIF orientation 6."""
    (path,) = make_pictures(folder, size=SIZE[::-1], frames=1, suffix=".jpg")
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    plain = path.read_bytes()
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    return path


def animated(folder: Path) -> Path:
    """An animated PNG, which is read as a movie."""
    path = folder / "moves.png"
    with av.open(str(path), "w", format="apng") as container:
        stream = container.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        for number in range(8):
            codes = np.rint(draw_ball(number, *SIZE).rgb * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(codes, "rgb24")))
        container.mux(stream.encode(None))
    return path


def broken(*numbers: int) -> Callable[[Path], Path]:
    """A maker of ProRes clips in which some packets do not decode."""

    def make(folder: Path) -> Path:
        coded = {"codec": "prores_ks", "pixel_format": "yuv422p10le", "size": SIZE}
        path = make_movie(folder / "clip.mov", frames=LONG, **coded).path
        for packet in packets_of(path, numbers):
            with path.open("r+b") as file:
                file.seek(packet.pos)
                file.write(b"\xff" * min(64, packet.size))
        return path

    return make


def lost(suffix: str) -> Callable[[Path], Path]:
    """A maker of MPEG-2 clips from which the decoder silently drops two frames, each right after
    a frame at which this suite starts to read."""

    def make(folder: Path) -> Path:
        path = mpeg2(suffix, LONG, bf="0")(folder)
        for packet in packets_of(path, (LONG // 2 + 1, LONG * 3 // 4 + 1)):
            with path.open("r+b") as file:
                file.seek(path.read_bytes().index(bytes(packet)))  # MXF packets have no position
                file.write(bytes(packet.size))
        return path

    return make


def concealed(folder: Path) -> Path:
    """H.264 with a damaged packet that the decoder conceals."""
    options = {"bf": "0", "g": "4", "x264-params": "scenecut=0", "crf": "10"}
    path = make_movie(folder / "clip.mp4", frames=48, options=options).path
    for packet in packets_of(path, (42,)):
        with path.open("r+b") as file:
            file.seek(packet.pos + packet.size // 2)
            file.write(bytes(range(1, 41)))
    return path


def packets_of(path: Path, numbers: tuple[int, ...]) -> list[av.Packet]:
    """Some of a movie's video packets, by number."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [packets[number] for number in numbers]


def untimed(folder: Path) -> Path:
    """A transport stream in which some frames have no timestamp."""
    path = make_movie(folder / "clip.ts", size=SIZE, frames=40, options={"bf": "0"}).path
    return without_times(path, (3, 4, 36))


def wrong_time(folder: Path) -> Path:
    """A transport stream in which a frame has the timestamp of another."""
    path = make_movie(folder / "clip.ts", size=SIZE, frames=40, options={"bf": "0"}).path
    return with_time_moved(path, 36, 3600)


def field_coded(suffix: str) -> Callable[[Path], Path]:
    """A maker of H.264 clips in which each field is a packet."""
    return lambda folder: make_field_coded(folder / f"clip{suffix}", LONG)


def in_decoding_order(folder: Path) -> Path:
    """A Matroska file with open GOPs whose frames have the times of their decoding."""
    path = h264(".mp4")(folder)
    return without_composition_times(path, folder / "plain.mkv")


def packed_avi(folder: Path) -> Path:
    """An AVI in which DivX has packed two frames into one packet."""
    path = movie(".avi", frames=40, codec="mpeg4", options=GROUPS | {"b": "2M"})(folder)
    return packed(path, folder / "packed.avi")


def dropped(suffix: str) -> Callable[[Path], Path]:
    """A maker of clips with one frame interval left empty."""
    return movie(suffix, pts=[*range(30), *range(31, 46)], codec="mpeg4", options={"b": "2M"})


MOVIES = {
    "H.264 MP4": Case(h264(".mp4"), LONG),
    "H.264 Matroska": Case(h264(".mkv", rate=NTSC), LONG),
    "H.264 MPEG-TS": Case(h264(".ts"), LONG),
    "H.264 AVI": Case(h264(".avi", audio=[], options=GROUPS), LONG),
    "full range": Case(movie(".mp4", colour=BT709_FULL), 10),
    "HEVC 10 bit": Case(
        movie(".mov", frames=12, codec="libx265", pixel_format="yuv420p10le"), 12
    ),
    "ProRes interlaced": Case(
        movie(".mov", frames=40, codec="prores_ks", pixel_format="yuv422p10le", interlaced=True), 40
    ),
    "MPEG-2 program stream": Case(mpeg2(".mpg"), 40),
    "MPEG-2 MXF": Case(mpeg2(".mxf"), 40),
    "SD of BT.601": Case(movie(".mp4", size=(176, 120), rate=NTSC, colour=BT601_525), 10),
    "VP9 WebM": Case(movie(".webm", frames=12, codec="libvpx-vp9"), 12),
    "FFV1, odd size": Case(
        movie(".mkv", size=(97, 67), codec="ffv1", pixel_format="yuv444p"), 10
    ),
    "12 bit 4:4:4": Case(movie(".mkv", codec="ffv1", pixel_format="yuv444p12le"), 10),
    "variable rate": Case(
        movie(".mp4", pts=UNEVEN, time_base=Fraction(1, 600), rate=Fraction(30), options=GROUPS),
        LONG,
    ),
    "variable rate, resume": Case(
        movie(".mkv", pts=UNEVEN, time_base=Fraction(1, 600), rate=Fraction(30), options=GROUPS),
        LONG,
        options={"resume": True},
    ),
    "on its side": Case(movie(".mp4", size=SIZE[::-1], rotation=90), 10),
    "late picture": Case(
        movie(".mkv", pts=range(30, 45), audio=[Tone(offset=Fraction(4, 5))], flash=7), 15
    ),
    "animated PNG": Case(animated, 8),
    "field-coded MPEG-TS": Case(field_coded(".ts"), LONG),
    "field-coded MOV": Case(field_coded(".mov"), LONG),
    "no composition times": Case(in_decoding_order, LONG),
    "raw H.264": Case(movie(".h264", frames=LONG, options=OPEN_GOP), LONG),
    "packed AVI": Case(packed_avi, 40),
    "a dropped frame, AVI": Case(dropped(".avi"), 45),
    "a dropped frame, Matroska": Case(dropped(".mkv"), 45),
    "broken packets": Case(broken(0, 41, 42, LONG - 1), LONG, warns=True),
    "lost frames, MOV": Case(lost(".mov"), LONG, warns=True),
    "lost frames, MXF": Case(lost(".mxf"), LONG, warns=True),
    "concealed damage": Case(concealed, 48, warns=True, repeatable=False),
    "frames without timestamps": Case(untimed, 40, warns=True),
    "a wrong timestamp": Case(wrong_time, 40, warns=True),
}  # fmt: skip
FPS = {"fps": "24"}
PICTURES = {
    "PNG folder": Case(folder_of(".png"), 6, ImageReader, FPS),
    "16-bit TIFF folder": Case(folder_of(".tif", bits=16), 6, ImageReader, FPS),
    "JPEG folder": Case(folder_of(".jpg"), 6, ImageReader, FPS),
    "folder of two kinds": Case(folder_of(".png", ".jpg"), 12, ImageReader, FPS),
    "folder without a rate": Case(folder_of(".png"), 6, ImageReader, warns=True),
    "folder with a gap": Case(folder_of(".png", lost=3), 5, ImageReader, FPS, warns=True),
    "folder with alpha": Case(with_alpha, 4, ImageReader, FPS, warns=True),
    "one picture": Case(one_picture, 1, ImageReader),
    "one turned picture": Case(turned_picture, 1, ImageReader),
}


def part(of: Case, first: int, end: int, **options: Any) -> Case:
    """A case trimmed to frames ``first`` (included) to ``end`` (excluded)."""
    points = {"in_point": f"f{first}", "out_point": f"f{end}", **options}
    return replace(of, frames=end - first, options={**of.options, **points})


PARTS = {
    name: part(case, case.frames // 2, case.frames - 1)
    for name, case in (MOVIES | PICTURES).items()
    if case.frames > 2
}


def conformed(of: Case, rate: str, frames: int) -> Case:
    """A case at another frame rate; conforming always reports its counts as a warning."""
    options = {**of.options, "conform": rate}
    return replace(of, frames=frames, reader=ConformedReader, options=options, warns=True)


CONFORMED = {
    "faster": conformed(MOVIES["H.264 MP4"], "50", 2 * LONG),
    "slower": conformed(MOVIES["H.264 MP4"], "10", 30),
    "variable made constant": conformed(MOVIES["variable rate"], "30", 251),
    "late picture, faster": conformed(MOVIES["late picture"], "30", 18),
    "dropped frame, the same": conformed(MOVIES["a dropped frame, AVI"], "25", 46),
    "broken, slower": conformed(MOVIES["broken packets"], "12.5", 38),
    "folder, faster": conformed(PICTURES["PNG folder"], "30", 8),
    "one picture, faster": conformed(PICTURES["one picture"], "50", 2),
    "part, faster": conformed(PARTS["H.264 MP4"], "50", 74),
}
CASES = {
    **MOVIES,
    **PICTURES,
    **{f"part of {name}": case for name, case in PARTS.items()},
    **{f"conformed: {name}": case for name, case in CONFORMED.items()},
}

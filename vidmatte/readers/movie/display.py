"""HDR metadata, Dolby Vision and clean aperture of a movie."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
from av.sidedata.sidedata import Type

from vidmatte.core.frame import DisplayFacts, MasteringDisplay
from vidmatte.core.orientation import side_data_of
from vidmatte.media.quicktime import picture_boxes

_HEAD = 1 << 20  # bytes of a Matroska file that hold its tracks
#: Matroska's BlockAddIDType of Dolby Vision, and the BlockAddIDExtraData after it (RFC 9559).
_DOLBY_TYPE = re.compile(rb"\x41\xe7\x84(?:dvcC|dvvC|dvwC).{0,64}?\x41\xed([\x85-\xff])", re.DOTALL)
_QUICKTIME = "mov,mp4,m4a,3gp,3g2,mj2"


def display_facts(path: Path | None, container: str, frame: av.VideoFrame) -> DisplayFacts:
    """What the file, None for a stream, and its first frame say. container: FFmpeg's name. Raises
    OSError."""
    beside = side_data_of(frame)
    boxes = picture_boxes(path) if path is not None and container == _QUICKTIME else {}
    profile, is_only = _dolby_vision(path, boxes, beside)
    return DisplayFacts(
        mastering=_mastering(beside.get(Type.MASTERING_DISPLAY_METADATA, b"")),
        content_light=_content_light(beside.get(Type.CONTENT_LIGHT_LEVEL, b"")),
        clean_aperture=_aperture(boxes.get("clap", b""), frame),
        dolby_vision=profile,
        dolby_only=is_only,
    )


def _mastering(data: bytes) -> MasteringDisplay | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten rationals, and whether each half is there."""
    if len(data) < 88 or struct.unpack_from("=2i", data, 80) != (1, 1):
        return None
    numbers = struct.unpack_from("=20i", data)
    if 0 in numbers[1::2]:
        return None
    values = [Fraction(*numbers[at : at + 2]) for at in range(0, 20, 2)]
    return MasteringDisplay(tuple(values[:8]), (values[8], values[9]))


def _content_light(data: bytes) -> tuple[int, int] | None:
    """FFmpeg's AVContentLightMetadata; zeros say nothing."""
    if len(data) < 8:
        return None
    most, average = struct.unpack_from("=2I", data)
    return (most, average) if most or average else None


def _aperture(
    clap: bytes, frame: av.VideoFrame
) -> tuple[Fraction, Fraction, Fraction, Fraction] | None:
    """The clap box of QuickTime and MP4, where it is less than the picture."""
    if len(clap) < 32:
        return None
    numbers = struct.unpack_from(">IIIIiIiI", clap)
    if 0 in numbers[1::2]:
        return None
    width, height, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
    is_less = width != frame.width or height != frame.height
    return (width, height, right, down) if is_less else None


def _dolby_vision(
    path: Path | None, boxes: dict[str, bytes], beside: dict[Type, bytes]
) -> tuple[int | None, bool]:
    """The profile of Dolby Vision, None without, and whether there is no other base layer.

    By the container's configuration record, else by the frame's own metadata.
    """
    record = next((boxes[kind] for kind in ("dvcC", "dvvC", "dvwC") if kind in boxes), b"")
    if path is not None and not record and not boxes:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        found = _DOLBY_TYPE.search(head)
        record = head[found.end() : found.end() + 24] if found else b""
    if len(record) >= 5:  # "Dolby Vision Streams within the ISO base media file format", 3.2
        return record[2] >> 1, record[4] >> 4 == 0
    header = beside.get(Type.DOVI_METADATA, b"")
    if len(header) < 16:
        return None, False
    # AVDOVIMetadata begins with the offset of its header: profile and full range of the RPU.
    (at,) = struct.unpack_from("=Q", header)
    if at + 11 > len(header):
        return None, False
    rpu_profile, is_full = header[at + 4], header[at + 10]
    if rpu_profile == 0:
        return (5, True) if is_full else (4, False)
    return (8 if rpu_profile == 1 else rpu_profile), False

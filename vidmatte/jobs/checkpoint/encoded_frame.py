"""What an output makes of a frame, as bytes that can be kept, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from isal import isal_zlib

#: An encoded frame, a picture file with its size, or a picture that is encoded later.
Piece = av.Packet | tuple[Path, int] | av.VideoFrame
_FASTEST = 1  # pictures that wait for an encoder are read once


@dataclass(frozen=True)
class EncodedFrame:
    """A piece, ready to be kept: what it is, and its bytes."""

    facts: dict[str, Any]
    data: bytes = b""


def encode_piece(piece: Piece, folder: Path) -> EncodedFrame:
    """``piece`` as bytes. A picture file under ``folder`` stays where it is, and is brought
    to the disk."""
    if isinstance(piece, av.Packet):
        return EncodedFrame({"kind": "packet", "key": piece.is_keyframe}, bytes(piece))
    if isinstance(piece, av.VideoFrame):
        return _pack_picture(piece)
    path, size = piece
    with path.open("r+b") as file:
        crc = isal_zlib.crc32(file.read())
        os.fsync(file.fileno())
    name = path.relative_to(folder).as_posix()
    return EncodedFrame({"kind": "file", "name": name, "bytes": size, "crc": crc})


def unpack(facts: Mapping[str, Any], data: bytes, folders: tuple[Path, ...]) -> Piece:
    """The piece again. A picture file is looked for in ``folders``, in order."""
    if facts["kind"] == "packet":
        packet = av.Packet(data)
        packet.is_keyframe = facts["key"]
        return packet
    if facts["kind"] == "picture":
        return _unpack_picture(facts, data)
    for folder in folders:
        if (path := folder / facts["name"]).is_file():
            return path, facts["bytes"]
    return folders[0] / facts["name"], facts["bytes"]


def is_there(facts: Mapping[str, Any], folders: tuple[Path, ...]) -> bool:
    """Whether a picture file is there, whole; other pieces are in the log itself."""
    if facts["kind"] != "file":
        return True
    for folder in folders:
        path = folder / facts["name"]
        if path.is_file() and path.stat().st_size == facts["bytes"]:
            return bool(isal_zlib.crc32(path.read_bytes()) == facts["crc"])
    return False


def _pack_picture(picture: av.VideoFrame) -> EncodedFrame:
    """A picture's planes, deflated."""
    planes = b"".join(bytes(plane) for plane in picture.planes)
    tags = (picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc)
    facts = {
        "kind": "picture",
        "format": picture.format.name,
        "shape": [picture.width, picture.height],
        "tags": [int(tag) for tag in tags],
        "pts": picture.pts,
        "time_base": str(picture.time_base),
    }
    return EncodedFrame(facts, isal_zlib.compress(planes, _FASTEST))


def _unpack_picture(facts: Mapping[str, Any], data: bytes) -> av.VideoFrame:
    """The inverse of ``pack_picture``."""
    width, height = facts["shape"]
    picture = av.VideoFrame(width, height, facts["format"])
    values, at = isal_zlib.decompress(data), 0
    for plane in picture.planes:
        plane.update(values[at : at + plane.buffer_size])
        at += plane.buffer_size
    picture.colorspace, picture.color_range = facts["tags"][:2]
    picture.color_primaries, picture.color_trc = facts["tags"][2:]
    picture.pts, picture.time_base = facts["pts"], Fraction(facts["time_base"])
    return picture

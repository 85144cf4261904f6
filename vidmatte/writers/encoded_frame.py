"""A frame as one output encoded it, ready to be muxed or stored until then."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from isal import isal_zlib

from vidmatte.core.stored import Count, Name, StoredModel, checked, parse

_LENGTH = struct.Struct("<I")  # bytes of the JSON before the data
_FASTEST = 1  # deflate level: a stored picture is read only once


class PictureFile(StoredModel):
    """What is stored of a picture file: its name in the folder, its size and CRC-32."""

    name: Name
    size: Count
    crc: Count


@dataclass(frozen=True)
class ImageFile:
    """A picture file of ``size`` bytes at ``folder`` / ``name``."""

    folder: Path
    name: str
    size: int

    @property
    def path(self) -> Path:
        """The full path."""
        return self.folder / self.name


@dataclass(frozen=True)
class EncodedFrame:
    """One frame as one output encoded it: all that is needed to write it.

    payload: a packet, a picture file already written, or the rendered picture itself for a
    codec that encodes frames in order.
    """

    payload: av.Packet | av.VideoFrame | ImageFile

    def to_bytes(self, *, inline: bool = True) -> bytes:
        """The frame as bytes: the length of a JSON header, the header, and the data.

        inline: include a picture file's content; otherwise the file stays in place, is synced
        to disk, and is stored by name, size and CRC-32. Raises OSError.
        """
        payload = self.payload
        facts: dict[str, Any]
        if isinstance(payload, av.Packet):
            facts, data = {"kind": "packet", "key": payload.is_keyframe}, bytes(payload)
        elif isinstance(payload, av.VideoFrame):
            facts, data = _picture_facts(payload), _deflated_planes(payload)
        else:
            data = _synced_content(payload.path)
            facts = {
                "kind": "file",
                "name": payload.name,
                "size": payload.size,
                "crc": isal_zlib.crc32(data),
                "inline": inline,
            }
            data = data if inline else b""
        head = json.dumps(facts, separators=(",", ":")).encode()
        return b"".join((_LENGTH.pack(len(head)), head, data))

    @classmethod
    def from_bytes(cls, stored: bytes | memoryview, folders: Sequence[Path] = ()) -> EncodedFrame:
        """The inverse of ``to_bytes``.

        folders: searched for a picture file stored by name; the content of an inline one is
        written to the first folder. Raises OSError.
        """
        facts, data = _split(stored)
        if facts["kind"] == "packet":
            packet = av.Packet(bytes(data))
            packet.is_keyframe = facts["key"]
            return cls(packet)
        if facts["kind"] == "picture":
            return cls(_picture(facts, data))
        name, size = facts["name"], facts["size"]
        if facts["inline"]:
            (folders[0] / name).parent.mkdir(parents=True, exist_ok=True)
            (folders[0] / name).write_bytes(data)
        found = (folder for folder in folders if (folder / name).is_file())
        return cls(ImageFile(next(found, folders[0]), name, size))


def file_facts(stored: bytes | memoryview) -> dict[str, Any] | None:
    """Name, size and CRC-32 of the picture file that an ``EncodedFrame``'s bytes refer to;
    None where they contain everything."""
    facts, _ = _split(stored)
    return facts if facts["kind"] == "file" and not facts["inline"] else None


def is_file_intact(facts: dict[str, Any], folders: Sequence[Path]) -> bool:
    """Whether the picture file of ``file_facts`` exists in one of the folders, unchanged."""
    for folder in folders:
        path = folder / facts["name"]
        if path.is_file() and path.stat().st_size == facts["size"]:
            return bool(isal_zlib.crc32(path.read_bytes()) == facts["crc"])
    return False


def _split(stored: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header, as a dict, and the data of an encoded frame."""
    view = memoryview(stored)
    (length,) = _LENGTH.unpack_from(view)
    start = _LENGTH.size + length
    facts: dict[str, Any] = parse(bytes(view[_LENGTH.size : start]))
    if facts["kind"] == "file":
        checked(PictureFile, facts)
    return facts, view[start:]


def _synced_content(path: Path) -> bytes:
    """Sync a file to disk and return its content."""
    with path.open("r+b") as file:
        data = file.read()
        os.fsync(file.fileno())
    return data


def _picture_facts(picture: av.VideoFrame) -> dict[str, Any]:
    """Everything about a picture except its samples."""
    tags = (picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc)
    return {
        "kind": "picture",
        "format": picture.format.name,
        "shape": [picture.width, picture.height],
        "tags": [int(tag) for tag in tags],
        "pts": picture.pts,
        "time_base": str(picture.time_base),
    }


def _deflated_planes(picture: av.VideoFrame) -> bytes:
    """A picture's planes, deflated."""
    return isal_zlib.compress(b"".join(bytes(plane) for plane in picture.planes), _FASTEST)


def _picture(facts: dict[str, Any], data: memoryview) -> av.VideoFrame:
    """Rebuild the picture from ``_picture_facts`` and ``_deflated_planes``."""
    width, height = facts["shape"]
    picture = av.VideoFrame(width, height, facts["format"])
    values, offset = isal_zlib.decompress(data), 0
    for plane in picture.planes:
        plane.update(values[offset : offset + plane.buffer_size])
        offset += plane.buffer_size
    picture.colorspace, picture.color_range = facts["tags"][:2]
    picture.color_primaries, picture.color_trc = facts["tags"][2:]
    picture.pts, picture.time_base = facts["pts"], Fraction(facts["time_base"])
    return picture

"""The items of a HEIF file (HEIC, AVIF): their kinds, properties, bytes and relations.

ISO/IEC 14496-12 (boxes, meta box) and 23008-12 (items of pictures).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MOST_BOXES = 1000
_PICTURES = ("hvc1", "hev1", "av01", "avc1", "jpeg", "grid", "iden", "iovl")
_BELONGS = ("auxl", "thmb", "base", "prem")  # references of what belongs to another picture


class HeifError(ValueError):
    """A HEIF file is damaged, or has a kind of picture that is not read."""


@dataclass
class HeifItem:
    """kind: its four letters. properties: (kind, value), in the order in which they apply.
    extents: (offset, length) of its bytes. parts: the items that it is derived from."""

    kind: str = ""
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    in_idat: bool = False
    is_elsewhere: bool = False
    parts: list[int] = field(default_factory=list)

    def property(self, kind: str) -> bytes | None:
        """The first property of a kind."""
        return next((value for name, value in self.properties if name == kind), None)


class HeifFile:
    """The items of a HEIF file. Raises HeifError."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._items: dict[int, HeifItem] = {}
        self._idat = memoryview(b"")
        self.primary = 0
        self._has_alpha = False
        self._belonging: set[int] = set()  # parts, thumbnails, alpha and the like
        try:
            meta = next(value for kind, value in _boxes(self._data) if kind == "meta")
            self._read_meta(meta[4:])
        except (struct.error, LookupError, StopIteration) as error:
            raise HeifError("its header is damaged") from error

    @property
    def has_alpha(self) -> bool:
        """Whether the primary picture has an alpha picture beside it."""
        return self._has_alpha

    @property
    def other_pictures(self) -> int:
        """How many pictures it has beside the primary one and those that belong to another."""
        shown = [number for number, item in self._items.items() if item.kind in _PICTURES]
        return sum(number not in (self.primary, *self._belonging) for number in shown)

    @property
    def profile(self) -> bytes:
        """The ICC profile of the primary picture; empty without one."""
        colours = (v for kind, v in self.item(self.primary).properties if kind == "colr")
        return next((v[4:] for v in colours if v[:4] in (b"prof", b"rICC")), b"")

    def item(self, number: int) -> HeifItem:
        if number not in self._items or not self._items[number].kind:
            raise HeifError(f"its item {number} is missing")
        return self._items[number]

    def _read_meta(self, meta: memoryview) -> None:
        boxes = dict(_boxes(meta))
        self._idat = boxes.get("idat", self._idat)
        width = 2 if boxes["pitm"][0] == 0 else 4
        self.primary = number_at(boxes["pitm"], 4, width)
        self._read_kinds(boxes["iinf"])
        self._read_places(boxes["iloc"])
        self._read_properties(dict(_boxes(boxes["iprp"])))
        if "iref" in boxes:
            self._read_references(boxes["iref"])

    def _read_kinds(self, box: memoryview) -> None:
        """iinf: the kind of each item."""
        for kind, entry in _boxes(box[6 if box[0] == 0 else 8 :]):
            if kind == "infe" and entry[0] >= 2:
                width = 2 if entry[0] == 2 else 4
                number = number_at(entry, 4, width)
                name = bytes(entry[6 + width : 10 + width]).decode("latin-1")
                self._items.setdefault(number, HeifItem()).kind = name

    def _read_places(self, box: memoryview) -> None:
        """iloc: where the bytes of each item are."""
        version, sizes = box[0], (box[4] >> 4, box[4] & 15, box[5] >> 4)
        index = box[5] & 15 if version else 0
        width = 2 if version < 2 else 4
        count, at = number_at(box, 6, width), 6 + width
        for _ in range(count):
            number, at = number_at(box, at, width), at + width
            method = 0
            if version:
                method, at = number_at(box, at, 2) & 15, at + 2
            elsewhere, at = number_at(box, at, 2), at + 2
            base, at = number_at(box, at, sizes[2]), at + sizes[2]
            extents, at = number_at(box, at, 2), at + 2
            item = self._items.setdefault(number, HeifItem())
            item.in_idat, item.is_elsewhere = method == 1, bool(elsewhere) or method > 1
            for _ in range(extents):
                offset = base + number_at(box, at + index, sizes[0])
                length = number_at(box, at + index + sizes[0], sizes[1])
                at += index + sizes[0] + sizes[1]
                item.extents.append((offset, length))

    def _read_properties(self, boxes: dict[str, memoryview]) -> None:
        """ipco and ipma: the properties of each item."""
        known = [(kind, bytes(value)) for kind, value in _boxes(boxes["ipco"])]
        box = boxes["ipma"]
        width, wide = 2 if box[0] == 0 else 4, box[3] & 1
        at = 8
        for _ in range(number_at(box, 4, 4)):
            item = self._items.setdefault(number_at(box, at, width), HeifItem())
            count, at = box[at + width], at + width + 1
            for _ in range(count):
                number = number_at(box, at, 1 + wide) & (0x7FFF if wide else 0x7F)
                at += 1 + wide
                if 0 < number <= len(known):
                    item.properties.append(known[number - 1])

    def _read_references(self, box: memoryview) -> None:
        """iref: what pictures are derived from, and whether one is the primary's alpha."""
        width = 2 if box[0] == 0 else 4
        for kind, value in _boxes(box[4:]):
            source, count = number_at(value, 0, width), number_at(value, width, 2)
            places = [2 + width * (place + 1) for place in range(count)]
            targets = [number_at(value, at, width) for at in places]
            item = self._items.setdefault(source, HeifItem())
            if kind == "dimg":
                item.parts = targets
                self._belonging.update(targets)
            elif kind in _BELONGS:
                self._belonging.add(source)
            if kind == "auxl" and self.primary in targets:
                purpose = bytes(item.property("auxC") or b"")
                self._has_alpha |= b"alpha" in purpose or b"hevc:2015:auxid:1" in purpose

    def bytes_of(self, item: HeifItem) -> bytes:
        if item.is_elsewhere:
            raise HeifError("its samples are in another file or item")
        source = self._idat if item.in_idat else self._data
        parts = []
        for offset, length in item.extents:
            end = offset + length if length else len(source)
            if end > len(source):
                raise HeifError("it is truncated")
            parts.append(source[offset:end])
        return b"".join(parts)


def heif_kind(path: Path) -> str:
    """``picture`` for a file of HEIF pictures, ``movie`` for one of the same family with a movie
    in it, else empty; by its content. Raises OSError."""
    kinds: list[bytes] = []
    if not path.is_file() or not os.access(path, os.R_OK):
        return ""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size and len(kinds) < _MOST_BOXES:
            file.seek(at)
            head = file.read(16)
            if len(head) < 8 or (not kinds and head[4:8] != b"ftyp"):
                break
            kinds.append(head[4:8])
            length = int.from_bytes(head[:4])
            length = int.from_bytes(head[8:16]) if length == 1 else length or size - at
            at += max(length, 8)
    if b"moov" in kinds:
        return "movie"
    return "picture" if b"meta" in kinds else ""


def other_heif_pictures(file: Path) -> int:
    """See ``HeifFile.other_pictures``; 0 for a damaged file."""
    try:
        return HeifFile(file.read_bytes()).other_pictures
    except HeifError:
        return 0


def has_heif_alpha(file: Path) -> bool:
    """Whether a HEIF file's primary picture has alpha; False for other and damaged files."""
    if heif_kind(file) != "picture":
        return False
    try:
        return HeifFile(file.read_bytes()).has_alpha
    except HeifError:
        return False


def heif_profile(file: Path) -> bytes:
    """The ICC profile of a HEIF file's primary picture; empty without one, or where the file is
    damaged."""
    try:
        return HeifFile(file.read_bytes()).profile
    except HeifError:
        return b""


def _boxes(data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Kind and content of each box. Raises struct.error, HeifError."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = at + size if size else len(data)
        if end < at + head:
            raise HeifError("its header is damaged")
        yield kind.decode("latin-1"), data[at + head : end]
        at = end


def number_at(data: memoryview | bytes, at: int, width: int) -> int:
    """A big-endian number of ``width`` bytes, 0 where it has none. Raises IndexError."""
    if at + width > len(data):
        raise IndexError("the data ends before a number")
    return int.from_bytes(data[at : at + width])

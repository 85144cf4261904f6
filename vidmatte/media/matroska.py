"""The pixel aspect and the HDR metadata of a Matroska or WebM file, which FFmpeg's muxer reads
only from the stream, where PyAV cannot set them.

Layout: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vidmatte.core.frame import DisplayFacts
from vidmatte.errors import OutputError

SEEK_HEAD, SEEK, SEEK_POSITION = b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x53\xac"
TRACKS, TRACK, VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
PIXEL_WIDTH, PIXEL_HEIGHT, DISPLAY_UNIT = b"\xb0", b"\xba", b"\x54\xb2"
DISPLAY_WIDTH, DISPLAY_HEIGHT = b"\x54\xb0", b"\x54\xba"
_COLOUR, _MAX_CLL, _MAX_FALL, _MASTERING = b"\x55\xb0", b"\x55\xbc", b"\x55\xbd", b"\x55\xd0"
VOID, CRC32 = b"\xec", b"\xbf"
_LEAST_VOID, _SHORT_VOID = 2, 128  # bytes: an empty one, the longest with a size of one byte
_HEAD = 1 << 20  # bytes read: contains everything before the pictures


@dataclass(frozen=True)
class _Element:
    """An EBML element: its ID, the number of bytes of its size field, and its payload."""

    ident: bytes
    width: int
    payload: bytes

    def __bytes__(self) -> bytes:
        width, size = self.width, len(self.payload)
        return self.ident + (1 << 7 * width | size).to_bytes(width, "big") + self.payload

    def with_children(self, parts: Iterable[_Element]) -> _Element:
        """The element with new children; updates its checksum if it has one."""
        payload = b"".join(map(bytes, parts))
        if payload.startswith(CRC32):
            sum_ = zlib.crc32(payload[6:]).to_bytes(4, "little")
            payload = payload[:2] + sum_ + payload[6:]
        # A size of all ones means unknown.
        needed = ((len(payload) + 1).bit_length() + 6) // 7
        return replace(self, width=max(self.width, needed), payload=payload)


def _elements(data: bytes, at: int = 0) -> Iterator[_Element]:
    """The elements that are complete in ``data``, from offset ``at`` on."""
    while at < len(data):
        length = _number_length(data[at])
        ident, at = data[at : at + length], at + length
        if at >= len(data):
            return
        width = _number_length(data[at])
        size = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
        at += width
        if at + size > len(data):
            return
        yield _Element(ident, width, data[at : at + size])
        at += size


def _number_length(first: int) -> int:
    """The length of a number in bytes, from its first byte. Raises ValueError."""
    if not first:
        raise ValueError("its header is not Matroska's")
    return 9 - first.bit_length()


def patch_aspect(movie: Path, aspect: Fraction) -> None:
    """Set the sample aspect ratio of a Matroska file: pixel width divided by height.

    Raises OSError, OutputError: see ``_patch``.
    """
    _patch(movie, lambda video: _display_size(video, aspect), "pixel aspect")


def patch_light(movie: Path, display: DisplayFacts) -> None:
    """Add the HDR metadata to a Matroska file. Raises OSError, OutputError: see ``_patch``."""
    _patch(movie, lambda video: _with_light(video, display), "HDR metadata")


def _patch(movie: Path, change: Callable[[list[_Element]], Iterable[_Element]], what: str) -> None:
    """Change the settings of a file's pictures.

    The file keeps its size: the new fields use the padding that the muxer writes before the
    tracks. Raises OSError, and OutputError if there is no such padding.
    """
    with movie.open("r+b") as file:
        head = file.read(_HEAD)
        try:
            start = len(bytes(next(_elements(head)))) + 4  # the segment's size comes next
            start += _number_length(head[start])
            changed = _with_video(list(_elements(head, start)), change)
            patched = b"".join(map(bytes, changed))
        except (LookupError, OverflowError, StopIteration, ValueError) as error:
            raise OutputError(
                f"{movie.name}: no {what} can be added to its header ({error}): write .mov"
            ) from error
        file.seek(start)
        file.write(patched)


def _with_video(
    parts: list[_Element], change: Callable[[list[_Element]], Iterable[_Element]]
) -> list[_Element]:
    """The parts of a segment up to its tracks, in the same number of bytes. Raises ValueError."""
    kinds = [part.ident for part in parts]
    if VOID not in kinds or TRACKS not in kinds[kinds.index(VOID) :]:
        raise ValueError("no padding before its tracks")
    padding, place = kinds.index(VOID), kinds.index(TRACKS)
    begins = [sum(len(bytes(part)) for part in parts[:number]) for number in (padding, place)]
    tracks = _changed_tracks(parts[place], change)
    more = len(bytes(tracks)) - len(bytes(parts[place]))
    left = len(bytes(parts[padding])) - more
    if left < _LEAST_VOID:
        raise ValueError(f"padding of {left + more - _LEAST_VOID} bytes, {more} needed")
    width = 1 if left <= _SHORT_VOID else parts[padding].width
    void = replace(parts[padding], width=width, payload=bytes(left - 1 - width))
    places = range(begins[0] + 1, begins[1] + 1)
    before = [
        _shifted_seek_head(part, places, -more) if part.ident == SEEK_HEAD else part
        for part in parts[:padding]
    ]
    return [*before, void, *parts[padding + 1 : place], tracks]


def _changed_tracks(
    tracks: _Element, change: Callable[[list[_Element]], Iterable[_Element]]
) -> _Element:
    """The tracks, with changed settings of their pictures."""
    return tracks.with_children(
        track.with_children(
            part.with_children(change(list(_elements(part.payload))))
            if part.ident == VIDEO
            else part
            for part in _elements(track.payload)
        )
        if track.ident == TRACK
        else track
        for track in _elements(tracks.payload)
    )


def _display_size(video: list[_Element], aspect: Fraction) -> Iterator[_Element]:
    """The parts of a video's settings, with the display size after its own size, in integer
    pixels, rounded as FFmpeg does."""
    sizes = {part.ident: int.from_bytes(part.payload, "big") for part in video}
    width, height = round(sizes[PIXEL_WIDTH] * aspect), sizes[PIXEL_HEIGHT]
    for part in video:
        if part.ident not in (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT):
            yield part
        if part.ident == PIXEL_HEIGHT:
            yield _Element(DISPLAY_WIDTH, 1, width.to_bytes(4, "big").lstrip(b"\0"))
            yield _Element(DISPLAY_HEIGHT, 1, height.to_bytes(4, "big").lstrip(b"\0"))


def _with_light(video: list[_Element], display: DisplayFacts) -> Iterator[_Element]:
    """The parts of a video's settings, with HDR metadata among its colours."""
    added = []
    if display.content_light is not None:
        for ident, value in zip((_MAX_CLL, _MAX_FALL), display.content_light, strict=True):
            added.append(_Element(ident, 1, value.to_bytes(4, "big").lstrip(b"\0") or b"\0"))
    if display.mastering is not None:
        low, high = display.mastering.luminance
        values = [*display.mastering.chromaticities, high, low]
        idents = (b"\x55" + bytes([code]) for code in range(0xD1, 0xDB))
        floats = zip(idents, values, strict=True)
        parts = [_Element(ident, 1, struct.pack(">f", float(value))) for ident, value in floats]
        added.append(_Element(_MASTERING, 1, b"").with_children(parts))
    kinds = [part.ident for part in video]
    for part in video:
        is_colour = part.ident == _COLOUR
        yield part.with_children([*_elements(part.payload), *added]) if is_colour else part
    if _COLOUR not in kinds:
        yield _Element(_COLOUR, 1, b"").with_children(added)


def _shifted_seek_head(seek_head: _Element, places: range, by: int) -> _Element:
    """The index of the segment's parts, with the offsets in ``places`` shifted ``by`` bytes."""

    def seek(entry: _Element) -> Iterator[_Element]:
        for part in _elements(entry.payload):
            at = int.from_bytes(part.payload, "big")
            if part.ident == SEEK_POSITION and at in places:
                yield replace(part, payload=(at + by).to_bytes(len(part.payload), "big"))
            else:
                yield part

    return seek_head.with_children(
        entry.with_children(seek(entry)) if entry.ident == SEEK else entry
        for entry in _elements(seek_head.payload)
    )

"""The encoded frames of a run, in one file that survives a kill.

A record holds one frame: a JSON head and a body, each with its CRC-32. Records are only ever
appended. If a run is killed while it writes one, the records before it are intact, and the
next run cuts off the torn one.
"""

from __future__ import annotations

import json
import os
import re
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator

from vidmatte.core.stored import Count, StoredModel, Text, checked, parse
from vidmatte.writers.encoded_frame import PictureFile

#: Mark, bytes of the head, bytes of the body, CRC-32 of each.
_HEADER = struct.Struct("<4sIQII")
_MARK = b"VMF1"
_BLOCK = 1 << 20
_SYNC_SECONDS = 5.0  # a power failure loses no more than this
_REMEMBERED = 512  # frames: more than a run re-reads before the first missing one
_LONGEST_HEAD = 1 << 24

Head = dict[str, Any]


class _Encoded(StoredModel):
    """An encoded frame of a head: its bytes in the body, or the facts of its picture's file."""

    size: Count
    file: PictureFile | None


def _as_array(value: Any) -> Any:
    """The name, dtype and shape of an array in a body: numbers of a fixed size."""
    name, kind, shape = value
    is_kind = isinstance(kind, str) and re.fullmatch(r"[<>|]?[fiub][1248]", kind)
    if not is_kind or not isinstance(name, str) or not isinstance(shape, list):
        raise ValueError("expected name, dtype and shape")
    if not all(isinstance(side, int) and 0 <= side < 1 << 20 for side in shape):
        raise ValueError("expected a shape")
    return value


class _StoredHead(StoredModel):
    """The head of a frame's record."""

    index: Count
    pts: int
    duration: int
    new_shot: bool
    findings: dict[str, list[Text]]
    encoded: list[_Encoded]
    state: list[Annotated[list[Any], AfterValidator(_as_array)]]


class TornRecordError(Exception):
    """A record is cut short or damaged."""


@dataclass
class Summary:
    """The content of a log.

    count: intact records of frames. end: bytes up to the end of these. complete: the run had
    written its last frame. heads: those of the last frames, by number.
    findings: those of all frames that have any, by number.
    offsets: where the frames with a recurrent network's ``state`` begin, by number.
    """

    count: int = 0
    end: int = 0
    complete: bool = False
    heads: deque[tuple[int, Head]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    findings: list[tuple[int, dict[str, list[str]]]] = field(default_factory=list)
    offsets: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class FrameLog:
    """The log at ``path``, for one writer. first: the number of its first frame.
    Raises OSError."""

    def __init__(self, path: Path, first: int = 0) -> None:
        self.path = path
        self.first = first
        self.count = 0
        self._file: BinaryIO | None = None
        self._synced = time.monotonic()

    def survey(self, is_intact: Callable[[Head], bool]) -> Summary:
        """Read all records; ``is_intact`` says whether the files that a head refers to exist.

        Everything after the first record that is not intact counts as missing.
        """
        found = Summary()
        if not self.path.exists():
            return found
        with self.path.open("rb") as file:
            while True:
                start = file.tell()
                try:
                    head, size = _read_head(file)
                    _skip_body(file, size)
                except TornRecordError:
                    return found
                if head.get("complete"):
                    found.complete = True
                    return found
                index = head["index"]
                if index != self.first + found.count or not is_intact(head):
                    return found
                found.count, found.end = found.count + 1, file.tell()
                found.heads.append((index, head))
                if head["findings"]:
                    found.findings.append((index, head["findings"]))
                if head["state"]:
                    found.offsets.append((index, start))

    def open(self, summary: Summary) -> None:
        """Prepare to append records after the intact ones; the rest is cut off."""
        self.path.touch()
        self._file = self.path.open("r+b", buffering=0)
        self._file.truncate(summary.end)
        self._file.seek(summary.end)
        self.count = summary.count
        self.sync()

    def append(self, head: Head, parts: Sequence[bytes | memoryview]) -> bool:
        """Append a record; True where the log was also synced to the disk, as every few seconds."""
        text = json.dumps(head, separators=(",", ":")).encode()
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        size = sum(len(part) for part in parts)
        file = self._opened()
        for part in (_HEADER.pack(_MARK, len(text), size, zlib.crc32(text), crc), text, *parts):
            _write_all(file, part)
        self.count += "index" in head
        if time.monotonic() - self._synced < _SYNC_SECONDS:
            return False
        self.sync()
        return True

    def records(self) -> Iterator[tuple[Head, bytes]]:
        """Every frame's head and body, in order. Raises TornRecordError."""
        with self.path.open("rb") as file:
            for _ in range(self.count):
                yield _read_record(file)

    def record_at(self, offset: int) -> tuple[Head, bytes]:
        """The record that begins at byte ``offset``. Raises TornRecordError."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return _read_record(file)

    def sync(self) -> None:
        """Sync everything to the disk."""
        os.fsync(self._opened().fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file; harmless when done twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the log is not open")
        return self._file


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write every byte: a raw file may write fewer at once."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


def _read_record(file: BinaryIO) -> tuple[Head, bytes]:
    """The record at the file's position. Raises TornRecordError."""
    head, (size, crc) = _read_head(file)
    body = file.read(size)
    if len(body) != size or zlib.crc32(body) != crc:
        raise TornRecordError
    return head, body


def _read_head(file: BinaryIO) -> tuple[Head, tuple[int, int]]:
    """A record's head, and its body's size and CRC-32. Raises TornRecordError."""
    raw = file.read(_HEADER.size)
    if len(raw) != _HEADER.size:
        raise TornRecordError
    mark, length, size, head_crc, crc = _HEADER.unpack(raw)
    if mark != _MARK or length > _LONGEST_HEAD:
        raise TornRecordError
    text = file.read(length)
    if len(text) != length or zlib.crc32(text) != head_crc:
        raise TornRecordError
    try:
        head: Head = parse(text)
        if not (isinstance(head, dict) and head.get("complete") is True):
            checked(_StoredHead, head)
    except ValueError:
        raise TornRecordError from None
    return head, (size, crc)


def _skip_body(file: BinaryIO, expected: tuple[int, int]) -> None:
    """Read past a body, checking it a block at a time. Raises TornRecordError."""
    size, crc = expected
    found = 0
    while size:
        block = file.read(min(size, _BLOCK))
        if not block:
            raise TornRecordError
        found = zlib.crc32(block, found)
        size -= len(block)
    if found != crc:
        raise TornRecordError

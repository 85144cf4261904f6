"""Raw alphas kept between runs, so that trying again needs no network.

One Matroska file for each combination of source, weights and settings: FFV1, 16-bit
grey, lossless at 16 bits; a second stream holds the model's foreground, 8-bit RGB,
where it gives one. A file exists only when its clip is complete, and its name says what its
packets sum up to: FFmpeg conceals a damaged picture without a word.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import tempfile
import zlib
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
from filelock import FileLock, Timeout

from vidmatte.core.concurrency import lock_at, release_and_unlink
from vidmatte.core.families import FilterProfile
from vidmatte.core.frame import Frame
from vidmatte.errors import OutputError, UsageError
from vidmatte.models.augment import mark_views
from vidmatte.models.base import Network, WrappedNetwork
from vidmatte.models.runtimes.onnx_file import check_numbers

_FULL_SCALE = 65535
_RATE = 25  # of the files, whatever the clip's: frame numbers are all that counts
#: How the names of unfinished files end, and of those that are locked while these are written.
PARTIAL, LOCK = ".part", ".lock"
_UNFINISHED = re.compile(rf"(\.[0-9a-f]{{32}}\..*{re.escape(PARTIAL)})({re.escape(LOCK)})?")
_CODEC_OPTIONS = {"level": "3", "slices": "4", "slicecrc": "1"}
#: Of a picture that is one pixel wide or high: it has no four slices, and FFmpeg's encoder finds
#: no other number either where it is long.
_WITHOUT_SLICES = {"level": "1"}


def cache_key(facts: dict[str, Any]) -> str:
    """A name for what decides the raw alpha: 32 hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CachedNetwork(Network):
    """Gives frames the alphas of an earlier run, read from its file."""

    batch = 1

    def __init__(
        self, path: Path, recurrent: bool, filter_profile: FilterProfile, ways: list[str]
    ) -> None:
        self.recurrent, self.filter_profile = recurrent, filter_profile
        self._ways = ways
        self._path = path

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        _remove_leftovers(self._path.parent)
        with contextlib.closing(self._kept()) as kept:
            for frame in frames:
                alpha, foreground = self._next(kept, frame)
                mark_views(frame, self._ways)
                levels = alpha.to_ndarray()
                np.multiply(levels, np.float32(1 / _FULL_SCALE), out=frame.writable_alpha())
                frame.foreground = foreground.to_ndarray(format="rgb24") if foreground else None
                yield frame

    def cancel(self) -> None:
        """Reading ends by itself."""

    def _kept(self) -> Generator[tuple[Any, Any]]:
        with av.open(_absolute(self._path)) as container:
            alphas = container.streams.video[0]
            colours = container.streams.video[1] if len(container.streams.video) > 1 else None
            yield from _pairs(container, alphas, colours)

    def _next(self, kept: Iterator[tuple[Any, Any]], frame: Frame) -> tuple[Any, Any]:
        """What is kept of a frame. A damaged file is removed. Raises SinkError."""
        try:
            return next(kept)
        except (av.FFmpegError, StopIteration) as error:
            self._path.unlink(missing_ok=True)
            raise OutputError(
                f"--cache {self._path.parent}: the kept alphas were damaged at frame {frame.index}"
                " and have been removed: run it again"
            ) from error


class _Checksums:
    """What the packets of each stream sum up to, as they are written or read."""

    def __init__(self) -> None:
        self._sums: dict[int, int] = {}

    def add(self, packet: av.Packet) -> None:
        """Count a packet in."""
        self._sums[packet.stream_index] = zlib.crc32(packet, self._sums.get(packet.stream_index, 0))

    def __str__(self) -> str:
        return "-".join(f"{total:08x}" for _, total in sorted(self._sums.items()))


def check_folder(folder: Path) -> None:
    """Raise UsageError for a file, SinkError where a cache's folder that is missing cannot be
    made. It stays missing until there is something to keep."""
    if folder.is_file():
        raise UsageError(f"--cache {folder}: that is a file: name a folder, or one to be made")
    try:
        with _make_temporarily(folder):
            pass
    except OSError as error:
        raise OutputError(
            f"--cache {folder}: that folder cannot be made ({error.strerror}): name another, or"
            " leave --cache out"
        ) from error


def check_writable(folder: Path) -> None:
    """Raise SinkError where no file can be made in the folder of a cache."""
    try:
        with _make_temporarily(folder), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cache_error(folder, error) from error


@contextlib.contextmanager
def _make_temporarily(folder: Path) -> Iterator[None]:
    """A folder that is there, and goes again with those above it as far as they were missing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # not made, or another run keeps something there
                path.rmdir()


def _cache_error(folder: Path, error: OSError | av.FFmpegError) -> OutputError:
    """What to say where the folder of a cache is not written to: more room helps a full one."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    room = "free some space there, " if is_full else ""
    reason = error.strerror or error
    return OutputError(
        f"--cache {folder}: {reason}; {room}name another folder, or leave --cache out"
    )


def cache_file(folder: Path, key: str) -> Path | None:
    """The file of a key, if there is one."""
    return next(iter(sorted(folder.glob(f"{key}.*.mkv"))), None)


def is_complete(path: Path, size: tuple[int, int]) -> bool:
    """Whether a cache file is as it was written, of pictures of that size (width, height).

    Nothing is decoded.
    """
    sums = _Checksums()
    try:
        with av.open(_absolute(path)) as container:
            sizes = {(stream.width, stream.height) for stream in container.streams.video}
            for packet in container.demux():
                if packet.size:
                    sums.add(packet)
    except av.FFmpegError:
        return False
    return sizes == {size} and path.name.split(".")[1] == str(sums)


def _absolute(path: Path) -> str:
    """A path in which FFmpeg takes no colon for a protocol's."""
    return str(path.absolute())


def _pairs(container: Any, alphas: Any, colours: Any) -> Iterator[tuple[Any, Any]]:
    """Decoded alpha and foreground of one frame after the other."""
    waiting: dict[int, list[Any]] = {alphas.index: []}
    if colours is not None:
        waiting[colours.index] = []
    for packet in container.demux(*waiting):
        waiting[packet.stream.index].extend(packet.decode())
        while all(waiting.values()):
            taken = [queue.pop(0) for queue in waiting.values()]
            yield taken[0], taken[1] if colours is not None else None


class RecordingNetwork(WrappedNetwork):
    """A network whose alphas are also written to the cache while they go by."""

    def __init__(self, network: Network, folder: Path, key: str) -> None:
        super().__init__(network)
        self._path = folder / key

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        _remove_leftovers(self._path.parent)
        partial = self._path.with_name(f".{self._path.name}.{uuid4().hex}{PARTIAL}")
        lock = _lock_of(partial)
        keeper: _AlphaRecorder | None = None
        try:
            for frame in self._network.predict(frames):
                check_numbers(frame)  # 16 bits have no NaN: kept, it would be an alpha like others
                keeper = keeper or _AlphaRecorder(partial, lock, frame)
                keeper.keep(frame)
                yield frame
            if keeper is not None:
                keeper.close()
                partial.replace(self._path.with_name(f"{self._path.name}.{keeper.sums}.mkv"))
        finally:
            if keeper is not None:
                keeper.drop()
            partial.unlink(missing_ok=True)
            release_and_unlink(lock)


def _lock_of(partial: Path) -> FileLock:
    """What is locked while an unfinished file is written; a kill lets it go."""
    return lock_at(partial.with_name(partial.name + LOCK))


def _remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed have left of files of any key."""
    found = (_UNFINISHED.fullmatch(path.name) for path in folder.glob(".*"))
    for partial in {folder / match[1] for match in found if match}:
        # Its run is at work, or the folder may only be read.
        with contextlib.suppress(Timeout, OSError):
            lock = _lock_of(partial)
            lock.acquire(timeout=0)
            partial.unlink(missing_ok=True)
            release_and_unlink(lock)


class _AlphaRecorder:
    """Writes one cache file; streams are laid out by the first frame."""

    def __init__(self, path: Path, lock: FileLock, frame: Frame) -> None:
        self.sums = _Checksums()
        self._folder = path.parent
        with self._failing():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            self._container = av.open(_absolute(path), "w", format="matroska")
        self._alphas = self._stream(frame, "gray16le")
        self._colours = self._stream(frame, "bgr0") if frame.foreground is not None else None

    def _stream(self, frame: Frame, pixel_format: str) -> Any:
        width, height = frame.picture.width, frame.picture.height
        options = _CODEC_OPTIONS if min(width, height) > 1 else _WITHOUT_SLICES
        stream = self._container.add_stream("ffv1", rate=_RATE, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format
        stream.time_base = Fraction(1, _RATE)
        return stream

    def keep(self, frame: Frame) -> None:
        """Write one frame's alpha, rounded to 16 bits, and its foreground."""
        assert frame.alpha is not None
        levels = np.rint(frame.alpha * np.float32(_FULL_SCALE)).astype(np.uint16)
        self._encode(self._alphas, av.VideoFrame.from_ndarray(levels, "gray16le"), frame.index)
        # What this run goes on with is what a run from the cache will read.
        np.multiply(levels, np.float32(1 / _FULL_SCALE), out=frame.alpha)
        if self._colours is not None and frame.foreground is not None:
            colours = av.VideoFrame.from_ndarray(frame.foreground, "rgb24")
            self._encode(self._colours, colours.reformat(format="bgr0", threads=1), frame.index)

    def _encode(self, stream: Any, picture: av.VideoFrame, index: int) -> None:
        picture.pts, picture.time_base = index, Fraction(1, _RATE)
        self._write(stream, picture)

    def _write(self, stream: Any, picture: av.VideoFrame | None) -> None:
        with self._failing():
            for packet in stream.encode(picture):
                self.sums.add(packet)
                self._container.mux(packet)

    def close(self) -> None:
        """Flush and close the file. Raises SinkError."""
        for stream in (self._alphas, self._colours):
            if stream is not None:
                self._write(stream, None)
        with self._failing():
            self._container.close()

    def drop(self) -> None:
        """Close the file, whole or not; after ``close`` nothing is left to be done."""
        with contextlib.suppress(OSError, av.FFmpegError):  # of a full disk, told before
            self._container.close()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn errors into a SinkError that says what is to be changed."""
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            raise _cache_error(self._folder, error) from error

"""Raw alphas cached between runs, so that a run with other settings needs no network.

One Matroska file for each combination of source, weights and settings: FFV1, 16-bit
grey, lossless at 16 bits; a second stream holds the model's foreground, 8-bit RGB,
if any. A file exists only when its clip is complete, and its name contains the checksum of
its packets: FFmpeg conceals damaged pictures silently.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
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
from vidmatte.media.demux import open_media
from vidmatte.models.base import Network, WrappedNetwork
from vidmatte.models.runtimes.onnx_file import check_numbers

_FULL_SCALE = 65535
_RATE = 25  # of all files, whatever the clip's: only frame numbers matter
_TICKS = 40  # in each frame's time, 1000 a second as Matroska counts: which of them says its view
#: Suffixes of unfinished files, and of the files that are locked while these are written.
PARTIAL, LOCK = ".part", ".lock"
_UNFINISHED = re.compile(rf"(\.[0-9a-f]{{32}}\..*{re.escape(PARTIAL)})({re.escape(LOCK)})?")
_CODEC_OPTIONS = {"level": "3", "slices": "4", "slicecrc": "1"}
#: For a picture one pixel wide or high: it cannot be cut into four slices, and FFmpeg's encoder
#: finds no other number where it is long.
_WITHOUT_SLICES = {"level": "1"}


class CachedNetwork(Network):
    """Gives frames the alphas of an earlier run, read from its cache file."""

    batch = 1

    def __init__(self, path: Path, recurrent: bool, filter_profile: FilterProfile) -> None:
        self.recurrent, self.filter_profile = recurrent, filter_profile
        self._path = path

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        _remove_leftovers(self._path.parent)
        first = next(frames, None)
        if first is None:
            return
        with contextlib.closing(self._pairs(first.index)) as pairs:
            for frame in itertools.chain([first], frames):
                alpha, foreground = self._next(pairs, frame)
                view = round(alpha.time * _RATE * _TICKS) % _TICKS
                frame.augment_phase, frame.mirrored = view // 2, bool(view % 2)
                levels = alpha.to_ndarray()
                np.multiply(levels, np.float32(1 / _FULL_SCALE), out=frame.writable_alpha())
                frame.foreground = foreground.to_ndarray(format="rgb24") if foreground else None
                yield frame

    def cancel(self) -> None:
        """Reading ends by itself."""

    def _pairs(self, first: int) -> Generator[tuple[Any, Any]]:
        """Alpha and foreground of the frames from number ``first`` on."""
        with open_media(self._path, None) as container:
            alphas = container.streams.video[0]
            if first:  # every frame is a key frame
                container.seek(round(first * av.time_base / _RATE))
            colours = container.streams.video[1] if len(container.streams.video) > 1 else None
            for alpha, foreground in _pairs(container, alphas, colours):
                if alpha.time * _RATE >= first - 0.5:
                    yield alpha, foreground

    def _next(self, pairs: Iterator[tuple[Any, Any]], frame: Frame) -> tuple[Any, Any]:
        """The cached alpha and foreground of a frame. Raises OutputError, and removes the file,
        where it is damaged."""
        try:
            return next(pairs)
        except (av.FFmpegError, StopIteration) as error:
            self._path.unlink(missing_ok=True)
            raise OutputError(
                f"--cache {self._path.parent}: damaged alphas at frame {frame.index}; the file was"
                " removed: run it again"
            ) from error


class _Checksums:
    """The CRC-32 of each stream's packets, updated as they are written or read."""

    def __init__(self) -> None:
        self._sums: dict[int, int] = {}

    def add(self, packet: av.Packet) -> None:
        """Include a packet."""
        self._sums[packet.stream_index] = zlib.crc32(packet, self._sums.get(packet.stream_index, 0))

    def __str__(self) -> str:
        return "-".join(f"{total:08x}" for _, total in sorted(self._sums.items()))


def check_folder(folder: Path) -> None:
    """Raise UsageError for a file, OutputError where a cache's missing folder cannot be created.
    It stays missing until the first alpha is written."""
    if folder.is_file():
        raise UsageError(f"--cache {folder}: that is a file: name a folder, existing or new")
    try:
        with _make_temporarily(folder):
            pass
    except OSError as error:
        raise OutputError(
            f"--cache {folder}: cannot create the folder ({error.strerror}): name another, or"
            " omit --cache"
        ) from error


def check_writable(folder: Path) -> None:
    """Raise OutputError where no file can be created in the folder of a cache."""
    try:
        with _make_temporarily(folder), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cache_error(folder, error) from error


@contextlib.contextmanager
def _make_temporarily(folder: Path) -> Iterator[None]:
    """Create a folder and its missing parents for the block, then remove those it created."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with contextlib.suppress(
                OSError
            ):  # not created, or another run has written something there
                path.rmdir()


def _cache_error(folder: Path, error: OSError | av.FFmpegError) -> OutputError:
    """The error for a cache folder that cannot be written, with the next step."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    room = "free some space there, " if is_full else ""
    reason = error.strerror or error
    return OutputError(f"--cache {folder}: {reason}; {room}name another folder, or omit --cache")


def cache_file(folder: Path, key: str) -> Path | None:
    """The cache file of a key, None where there is none."""
    return next(iter(sorted(folder.glob(f"{key}.*.mkv"))), None)


def is_complete(path: Path, size: tuple[int, int]) -> bool:
    """Whether a cache file is undamaged and has pictures of that size (width, height).

    Checks packets only, decodes nothing.
    """
    sums = _Checksums()
    try:
        with open_media(path, size[0] * size[1]) as container:
            sizes = {
                (stream.width, stream.height) if stream.codec_context is not None else None
                for stream in container.streams.video
            }
            for packet in container.demux():
                if packet.size:
                    sums.add(packet)
    except (av.FFmpegError, IndexError):  # the latter: PyAV, at a stream that it does not know
        return False
    return sizes == {size} and path.name.split(".")[1] == str(sums)


def _pairs(container: Any, alphas: Any, colours: Any) -> Iterator[tuple[Any, Any]]:
    """Decoded alpha and foreground, frame by frame."""
    waiting: dict[int, list[Any]] = {alphas.index: []}
    if colours is not None:
        waiting[colours.index] = []
    for packet in container.demux(*waiting):
        waiting[packet.stream.index].extend(packet.decode())
        while all(waiting.values()):
            pair = [queue.pop(0) for queue in waiting.values()]
            yield pair[0], pair[1] if colours is not None else None


class RecordingNetwork(WrappedNetwork):
    """A network whose alphas are also written to the cache."""

    def __init__(self, network: Network, folder: Path, key: str) -> None:
        super().__init__(network)
        self._path = folder / key

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        _remove_leftovers(self._path.parent)
        partial = self._path.with_name(f".{self._path.name}.{uuid4().hex}{PARTIAL}")
        lock = _lock_of(partial)
        recorder: _AlphaRecorder | None = None
        try:
            for frame in self._network.predict(frames):
                check_numbers(frame)  # 16 bits have no NaN: it would become a valid alpha
                recorder = recorder or _AlphaRecorder(partial, lock, frame)
                recorder.write(frame)
                yield frame
            if recorder is not None:
                recorder.close()
                partial.replace(self._path.with_name(f"{self._path.name}.{recorder.sums}.mkv"))
        finally:
            if recorder is not None:
                recorder.abort()
            partial.unlink(missing_ok=True)
            release_and_unlink(lock)


def _lock_of(partial: Path) -> FileLock:
    """The lock that is held while an unfinished file is written; a kill releases it."""
    return lock_at(partial.with_name(partial.name + LOCK))


def _remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed runs, of any key."""
    found = (_UNFINISHED.fullmatch(path.name) for path in folder.glob(".*"))
    for partial in {folder / match[1] for match in found if match}:
        # Its run is still active, or the folder is read-only.
        with contextlib.suppress(Timeout, OSError):
            lock = _lock_of(partial)
            lock.acquire(timeout=0)
            partial.unlink(missing_ok=True)
            release_and_unlink(lock)


class _AlphaRecorder:
    """Writes one cache file; the first frame determines its streams."""

    def __init__(self, path: Path, lock: FileLock, frame: Frame) -> None:
        self.sums = _Checksums()
        self._folder = path.parent
        with self._as_cache_error():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            self._container = av.open(str(path.absolute()), "w", format="matroska")
        self._alphas = self._stream(frame, "gray16le")
        self._colours = self._stream(frame, "bgr0") if frame.foreground is not None else None

    def _stream(self, frame: Frame, pixel_format: str) -> Any:
        width, height = frame.picture.width, frame.picture.height
        options = _CODEC_OPTIONS if min(width, height) > 1 else _WITHOUT_SLICES
        stream = self._container.add_stream("ffv1", rate=_RATE, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, _RATE * _TICKS)
        return stream

    def write(self, frame: Frame) -> None:
        """Write one frame's alpha, rounded to 16 bits, and its foreground."""
        assert frame.alpha is not None
        levels = np.rint(frame.alpha * np.float32(_FULL_SCALE)).astype(np.uint16)
        time = frame.index * _TICKS + 2 * frame.augment_phase + frame.mirrored
        self._encode(self._alphas, av.VideoFrame.from_ndarray(levels, "gray16le"), time)
        # This run continues with the values that a run from the cache will read.
        np.multiply(levels, np.float32(1 / _FULL_SCALE), out=frame.alpha)
        if self._colours is not None and frame.foreground is not None:
            colours = av.VideoFrame.from_ndarray(frame.foreground, "rgb24")
            self._encode(self._colours, colours.reformat(format="bgr0", threads=1), time)

    def _encode(self, stream: Any, picture: av.VideoFrame, time: int) -> None:
        picture.pts, picture.time_base = time, Fraction(1, _RATE * _TICKS)
        self._write(stream, picture)

    def _write(self, stream: Any, picture: av.VideoFrame | None) -> None:
        with self._as_cache_error():
            for packet in stream.encode(picture):
                self.sums.add(packet)
                self._container.mux(packet)

    def close(self) -> None:
        """Flush and close the file. Raises OutputError."""
        for stream in (self._alphas, self._colours):
            if stream is not None:
                self._write(stream, None)
        with self._as_cache_error():
            self._container.close()

    def abort(self) -> None:
        """Close the file, complete or not; harmless after ``close``."""
        with contextlib.suppress(OSError, av.FFmpegError):  # of a full disk, already reported
            self._container.close()

    @contextlib.contextmanager
    def _as_cache_error(self) -> Iterator[None]:
        """Turn errors into an OutputError that says the next step."""
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            raise _cache_error(self._folder, error) from error

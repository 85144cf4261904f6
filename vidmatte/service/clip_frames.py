"""The frames of an uploaded clip by their numbers, decoded exactly.

Frame ``n`` is the one that ``--in fN`` of the command line begins with, with the same pixels. One
reader stays open: the next frames are decoded on from where it is, others by a seek. Going
backwards, a few frames before the wanted one are decoded with it, as the next steps want these.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import av
import numpy as np

from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError
from vidmatte.pixels.formats import copy_planes, set_colour
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.base import DecodedPicture
from vidmatte.readers.open import is_image, open_reader
from vidmatte.settings import Settings

#: Frames that are decoded and dropped rather than sought.
_READ_ON = 24
#: Frames before the wanted one that are decoded with it when going backwards.
_READ_BEFORE = 12
_PICTURE_BYTES, _RGB_BYTES = 96 << 20, 32 << 20
_Item = TypeVar("_Item")


class NoFrameError(SourceError):
    """The clip ends before this frame."""


class ByteCache(Generic[_Item]):
    """The values used last, up to a number of bytes in all. For several threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._items: OrderedDict[Hashable, tuple[_Item, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _Item | None:
        """The value of a key, None where it is not there (any more)."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: Hashable, item: _Item, size: int) -> None:
        """Store a value of ``size`` bytes; the ones used longest ago go for it."""
        with self._lock:
            _, before = self._items.pop(key, (None, 0))
            self._items[key] = item, size
            self._size += size - before
            while self._size > self._limit and len(self._items) > 1:
                self._size -= self._items.popitem(last=False)[1][1]


class ClipFrames:
    """The frames of one file. Not thread-safe.

    settings: how it is read; in and out points and conforming have no effect: all frames are
    there, by their numbers in the source. Raises SourceError, UsageError.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        # With an in point every frame of a variable rate has a number.
        first = None if is_image(path) else "f0"
        self.settings = settings.changed(
            in_point=first, out_point=None, handles=0, conform=None, audio=False
        )
        self.path = path
        self.reader = open_reader(path, self.settings)
        self._network_rgb = NetworkRgb(self.clip)
        self._pictures: ByteCache[DecodedPicture] = ByteCache(_PICTURE_BYTES)
        self._rgb: ByteCache[np.ndarray] = ByteCache(_RGB_BYTES)
        self._following: Iterator[DecodedPicture] | None = None
        self._next = self._last = 0

    @property
    def clip(self) -> Clip:
        """The clip, all of it."""
        return self.reader.clip

    def close(self) -> None:
        """Close the file."""
        self._stop_reading()
        self.reader.close()

    def has(self, number: int) -> bool:
        """Whether the clip has a frame, as far as that is known without decoding it."""
        count = self.clip.frame_count
        return number >= 0 and (count is None or number < count)

    def picture(self, number: int) -> DecodedPicture:
        """Frame ``number``. Raises NoFrameError, SourceError."""
        if not self.has(number):
            raise NoFrameError(f"frame {number}: the clip has {self.clip.frame_count} frames")
        found = self._pictures.get(number)
        if found is None:
            found = self._decoded(number)
        self._last = number
        return found

    def rgb(self, number: int) -> np.ndarray:
        """Frame ``number`` as networks and displays see it, (H, W, 3) uint8, not to be changed.
        Raises as above."""
        found = self._rgb.get(number)
        if found is None:
            found = self._network_rgb.of(self.picture(number).pixels)
            self._rgb.put(number, found, found.nbytes)
        return found

    def _decoded(self, number: int) -> DecodedPicture:
        if self._following is None or not self._next <= number <= self._next + _READ_ON:
            self._stop_reading()
            goes_back = self._last - _READ_ON <= number < self._last
            self._next = max(0, number - _READ_BEFORE) if goes_back else number
            self._following = self.reader.pictures_at(self._next)
        for decoded in self._following:
            found = replace(decoded, pixels=self._copied(decoded.pixels))
            self._pictures.put(self._next, found, _size_of(found.pixels))
            self._next += 1
            if self._next > number:
                return found
        self._stop_reading()
        raise NoFrameError(f"frame {number}: the clip ends before it")

    def _copied(self, pixels: av.VideoFrame) -> av.VideoFrame:
        """The samples in a picture of the clip's own tags, as a run's slots hold them: a decoder's
        place of chroma samples, for example, is not in it."""
        picture = av.VideoFrame(self.clip.width, self.clip.height, self.clip.working_format)
        set_colour(picture, self.clip.colour)
        copy_planes(pixels, picture)
        return picture

    def _stop_reading(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            with suppress(AttributeError):  # an iterator that is no generator holds nothing
                following.close()  # type: ignore[attr-defined]


def _size_of(pixels: av.VideoFrame) -> int:
    """Bytes of a picture."""
    return sum(plane.buffer_size for plane in pixels.planes)

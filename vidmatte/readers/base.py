"""Where frames come from: one small class that every kind of input fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import av

from vidmatte.core.frame import Clip


@dataclass(slots=True)
class DecodedPicture:
    """One decoded picture: the source's pixels, upright, and its place in time.

    ``pts`` and ``duration`` count the clip's ``time_base``, zero at ``clip.origin``.
    ``shows``: which of the source's pictures it is, counted from the in point, where one
    may stand for several or for none; None where each comes once, in order.
    """

    pixels: av.VideoFrame
    pts: int
    duration: int
    name: str | None = None
    source_index: int | None = None


class Reader(ABC):
    """A clip that can be read once, from its first frame to its last."""

    clip: Clip

    @abstractmethod
    def pictures(self) -> Iterator[DecodedPicture]:
        """The pictures in order of display, ``clip.frame_count`` of them where that is known.

        Each picture's ``pixels`` are in ``clip.working_format``, upright, with the
        resolved matrix and range set; they may be held as long as wanted.
        Raises SourceError when the file breaks off or does not decode.
        """

    def pictures_from(self, index: int, pts: int) -> Iterator[DecodedPicture]:  # noqa: ARG002
        """The pictures from number ``index`` on, which lies at ``pts``.

        The same pictures as those of ``pictures``; sources that can jump need not
        decode what comes before.
        """
        yield from islice(self.pictures(), index, None)

    @property
    def warnings(self) -> list[str]:
        """What went wrong on the way without ending the run, one line each."""
        return []

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open)
        """Let go of files; harmless when done twice."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

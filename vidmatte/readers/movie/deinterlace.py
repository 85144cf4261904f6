"""Deinterlacing by FFmpeg's bwdif, one frame out for each frame in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import av

from vidmatte.core.colour import ColourTags, linear_matrix
from vidmatte.core.frame import Clip
from vidmatte.errors import UsageError
from vidmatte.pixels.formats import set_colour

_MIN_SIZE = (3, 4)  # columns and lines of a plane: the smallest that bwdif accepts


def is_wanted(setting: str, clip: Clip) -> bool:
    """Whether a clip is deinterlaced. setting: the value of ``--deinterlace``."""
    return setting == "bwdif" or (setting == "auto" and clip.interlaced)


def check_size(name: str, frame: av.VideoFrame) -> None:
    """Raise UsageError where a clip's frames are too small for the filter."""
    form = frame.format
    width, height = form.chroma_width(frame.width), form.chroma_height(frame.height)
    if width < _MIN_SIZE[0] or height < _MIN_SIZE[1]:
        raise UsageError(
            f"{name}: {frame.width}x{frame.height} is too small to be deinterlaced, which needs"
            f" {_MIN_SIZE[0]} columns and {_MIN_SIZE[1]} lines of chroma: add --deinterlace off"
        )


class Deinterlacer:
    """Runs decoded frames through the filter; their pts stay the same.

    tags_of: gives a frame's tags, all resolved. all_frames: treat every frame as interlaced,
    whatever its flag says.
    """

    def __init__(self, tags_of: Callable[[av.VideoFrame], ColourTags], *, all_frames: bool) -> None:
        self._tags_of = tags_of
        self._which = "all" if all_frames else "interlaced"

    def frames(self, decoded: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The same number of frames, in the same order, progressive."""
        graph: av.filter.Graph | None = None
        kind: tuple[object, ...] | None = None  # each graph filters one kind of frame
        for frame in decoded:
            colour = self._tags_of(frame)
            set_colour(frame, colour)
            found = (frame.format.name, frame.width, frame.height, colour)
            if graph is not None and kind != found:
                graph.vpush(None)
                yield from self._ready(graph, frame)
                graph = None
            if graph is None:
                kind, graph = found, self._graph(frame, colour)
            graph.vpush(frame)
            yield from self._ready(graph, frame)
        if graph is not None:
            graph.vpush(None)
            yield from self._ready(graph, frame)

    def _graph(self, frame: av.VideoFrame, colour: ColourTags) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base=str(frame.time_base),
            colorspace=str(linear_matrix(colour.matrix)),
            range=str(colour.range),
        )
        filtered = graph.add("bwdif", mode="send_frame", parity="auto", deint=self._which)
        graph.link_nodes(source, filtered, graph.add("buffersink"))
        graph.configure()
        return graph

    @staticmethod
    def _ready(graph: av.filter.Graph, pushed: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Frames that the filter has finished, with pts in the stream's time base again."""
        while True:
            try:
                frame = graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if frame.pts is not None and frame.time_base and pushed.time_base:
                scale = frame.time_base / pushed.time_base
                frame.pts = round(frame.pts * scale)
                frame.duration = round(frame.duration * scale)
                frame.time_base = pushed.time_base
            yield frame

"""The packets of a movie."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.container import InputContainer
from av.stream import Stream


def packets_from(container: InputContainer, *streams: Stream) -> Iterator[av.Packet]:
    """The packets of ``streams``, or of all, as they come, and an empty one of each at the end.

    PyAV 18.1 raises IndexError at the packet of a stream that turns up in the middle, as in
    damaged transport streams; it is passed over. Raises av.FFmpegError.
    """
    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue  # it has read that packet: the next one is another

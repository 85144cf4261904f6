"""Which sound tracks of a movie, or of a sound file, are carried, and why others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer

from vidmatte.core.source import AudioTrack
from vidmatte.errors import UsageError
from vidmatte.readers.movie.container import open_container, read_errors_as
from vidmatte.readers.movie.packets import packets_from
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_numbers

#: Containers whose AAC has its configuration beside the packets, not in a header of each.
_WITHOUT_HEADERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
#: Packets of a track of which at least one must decode.
_TRIED = 32
#: Packets and bytes of the file, pictures too, that are read for it.
_MOST_PACKETS, _MOST_BYTES = 2000, 1 << 27


@dataclass(frozen=True)
class SoundTracks:
    """tracks: those that are carried. readable: all that have sound and can be decoded; the
    clip's timeline begins with them, whichever are carried. notes: a line for each of the others.
    """

    tracks: tuple[AudioTrack, ...] = ()
    readable: tuple[AudioTrack, ...] = ()
    notes: tuple[str, ...] = ()


def sound_of(path: Path, settings: Settings) -> SoundTracks:
    """The sound tracks of a movie, by ``--audio-tracks``; none where another file's are carried.

    Raises SourceError, UsageError.
    """
    if settings.audio_from is not None:
        return SoundTracks()
    wanted = parse_numbers(settings.audio_tracks) if settings.audio_tracks else ()
    with open_container(path) as container, read_errors_as(path):
        return choose_tracks(path.name, container, wanted)


def choose_tracks(name: str, container: InputContainer, wanted: Sequence[int]) -> SoundTracks:
    """The sound tracks of ``container``, or those of the numbers ``wanted``, counted from 1.

    container: of which nothing was read before; name: its file's, for messages. Raises UsageError
    for a wanted track that does not exist, has no sound or cannot be decoded; av.FFmpegError.
    """
    streams = container.streams.audio
    for number in wanted:
        if number > len(streams):
            count = f"{len(streams)} sound track{'' if len(streams) == 1 else 's'}"
            raise UsageError(f"--audio-tracks {number}: {name} has {count if streams else 'none'}")
    undecodable = _undecodable(container, streams)
    readable, notes = [], []
    for number, stream in enumerate(streams, 1):
        reason = _missing_sound(stream)
        if reason is None and stream.index in undecodable:
            reason = f"({stream.codec_context.name}) cannot be decoded"
        if reason is None:
            readable.append(_described(number, stream, container.format.name))
        elif number in wanted:
            raise UsageError(f"--audio-tracks {number}: that track of {name} {reason}: omit it")
        elif not wanted:
            notes.append(f"{name}: sound track {number} {reason} and is left out")
    tracks = tuple(track for track in readable if not wanted or track.number in wanted)
    return SoundTracks(tracks, tuple(readable), tuple(notes))


def stated_tracks(
    name: str, container: InputContainer, wanted: Sequence[int]
) -> tuple[AudioTrack, ...]:
    """The sound tracks that a stream states, or those of the numbers ``wanted``; whether they can
    be decoded is not tried, as it is read once. Raises UsageError for one that does not exist."""
    streams = container.streams.audio
    sound = [
        _described(number, stream, container.format.name)
        for number, stream in enumerate(streams, 1)
        if _missing_sound(stream) is None
    ]
    for number in wanted:
        if number not in [track.number for track in sound]:
            raise UsageError(f"--audio-tracks {number}: {name} has no such sound track")
    return tuple(track for track in sound if not wanted or track.number in wanted)


def _described(number: int, stream: AudioStream, container: str) -> AudioTrack:
    context = stream.codec_context
    is_raw = context.name == "aac" and not context.extradata and container in _WITHOUT_HEADERS
    return AudioTrack(
        index=stream.index,
        codec=context.name,
        sample_rate=context.sample_rate,
        channels=context.layout.nb_channels,
        language=stream.language,
        number=number,
        is_copyable=not is_raw,
    )


def _missing_sound(stream: AudioStream) -> str | None:
    """Why a track has no sound by its header: no decoder, or no sample rate or channels, as where
    the container declares a track of which no packet was found (a transport stream's)."""
    context: AudioCodecContext | None = stream.codec_context
    if context is None:
        return "is in an unknown codec"
    if context.sample_rate and context.layout.nb_channels:
        return None
    return (
        f"({context.name}, {context.sample_rate} Hz, {context.layout.nb_channels} channels) has no"
        " sound"
    )


def _undecodable(container: InputContainer, streams: Sequence[AudioStream]) -> set[int]:
    """The indexes of the streams that have packets, none of whose first ones decodes."""
    tried = {stream.index: 0 for stream in streams if _missing_sound(stream) is None}
    found: set[int] = set()
    for packet in _first_packets(container) if tried else ():
        index = packet.stream.index
        if index not in tried:
            continue
        is_last = packet.size == 0  # which makes the decoder give what it holds
        if _decodes(packet) or (is_last and not tried[index]):
            del tried[index]
        elif is_last or tried[index] >= _TRIED:
            del tried[index]
            found.add(index)
        else:
            tried[index] += 1
        if not tried:
            break
    return found


def _first_packets(container: InputContainer) -> Iterator[av.Packet]:
    """The packets near the file's beginning: a track that begins later is not waited for."""
    size = 0
    try:
        for number, packet in enumerate(packets_from(container)):
            yield packet
            size += packet.size
            if number >= _MOST_PACKETS or size >= _MOST_BYTES:
                return
    except av.error.FFmpegError:  # reported where the file is read for its frames
        return


def _decodes(packet: av.Packet) -> bool:
    """Whether a packet gives sound. Decoders raise any of FFmpeg's errors on damage."""
    try:
        return bool(packet.decode())
    except MemoryError:  # FFmpeg's too; damage never raises it
        raise
    except av.error.FFmpegError:
        return False

"""Writes the source's sound into a container: copied or re-encoded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from vidmatte.core.frame import Clip
from vidmatte.core.source import AudioTrack
from vidmatte.errors import OutputError, SourceError
from vidmatte.writers.audio_encode import EncodedTrack
from vidmatte.writers.audio_tracks import CopiedTrack, Track
from vidmatte.writers.base import ffmpeg_errors_as
from vidmatte.writers.format_spec import SoundEncoder, SoundRules

#: Seconds by which packets of the same time may be apart in a file: how far to read ahead for a
#: track that lags. Without a limit, a track that has ended would be waited for until the end.
_MAX_INTERLEAVE = Fraction(1, 2)


class AudioWriter:
    """Writes all sound tracks of a clip into one container.

    Reads packets of the source only as far as ``advance`` needs them, so that memory stays
    bounded and the file is interleaved.
    """

    def __init__(
        self, container: av.container.OutputContainer, clip: Clip, rules: SoundRules
    ) -> None:
        self._source = clip.source
        self._input = clip.source.open_audio(clip.audio)
        self._tracks: dict[int, Track] = {}
        self.notes: list[str] = []
        try:
            for track in clip.audio:
                stream = self._input.stream(track.index)
                self._tracks[track.index] = _open_track(container, stream, clip, rules, track)
            # From a second before the first frame, so that every decoder is primed by then.
            self._packets = self._input.packets(clip.sound_origin - 1)
        except BaseException:
            self._input.close()
            raise
        self._end = None if clip.end is None else clip.end - clip.origin
        self._finished = False
        self._reached = Fraction(-(10**9))  # start of the last packet read

    def advance(self, seconds: Fraction) -> None:
        """Write all tracks up to ``seconds`` of the output's timeline, as far as their packets
        are interleaved.

        Damaged packets end the sound there, with a note. Raises SourceError if the source can no
        longer be read.
        """
        self._read(seconds, seconds + _MAX_INTERLEAVE)

    def _read(self, seconds: Fraction, limit: Fraction | None) -> None:
        """Write all tracks up to ``seconds``; stop reading after a packet at ``limit`` or later."""
        if self._end is not None:
            seconds = min(seconds, self._end)
        while (
            not self._finished
            and (limit is None or self._reached < limit)
            and any(track.position < seconds for track in self._tracks.values())
        ):
            try:
                packet = next(self._packets)
            except StopIteration:
                self._finished = True
                break
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    raise SourceError(
                        f"{self._source}: reading its sound failed ({error.strerror}): is its drive"
                        " still connected? copy the file again, or use --no-audio"
                    ) from error
                end = max(track.position for track in self._tracks.values())
                self.notes.append(f"the sound ends at {float(end):.2f} s: the rest is damaged")
                self._finished = True
                break
            if packet is None:  # the next one has not arrived yet
                break
            if packet.size:  # also those without a timestamp: see Track
                track = self._tracks[packet.stream.index]
                self._reached = track.start_of(packet)
                with self._at(track):
                    track.take(packet)

    def close(self) -> tuple[Track, ...]:
        """Write the rest and return the tracks, which describe what was written."""
        self._read(self._end if self._end is not None else Fraction(10**9), limit=None)
        for track in self._tracks.values():
            with self._at(track):
                track.flush()
        self._input.close()
        self.notes += [note for track in self._tracks.values() for note in track.notes]
        return tuple(self._tracks.values())

    def _at(self, track: Track) -> AbstractContextManager[None]:
        """Name the track and the time in an error of FFmpeg."""
        seconds = float(max(track.position, Fraction(0)))
        return ffmpeg_errors_as(
            f"{self._source.name}: sound track {track.number}, at {seconds:.2f} s,",
            ": write without sound with --no-audio",
        )

    def abort(self) -> None:
        """Close the source; safe to call at any time."""
        self._finished = True
        self._input.close()


def _open_track(
    container: av.container.OutputContainer,
    stream: AudioStream,
    clip: Clip,
    rules: SoundRules,
    track: AudioTrack,
) -> Track:
    """A track that copies if the container supports the codec, else one that re-encodes.

    Raises OutputError if the codec is unknown.
    """
    context = stream.codec_context
    if context is None:
        raise OutputError(
            f"{clip.source.name}: sound track {track.number} is in an unknown codec:"
            " write without sound with --no-audio"
        )
    if track.is_copyable and context.codec.canonical_name in rules.copied:
        return CopiedTrack(container, stream, clip, keeps_negative=rules.has_edit_list)
    exceeds_16_bits = context.format is not None and context.format.bits > 16
    encoder = rules.encoder or SoundEncoder("pcm_s24le" if exceeds_16_bits else "pcm_s16le")
    return EncodedTrack(container, stream, clip, encoder)

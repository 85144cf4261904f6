"""The source's sound, read again beside the frames: copied, or encoded anew."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from vidmatte.core.frame import Clip
from vidmatte.errors import OutputError, SourceError
from vidmatte.readers.movie.timing import packets_from
from vidmatte.writers.audio_encode import EncodedTrack
from vidmatte.writers.audio_tracks import CopiedTrack, Track
from vidmatte.writers.base import ffmpeg_errors_as
from vidmatte.writers.format_spec import SoundEncoder, SoundRules

#: Seconds that packets of one moment may lie apart in a file: so far is read on for a track that
#: stays behind. One that has ended stays behind for ever.
_APART = Fraction(1, 2)


class AudioWriter:
    """All sound tracks of a clip on their way into one container.

    Reads the source through a handle of its own, no farther than ``advance`` asks,
    so that memory stays bounded and the file is interleaved.
    """

    def __init__(
        self, container: av.container.OutputContainer, clip: Clip, rules: SoundRules
    ) -> None:
        self._path = clip.path
        self._input = av.open(str(clip.path.absolute()), metadata_errors="replace")
        self._tracks: dict[int, Track] = {}
        self.notes: list[str] = []
        try:
            for track in clip.audio:
                stream = self._input.streams[track.index]
                assert isinstance(stream, AudioStream)
                self._tracks[track.index] = _open_track(container, stream, clip, rules)
            if clip.origin > 1:
                # To the key frame before; a second more warms every decoder up.
                self._input.seek(int((clip.origin - 1) * av.time_base))
        except BaseException:
            self._input.close()
            raise
        self._end = None if clip.end is None else clip.end - clip.origin
        self._packets = packets_from(
            self._input, *(self._input.streams[track.index] for track in clip.audio)
        )
        self._finished = False
        self._reached = Fraction(-(10**9))  # where the packet that was read last begins

    def advance(self, seconds: Fraction) -> None:
        """Write all tracks up to ``seconds`` of the output's timeline, as far as the file has
        their packets beside each other.

        Sound whose packets are damaged ends there, with a note. Raises SourceError where the
        file cannot be read any more.
        """
        self._read(seconds, seconds + _APART)

    def _read(self, seconds: Fraction, limit: Fraction | None) -> None:
        """Write all tracks up to ``seconds``; no packet is read after one from ``limit`` on."""
        if self._end is not None:
            seconds = min(seconds, self._end)
        while (
            not self._finished
            and (limit is None or self._reached < limit)
            and any(track.position < seconds for track in self._tracks.values())
        ):
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    raise SourceError(
                        f"{self._path}: reading its sound fails ({error.strerror}): is its drive"
                        " still there? copy the file again, or use --no-audio"
                    ) from error
                end = max(track.position for track in self._tracks.values())
                self.notes.append(f"the sound breaks off at {float(end):.2f} s")
                packet = None
            if packet is None:
                self._finished = True
            elif packet.size:  # those without a time too: see Track
                track = self._tracks[packet.stream.index]
                self._reached = track.start_of(packet)
                with self._at(track):
                    track.take(packet)

    def close(self) -> tuple[Track, ...]:
        """Write the rest; returns the tracks, which say what became of them."""
        self._read(self._end if self._end is not None else Fraction(10**9), limit=None)
        for track in self._tracks.values():
            with self._at(track):
                track.flush()
        self._input.close()
        self.notes += [note for track in self._tracks.values() for note in track.notes]
        return tuple(self._tracks.values())

    def _at(self, track: Track) -> AbstractContextManager[None]:
        """Name the track where its sound is refused."""
        seconds = float(max(track.position, Fraction(0)))
        return ffmpeg_errors_as(
            f"{self._path.name}: sound track {track.number}, at {seconds:.2f} s,",
            ": leave sound out with --no-audio",
        )

    def abort(self) -> None:
        """Let go of the source; harmless at any time."""
        self._finished = True
        self._input.close()


def _open_track(
    container: av.container.OutputContainer, stream: AudioStream, clip: Clip, rules: SoundRules
) -> Track:
    """Copy where the container takes the codec, else the container's own encoder.

    Raises SinkError when the sound is in a codec that cannot be decoded either.
    """
    context = stream.codec_context
    if context is None:
        raise OutputError(
            f"{clip.path.name}: sound track {stream.index} is in an unknown codec:"
            " leave it out with --no-audio"
        )
    if context.codec.canonical_name in rules.copied:
        return CopiedTrack(container, stream, clip, keeps_negative=rules.has_edit_list)
    deep = context.format is not None and context.format.bits > 16
    encoder = rules.encoder or SoundEncoder("pcm_s24le" if deep else "pcm_s16le")
    return EncodedTrack(container, stream, clip, encoder)

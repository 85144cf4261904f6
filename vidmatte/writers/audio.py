"""The source's sound, read again beside the frames: copied, or encoded anew."""

from __future__ import annotations

from contextlib import AbstractContextManager
from fractions import Fraction

import av
from av.audio.stream import AudioStream

from vidmatte.core.frame import Clip
from vidmatte.errors import OutputError, SourceError
from vidmatte.writers.audio_encode import EncodedTrack
from vidmatte.writers.audio_tracks import PCM, CopiedTrack, Track
from vidmatte.writers.base import ffmpeg_errors_as

#: Codecs that are copied into a container: what players and editors take there, not
#: all that FFmpeg's muxer would swallow.
_COPIED = {
    "mov": {"aac", "alac", "mp3", "ac3", "eac3", *PCM} - {"pcm_u8"},
    "mp4": {"aac", "alac", "mp3", "ac3", "eac3"},
    "webm": {"opus", "vorbis"},
    "matroska": {"aac", "alac", "mp3", "mp2", "ac3", "eac3", "dts", "flac", "opus", "vorbis"}
    | {name for name in PCM if name.endswith("le")},
}
#: What other codecs become; elsewhere PCM, which loses nothing.
_ENCODERS = {"webm": "libopus", "mp4": "aac"}
#: Seconds that packets of one moment may lie apart in a file: so far is read on for a track that
#: stays behind. One that has ended stays behind for ever.
_APART = Fraction(1, 2)


class AudioWriter:
    """All sound tracks of a clip on their way into one container.

    Asks the source for packets no farther than ``advance`` needs them, so that memory stays
    bounded and the file is interleaved.
    """

    def __init__(self, container: av.container.OutputContainer, clip: Clip, muxer: str) -> None:
        self._source = clip.source
        self._input = clip.source.open_audio(clip.audio)
        self._tracks: dict[int, Track] = {}
        self.notes: list[str] = []
        try:
            for track in clip.audio:
                stream = self._input.stream(track.index)
                self._tracks[track.index] = _open_track(container, stream, clip, muxer)
            # A second before the first frame, so that every decoder has warmed up by then.
            self._packets = self._input.packets(clip.origin - 1)
        except BaseException:
            self._input.close()
            raise
        self._end = None if clip.end is None else clip.end - clip.origin
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
                packet = next(self._packets)
            except StopIteration:
                self._finished = True
                break
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    raise SourceError(
                        f"{self._source}: reading its sound fails ({error.strerror}): is its drive"
                        " still there? copy the file again, or use --no-audio"
                    ) from error
                end = max(track.position for track in self._tracks.values())
                self.notes.append(f"the sound breaks off at {float(end):.2f} s")
                self._finished = True
                break
            if packet is None:  # the next one has not arrived yet
                break
            if packet.size:  # those without a time too: see Track
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
            f"{self._source.name}: sound track {track.number}, at {seconds:.2f} s,",
            ": leave sound out with --no-audio",
        )

    def abort(self) -> None:
        """Let go of the source; harmless at any time."""
        self._finished = True
        self._input.close()


def _open_track(
    container: av.container.OutputContainer, stream: AudioStream, clip: Clip, muxer: str
) -> Track:
    """Copy where the container takes the codec, else the container's own encoder.

    Raises SinkError when the sound is in a codec that cannot be decoded either.
    """
    context = stream.codec_context
    if context is None:
        raise OutputError(
            f"{clip.source.name}: sound track {stream.index} is in an unknown codec:"
            " leave it out with --no-audio"
        )
    if context.codec.canonical_name in _COPIED.get(muxer, set()):
        return CopiedTrack(container, stream, clip, keeps_negative=muxer in ("mov", "mp4"))
    deep = context.format is not None and context.format.bits > 16
    codec = _ENCODERS.get(muxer, "pcm_s24le" if deep else "pcm_s16le")
    return EncodedTrack(container, stream, clip, codec)

"""A source that is not a file: a stream in memory that is read once, from front to back.

Video and audio come from one demuxer, as from a pipe, and a run treats them like those of a
file with the same bytes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from media import BT709, Movie, Tone, make_movie
from readback import decode, decode_sound, frame_times, probe
from tiny_onnx import make_salient

from vidmatte.core.frame import Clip
from vidmatte.core.source import AudioSource, AudioTrack, Source
from vidmatte.errors import SourceError, UsageError
from vidmatte.jobs.check import check_job
from vidmatte.jobs.manifest import unlisted_files, verify
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.run import run
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.registry import find_model
from vidmatte.pixels.formats import Repacker
from vidmatte.readers.base import DecodedPicture, Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.output_paths import output_paths


class OneWay:
    """Bytes that can be read once, without seeking."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return part


class StreamSource(Source):
    """The stream of a StreamReader: its audio packets are those demuxed with its frames."""

    def __init__(self, reader: StreamReader) -> None:
        super().__init__("the stream")
        self._reader = reader

    def open_audio(self, tracks: Sequence[AudioTrack]) -> AudioSource:
        return StreamAudio(self._reader)


class StreamReader(Reader):
    """A stream at a constant 25 fps. late: delay each audio packet once when it is requested."""

    def __init__(self, data: bytes, *, late: bool = False) -> None:
        self.container = av.open(OneWay(data))
        self.sound: deque[av.Packet] = deque()
        self.ended = False
        self.late = late
        self._frames = self._decoded()
        self._first = next(self._frames)
        self.clip = Clip(
            source=StreamSource(self),
            kind="movie",
            width=self._first.width,
            height=self._first.height,
            rate=Fraction(25),
            time_base=Fraction(1, 25),
            pixel_format=self._first.format.name,
            working_format=self._first.format.name,
            bit_depth=8,
            colour=BT709,
            declared_colour=BT709,
            audio=tuple(
                AudioTrack(track.index, track.codec_context.name, track.rate, track.channels)
                for track in self.container.streams.audio
            ),
        )

    def pictures(self) -> Iterator[DecodedPicture]:
        repack = Repacker(self.clip.working_format, self.clip.orientation, self.clip.colour)
        frame: av.VideoFrame | None = self._first
        while frame is not None:
            yield DecodedPicture(repack(frame), round(frame.time * 25), 1)
            frame = next(self._frames, None)

    def close(self) -> None:
        self.container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in self.container.demux():
            if packet.stream.type == "video":
                yield from packet.decode()
            else:
                self.sound.append(packet)
        self.ended = True


class StreamAudio(AudioSource):
    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def stream(self, index: int) -> AudioStream:
        return self._reader.container.streams[index]

    def packets(self, start: Fraction) -> Iterator[av.Packet | None]:
        while True:
            ended = self._reader.ended
            if self._reader.sound:
                if self._reader.late and not ended:
                    yield None
                yield self._reader.sound.popleft()
            elif ended:
                return
            else:
                yield None

    def close(self) -> None:
        """The reader closes the stream."""


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Movie:
    """A second with a PCM track and an AAC track."""
    path = tmp_path_factory.mktemp("stream") / "clip.mkv"
    return make_movie(path, frames=30, audio=[Tone(codec="pcm_s16le"), Tone(hum=330.0)], flash=20)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "model": str(make_salient(tmp_path_factory.mktemp("model") / "tiny.onnx")),
        "family": "isnet",
        "smooth": "off",
    }


def job(reader: Reader, out: Path, **options: object) -> Result:
    settings = Settings(**options)
    with reader:
        check_job(Job(reader.clip.source.name, out, settings, is_folder=False), reader)
        return run(reader, out, find_model(settings, lambda _: None), settings, Reporter())


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("name", ["out.mov", "out.webm"])
@pytest.mark.thinned(3)
def test_a_stream_and_a_file_give_the_same_result(
    name: str, late: bool, movie: Movie, weights: dict[str, str], tmp_path: Path
) -> None:
    """ProRes copies both audio tracks, WebM encodes them: equal frames and samples."""
    from_file = job(open_reader(movie.path, Settings()), tmp_path / f"file-{name}", **weights)
    reader = StreamReader(movie.path.read_bytes(), late=late)
    result = job(reader, tmp_path / name, **weights)
    assert (result.written.frames, result.written.sound) == (30, from_file.written.sound)
    assert len(result.written.sound) == 2
    assert result.warnings == from_file.warnings
    assert result.source is None
    assert str(result.clip.source) == "the stream"
    from_stream, expected = (one.written.path for one in (result, from_file))
    pixel_format = "yuva444p12le" if name == "out.mov" else "rgb24"
    assert np.array_equal(decode(from_stream, pixel_format), decode(expected, pixel_format))
    assert frame_times(from_stream) == frame_times(expected)
    for track in range(2):
        assert np.array_equal(decode_sound(from_stream, track), decode_sound(expected, track))
    assert [s["codec_name"] for s in probe(from_stream)["streams"]] == [
        s["codec_name"] for s in probe(expected)["streams"]
    ]


def test_a_stream_becomes_images(movie: Movie, weights: dict[str, str], tmp_path: Path) -> None:
    job(open_reader(movie.path, Settings()), tmp_path / "file", format="png", **weights)
    result = job(StreamReader(movie.path.read_bytes()), tmp_path / "cut", format="png", **weights)
    assert result.written.frames == len(result.written.files) == 30
    for name in result.written.files:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "file" / name).read_bytes()


def test_its_manifest_names_the_source_without_a_checksum(
    movie: Movie, weights: dict[str, str], tmp_path: Path
) -> None:
    job(StreamReader(movie.path.read_bytes()), out := tmp_path / "out.mov", **weights)
    source = json.loads(output_paths(out).manifest.read_text())["source"]
    assert {name: source[name] for name in ("name", "bytes", "sha256", "files")} == {
        "name": "the stream",
        "bytes": None,
        "sha256": None,
        "files": [],
    }
    assert "path" not in source
    assert verify(out) == unlisted_files(out) == []
    (difference,) = verify(out, source=movie.path)
    assert difference == (
        "clip.mkv cannot be compared: the source, the stream, was no file or changed during the"
        " run: the manifest holds no checksum of it"
    )
    out.write_bytes(out.read_bytes() + b"x")
    assert len(verify(out)) == 1


@pytest.mark.parametrize("option", ["--resume", "--cache"])
def test_options_that_compare_sources_are_refused(
    option: str, movie: Movie, weights: dict[str, str], tmp_path: Path
) -> None:
    (folder := tmp_path / "results").mkdir()
    chosen = {"resume": True} if option == "--resume" else {"cache": str(tmp_path / "alphas")}
    for _ in range(2):  # also with a finished result there
        before = sorted(folder.iterdir())
        with pytest.raises(UsageError) as refused:
            job(StreamReader(movie.path.read_bytes()), folder / "out.mov", **chosen, **weights)
        assert str(refused.value) == (
            f"{option} needs a source that can be read again, and the stream is not a file: save"
            f" it to a file first, or omit {option}"
        )
        assert sorted(folder.iterdir()) == before
        job(StreamReader(movie.path.read_bytes()), folder / "out.mov", overwrite=True, **weights)


def test_a_source_without_audio_access_is_refused(
    movie: Movie, weights: dict[str, str], tmp_path: Path
) -> None:
    (folder := tmp_path / "results").mkdir()
    reader = StreamReader(movie.path.read_bytes())
    reader.clip = replace(reader.clip, source=Source("the camera"))
    with pytest.raises(SourceError, match="the camera: this kind of source has no sound"):
        job(reader, folder / "out.mov", **weights)
    assert list(folder.iterdir()) == []

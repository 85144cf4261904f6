"""Which sound tracks are carried: unreadable ones are left out, others chosen by number."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media import Tone, make_movie
from writer_support import write_clip

from vidmatte.errors import UsageError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

TONES = [Tone(hum=220.0, language="eng"), Tone(hum=330.0, language="deu")]


def two_tracks(path: Path, what: str) -> Path:
    """A clip of two AAC tracks, the second of which cannot be decoded.

    apac: of an unknown kind, as an iPhone's spatial audio. config: it can, but lacks what a copy of
    it would need. noise: its packets are none. matroska: of an unknown kind there.
    """
    make_movie(path, frames=10, size=(64, 48), audio=TONES)
    data = bytearray(path.read_bytes())
    if what == "matroska":
        place = data.rfind(b"A_AAC")
        data[place : place + 5] = b"A_XYZ"
    elif what == "noise":
        with av.open(str(path)) as file:
            for packet in file.demux(file.streams.audio[1]):
                content = bytes(packet)
                if content:
                    place = data.find(content)
                    data[place : place + len(content)] = b"\xff" * len(content)
    else:
        end = data.rfind(b"esds")
        begin = data.rfind(b"stsd", 0, end)
        data[end : end + 4] = b"dapa"
        if what == "apac":
            data[begin:end] = data[begin:end].replace(b"mp4a", b"apac")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "what"),
    [("a.mov", "apac"), ("a.mov", "noise"), ("a.mp4", "apac"),
     ("a.mkv", "matroska")],
)  # fmt: skip
@pytest.mark.parametrize("out", ["out.mov", "out.mkv", "out.webm"])
def test_an_unreadable_track_is_left_out_and_the_other_kept(
    name: str, what: str, out: str, tmp_path: Path
) -> None:
    clip = two_tracks(tmp_path / name, what)
    with open_reader(clip, Settings()) as source:
        assert [(track.number, track.language) for track in source.clip.audio] == [(1, "eng")]
        (line,) = source.warnings
        assert line.startswith(f"{name}: sound track 2 ")
        assert line.endswith("and is left out")
    _, written = write_clip(clip, tmp_path / out)
    assert len(written.sound) == 1
    with av.open(str(tmp_path / out)) as file:
        (track,) = file.streams.audio
        assert track.language == "eng"


def test_a_track_that_cannot_be_copied_is_decoded(tmp_path: Path) -> None:
    clip = two_tracks(tmp_path / "a.mov", "config")
    _, written = write_clip(clip, out := tmp_path / "out.mov")
    assert written.sound == ("aac (copied)", "aac -> pcm_s24le")
    with av.open(str(out)) as file:
        loudest = max(np.abs(frame.to_ndarray()).max() for frame in file.decode(audio=1))
    assert loudest > 0


def test_tracks_are_chosen_by_number(tmp_path: Path) -> None:
    path = tmp_path / "three.mp4"
    make_movie(path, frames=10, size=(64, 48), audio=[*TONES, Tone(language="fra")])
    for text, languages in (("1,3", ["eng", "fra"]), ("2", ["deu"]), ("3, 1", ["eng", "fra"])):
        _, written = write_clip(path, out := tmp_path / "o.mkv", audio_tracks=text, overwrite=True)
        assert len(written.sound) == len(languages)
        with av.open(str(out)) as file:
            assert [track.language for track in file.streams.audio] == languages
    settings = Settings(audio_tracks=(1, 3))
    assert settings.audio_tracks == "1,3"
    assert Settings(audio_tracks=2).audio_tracks == "2"


def test_a_chosen_track_that_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    clip = two_tracks(tmp_path / "a.mov", "apac")
    for text, reason in (("2", "is in an unknown codec: omit it"), ("3", "has 2 sound tracks")):
        with (
            pytest.raises(UsageError, match=reason),
            open_reader(clip, Settings(audio_tracks=text)),
        ):
            pass
    with open_reader(clip, Settings(audio_tracks="1")) as source:
        assert source.warnings == []  # the other one was not asked for


@pytest.mark.parametrize("text", ["0", "1,,2", "x", "1-3", "-1", "1.5"])
def test_what_is_no_list_of_tracks_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no list of track numbers"):
        Settings(audio_tracks=text)


def test_choosing_and_leaving_out_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="--no-audio excludes it"):
        Settings(audio_tracks="1", audio=False)


def test_the_timeline_is_the_same_whichever_track_is_carried(tmp_path: Path) -> None:
    """The first track begins before the pictures: they stay where they were in time."""
    late = [Tone(codec="pcm_s16le"), Tone(codec="pcm_s16le")]
    pts = range(10, 20)
    path = make_movie(tmp_path / "late.mov", size=(64, 48), pts=pts, audio=late).path
    origins = set()
    for options in ({}, {"audio_tracks": "2"}, {"audio": False}):
        with open_reader(path, Settings(**options)) as source:
            origins.add(source.clip.origin)
    assert origins == {0}

"""--audio-from: a take beside a folder of pictures, or instead of a movie's own sound."""

from __future__ import annotations

import json
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import Tone, make_movie, make_pictures
from tiny_onnx import make_salient
from writer_support import write_clip

from vidmatte import matte
from vidmatte.errors import SourceError, SourceMissingError, UsageError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

RATE = 48000


def take(path: Path, seconds: float = 0.4) -> Path:
    """A ramp: each sample tells where it comes from."""
    count = round(seconds * RATE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.arange(count, dtype="<i2")).tobytes())
    return path


def plates(folder: Path, frames: int = 10) -> Path:
    make_pictures(folder, frames=frames, size=(64, 48))
    return folder


def samples(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def test_a_folder_gets_the_sound_of_a_take(tmp_path: Path) -> None:
    sound = take(tmp_path / "take.wav")
    _, written = write_clip(plates(tmp_path / "in"), out := tmp_path / "out.mov", fps="25",
                            audio_from=str(sound))  # fmt: skip
    assert written.sound == ("pcm_s16le (copied)",)
    assert np.array_equal(samples(out), np.arange(0.4 * RATE))


@pytest.mark.parametrize("name", ["out.mov", "out.mkv"])
def test_it_is_trimmed_with_the_pictures(name: str, tmp_path: Path) -> None:
    """From the third picture to the seventh; a longer take is cut, which is said."""
    sound = take(tmp_path / "take.wav", 0.6)
    options = {"fps": "25", "audio_from": str(sound), "in_point": "f2", "out_point": "f7"}
    folder = plates(tmp_path / "in")
    write_clip(folder, out := tmp_path / name, **options)
    expected = np.arange(round(2 / 25 * RATE), round(7 / 25 * RATE))
    assert np.array_equal(samples(out), expected)
    with open_reader(folder, Settings(**options)) as source:
        assert source.warnings == [
            "take.wav: 0.52 s of sound for 0.20 s of pictures: the rest is cut off"
        ]
    with open_reader(folder, Settings(fps="10", audio_from=str(sound))) as source:
        assert source.warnings == [
            "take.wav: 0.60 s of sound for 1.00 s of pictures: silent after it"
        ]


def test_a_movie_gets_it_instead_of_its_own(tmp_path: Path) -> None:
    """From its first frame on, which is late on the container's timeline; at an uneven rate."""
    sound = take(tmp_path / "take.wav")
    pts = [10, 11, 12, 14, 15, 17, 18, 19]
    clip = make_movie(
        tmp_path / "clip.mkv", size=(64, 48), pts=pts, time_base=Fraction(1, 25), audio=[Tone()]
    ).path
    write_clip(clip, out := tmp_path / "out.mkv", audio_from=str(sound), in_point="f3")
    begin = round(4 / 25 * RATE)
    assert np.array_equal(samples(out)[:9000], np.arange(begin, begin + 9000))


def test_tracks_are_those_of_the_take(tmp_path: Path) -> None:
    other = make_movie(tmp_path / "b.mp4", size=(64, 48), audio=[Tone(), Tone(language="fra")]).path
    folder = plates(tmp_path / "in")
    settings = Settings(fps="25", audio_from=str(other), audio_tracks="2")
    with open_reader(folder, settings) as source:
        (track,) = source.clip.audio
        assert (track.number, track.language) == (2, "fra")
    with pytest.raises(UsageError, match=r"--audio-tracks 3: b\.mp4 has 2 sound tracks"):
        open_reader(folder, settings.changed(audio_tracks="3"))


def test_what_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    folder, sound = plates(tmp_path / "in"), take(tmp_path / "take.wav")
    (tmp_path / "text.wav").write_text("no sound at all")
    silent = make_movie(tmp_path / "silent.mp4", frames=2, size=(64, 48)).path
    for name, kind, reason in (
        ("none.wav", SourceMissingError, "there is no such file"),
        ("text.wav", SourceError, "not a readable sound file"),
        (silent.name, SourceError, "it has no sound track"),
    ):
        with pytest.raises(kind, match=f"--audio-from .*{name}: {reason}"):
            open_reader(folder, Settings(fps="25", audio_from=str(tmp_path / name)))
    with pytest.raises(UsageError, match=r"png has no sound: write \.mov"):
        write_clip(folder, tmp_path / "out", fps="25", audio_from=str(sound))
    with pytest.raises(UsageError, match="--no-audio excludes it"):
        Settings(audio_from=str(sound), audio=False)


def test_the_manifest_and_a_resumed_run_know_of_it(tmp_path: Path) -> None:
    folder, sound = plates(tmp_path / "in", 3), take(tmp_path / "take.wav")
    options = {"model": make_salient(tmp_path / "net.onnx"), "family": "isnet", "fps": "25",
               "resume": True, "audio_from": sound}  # fmt: skip
    matte(folder, out := tmp_path / "out.mov", **options)
    settings = json.loads((tmp_path / "out.mov.json").read_text())["settings"]
    assert settings["audio_from"] == str(sound)
    again = matte(folder, out, **options)
    assert any("already finished" in line for line in again.warnings)
    with pytest.raises(UsageError, match=r"that would replace .*an input itself"):
        matte(folder, sound.with_suffix(".mov"), **options | {"audio_from": _as_mov(sound)})


def _as_mov(sound: Path) -> Path:
    """The same take as the output that a run is to write."""
    copy = sound.with_suffix(".mov")
    copy.write_bytes(sound.read_bytes())
    return copy

"""Sound beside the frames: copied or encoded, in time with the flash it was recorded with."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import Movie, Tone, add_sound, make_movie, sound_blocks, without_sound_data
from readback import beep_time, decode_sound, frame_times, probe, probe_stream, run_tool
from writer_support import write_clip

from vidmatte.errors import OutputError, SourceError
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers import audio_encode as encoded
from vidmatte.writers.audio import AudioWriter
from vidmatte.writers.audio_encode import JITTER, EncodedTrack
from vidmatte.writers.audio_tracks import downmixed
from vidmatte.writers.extra_outputs import ExtraOutputs

#: A sample of 48 kHz, and what a codec's own filter blurs an attack by.
SAMPLE = 1 / 48000
ATTACK = 0.003


def delay(movie: Movie, out: Path, track: int = 0) -> float:
    """How much later than the flash the beep is, in seconds, compared with the source."""
    assert movie.flash is not None
    here = beep_time(out, track) - float(frame_times(out)[movie.flash])
    return here - (beep_time(movie.path, track) - float(frame_times(movie.path)[movie.flash]))


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
@pytest.mark.parametrize(
    "kind",
    ["8-bit 709", "drop frame timecode", "variable rate", "late sound", "several tracks",
     "late start"],
)  # fmt: skip
def test_the_beep_stays_at_the_flash(
    kind: str, suffix: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie(kind)
    _, written = write_clip(movie, out := tmp_path / f"out{suffix}")
    assert len(written.sound) == len(movie.audio)
    for track in range(len(movie.audio)):
        assert abs(delay(movie, out, track)) <= ATTACK


@pytest.mark.parametrize(
    ("codec", "container", "suffix", "fate"),
    [
        ("aac", ".mp4", ".mov", "aac (copied)"),
        ("alac", ".mov", ".mov", "alac (copied)"),
        ("alac", ".mkv", ".mov", "alac (copied)"),  # whose packets do not tell their length
        ("alac", ".mkv", ".mkv", "alac (copied)"),
        ("pcm_s16le", ".mov", ".mov", "pcm_s16le (copied)"),
        ("pcm_s24le", ".mov", ".mov", "pcm_s24le (copied)"),
        ("ac3", ".mov", ".mov", "ac3 (copied)"),
        ("flac", ".mkv", ".mov", "flac -> pcm_s16le"),
        ("libopus", ".mkv", ".mov", "opus -> pcm_s24le"),
        ("libopus", ".mkv", ".webm", "opus (copied)"),
        ("aac", ".mp4", ".webm", "aac -> opus"),
        ("pcm_s16le", ".mov", ".webm", "pcm_s16le -> opus"),
        ("flac", ".mkv", ".mkv", "flac (copied)"),
        ("pcm_s16be", ".mov", ".mkv", "pcm_s16be -> pcm_s16le"),
    ],
)
def test_sound_is_copied_where_the_container_takes_it(
    codec: str, container: str, suffix: str, fate: str, tmp_path: Path
) -> None:
    movie = make_movie(
        tmp_path / f"clip{container}", frames=40, audio=[Tone(codec=codec)], flash=20
    )
    _, written = write_clip(movie, out := tmp_path / f"out{suffix}")
    assert written.sound == (fate,)
    assert abs(delay(movie, out)) <= ATTACK
    assert probe_stream(out, "audio")["sample_rate"] == "48000"
    apart = abs(len(decode_sound(out)) - len(decode_sound(movie.path)))
    assert apart <= 48000 * 0.03, "the sound ends with the source's, but for a codec's last packet"


def test_pcm_is_the_same_samples(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mov", frames=40, audio=[Tone(codec="pcm_s16le")], flash=20)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(movie.path))


def test_a_codec_that_must_be_decoded_anyway_is_exact_in_pcm(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mkv", frames=40, audio=[Tone(codec="flac")], flash=20)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(movie.path))


@pytest.mark.parametrize("rate", [44100, 22050, 96000])
def test_other_sample_rates_are_resampled_for_opus(rate: int, tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", rate=rate, channels=1)
    movie = make_movie(tmp_path / "clip.mov", frames=60, audio=[tone], flash=30)
    write_clip(movie, out := tmp_path / "out.webm")
    assert abs(delay(movie, out)) <= ATTACK
    assert probe_stream(out, "audio")["channels"] == 1


def test_surround_goes_into_opus(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=40, audio=[Tone(channels=6)], flash=20)
    write_clip(movie, out := tmp_path / "out.webm")
    stream = probe_stream(out, "audio")
    assert (stream["codec_name"], stream["channels"]) == ("opus", 6)


def spliced(folder: Path, first: Tone, then: Tone) -> tuple[Movie, Path]:
    """A clip and a transport stream of it in whose sound one tone follows another at 1.5 s, as
    programmes follow each other in a broadcast."""
    movie = make_movie(folder / "clip.mp4", frames=75, flash=60, options={"bf": "0"})
    path = folder / "clip.ts"
    with av.open(str(movie.path)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = add_sound(target, first)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet in packets:
            packet.stream = video
        for tone in (first, then):
            with av.open(str(folder / "part.ts"), "w") as part:
                encoder = add_sound(part, tone)
                half = Fraction(3, 2) * tone.rate
                for block in sound_blocks(movie, tone):
                    if (block.pts < half) == (tone is first):
                        packets += encoder.encode(block)
                packets += encoder.encode(None)
        for packet in packets:
            packet.stream = packet.stream if packet.stream is video else sound
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            target.mux(packet)
    return movie, path


@pytest.mark.parametrize(
    ("suffix", "first", "then", "change"),
    [
        (".webm", Tone(codec="ac3"), Tone(codec="ac3", channels=6), "5.1(side), 48000 Hz"),
        (".mov", Tone(codec="mp2"), Tone(codec="mp2", channels=1), "mono, 48000 Hz"),
        (".webm", Tone(codec="mp2"), Tone(codec="mp2", channels=1), "mono, 48000 Hz"),
        (".mov", Tone(codec="mp2"), Tone(codec="mp2", rate=44100), "stereo, 44100 Hz"),
    ],
)
def test_sound_that_changes_inside_the_track_goes_on_as_it_began(
    suffix: str, first: Tone, then: Tone, change: str, tmp_path: Path
) -> None:
    movie, stream = spliced(tmp_path, first, then)
    _, written = write_clip(stream, out := tmp_path / f"out{suffix}")
    assert written.frames == 75
    # Where one follows the other, the source's own clock leaps by half a packet.
    assert abs(beep_time(out) - float(movie.flash_time)) <= JITTER
    assert abs(len(decode_sound(out)) * SAMPLE - 3) <= 0.1
    found = probe_stream(out, "audio")
    assert (found["sample_rate"], found["channels"]) == ("48000", 2)
    said = re.compile(rf"changes at \d\.\d\d s to {re.escape(change)}; the output stays stereo")
    assert any(map(said.search, written.notes)), written.notes


@pytest.mark.parametrize(
    ("rate", "taken"), [(192000, "96000"), (22255, "22050"), (6000, "7350"), (44100, "44100")]
)
def test_a_rate_that_the_encoder_has_not_becomes_the_nearest(
    rate: int, taken: str, tmp_path: Path
) -> None:
    tone = Tone(codec="pcm_s16le", rate=rate)
    movie = make_movie(tmp_path / "clip.mov", frames=50, audio=[tone], flash=30)
    comp = tmp_path / "comp.mp4"
    _, written = write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(comp=comp))
    assert probe_stream(comp, "audio")["sample_rate"] == taken
    assert abs(delay(movie, comp)) <= 2 * ATTACK
    note = f"sound track 1: aac does not support {rate} Hz: resampled to {taken} Hz"
    assert written.extra_outputs[0].notes == (() if str(rate) == taken else (note,))
    assert written.notes == ()


def test_sound_that_the_encoder_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "_encoded_rate", lambda _codec, rate: rate)
    tone = Tone(codec="pcm_s16le", rate=6000)
    movie = make_movie(tmp_path / "clip.mov", frames=50, audio=[tone])
    said = r"clip\.mov: sound track 1, at 0\.\d\d s, cannot be written \(.*\): .* --no-audio"
    with pytest.raises(OutputError, match=said):
        write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(comp=tmp_path / "comp.mp4"))


@pytest.mark.parametrize(("channels", "layout"), [(16, "hexadecagonal"), (9, "9 channels")])
def test_more_channels_than_the_encoder_takes_are_mixed_into_stereo(
    channels: int, layout: str, tmp_path: Path
) -> None:
    """A recorder's tracks bear places that mean nothing, or none: each has to be heard."""
    movie = make_movie(tmp_path / "clip.mov", frames=25, audio=[Tone()])
    wide = tmp_path / "wide.mov"
    with av.open(str(movie.path)) as source, av.open(str(wide), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=48000, layout=layout)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
        target.mux(sound.encode(one_channel_heard(layout, channels - 1, 48000)))
    _, written = write_clip(wide, out := tmp_path / "out.webm")
    assert probe_stream(out, "audio")["channels"] == 2
    assert np.abs(decode_sound(out)).max() > 0.02
    said = f"opus supports at most 8 channels: its {channels} are mixed down to stereo"
    assert any(said in note for note in written.notes), written.notes


def one_channel_heard(layout: str, channel: int, samples: int = 480) -> av.AudioFrame:
    """Sound of which one channel is a tone at a quarter of the full scale."""
    count = av.AudioLayout(layout).nb_channels
    wave = np.zeros((samples, count), np.int16)
    wave[:, channel] = 8192 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48000)
    frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), "s16", layout)
    frame.sample_rate = 48000
    return frame


@pytest.mark.parametrize("layout", ["hexadecagonal", "22.2", "9 channels"])
def test_every_channel_is_heard_in_a_mix(layout: str) -> None:
    places = av.AudioLayout(layout).channels
    for channel, place in enumerate(places):
        left, right = np.abs(downmixed(one_channel_heard(layout, channel)).to_ndarray()).max(axis=1)
        if place.name in ("FL", "TFL", "WL", "SL") or (place.name == "NONE" and not channel % 2):
            assert left > 300
            assert right == 0
        elif place.name in ("FR", "TFR", "WR", "SR") or (place.name == "NONE" and channel % 2):
            assert left == 0
            assert right > 300
        else:
            assert max(left, right) > 300
    loud = np.full((1, 480 * len(places)), 32767, np.int16)
    frame = av.AudioFrame.from_ndarray(loud, "s16", layout)
    frame.sample_rate = 48000
    assert downmixed(frame).to_ndarray().max() == 32767, "it never clips"


def test_a_long_gap_becomes_silence_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made at once, the silence of an hour is a gigabyte; none is made after the out point."""
    movie = make_movie(tmp_path / "clip.mkv", frames=50, audio=[Tone(codec="flac")])
    gapped = tmp_path / "gapped.mkv"
    with av.open(str(movie.path)) as source, av.open(str(gapped), "w") as target:
        kept = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == "audio" and packet.pts * packet.time_base > 1:
                    packet.pts = packet.dts = packet.pts + int(600 / packet.time_base)
                packet.stream = kept[packet.stream]
                target.mux(packet)
    fed = []
    feed = EncodedTrack._feed

    def counted(self: EncodedTrack, frame: av.AudioFrame, first: int) -> None:
        fed.append(frame.samples)
        feed(self, frame, first)

    monkeypatch.setattr(EncodedTrack, "_feed", counted)
    write_clip(gapped, out := tmp_path / "out.mov")
    assert max(fed) <= 48000
    assert abs(probe_length(out) - 602) < 0.1
    fed.clear()
    write_clip(gapped, out := tmp_path / "cut.mov", out_point="f40")
    assert sum(fed) <= 3 * 48000
    assert abs(probe_length(out) - 1.6) < 0.1


def probe_length(path: Path) -> float:
    """Seconds of the first sound track."""
    return float(probe_stream(path, "audio")["duration"])


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_sound_is_trimmed_with_the_in_and_out_points(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    """29.97 frames a second: no frame lies on a whole sample or millisecond."""
    movie = make_movie(
        tmp_path / "clip.mov",
        rate=Fraction(30000, 1001),
        frames=120,
        audio=[Tone(codec=codec)],
        flash=70,
    )
    clip, written = write_clip(
        movie, out := tmp_path / f"out{suffix}", in_point="f45", out_point="f95"
    )
    assert written.frames == 50
    here = beep_time(out) - float(frame_times(out)[25])
    there = beep_time(movie.path) - float(frame_times(movie.path)[70])
    # mkv and webm count milliseconds.
    assert abs(here - there) <= ATTACK
    length = len(decode_sound(out)) * SAMPLE
    assert abs(length - float(written.seconds)) <= 0.03
    if codec == "pcm_s16le" and suffix == ".mov":
        whole = decode_sound(movie.path)
        first = round(float(clip.origin) / SAMPLE)
        cut = decode_sound(out)
        assert abs(len(cut) - round(float(written.seconds) / SAMPLE)) <= 1
        assert np.array_equal(cut, whole[first : first + len(cut)])


def test_no_audio_means_none(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    _, written = write_clip(source_movie("8-bit 709"), out := tmp_path / "out.mov", audio=False)
    assert written.sound == ()
    assert [s["codec_type"] for s in probe(out)["streams"]] == ["video"]


def test_every_track_keeps_its_language(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("several tracks")
    write_clip(movie, out := tmp_path / "out.mov")
    found = [probe_stream(out, "audio", track)["tags"].get("language") for track in range(3)]
    assert found == [tone.language for tone in movie.audio]


@pytest.mark.parametrize("ends", [None, Fraction(1, 2)])
def test_sound_and_video_are_interleaved(ends: Fraction | None, tmp_path: Path) -> None:
    """A player that reads along never has to jump far: no second of one without the other,
    though a track ends early."""
    tones = [Tone()] if ends is None else [Tone(), Tone(codec="pcm_s16le")]
    movie = make_movie(tmp_path / "clip.mov", frames=100, audio=tones, size=(320, 180))
    clip = movie.path if ends is None else ended(movie, 2, ends)
    write_clip(clip, out := tmp_path / "out.mov")
    with av.open(str(out)) as container:
        packets = [
            (packet.pos, packet.stream.index, float(packet.pts * packet.time_base))
            for packet in container.demux(video=0, audio=0)
            if packet.pos is not None and packet.pts is not None
        ]
    last = {0: 0.0, 1: 0.0}
    for _, stream, time in sorted(packets):
        last[stream] = time
        assert abs(last[0] - last[1]) < 1.0


def ended(movie: Movie, stream: int, seconds: Fraction) -> Path:
    """A copy of a clip in which one stream ends early."""
    path = movie.path.with_stem("ended")
    with av.open(str(movie.path)) as source, av.open(str(path), "w") as target:
        kept = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            late = packet.size and packet.pts * packet.time_base > seconds
            if packet.size and not (late and packet.stream.index == stream):
                packet.stream = kept[packet.stream]
                target.mux(packet)
    return path


def test_silence_in_the_clock_becomes_silence(tmp_path: Path) -> None:
    """A source whose sound pauses keeps the beep after the pause in its place."""
    tone = Tone(codec="flac")
    movie = make_movie(tmp_path / "whole.mkv", frames=75, audio=[tone], flash=60)
    gapped = tmp_path / "gapped.mkv"
    run_tool("ffmpeg", "-v", "error", "-i", movie.path, "-c:v", "copy", "-c:a", "flac",
             "-af", "aselect='not(between(t,1,2))'", gapped)  # fmt: skip
    for suffix in (".mov", ".webm", ".mkv"):
        write_clip(gapped, out := tmp_path / f"out{suffix}")
        assert abs(beep_time(out) - float(frame_times(out)[60])) <= ATTACK
        quiet = decode_sound(out)[round(1.2 / SAMPLE) : round(1.8 / SAMPLE)]
        assert np.abs(quiet).max() < 0.01


def test_mp3_is_copied_by_the_codecs_name_not_the_decoders(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=40, audio=[Tone(codec="libmp3lame")], flash=20)
    _, written = write_clip(movie, out := tmp_path / "out.mov")
    assert written.sound == ("mp3 (copied)",)
    assert abs(delay(movie, out)) <= ATTACK


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_a_transport_stream_keeps_sync(suffix: str, tmp_path: Path) -> None:
    """Its clock starts at 1.4 s, counts 90 kHz, and its AAC carries ADTS headers."""
    movie = make_movie(tmp_path / "clip.mp4", frames=60, audio=[Tone()], flash=40)
    stream = tmp_path / "clip.ts"
    run_tool("ffmpeg", "-v", "error", "-i", movie.path, "-c", "copy", "-muxdelay", "0.7", stream)
    _, written = write_clip(stream, out := tmp_path / f"out{suffix}")
    assert written.frames == 60
    flash = float(frame_times(out)[40] - frame_times(stream)[40])
    assert abs(beep_time(out) - beep_time(stream) - flash) <= ATTACK


@pytest.mark.parametrize(
    ("codec", "container", "begin", "suffix", "fault"),
    [
        ("flac", ".mkv", 0, ".mov", av.error.InvalidDataError),
        ("ac3", ".mov", 3, ".webm", av.error.UndefinedError),
    ],
)
def test_a_broken_packet_of_sound_becomes_silence_and_is_said(
    codec: str,
    container: str,
    begin: int,
    suffix: str,
    fault: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decoders answer damage with errors of several kinds."""
    movie = make_movie(
        tmp_path / f"clip{container}", frames=75, audio=[Tone(codec=codec)], flash=60
    )
    data = bytearray(movie.path.read_bytes())
    with av.open(str(movie.path)) as opened:
        packets = [p for p in opened.demux(audio=0) if p.size]
        for packet in packets[5:8]:
            at = data.find(bytes(packet)[:16]) + begin
            data[at : at + 12] = b"\xff" * 12
    broken = tmp_path / f"broken{container}"
    broken.write_bytes(data)
    with av.open(str(broken)) as opened, pytest.raises(fault):
        list(opened.decode(audio=0))
    forget_streams(monkeypatch)
    _, written = write_clip(broken, out := tmp_path / f"out{suffix}")
    said = re.compile(r"sound track 1: \d damaged packets became silence")
    assert any(said.fullmatch(note) for note in written.notes)
    assert abs(beep_time(out) - float(frame_times(out)[60])) <= ATTACK


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize("number", [0, 20])
def test_copied_sound_that_lost_its_header_becomes_silence(
    number: int, suffix: str, tmp_path: Path
) -> None:
    """What no container can frame is left out, the first packet too; the rest keeps its time."""
    movie = make_movie(tmp_path / "clip.mp4", frames=75, audio=[Tone()], flash=60)
    stream = tmp_path / "clip.ts"
    run_tool("ffmpeg", "-v", "error", "-i", movie.path, "-c", "copy", stream)
    with av.open(str(stream)) as opened:
        packet = [packet for packet in opened.demux(audio=0) if packet.size][number]
    broken = tmp_path / "broken.ts"
    broken.write_bytes(stream.read_bytes().replace(bytes(packet)[:12], b"\x5a" * 12, 1))
    _, written = write_clip(broken, out := tmp_path / f"out{suffix}")
    assert written.sound == ("aac (copied)",)
    said = re.compile(r"sound track 1: \d damaged packets became silence")
    assert any(said.fullmatch(note) for note in written.notes), written.notes
    write_clip(stream, whole := tmp_path / f"whole{suffix}")
    expected, found = packets_of_sound(whole), packets_of_sound(out)
    if number:
        assert set(found) < set(expected)
        assert len(expected) - len(found) <= 2
    else:  # FFmpeg takes all the sound up to the next time stamp for one packet
        assert {data for _, data in found} < {data for _, data in expected}
        assert len(expected) - len(found) <= 30


@pytest.mark.parametrize(
    ("suffix", "audio"), [(".mov", True), (".mkv", True), (".webm", True), (".mov", False)]
)
def test_a_track_without_sound_is_left_out_and_named(
    suffix: str, audio: bool, tmp_path: Path
) -> None:
    """A transport stream announces tracks; of an empty one it tells no rate and no channels."""
    stream = without_sound_data(make_movie(tmp_path / "clip.mp4", frames=20, audio=[Tone()]))
    with open_reader(stream, Settings(audio=audio)) as source:
        assert source.clip.audio == ()
        left_out = "sound track 1 (aac, 0 Hz, 0 channels) has no sound and is left out"
        assert source.warnings == ([f"clip.ts: {left_out}"] if audio else [])
    _, written = write_clip(stream, out := tmp_path / f"out{suffix}", audio=audio)
    assert (written.frames, written.sound) == (20, ())
    assert [s["codec_type"] for s in probe(out)["streams"]] == ["video"]


class ClosedInput:
    """An input whose streams are gone once it is closed, as FFmpeg frees them."""

    def __init__(self, sound: AudioWriter) -> None:
        self._sound, self._input = sound, sound._input

    def close(self) -> None:
        self._input.close()
        for track in self._sound._tracks.values():
            track._source = None


def forget_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what is asked of the source's streams after its close fail, not read freed memory."""
    prepare = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        prepare(self, *arguments)
        self._input = ClosedInput(self)

    monkeypatch.setattr(AudioWriter, "__init__", prepared)


def untime(numbers: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the times off some of the source's packets of sound."""
    prepare = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        prepare(self, *arguments)
        self._packets = without_time(self._packets)

    def without_time(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        for number, packet in enumerate(packets):
            if number in numbers:
                packet.pts = packet.dts = None
            yield packet

    monkeypatch.setattr(AudioWriter, "__init__", prepared)


@pytest.mark.parametrize(
    ("codec", "container", "numbers"),
    [
        ("flac", ".mkv", range(10)),
        ("flac", ".mkv", range(20, 30)),
        ("pcm_s16le", ".mov", range(10)),
        ("pcm_s16le", ".mov", range(20, 30)),
        ("aac", ".mp4", range(20, 30)),
    ],
)
def test_packets_without_a_time_follow_the_last(
    codec: str, container: str, numbers: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sample of them is lost or moved, whether they are copied or decoded."""
    clip = tmp_path / f"clip{container}"
    movie = make_movie(clip, frames=50, audio=[Tone(codec=codec)], flash=30)
    write_clip(movie, timed := tmp_path / "timed.mov")
    untime(numbers, monkeypatch)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(timed))
    assert abs(delay(movie, out)) <= ATTACK


def test_packets_without_a_time_move_nothing_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AAC begins before its stream's start, so its first packets are placed too late here."""
    movie = make_movie(tmp_path / "clip.mp4", frames=50, audio=[Tone()], flash=30)
    write_clip(movie, timed := tmp_path / "timed.mov")
    untime(range(10), monkeypatch)
    write_clip(movie, out := tmp_path / "out.mov")
    found, expected = packets_of_sound(out), packets_of_sound(timed)
    assert [data for _, data in found] == [data for _, data in expected]
    # The first with a time lies over the last without, and so begins a sample after that.
    later = [time - was for (time, _), (was, _) in zip(found[10:], expected[10:], strict=True)]
    assert max(map(abs, later)) <= Fraction(1, 48000)


def packets_of_sound(path: Path) -> list[tuple[Fraction, bytes]]:
    """The packets of the first sound track: when (seconds), and what."""
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size
        ]


class FailingInput:
    """The packets of a file's sound, and then one of FFmpeg's errors."""

    def __init__(self, packets: Iterator[av.Packet], fault: Exception) -> None:
        self._packets, self._fault = islice(packets, 30), fault

    def __next__(self) -> av.Packet:
        packet = next(self._packets, None)
        if packet is None:
            raise self._fault
        return packet


def fail_after_thirty_packets(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the source's sound unreadable after 30 packets."""
    prepare = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        prepare(self, *arguments)
        self._packets = FailingInput(self._packets, fault)

    monkeypatch.setattr(AudioWriter, "__init__", prepared)


def test_sound_that_cannot_be_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage ends the sound with a note; a drive that does not answer ends the run."""
    movie = make_movie(tmp_path / "clip.mov", frames=50, audio=[Tone()])
    with monkeypatch.context() as patched:
        fail_after_thirty_packets(av.error.ArgumentError(errno.EINVAL, "damage"), patched)
        _, written = write_clip(movie, tmp_path / "out.mov")
    assert any("the sound ends at 0.6" in note for note in written.notes), written.notes
    fail_after_thirty_packets(av.error.OSError(errno.EIO, "no answer"), monkeypatch)
    with pytest.raises(SourceError, match=r"clip\.mov: reading its sound failed \(no answer\)"):
        write_clip(movie, tmp_path / "again.mov")

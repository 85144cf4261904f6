"""Audio: copied or encoded, in sync with the flash it was recorded with."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
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
from vidmatte.writers import audio_encode
from vidmatte.writers.audio import AudioWriter
from vidmatte.writers.audio_encode import _JITTER, EncodedTrack
from vidmatte.writers.audio_tracks import downmixed
from vidmatte.writers.extra_outputs import ExtraOutputs

make_clip = partial(make_movie, size=(64, 48))  # small: only its sound is looked at
#: A sample at 48 kHz, and how far a codec's filter smears an attack.
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
@pytest.mark.thinned(5)
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
        ("alac", ".mkv", ".mov", "alac (copied)"),  # whose packets have no duration
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
@pytest.mark.thinned(5)
def test_audio_is_copied_where_the_container_supports_it(
    codec: str, container: str, suffix: str, fate: str, tmp_path: Path
) -> None:
    movie = make_clip(tmp_path / f"clip{container}", frames=40, audio=[Tone(codec=codec)], flash=20)
    _, written = write_clip(movie, out := tmp_path / f"out{suffix}")
    assert written.sound == (fate,)
    assert abs(delay(movie, out)) <= ATTACK
    assert probe_stream(out, "audio")["sample_rate"] == "48000"
    apart = abs(len(decode_sound(out)) - len(decode_sound(movie.path)))
    assert apart <= 48000 * 0.03, (
        "the audio ends with the source's, except for a codec's last packet"
    )


def test_pcm_samples_are_identical(tmp_path: Path) -> None:
    movie = make_clip(tmp_path / "clip.mov", frames=40, audio=[Tone(codec="pcm_s16le")], flash=20)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(movie.path))


def test_a_decoded_lossless_codec_is_exact_in_pcm(tmp_path: Path) -> None:
    movie = make_clip(tmp_path / "clip.mkv", frames=40, audio=[Tone(codec="flac")], flash=20)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(movie.path))


@pytest.mark.parametrize("rate", [44100, 22050, 96000])
@pytest.mark.thinned(2)
def test_other_sample_rates_are_resampled_for_opus(rate: int, tmp_path: Path) -> None:
    tone = Tone(codec="pcm_s16le", rate=rate, channels=1)
    movie = make_clip(tmp_path / "clip.mov", frames=60, audio=[tone], flash=30)
    write_clip(movie, out := tmp_path / "out.webm")
    assert abs(delay(movie, out)) <= ATTACK
    assert probe_stream(out, "audio")["channels"] == 1


def test_surround_is_encoded_as_opus(tmp_path: Path) -> None:
    movie = make_clip(tmp_path / "clip.mp4", frames=40, audio=[Tone(channels=6)], flash=20)
    write_clip(movie, out := tmp_path / "out.webm")
    stream = probe_stream(out, "audio")
    assert (stream["codec_name"], stream["channels"]) == ("opus", 6)


def spliced(folder: Path, first: Tone, then: Tone) -> tuple[Movie, Path]:
    """A clip, and a transport stream of it whose audio switches from one tone to another at
    1.5 s, as between programmes of a broadcast."""
    movie = make_clip(folder / "clip.mp4", frames=75, flash=60, options={"bf": "0"})
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
@pytest.mark.thinned(2)
def test_audio_that_changes_format_keeps_the_first_one(
    suffix: str, first: Tone, then: Tone, change: str, tmp_path: Path
) -> None:
    movie, stream = spliced(tmp_path, first, then)
    _, written = write_clip(stream, out := tmp_path / f"out{suffix}")
    assert written.frames == 75
    # At the switch the source's clock jumps by half a packet.
    assert abs(beep_time(out) - float(movie.flash_time)) <= _JITTER
    assert abs(len(decode_sound(out)) * SAMPLE - 3) <= 0.1
    found = probe_stream(out, "audio")
    assert (found["sample_rate"], found["channels"]) == ("48000", 2)
    pattern = re.compile(rf"changes at \d\.\d\d s to {re.escape(change)}; the output stays stereo")
    assert any(map(pattern.search, written.notes)), written.notes


@pytest.mark.parametrize(
    ("rate", "expected_rate"),
    [(192000, "96000"), (22255, "22050"), (6000, "7350"), (44100, "44100")],
)
@pytest.mark.thinned(3)
def test_an_unsupported_sample_rate_becomes_the_nearest(
    rate: int, expected_rate: str, tmp_path: Path
) -> None:
    tone = Tone(codec="pcm_s16le", rate=rate)
    movie = make_clip(tmp_path / "clip.mov", frames=50, audio=[tone], flash=30)
    comp = tmp_path / "comp.mp4"
    _, written = write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(comp=comp))
    assert probe_stream(comp, "audio")["sample_rate"] == expected_rate
    assert abs(delay(movie, comp)) <= 2 * ATTACK
    note = f"sound track 1: aac does not support {rate} Hz: resampled to {expected_rate} Hz"
    assert written.extra_outputs[0].notes == (() if str(rate) == expected_rate else (note,))
    assert written.notes == ()


def test_audio_that_the_encoder_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_encode, "_encoded_rate", lambda _codec, rate: rate)
    tone = Tone(codec="pcm_s16le", rate=6000)
    movie = make_clip(tmp_path / "clip.mov", frames=50, audio=[tone])
    pattern = r"clip\.mov: sound track 1, at 0\.\d\d s, cannot be written \(.*\): .* --no-audio"
    with pytest.raises(OutputError, match=pattern):
        write_clip(movie, tmp_path / "out.mov", extras=ExtraOutputs(comp=tmp_path / "comp.mp4"))


@pytest.mark.parametrize(("channels", "layout"), [(16, "hexadecagonal"), (9, "9 channels")])
def test_more_channels_than_the_encoder_supports_are_mixed_to_stereo(
    channels: int, layout: str, tmp_path: Path
) -> None:
    """A recorder's channels have arbitrary positions or none: each has to be audible."""
    movie = make_clip(tmp_path / "clip.mov", frames=25, audio=[Tone()])
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
    pattern = f"opus supports at most 8 channels: its {channels} are mixed down to stereo"
    assert any(pattern in note for note in written.notes), written.notes


def one_channel_heard(layout: str, channel: int, samples: int = 480) -> av.AudioFrame:
    """Audio in which one channel is a tone at a quarter of full scale."""
    count = av.AudioLayout(layout).nb_channels
    wave = np.zeros((samples, count), np.int16)
    wave[:, channel] = 8192 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48000)
    frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), "s16", layout)
    frame.sample_rate = 48000
    return frame


@pytest.mark.parametrize("layout", ["hexadecagonal", "22.2", "9 channels"])
def test_every_channel_is_audible_in_a_mix(layout: str) -> None:
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
    assert downmixed(frame).to_ndarray().max() == 32767, "the mix wraps around or is too quiet"


def test_a_long_gap_becomes_silence_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of silence at once would take a gigabyte; none is made after the out point."""
    movie = make_clip(tmp_path / "clip.mkv", frames=50, audio=[Tone(codec="flac")])
    gapped = tmp_path / "gapped.mkv"
    with av.open(str(movie.path)) as source, av.open(str(gapped), "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == "audio" and packet.pts * packet.time_base > 1:
                    packet.pts = packet.dts = packet.pts + int(600 / packet.time_base)
                packet.stream = streams[packet.stream]
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
    """The duration of the first audio track in seconds."""
    return float(probe_stream(path, "audio")["duration"])


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
@pytest.mark.thinned(2)
def test_audio_is_trimmed_with_the_in_and_out_points(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    """At 29.97 fps no frame time is an integral sample or millisecond."""
    movie = make_clip(
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
        full = decode_sound(movie.path)
        first = round(float(clip.origin) / SAMPLE)
        cut = decode_sound(out)
        assert abs(len(cut) - round(float(written.seconds) / SAMPLE)) <= 1
        assert np.array_equal(cut, full[first : first + len(cut)])


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
def test_audio_and_video_are_interleaved(ends: Fraction | None, tmp_path: Path) -> None:
    """A player never has to seek far: no second of one without the other, even if a track
    ends early."""
    tones = [Tone()] if ends is None else [Tone(), Tone(codec="pcm_s16le")]
    movie = make_clip(tmp_path / "clip.mov", frames=100, audio=tones, size=(160, 90))
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
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            late = packet.size and packet.pts * packet.time_base > seconds
            if packet.size and not (late and packet.stream.index == stream):
                packet.stream = streams[packet.stream]
                target.mux(packet)
    return path


def test_a_gap_in_the_timestamps_becomes_silence(tmp_path: Path) -> None:
    """The beep after the gap stays in sync."""
    tone = Tone(codec="flac")
    movie = make_clip(tmp_path / "complete.mkv", frames=75, audio=[tone], flash=60)
    gapped = tmp_path / "gapped.mkv"
    run_tool("ffmpeg", "-v", "error", "-i", movie.path, "-c:v", "copy", "-c:a", "flac",
             "-af", "aselect='not(between(t,1,2))'", gapped)  # fmt: skip
    for suffix in (".mov", ".webm", ".mkv"):
        write_clip(gapped, out := tmp_path / f"out{suffix}")
        assert abs(beep_time(out) - float(frame_times(out)[60])) <= ATTACK
        quiet = decode_sound(out)[round(1.2 / SAMPLE) : round(1.8 / SAMPLE)]
        assert np.abs(quiet).max() < 0.01


def test_mp3_is_copied_by_codec_not_decoder_name(tmp_path: Path) -> None:
    movie = make_clip(tmp_path / "clip.mp4", frames=40, audio=[Tone(codec="libmp3lame")], flash=20)
    _, written = write_clip(movie, out := tmp_path / "out.mov")
    assert written.sound == ("mp3 (copied)",)
    assert abs(delay(movie, out)) <= ATTACK


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_a_transport_stream_keeps_sync(suffix: str, tmp_path: Path) -> None:
    """Its clock starts at 1.4 s, counts 90 kHz, and its AAC carries ADTS headers."""
    movie = make_clip(tmp_path / "clip.mp4", frames=60, audio=[Tone()], flash=40)
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
def test_a_broken_audio_packet_becomes_silence_with_a_note(
    codec: str,
    container: str,
    begin: int,
    suffix: str,
    fault: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decoders report damage with several kinds of errors."""
    movie = make_clip(tmp_path / f"clip{container}", frames=75, audio=[Tone(codec=codec)], flash=60)
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
    drop_streams_on_close(monkeypatch)
    _, written = write_clip(broken, out := tmp_path / f"out{suffix}")
    pattern = re.compile(r"sound track 1: \d damaged packets became silence")
    assert any(pattern.fullmatch(note) for note in written.notes)
    assert abs(beep_time(out) - float(frame_times(out)[60])) <= ATTACK


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize("number", [0, 20])
def test_copied_audio_without_its_header_becomes_silence(
    number: int, suffix: str, tmp_path: Path
) -> None:
    """Packets that no container accepts are dropped, even the first; the rest stays in sync."""
    movie = make_clip(tmp_path / "clip.mp4", frames=75, audio=[Tone()], flash=60)
    stream = tmp_path / "clip.ts"
    run_tool("ffmpeg", "-v", "error", "-i", movie.path, "-c", "copy", stream)
    with av.open(str(stream)) as opened:
        packet = [packet for packet in opened.demux(audio=0) if packet.size][number]
    broken = tmp_path / "broken.ts"
    broken.write_bytes(stream.read_bytes().replace(bytes(packet)[:12], b"\x5a" * 12, 1))
    _, written = write_clip(broken, out := tmp_path / f"out{suffix}")
    assert written.sound == ("aac (copied)",)
    pattern = re.compile(r"sound track 1: \d damaged packets became silence")
    assert any(pattern.fullmatch(note) for note in written.notes), written.notes
    write_clip(stream, full := tmp_path / f"full{suffix}")
    expected, found = audio_packets(full), audio_packets(out)
    if number:
        assert set(found) < set(expected)
        assert len(expected) - len(found) <= 2
    else:  # FFmpeg takes all audio up to the next timestamp for one packet
        assert {data for _, data in found} < {data for _, data in expected}
        assert len(expected) - len(found) <= 30


@pytest.mark.parametrize(
    ("suffix", "audio"), [(".mov", True), (".mkv", True), (".webm", True), (".mov", False)]
)
def test_an_empty_audio_track_is_left_out_and_named(
    suffix: str, audio: bool, tmp_path: Path
) -> None:
    """A transport stream declares tracks; an empty one has no rate and no channels."""
    stream = without_sound_data(make_movie(tmp_path / "clip.mp4", frames=20, audio=[Tone()]))
    with open_reader(stream, Settings(audio=audio)) as source:
        assert source.clip.audio == ()
        left_out = "sound track 1 (aac, 0 Hz, 0 channels) has no sound and is left out"
        assert source.warnings == ([f"clip.ts: {left_out}"] if audio else [])
    _, written = write_clip(stream, out := tmp_path / f"out{suffix}", audio=audio)
    assert (written.frames, written.sound) == (20, ())
    assert [s["codec_type"] for s in probe(out)["streams"]] == ["video"]


class ClosedInput:
    """An input whose streams are gone once it is closed, because FFmpeg frees them."""

    def __init__(self, sound: AudioWriter) -> None:
        self._sound, self._input = sound, sound._input

    def close(self) -> None:
        self._input.close()
        for track in self._sound._tracks.values():
            track._source = None


def drop_streams_on_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make access to the source's streams after close fail instead of reading freed memory."""
    original = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        original(self, *arguments)
        self._input = ClosedInput(self)

    monkeypatch.setattr(AudioWriter, "__init__", prepared)


def remove_timestamps(numbers: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the timestamps of some of the source's audio packets."""
    original = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        original(self, *arguments)
        self._packets = without_timestamps(self._packets)

    def without_timestamps(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
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
@pytest.mark.thinned(3)
def test_packets_without_timestamps_follow_the_previous_one(
    codec: str, container: str, numbers: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of their samples is lost or moved, whether copied or decoded."""
    clip = tmp_path / f"clip{container}"
    movie = make_clip(clip, frames=50, audio=[Tone(codec=codec)], flash=30)
    write_clip(movie, timed := tmp_path / "timed.mov")
    remove_timestamps(numbers, monkeypatch)
    write_clip(movie, out := tmp_path / "out.mov")
    assert np.array_equal(decode_sound(out), decode_sound(timed))
    assert abs(delay(movie, out)) <= ATTACK


def test_packets_without_timestamps_do_not_move_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AAC starts before its stream's start, so its first packets are placed too late here."""
    movie = make_clip(tmp_path / "clip.mp4", frames=50, audio=[Tone()], flash=30)
    write_clip(movie, timed := tmp_path / "timed.mov")
    remove_timestamps(range(10), monkeypatch)
    write_clip(movie, out := tmp_path / "out.mov")
    found, expected = audio_packets(out), audio_packets(timed)
    assert [data for _, data in found] == [data for _, data in expected]
    # The first packet with a timestamp overlaps the last one without, so it starts a sample later.
    later = [time - was for (time, _), (was, _) in zip(found[10:], expected[10:], strict=True)]
    assert max(map(abs, later)) <= Fraction(1, 48000)


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """The packets of the first audio track: time in seconds, and data."""
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size
        ]


class FailingInput:
    """A file's audio packets, then one of FFmpeg's errors."""

    def __init__(self, packets: Iterator[av.Packet], fault: Exception) -> None:
        self._packets, self._fault = islice(packets, 30), fault

    def __next__(self) -> av.Packet:
        packet = next(self._packets, None)
        if packet is None:
            raise self._fault
        return packet


def fail_after_thirty_packets(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the source's audio unreadable after 30 packets."""
    original = AudioWriter.__init__

    def prepared(self: AudioWriter, *arguments: Any) -> None:
        original(self, *arguments)
        self._packets = FailingInput(self._packets, fault)

    monkeypatch.setattr(AudioWriter, "__init__", prepared)


def test_audio_that_becomes_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage ends the audio with a note; an I/O error ends the run."""
    movie = make_clip(tmp_path / "clip.mov", frames=50, audio=[Tone()])
    with monkeypatch.context() as patched:
        fail_after_thirty_packets(av.error.ArgumentError(errno.EINVAL, "damage"), patched)
        _, written = write_clip(movie, tmp_path / "out.mov")
    assert any("the sound ends at 0.6" in note for note in written.notes), written.notes
    fail_after_thirty_packets(av.error.OSError(errno.EIO, "no answer"), monkeypatch)
    with pytest.raises(SourceError, match=r"clip\.mov: reading its sound failed \(no answer\)"):
        write_clip(movie, tmp_path / "again.mov")

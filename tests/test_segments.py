"""Segments of a clip, made separately, spooled and joined, equal the result of one run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from kill_and_resume import CUT, FRAMES, differences, fingerprint, make_inputs, tiny_options

from vidmatte.api import matte
from vidmatte.core.segment import History, Segment
from vidmatte.errors import OutputError
from vidmatte.jobs.checkpoint.spool import _Checkpoint, open_checkpoint
from vidmatte.jobs.outputs import _make_outputs
from vidmatte.jobs.pipeline import build_pipeline
from vidmatte.jobs.segment import _LEAD, WARM_UP, Needs, plan_segment
from vidmatte.models.registry import find_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings, make_settings
from vidmatte.writers.encoded_frame import EncodedFrame, ImageFile
from vidmatte.writers.multi_writer import MultiWriter
from vidmatte.writers.spool import Spool, SpooledFrame, join

#: The first frames of three segments: within a batch, and shortly after the cut; in the second
#: tuple so long after it that a recurrent network can start there.
STARTS, AFTER_CUT = (0, 37, CUT + 2), (0, 37, CUT + WARM_UP + 5)
PLAIN = Needs(state_count=0, batch_stride=1, look_back=4, look_ahead=3)


class Received(Spool):
    """A spool whose records arrived as bytes, as from another machine."""

    is_complete = True

    def __init__(self, records: Sequence[SpooledFrame], folder: Path) -> None:
        self._records, self._folder = records, folder

    @property
    def first(self) -> int:
        return self._records[0].index

    @property
    def count(self) -> int:
        return len(self._records)

    def records(self) -> Iterator[SpooledFrame]:
        yield from self._records

    def folders(self, number: int) -> tuple[Path, ...]:
        folder = self._folder / str(number)
        folder.mkdir(exist_ok=True)
        return (folder,)

    def open(self, outputs: Any) -> None: ...
    def put(self, record: SpooledFrame) -> None: ...
    def finish(self) -> None: ...
    def seal(self, result: Any) -> None: ...
    def clear(self) -> None: ...
    def close(self) -> None: ...


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clip and the two networks."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


def make_segments(
    inputs: Path,
    folder: Path,
    name: str,
    settings: Settings,
    starts: Sequence[int],
    history: History,
) -> list[_Checkpoint]:
    """The segments from each start to the next, each with its own checkpoint folder."""
    spools = []
    for first, stop in zip(starts, [*starts[1:], None], strict=True):
        with open_reader(inputs / "clip.mov", settings) as source:
            clip = source.clip
            outputs = _make_outputs(folder / name, clip, settings)
            specs = [output.spec for output in outputs]
            spool = open_checkpoint(folder / f"part-{first}", clip, specs, {}, first)
            writer = MultiWriter(clip, settings, outputs, spool)
            model = find_model(settings, lambda _: None)
            pipeline = build_pipeline(
                source, model, settings, writer, first=first, stop=stop, history=history
            )
            written = [frame.index for frame in pipeline.pipeline]
            writer.finish_spool()
            pipeline.close()
        assert written == list(range(first, stop or FRAMES))
        spools.append(spool)
    return spools


def join_segments(inputs: Path, out: Path, settings: Settings, spools: Sequence[Spool]) -> None:
    """Join spools into a result."""
    with open_reader(inputs / "clip.mov", settings) as source:
        outputs = _make_outputs(out, source.clip, settings)
        for output in outputs:
            output.open()
        try:
            join(spools, outputs)
            for output in outputs:
                output.complete()
                output.partial.commit()
        finally:
            for output in outputs:
                output.discard()


@pytest.mark.parametrize(
    ("name", "network", "more"),
    [
        ("out.mov", "isnet", {"matte": "matte.mov"}),
        ("out.mov", "isnet", {"batch": 4}),
        ("out.mov", "isnet", {"pace": "auto"}),
        ("out.mov", "rvm", {}),
        ("frames", "isnet", {"matte": "mattes"}),
        ("out.mkv", "isnet", {"refine": "best"}),
        ("out.webm", "isnet", {}),
    ],
)
@pytest.mark.thinned(5)
def test_joined_segments_equal_the_result_of_one_run(
    name: str, network: str, more: dict[str, Any], inputs: Path, tmp_path: Path
) -> None:
    results = []
    for folder in (tmp_path / "once", tmp_path / "parts"):
        folder.mkdir()
        named = {**more, "matte": str(folder / more["matte"])} if "matte" in more else more
        chosen = tiny_options(inputs, network, **named)
        if folder.name == "once":
            matte(inputs / "clip.mov", folder / name, **chosen, manifest=False)
        else:
            starts, history = STARTS, History()
            if (
                network == "rvm"
            ):  # the second segment starts reading at the clip's start, the third at the cut
                starts, history = AFTER_CUT, History(shots={CUT: True})
            spools = make_segments(inputs, folder, name, make_settings(**chosen), starts, history)
            join_segments(inputs, folder / name, make_settings(**chosen), spools)
        results.append(folder)
    for made in {name, more.get("matte", name)}:
        once, parts = (folder / made for folder in results)
        assert list(differences(fingerprint(once), fingerprint(parts))) == []
        if once.suffix == ".mov":
            assert once.read_bytes() == parts.read_bytes()


def test_a_recurrent_segment_starts_from_a_stored_state(inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**tiny_options(inputs, "rvm"))
    make_segments(inputs, tmp_path, "full.mov", settings, (0,), History())
    again = open_again(inputs, tmp_path / "part-0", settings)
    history = again.history()
    assert sorted(history.states) == [0, 32, 64]
    segment, begin = plan_segment(50, 60, Needs(1, 1, 0, 0), history)
    assert (segment.start, begin.state is None) == (32, False)
    (tmp_path / "parts").mkdir()
    spools = make_segments(inputs, tmp_path / "parts", "out.mov", settings, (0, 50), history)
    again.close()
    join_segments(inputs, tmp_path / "out.mov", settings, spools)
    matte(inputs / "clip.mov", tmp_path / "once.mov", **tiny_options(inputs, "rvm"), manifest=False)
    assert (tmp_path / "out.mov").read_bytes() == (tmp_path / "once.mov").read_bytes()


def open_again(inputs: Path, path: Path, settings: Settings) -> _Checkpoint:
    """A spool whose writer has finished."""
    with open_reader(inputs / "clip.mov", settings) as source:
        outputs = _make_outputs(path.parent / "full.mov", source.clip, settings)
        spool = open_checkpoint(path, source.clip, [output.spec for output in outputs], {})
        spool.open(outputs)
    return spool


@pytest.mark.parametrize("name", ["out.mov", "frames", "out.webm"])
@pytest.mark.thinned(3)
def test_segments_can_be_sent_as_bytes(name: str, inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**tiny_options(inputs, "isnet"))
    (spool,) = make_segments(inputs, tmp_path, name, settings, (0,), History())
    folders = spool.folders(0)
    records = list(spool.records())
    for record in records:
        encoded = EncodedFrame.from_bytes(record.encoded[0], folders)
        record.encoded = [encoded.to_bytes()]
    shutil.rmtree(tmp_path / "part-0")
    join_segments(inputs, tmp_path / name, settings, [Received(records, tmp_path)])
    (tmp_path / "once").mkdir()
    matte(inputs / "clip.mov", tmp_path / "once" / name, **tiny_options(inputs, "isnet"))
    expected, found = fingerprint(tmp_path / "once" / name), fingerprint(tmp_path / name)
    assert list(differences(expected, found)) == []


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((0, 2), "frame 37 is missing"),
        ((0, 1, 1, 2), "frame 37 is repeated"),
        ((1, 2), "frame 0 is missing"),
    ],
)
def test_a_missing_or_repeated_segment_is_refused(
    order: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    class Output:
        """An output that accepts every frame."""

        spec = type("Spec", (), {"out": tmp_path / "out.mov"})

        def add(self, encoded: EncodedFrame, time: Any) -> None:
            assert bytes(encoded.payload) == b"frame"

    ends = [*STARTS[1:], FRAMES]
    data = EncodedFrame(av.Packet(b"frame")).to_bytes()
    parts = [
        Received([SpooledFrame(i, i, 1, 1, [data]) for i in range(first, end)], tmp_path)
        for first, end in zip(STARTS, ends, strict=True)
    ]
    join(parts, [Output()])
    with pytest.raises(OutputError, match=message):
        join([parts[number] for number in order], [Output()])


def test_an_incomplete_segment_is_refused(inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**tiny_options(inputs, "isnet"))
    (spool,) = make_segments(inputs, tmp_path, "out.mov", settings, (0,), History())
    incomplete = Received(list(spool.records())[:37], tmp_path)
    incomplete.is_complete = False
    with pytest.raises(OutputError, match="frame 37 is missing"):
        join_segments(inputs, tmp_path / "out.mov", settings, [incomplete])
    assert not (tmp_path / "out.mov").exists()


def test_an_encoded_frame_survives_serialisation(tmp_path: Path) -> None:
    packet = av.Packet(b"12345")
    packet.is_keyframe = True
    found = EncodedFrame.from_bytes(EncodedFrame(packet).to_bytes()).payload
    assert (bytes(found), found.is_keyframe) == (b"12345", True)
    samples = np.random.default_rng(3).integers(0, 255, (32, 48, 4), np.uint8)
    picture = av.VideoFrame.from_ndarray(samples, "rgba")
    picture.pts, picture.time_base, picture.color_trc = 7, Fraction(1, 25), 13
    found = EncodedFrame.from_bytes(EncodedFrame(picture).to_bytes()).payload
    assert (found.pts, found.color_trc, found.format.name) == (7, 13, "rgba")
    assert (found.to_ndarray() == samples).all()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "a.png").write_bytes(b"png")
    file = EncodedFrame(ImageFile(tmp_path / "here", "a.png", 3))
    there = EncodedFrame.from_bytes(file.to_bytes(), [tmp_path / "there"]).payload
    assert there == ImageFile(tmp_path / "there", "a.png", 3)
    assert there.path.read_bytes() == b"png"
    stored = file.to_bytes(inline=False)
    assert EncodedFrame.from_bytes(stored, [tmp_path, tmp_path / "here"]) == file


@pytest.mark.parametrize(
    "numbers", [(-1, 0, 0, None), (2, 1, 3, None), (0, 4, 3, None), (0, 0, 3, 3), (0, 0, 0, 0)]
)
def test_a_segment_checks_its_numbers(numbers: tuple[int, int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Segment(*numbers)


def test_where_a_segment_starts() -> None:
    segment, begin = plan_segment(100, 200, PLAIN, History())
    assert (_LEAD, WARM_UP) == (24, 10)
    assert segment == Segment(62, 86, 100, 200)
    assert begin.pts is None
    assert PLAIN.read_stop(segment) == 203
    batched = Needs(state_count=0, batch_stride=8, look_back=4, look_ahead=3)
    segment, begin = plan_segment(100, 200, batched, History(times={56: 5600}))
    assert segment == Segment(56, 80, 100, 200)
    assert begin.pts == 5600
    assert batched.read_stop(segment) == 208
    recurrent = Needs(state_count=1, batch_stride=1, look_back=0, look_ahead=0)
    assert plan_segment(100, None, recurrent, History())[0] == Segment(0, 0, 100)
    assert plan_segment(100, None, recurrent, History(shots={70: True, 95: True}))[0].start == 70
    states = {64: lambda: {"r1i": np.ones(1)}, 96: lambda: {}}
    segment, begin = plan_segment(100, None, recurrent, History(states=states))
    assert segment.start == 64
    assert begin.state == {"r1i": np.ones(1)}

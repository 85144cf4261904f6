"""Plan, segment and join, and local workers: the result of one run, or a refusal that says why."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kill_and_resume import CUT, FRAMES, differences, fingerprint, make_inputs, tiny_options

from vidmatte.api import matte
from vidmatte.cli.main import main
from vidmatte.core import concurrency
from vidmatte.core.frame import Clip
from vidmatte.core.segment import Segment
from vidmatte.errors import OutputError, OutputExistsError, SourceError, UsageError
from vidmatte.farm import environment, worker
from vidmatte.farm import pool as pool_module
from vidmatte.farm.environment import environment_of
from vidmatte.farm.join import join_segments
from vidmatte.farm.parts import MANIFEST, _segment_path, finished_segment
from vidmatte.farm.plan import FileIdentity, Plan, segments_folder
from vidmatte.farm.planning import _starts, _starts_at_cuts, local_segment_frames, make_plan
from vidmatte.farm.pool import Crew, Events, LocalWorker, Task, Worker, WorkerPool
from vidmatte.farm.worker import make_segment
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.checkpoint import frame_log
from vidmatte.jobs.checkpoint.folder import LOG
from vidmatte.jobs.manifest import verify
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.segment import Needs
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.registry import find_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings

NEEDS = Needs(state_count=0, batch_stride=1, look_back=4, look_ahead=3)


@dataclass
class Farm:
    """A plan in three segments of the clip with a cut, and what is done with it."""

    plan: Plan
    folder: Path

    def make(self, number: int, **options: Any) -> None:
        make_segment(self.plan, self.folder, number, Reporter(), **options)

    def make_all(self) -> None:
        model = find_model(self.plan.make_settings(), lambda _: None)
        for segment in self.plan.segments:
            self.make(segment.number, model=model)

    def join(self) -> Result:
        return join_segments(self.plan, self.folder, Reporter())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clip and the two networks."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


def clip_of(job: Job) -> Clip:
    with open_reader(job.source, job.settings) as source:
        return source.clip


def planned(inputs: Path, out: Path, network: str = "isnet", frames: int = 40, **more: Any) -> Farm:
    """A plan of the clip, read back from its file."""
    settings = make_settings(**tiny_options(inputs, network, **more))
    model = find_model(settings, lambda _: None)
    job = make_job(inputs / "clip.mov", out, settings)
    path = out.with_name("plan.json")
    make_plan(job, clip_of(job), model, Reporter(), segment_frames=frames).write(path)
    return Farm(Plan.read(path, "plan"), segments_folder(path))


@pytest.fixture(scope="module")
def short(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Farm:
    """All segments of a short plan, finished; copied by ``finished``."""
    farm = planned(
        inputs, tmp_path_factory.mktemp("short") / "frames", frames=8, out_point="f24", smooth="off"
    )
    farm.make_all()
    return farm


@pytest.fixture
def finished(short: Farm, tmp_path: Path) -> Farm:
    """A copy of the finished segments, whose result goes to this test's folder."""
    output = str(tmp_path / "frames")
    folder = tmp_path / "plan.segments"
    shutil.copytree(short.folder, folder)
    plan = short.plan.model_copy(update={"output": output})
    vars(plan).pop("digest", None)
    for number in range(len(plan.segments)):
        path = _segment_path(folder, number) / MANIFEST
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "plan": plan.digest}))
    return Farm(plan, folder)


@pytest.mark.parametrize(
    ("name", "network", "more"),
    [
        ("out.mov", "isnet", {"matte": "matte.mov"}),
        ("out.mkv", "isnet", {"comp": "comp.mp4", "in_point": "f13"}),
        ("frames", "isnet", {"matte": "mattes", "out_point": "f75"}),
        ("out.webm", "isnet", {"out_point": "f75"}),
        ("out.mov", "rvm", {}),
        ("out.mkv", "rvm", {"smooth": "on"}),
    ],
)
@pytest.mark.thinned(5)
def test_the_result_is_that_of_one_run(
    name: str, network: str, more: dict[str, Any], inputs: Path, tmp_path: Path
) -> None:
    folders = tmp_path / "once", tmp_path / "farm"
    extra = {key: more[key] for key in ("matte", "comp") if key in more}
    for folder in folders:
        folder.mkdir()
        named = {**more, **{key: str(folder / value) for key, value in extra.items()}}
        if folder.name == "once":
            matte(inputs / "clip.mov", folder / name, **tiny_options(inputs, network, **named))
            continue
        farm = planned(inputs, folder / name, network, **named)
        assert len(farm.plan.segments) >= 2
        assert CUT - 13 * ("in_point" in more) in (farm.plan.shots or ())
        farm.make_all()
        result = farm.join()
        assert result.written.frames == farm.plan.frames
        assert verify(folder / name) == []
    for made in (name, *extra.values()):
        once, joined = (folder / made for folder in folders)
        assert list(differences(fingerprint(once), fingerprint(joined))) == []
        if once.suffix == ".mov":
            assert once.read_bytes() == joined.read_bytes()
    facts = [json.loads((folder / f"{name}.json").read_text()) for folder in folders]
    assert facts[0]["warnings"] == facts[1]["warnings"]
    assert facts[0]["model"] == facts[1]["model"]


def test_a_recurrent_segment_begins_at_its_cut(inputs: Path, tmp_path: Path) -> None:
    second = planned(inputs, tmp_path / "out.mov", "rvm").plan.segments[1]
    assert second.range == Segment(CUT - 24, CUT, CUT, FRAMES)


def test_commands(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(inputs / "isnet.onnx"), "--family", "isnet", "--out", "f12"]
    clip, plan = str(inputs / "clip.mov"), str(tmp_path / "out.mov.plan.json")
    assert (
        main(["plan", clip, "-o", str(tmp_path / "out.mov"), "--segment-frames", "6", *words]) == 0
    )
    stdout, stderr = capsys.readouterr()
    assert (stdout, "12 frames, 1 shot, 2 segments: 0 to 1" in stderr) == ("2\n", True)
    assert main(["plan", clip, "-o", str(tmp_path / "out.mov"), *words]) == 1
    assert "exists: --overwrite replaces it" in capsys.readouterr().err
    assert main(["segment", plan, "0"]) == 0
    assert main(["join", plan]) == 1
    assert "1 of 2 segments are not finished (1)" in capsys.readouterr().err
    assert main(["segment", plan, "2"]) == 2
    assert "segment 2: the plan has 0 to 1" in capsys.readouterr().err
    assert main(["segment", plan, "1", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (events[-1]["event"], events[-1]["status"]) == ("summary", 0)
    done = next(event for event in events if event["event"] == "done")
    assert (done["segment"], done["first"], done["frames"]) == (1, 6, 6)
    assert main(["join", plan, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    done = next(event for event in events if event["event"] == "done")
    assert (done["frames"], len(done["weights"][0]["sha256"])) == (12, 64)
    assert main(["join", plan]) == 0
    assert "already joined" in capsys.readouterr().err
    assert (tmp_path / "out.mov").is_file()
    assert main(["segment", str(tmp_path / "none.json"), "0"]) == 1
    assert "no such plan" in capsys.readouterr().err


def test_a_segment_that_is_made_twice_does_no_harm(
    finished: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _segment_path(finished.folder, 1)
    before = (path / MANIFEST).read_bytes()
    finished.make(1)  # finished already: nothing is done
    # Another process, which had begun before this one was finished.
    monkeypatch.setattr(worker, "finished_segment", lambda *_: None)
    finished.make(1)
    assert (path / MANIFEST).read_bytes() == before
    assert [one.name for one in finished.folder.iterdir() if one.name.startswith(".")] == []
    # What an interrupted copy has left there is replaced.
    (path / MANIFEST).write_text("{")
    finished.make(1)
    assert finished_segment(finished.plan, finished.folder, 1) is not None
    assert finished.join().written.frames == 24


def test_the_join_can_be_repeated(finished: Farm, tmp_path: Path) -> None:
    first = finished.join()
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    shutil.rmtree(tmp_path / "frames")
    assert finished.join().written == first.written
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == names
    assert len(names) == 24


def test_a_run_killed_before_its_manifest_goes_on(finished: Farm, tmp_path: Path) -> None:
    work = tmp_path / ".frames.segments"
    work.mkdir()
    folder = finished.folder.rename(work / "plan.segments")
    settings = finished.plan.make_settings().changed(resume=True)
    job = make_job(finished.plan.source.path, tmp_path / "frames", settings)
    join_segments(finished.plan, folder, Reporter(), job=job, work=work)
    (tmp_path / "frames.json").unlink()
    with open_reader(job.source, settings) as source:
        check_job(job, source)
        with pytest.raises(OutputExistsError):
            check_job(make_job(job.source, job.output, settings.changed(resume=False)), source)
    join_segments(finished.plan, folder, Reporter(), job=job, work=work)
    assert verify(tmp_path / "frames") == []


def spoil_log(farm: Farm) -> None:
    path = _segment_path(farm.folder, 1) / LOG
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def spoil_picture(farm: Farm) -> None:
    path = _segment_path(farm.folder, 1) / "pictures-0" / "000012.png"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def spoil_count(farm: Farm) -> None:
    path = _segment_path(farm.folder, 1) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "frames": 7}))


def other_plan(farm: Farm) -> None:
    path = _segment_path(farm.folder, 1) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "plan": "0" * 64}))


def swap(farm: Farm) -> None:
    one, two = (_segment_path(farm.folder, number) for number in (1, 2))
    one.rename(farm.folder / "aside")
    two.rename(one)
    (farm.folder / "aside").rename(two)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_log, r"00001 is damaged \(frames.log\): remove it and run segment 1 again"),
        (spoil_picture, r"00001 is damaged \(pictures-0/000012.png\)"),
        (spoil_count, r"7 frames from 8 on, planned 8 to 15"),
        (other_plan, r"1 of 3 segments are not finished \(1\)"),
        (swap, r"2 of 3 segments are not finished \(1, 2\)"),
    ],
)
def test_a_join_refuses_what_is_not_the_plans(
    spoil: Callable[[Farm], None], message: str, finished: Farm, tmp_path: Path
) -> None:
    spoil(finished)
    with pytest.raises(OutputError, match=message):
        finished.join()
    assert not (tmp_path / "frames").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_existing_result_is_not_replaced(finished: Farm, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.png").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        finished.join()


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"version": "9.9"}, "vidmatte 9.9, 0"),
        ({"runtimes": ("OpenVINO, float8",)}, "runtime OpenVINO, float8, .* in the plan"),
        ({"device": "Some GPU"}, "device Some GPU, cpu in the plan"),
        ({"libraries": {}}, "av none, .* in the plan"),
        ({"instruction_set": ("x", "avx9")}, "instruction set without .* and with avx9 x"),
    ],
)
def test_a_machine_that_differs_is_refused(
    change: dict[str, Any], clause: str, short: Farm, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        worker, "environment_of", lambda model: environment_of(model).model_copy(update=change)
    )
    farm = Farm(short.plan, tmp_path)
    with pytest.raises(
        UsageError, match=rf"\(.+\) differs from the plan's: .*{clause}.*segment --mixed"
    ):
        farm.make(0)
    assert list(tmp_path.glob("0*")) == []


def test_mixed_machines_are_named_in_the_result(finished: Farm, monkeypatch: Any) -> None:
    shutil.rmtree(_segment_path(finished.folder, 2))
    monkeypatch.setattr(
        worker,
        "environment_of",
        lambda model: environment_of(model).model_copy(update={"version": "9"}),
    )
    finished.make(2, mixed=True)
    warnings = finished.join().warnings
    assert any(
        "segment 2 was made on a machine" in line and "vidmatte 9" in line for line in warnings
    )


def test_the_path_of_a_mask_becomes_absolute(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((96, 128), np.uint8)
    mask[20:70, 20:70] = 255
    cv2.imwrite("mask.png", mask)
    plan = planned(inputs, tmp_path / "out.mov", subject=("!actor:mask.png@f2", "640,300")).plan
    assert plan.settings["subject"] == [f"!actor:{tmp_path / 'mask.png'}@f2", "640,300"]
    assert [Path(file.path) for file in plan.files] == [tmp_path / "mask.png"]


def test_other_weights_and_sources_are_refused(inputs: Path, tmp_path: Path) -> None:
    for name in ("clip.mov", "isnet.onnx"):
        shutil.copyfile(inputs / name, tmp_path / name)
    farm = planned(tmp_path, tmp_path / "out.mov", frames=8, out_point="f16")
    os.utime(tmp_path / "clip.mov", ns=(0, 0))  # as that of a copy: the content is compared
    farm.make(0)
    (tmp_path / "isnet.onnx").write_bytes((inputs / "isnet.onnx").read_bytes() + b"\x52\x00")
    with pytest.raises(UsageError, match="other weights here"):
        farm.make(1)
    data = (tmp_path / "clip.mov").read_bytes()
    (tmp_path / "clip.mov").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SourceError, match="has changed since the plan was made"):
        farm.make(1)
    (tmp_path / "clip.mov").unlink()
    with pytest.raises(SourceError, match="no such file or folder here"):
        farm.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "source: Field required"),
        ("[", "not a plan"),
        ('{"plan": 2}', "not a plan of this version"),
    ],
)
def test_a_damaged_plan_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        Plan.read(path, "plan")


def test_where_a_clip_is_cut() -> None:
    assert _starts(1000, [0], NEEDS, 250) == [0, 250, 500, 750]
    assert _starts(1000, [0, 260, 620], NEEDS, 250) == [0, 260, 500, 750]
    batched = Needs(state_count=0, batch_stride=8, look_back=4, look_ahead=3)
    assert _starts(1000, [0, 250], batched, 250) == [0, 248, 496, 744]
    assert _starts(3, [0], NEEDS, 1) == [0, 1, 2]
    assert _starts_at_cuts(1000, [0, 100, 260, 620, 990], NEEDS, 250) == [0, 260, 620]
    assert local_segment_frames(110, NEEDS, 2) > 110  # not worth the leads
    assert local_segment_frames(2000, NEEDS, 2) == 1000
    assert local_segment_frames(8000, NEEDS, 2) == 1334


def test_the_instruction_set_is_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment._instruction_set()[0]
    monkeypatch.setattr(concurrency, "_CPU_INFO", tmp_path / "cpuinfo")
    assert len(environment._instruction_set()) > 1
    (tmp_path / "cpuinfo").write_text("model name\t: a\nflags\t\t: fpu avx2 amx_bf16 vme fma\n")
    assert environment._instruction_set()[1:] == ("amx_bf16", "avx2", "fma")


def test_the_identity_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_bytes(b"one")
    found = FileIdentity.of(tmp_path / "masks")
    found.check()
    (tmp_path / "masks" / "1.png").write_bytes(b"two")
    with pytest.raises(SourceError, match="has changed since the plan was made"):
        found.check()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retries", "1"], "--retries: it needs --workers of 2 or more"),
        (["--segment-frames", "9"], "--segment-frames: it needs --workers of 2 or more"),
        (["--workers", "2", "--each"], "--each and --workers exclude each other"),
        (["--workers", "2", "--exr-layers"], "--exr-layers and --workers exclude each other"),
    ],
)
def test_options_without_effect_are_refused(
    words: list[str], message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(inputs / "clip.mov"), "-o", str(tmp_path / "out.mov"), *words]) == 2
    assert message in capsys.readouterr().err


def cli(inputs: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    """The command line in a process, with the tiny network."""
    model = ["--model", str(inputs / "isnet.onnx"), "--family", "isnet"]
    command = [sys.executable, "-m", "vidmatte", str(inputs / "clip.mov"), *model, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **more})


def test_local_workers_give_the_file_of_one_run(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    words = ["-o", str(out), "--workers", "2", "--segment-frames", "30", "--json"]
    with cli(inputs, *words) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    events = [json.loads(line) for line in stdout.splitlines()]
    made = [event for event in events if event["event"] == "segment"]
    assert sorted((one["segment"], one["frames"]) for one in made) == [(0, 30), (1, 30), (2, 30)]
    assert events[-1]["done"] == [str(inputs / "clip.mov")]
    matte(inputs / "clip.mov", tmp_path / "once.mov", **tiny_options(inputs, "isnet"))
    assert out.read_bytes() == (tmp_path / "once.mov").read_bytes()
    assert verify(out) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["cwd"]


def test_a_full_disk_leaves_nothing_behind(
    short: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(frame_log, "_write_all", full)
    with pytest.raises(OutputError, match="the disk is full"):
        Farm(short.plan, tmp_path / "segments").make(0)
    assert list((tmp_path / "segments").iterdir()) == []


def test_a_failed_segment_is_tried_again_and_then_reported(
    short: Farm, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    (tmp_path / "plan.segments").write_text("where the segments should go")
    short.plan.write(tmp_path / "plan.json")
    (tmp_path / "other.json").write_text("{}")
    pool = WorkerPool(Crew(1, 1, LocalWorker), 1, lines.append)
    for name, frames in (("plan.json", 8), ("other.json", 4)):
        pool.add(Task(name, tmp_path / name, 0, frames))
    try:
        steps = [step for step in pool.run() if step.error is not None]
    finally:
        pool.close()
    assert [step.task.owner for step in steps] == ["plan.json", "other.json"]
    assert ["trying again (1 of 1)" in line for line in lines] == [True]
    assert [type(step.error) for step in steps] == [OutputError, SourceError]
    assert [step.task.tries for step in steps] == [2, 1]  # a damaged plan is never tried again
    assert capfd.readouterr().err == ""


class Machine(Worker):
    """A worker on a machine of its own, which makes segments at once, or cannot."""

    def __init__(
        self, events: Events, place: str, *, works: bool = True, is_unfit: bool = False
    ) -> None:
        self._events, self.place, self._works = events, place, works and not is_unfit
        self.process, self._is_unfit = place, is_unfit

    def begin(self, task: Task) -> None:
        kind = "done" if self._works else "failed"
        facts = {"frames": task.frames, "seconds": 0.0, "error": "OutputError", "message": "full"}
        if self._is_unfit:
            facts |= {"error": "SourceError", "message": "no such file", "is_final": True}
        self._events.put((self, self.process, {"event": kind, **facts}))

    def ending(self) -> str:
        return "gone"

    def ask_to_stop(self) -> None: ...

    def stop(self) -> None: ...

    def renew(self) -> None: ...


def test_a_machine_that_cannot_costs_no_job() -> None:
    machines = iter([("a", False), ("a", False), ("b", True)])

    def new(events: Events) -> Machine:
        place, works = next(machines)
        return Machine(events, place, works=works)

    notes: list[str] = []
    pool = WorkerPool(Crew(3, 1, new, is_remote=True), 1, notes.append)
    for number in range(12):
        pool.add(Task("", Path("plan.json"), number, 8))
    steps = list(pool.run())
    assert [step.error for step in steps if step.error] == []
    assert sum(step.is_done for step in steps) == 12
    # Only such machines: it ends.
    pool = WorkerPool(Crew(2, 1, lambda events: Machine(events, "a", works=False)), 1, notes.append)
    pool.add(Task("", Path("plan.json"), 0, 8))
    assert [str(step.error) for step in pool.run() if step.error] == ["segment 0: full"]


def test_a_machine_that_lacks_something_costs_no_job() -> None:
    """Another version, no credentials, no mount: the job goes on without it, and says so once."""
    machines = iter(["a", "b", "b", "c"])

    def new(events: Events) -> Machine:
        place = next(machines)
        return Machine(events, place, is_unfit=place != "c")

    notes: list[str] = []
    pool = WorkerPool(Crew(4, 1, new, is_remote=True), 0, notes.append)
    for number in range(12):
        pool.add(Task("job", Path("plan.json"), number, 8))
    steps = list(pool.run())
    assert [step.error for step in steps if step.error] == []
    assert sorted(step.task.segment for step in steps if step.is_done) == list(range(12))
    assert 2 <= len(notes) <= 3  # both workers of a machine may have begun
    assert "no such file: that machine makes no other segment of this job" in notes[0]


@pytest.mark.parametrize("is_last_ready", [False, True])
def test_a_job_that_every_machine_lacks_something_for_fails(*, is_last_ready: bool) -> None:
    made: list[Machine] = []

    def new(events: Events) -> Machine:
        made.append(Machine(events, "ab"[len(made)], is_unfit=True))
        return made[-1]

    pool = WorkerPool(Crew(2, 1, new, is_remote=True), 2, lambda _: None)
    made[1].is_ready = is_last_ready
    for owner in "12":
        pool.add(Task(owner, Path("plan.json"), 0, 8))
    errors = []
    for step in pool.run():
        if step.error is not None:
            errors.append(f"{step.task.owner}: {type(step.error).__name__}: {step.error}")
            pool.drop(step.task.owner)
        elif not made[1].is_ready:  # it comes late
            made[1].is_ready = True
            pool._events.put((made[1], "b", {"event": "ready"}))
    assert sorted(errors) == [
        "1: SourceError: segment 0: no such file", "2: SourceError: segment 0: no such file"
    ]  # fmt: skip


def test_a_machine_that_leaves_only_unfit_ones_ends_the_job() -> None:
    made: list[Machine] = []

    def new(events: Events) -> Machine:
        made.append(Machine(events, "ab"[len(made)], is_unfit=not made))
        return made[-1]

    pool = WorkerPool(Crew(2, 1, new, is_remote=True), 2, lambda _: None)
    for number in range(3):
        pool.add(Task("job", Path("plan.json"), number, 8))
    errors = []
    for step in pool.run():
        if step.is_done:  # then its node is lost, and its worker starts again on the other one
            made[1].place, made[1]._works, made[1]._is_unfit = "a", False, True
        if step.error is not None:
            errors.append(str(step.error))
            pool.drop("job")
    assert len(errors) == 1
    assert "no such file" in errors[0]


def test_waiting_for_room_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_PATIENCE_SECONDS", 0.01)
    made: list[Machine] = []

    def new(events: Events) -> Machine:
        made.append(Machine(events, "a"))
        made[0].is_ready = False
        return made[0]

    notes: list[str] = []
    pool = WorkerPool(Crew(1, 1, new, is_remote=True), 1, notes.append)
    pool.add(Task("", Path("plan.json"), 0, 8))
    steps = pool.run()
    assert [next(steps).is_done for _ in range(3)] == [False] * 3
    made[0].is_ready = True
    pool._events.put((made[0], "a", {"event": "ready"}))
    assert [step.is_done for step in steps][-1]
    assert notes == ["no worker is ready: waiting for room on the cluster"]


def test_a_worker_that_dies_is_replaced(short: Farm, tmp_path: Path) -> None:
    short.plan.write(tmp_path / "plan.json")
    lines: list[str] = []
    pool = WorkerPool(Crew(1, 1, LocalWorker), 1, lines.append)
    pool.add(Task("", tmp_path / "plan.json", 0, 8))
    steps = pool.run()
    killed = threading.Thread(target=lambda: kill_when_started(pool))
    killed.start()
    try:
        done = [step for step in steps if step.is_done]
    finally:
        pool.close()
        killed.join()
    assert [step.task.tries for step in done] == [2]
    assert "its process was killed by signal 9: trying again (1 of 1)" in lines[0]
    assert finished_segment(short.plan, tmp_path / "plan.segments", 0) is not None


def kill_when_started(pool: WorkerPool) -> None:
    """Kill the pool's first process as soon as it is there."""
    (only,) = pool._workers
    wait_for(lambda: only.process is not None)
    assert only.process is not None
    only.process.kill()


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_resume_goes_on(inputs: Path, tmp_path: Path) -> None:
    work = tmp_path / ".out.mov.segments"
    words = [
        "-o",
        str(tmp_path / "out.mov"),
        "--workers",
        "2",
        "--segment-frames",
        "20",
        "--resume",
    ]
    with cli(inputs, *words) as process:
        wait_for(lambda: (work / "plan.segments" / "00000").is_dir() or any(
            (work / "plan.segments").glob("0*")
        ))  # fmt: skip
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "--resume continues with the segments that are done" in stderr
    assert not (tmp_path / "out.mov").exists()
    done = [path.name for path in (work / "plan.segments").glob("0*")]
    assert done
    assert not list((work / "plan.segments").glob(".*"))
    with cli(inputs, *words) as process:
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    matte(inputs / "clip.mov", tmp_path / "once.mov", **tiny_options(inputs, "isnet"))
    assert (tmp_path / "out.mov").read_bytes() == (tmp_path / "once.mov").read_bytes()
    assert not work.exists()


def wait_for(is_there: Callable[[], bool]) -> None:
    """Wait until something is there, at most a minute."""
    for _ in range(1200):
        if is_there():
            return
        time.sleep(0.05)
    raise AssertionError("nothing came")


EXAMPLES = Path(__file__).parent.parent / "examples"
#: Runs what it is asked to queue, at once.
SBATCH = """#!/bin/sh
for word; do case $word in --array=*) array=${word#--array=0-};; esac; wrap=$word; done
for number in $(seq 0 ${array:-0}); do SLURM_ARRAY_TASK_ID=$number sh -ec "$wrap" 1>&2; done
echo 7
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the PATH with ``vidmatte`` and a ``sbatch`` without a cluster."""
    folder = tmp_path / "bin"
    folder.mkdir()
    vidmatte = f'#!/bin/sh\nexec "{sys.executable}" -m vidmatte "$@"\n'
    for name, text in (("vidmatte", vidmatte), ("sbatch", SBATCH)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the script is for a POSIX shell")
def test_the_slurm_script(programs: Path, inputs: Path, tmp_path: Path) -> None:
    words = ["--model", inputs / "isnet.onnx", "--family", "isnet", "--segment-frames", "40"]
    out = tmp_path / "out.mov"
    command = ["sh", EXAMPLES / "farm_slurm.sh", inputs / "clip.mov", out, *words]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert verify(out) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openjd") is None, reason="openjd-cli is not installed")
def test_the_openjd_template(programs: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    planned(inputs, out, frames=40)
    words = [f"Plan={tmp_path / 'plan.json'}", "LastSegment=2"]
    command = ["openjd", "run", EXAMPLES / "farm_openjd.yaml", "-p", words[0], "-p", words[1]]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verify(out) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills_do_not_change_the_result() -> None:
    script = Path(__file__).with_name("kill_workers.py")
    done = subprocess.run([sys.executable, str(script), "30"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 kills, 0 with a different result" in done.stdout

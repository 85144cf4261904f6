"""Runs that were stopped go on where they were, and end as if they had never stopped."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from kill_and_resume import CASES, CUT, FRAMES, Trials, differences, fingerprint, make_inputs
from media import SOURCE_KINDS, Movie, make_movie, make_pictures
from scene import Picture, draw_ball
from tiny_onnx import make_salient

from vidmatte.alpha.temporal_filter import PER_FRAME, TemporalFilter
from vidmatte.alpha.track import LONGEST_LOOK_AHEAD, WINDOWS
from vidmatte.api import matte
from vidmatte.cli.main import main
from vidmatte.errors import InterruptedRunError, OutputError, OutputExistsError, UsageError
from vidmatte.jobs.checkpoint import frame_log as framelog
from vidmatte.jobs.checkpoint.compat import differences as differences_of
from vidmatte.jobs.checkpoint.frame_log import FrameLog, Summary
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import EXCLUDED_OPTIONS
from vidmatte.jobs.run import Result, run
from vidmatte.jobs.spec import READ_OPTIONS
from vidmatte.models.registry import find_model
from vidmatte.models.runtimes import openvino
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.base import Reader
from vidmatte.readers.movie.decode import PacketDecoder
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings
from vidmatte.writers.partial import Partial

#: First frames that are missing: around the warm-up, the kept states, the cut, the ends.
PLACES = (1, 15, 17, 33, 49, CUT - 1, CUT, CUT + 1, CUT + 3, FRAMES - 1, FRAMES)
WRITTEN = ("out.mov", "frames")
SEAMS = [("out.mov", "isnet", first) for first in PLACES]
SEAMS += [("out.mov", "rvm", first) for first in (1, 17, 33, CUT, CUT + 1, FRAMES - 1)]
SEAMS += [("frames", "rvm", first) for first in (15, 33, FRAMES)]


class StopAfter(Reporter):
    """Interrupts a run when it has done that many frames; keeps what it is told."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.notes: list[str] = []

    def advance(self, progress: Progress) -> None:
        if progress.done >= self.frames:
            raise KeyboardInterrupt

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clip and the two networks."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def peaceful(inputs: Path) -> Callable[[str, str], dict[str, str]]:
    """What a run without --resume writes, by the output's and the network's name."""
    made: dict[tuple[str, str], dict[str, str]] = {}

    def fingerprint_of(out: str, network: str) -> dict[str, str]:
        if (out, network) not in made:
            place = inputs / f"peaceful-{network}"
            place.mkdir(exist_ok=True)
            matte(inputs / "clip.mov", place / out, **options(inputs, network))
            made[out, network] = fingerprint(place / out)
        return made[out, network]

    return fingerprint_of


def options(inputs: Path, network: str = "isnet", **more: Any) -> dict[str, Any]:
    """The options of a run with a tiny network."""
    return {"model": str(inputs / f"{network}.onnx"), "family": network, "threads": 1, **more}


def stopped(inputs: Path, out: Path, after: int, network: str = "isnet", **more: Any) -> str:
    """Interrupt a run after that many frames; gives its message."""
    settings = make_settings(**options(inputs, network, resume=True, **more))
    with (
        open_reader(inputs / "clip.mov", settings) as source,
        pytest.raises(InterruptedRunError) as caught,
    ):
        run(source, out, find_model(settings, lambda _: None), settings, StopAfter(after))
    return str(caught.value)


def resumed(inputs: Path, out: Path, network: str = "isnet", **more: Any) -> Result:
    """Let a run come to its end, going on from what is there."""
    return matte(inputs / "clip.mov", out, **options(inputs, network, resume=True, **more))


def work_of(out: Path) -> Path:
    """The work folder of an output."""
    return out.with_name(f".{out.name}.resume")


def hidden(folder: Path) -> list[str]:
    """What is left beside the results."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def cut_log(path: Path, frames: int) -> None:
    """Leave that many frames in a log."""
    left = [0]

    def is_whole(head: dict[str, Any]) -> bool:
        left[0] += 1
        return left[0] <= frames

    log = FrameLog(path)
    log.open(log.survey(is_whole))
    log.close()


@pytest.fixture(scope="module")
def complete(inputs: Path) -> Callable[[str, str], Path]:
    """A folder with the work of a run that had kept every frame, by output and network."""
    made: dict[tuple[str, str], Path] = {}

    def folder_of(out: str, network: str) -> Path:
        if (out, network) not in made:
            place = inputs / f"complete-{network}-{out}"
            place.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Partial, "commit", no_room)
                with pytest.raises(OutputError):
                    resumed(inputs, place / out, network)
            made[out, network] = place
        return made[out, network]

    return folder_of


def no_room(*_: Any) -> None:
    """What a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("name", "network", "first"), SEAMS)
def test_going_on_from_any_frame_changes_nothing(
    name: str,
    network: str,
    first: int,
    inputs: Path,
    complete: Callable[[str, str], Path],
    peaceful: Callable[[str, str], dict[str, str]],
    tmp_path: Path,
) -> None:
    shutil.copytree(complete(name, network), tmp_path / "out")
    out = tmp_path / "out" / name
    (work_of(out) / "finished.json").unlink()
    cut_log(work_of(out) / "frames.log", first)
    result = resumed(inputs, out, network)
    assert result.resumed_at == first
    assert result.written.frames == FRAMES
    assert list(differences(peaceful(name, network), fingerprint(out))) == []
    assert hidden(out.parent) == []


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Runs that are killed; their server process stays until the end."""
    return Trials(tmp_path_factory.mktemp("trials"), seed=20)


@pytest.mark.parametrize(
    "name",
    [
        "prores",
        "prores, recurrent",
        "png",
        pytest.param("ffv1", marks=pytest.mark.slow),
        pytest.param("webm", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on(name: str, trials: Trials) -> None:
    trial = trials.run(name)
    assert trial.kills
    assert trial.differences == [], trial


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_killed_runs_go_on(trials: Trials) -> None:
    for number in range(30):
        trial = trials.run(list(CASES)[number % len(CASES)])
        assert trial.differences == [], trial


@pytest.mark.parametrize("name", WRITTEN)
def test_an_interrupt_says_where_it_goes_on(
    name: str, inputs: Path, peaceful: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / name
    said = stopped(inputs, out, 50)
    survey = FrameLog(work_of(out) / "frames.log").survey(lambda head: True)
    assert 30 < survey.count <= 60
    assert said.endswith(f"{out} was not written; --resume continues from frame {survey.count}")
    result = resumed(inputs, out)
    assert result.resumed_at == survey.count
    assert list(differences(peaceful(name, "isnet"), fingerprint(out))) == []


def test_a_run_that_kept_nothing_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**options(inputs, resume=True))
    with (
        open_reader(inputs / "clip.mov", settings) as source,
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ValueError, match="no picture"),
    ):
        patch.setattr(MovieReader, "_frames", no_picture)
        run(source, tmp_path / "a.mov", find_model(settings, str), settings, Reporter())
    assert hidden(tmp_path) == []


def no_picture(*_: Any) -> Iterator[Any]:
    """A source that fails."""
    raise ValueError("no picture")


def test_changed_options_are_refused(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    stopped(inputs, out, 40)
    kept = (work_of(out) / "frames.log").stat().st_size
    typed = f"--model {inputs / 'isnet.onnx'}, now --model {inputs / 'rvm.onnx'}"
    for change, named in (
        ({"smooth": "off"}, "without --smooth, now --smooth off"),
        ({"smooth_strength": 0.5}, "without --smooth-strength, now --smooth-strength 0.5"),
        ({"despill": "green"}, "without --despill, now --despill green"),
        ({"in_point": "f3"}, "without --in, now --in f3"),
        ({"codec": "prores-xq"}, "without --codec, now --codec prores-xq"),
        ({"matte": str(tmp_path / "m.mov")}, f"without --matte, now --matte {tmp_path}"),
        ({"audio": False}, "without --no-audio, now --no-audio"),
        ({"invert": True, "cuts": False}, "without --no-cuts, now --no-cuts; without --invert,"),
        ({"network": "rvm"}, typed),
    ):
        with pytest.raises(UsageError) as caught:
            resumed(inputs, out, **change)
        assert f"{work_of(out)} belongs to a different job (differs: {named}" in str(caught.value)
        assert "another" not in str(caught.value)
        assert (work_of(out) / "frames.log").stat().st_size == kept
    assert differences_of({"settings": {"erode": 2.0}}, {"settings": {"erode": 0.0}}) == [
        "--erode 2, now without"
    ]
    assert differences_of({"version": "0.1", "settings": {"gone": 1}}, {"version": "0.2"}) == [
        "vidmatte 0.1, now 0.2"
    ]
    # What has no say in the result may change.
    assert resumed(inputs, out, threads=2, memory="64M", batch=1).resumed_at > 0


def test_another_runtime_is_refused(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --runtime auto, too, where the package was there before and is not now."""
    if not (openvino._is_installed() and openvino._has_bfloat16()):
        pytest.skip("OpenVINO is not the runtime of choice here")
    out = tmp_path / "out.mov"
    stopped(inputs, out, 40)
    monkeypatch.setattr(openvino, "_is_installed", lambda: False)
    changed = "differs: OpenVINO, bfloat16, now onnxruntime"
    with pytest.raises(UsageError, match=changed):
        resumed(inputs, out)


def test_every_option_has_a_say_but_for_those_named() -> None:
    assert set(EXCLUDED_OPTIONS) == {
        "batch", "cache", "device", "family", "manifest", "max_megapixels", "memory", "model",
        "models_dir", "overwrite", "resume", "strict", "threads",
    }  # fmt: skip
    assert set(READ_OPTIONS) == {"background", "garbage_matte", "holdout"}
    assert not set(EXCLUDED_OPTIONS) & set(READ_OPTIONS)


def test_a_changed_mask_is_refused(inputs: Path, tmp_path: Path) -> None:
    (mask,) = make_pictures(tmp_path / "masks", size=(128, 96), frames=1)
    out = tmp_path / "out.mov"
    stopped(inputs, out, 40, garbage_matte=str(mask))
    os.utime(mask, (1, 1))
    said = r"differs: --garbage-matte [^ ]*png has changed"
    with pytest.raises(UsageError, match=said):
        resumed(inputs, out, garbage_matte=str(mask))


@pytest.mark.parametrize("which", ["clip.mov", "isnet.onnx"])
def test_a_changed_file_is_refused(which: str, inputs: Path, tmp_path: Path) -> None:
    mine = tmp_path / "inputs"
    mine.mkdir()
    for name in ("clip.mov", "isnet.onnx"):
        shutil.copy(inputs / name, mine)
    out = tmp_path / "out.mov"
    stopped(mine, out, 40)
    if which == "clip.mov":
        os.utime(mine / which, (1, 1))
    else:
        make_salient(mine / which, size=64)
    named = {"clip.mov": "clip.mov has changed", "isnet.onnx": "other weights of"}
    with pytest.raises(UsageError, match=f"differs: {named[which]}"):
        resumed(mine, out)


@pytest.mark.parametrize("at", [0.1, 0.9])
def test_a_damaged_frame_is_noticed_and_done_again(
    at: float, inputs: Path, peaceful: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.mov"
    stopped(inputs, out, 80)
    log = work_of(out) / "frames.log"
    data = bytearray(log.read_bytes())
    before = FrameLog(log).survey(lambda head: True).count
    data[int(at * len(data))] ^= 0x10
    log.write_bytes(data)
    result = resumed(inputs, out)
    assert 0 < result.resumed_at < before
    assert list(differences(peaceful("out.mov", "isnet"), fingerprint(out))) == []


@pytest.mark.parametrize(
    "how", ["missing", "other content", pytest.param("cut short", marks=pytest.mark.slow)]
)
def test_a_damaged_picture_is_done_again(
    how: str, inputs: Path, peaceful: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "frames"
    stopped(inputs, out, 80)
    picture = work_of(out) / "pictures-0" / "000023.png"
    data = picture.read_bytes()
    picture.unlink()
    if how == "cut short":
        picture.write_bytes(data[:100])
    elif how == "other content":
        picture.write_bytes(data[:-1] + b"!")
    assert resumed(inputs, out).resumed_at == 23
    assert list(differences(peaceful("frames", "isnet"), fingerprint(out))) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_finished_job_is_left_alone(name: str, inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**options(inputs, resume=True))
    out, model = tmp_path / name, find_model(settings, lambda _: None)
    with open_reader(inputs / "clip.mov", settings) as source:
        first = run(source, out, model, settings, Reporter())
    written = fingerprint(out)
    again = resumed(inputs, out)  # the one before was killed as it removed its work
    assert again.written.notes == (f"{name}: already finished by an earlier run",)
    assert (again.written.frames, again.written.bytes) == (FRAMES, first.written.bytes)
    assert again.quality == first.quality
    assert fingerprint(out) == written
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("out", ["out.mov", "cut"])
def test_a_run_that_was_killed_after_its_end_has_nothing_to_do(
    out: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By then the work folder is gone, or empty: the manifest tells that all is there."""
    shutil.copytree(make_pictures(inputs / "few", frames=3)[0].parent, tmp_path / "shots")
    chosen = ["--model", str(inputs / "isnet.onnx"), "--family", "isnet", "--fps", "25"]
    words = [str(tmp_path / "shots"), "-o", str(tmp_path / out), *chosen]
    words += ["--matte", str(tmp_path / "m.mkv"), "--resume"]
    assert main(words) == 0
    made = fingerprint(tmp_path / out)
    work_of(tmp_path / out).mkdir()
    capsys.readouterr()
    assert main(words) == 0
    assert f"{out}: already finished by an earlier run" in capsys.readouterr().err
    assert fingerprint(tmp_path / out) == made
    assert hidden(tmp_path) == []
    for change in (["--no-manifest"], ["--erode", "1"], ["--family", "u2net"]):
        assert main([*words, *change]) == 1, change
        assert "exists: --overwrite replaces it" in capsys.readouterr().err
    (tmp_path / "m.mkv").write_bytes((tmp_path / "m.mkv").read_bytes()[:-1] + b"?")
    assert main(words) == 1
    assert main([*words, "--overwrite"]) == 0
    assert "an earlier run" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["the source", "the mask", "a picture more", "the weights"])
def test_a_result_of_another_job_is_not_taken_for_finished(
    what: str, inputs: Path, tmp_path: Path
) -> None:
    files = make_pictures(tmp_path / "shots", frames=3)
    mask = shutil.copy(files[0], tmp_path / "mask.png")
    network = Path(shutil.copy(inputs / "isnet.onnx", tmp_path))
    chosen = {"family": "isnet", "fps": "25", "garbage_matte": mask, "resume": True}

    def done() -> Result:
        return matte(files[0].parent, tmp_path / "cut", model=str(network), **chosen)

    done()
    assert done().resumed_at == 3
    if what == "the source":
        files[1].write_bytes(files[0].read_bytes())
    elif what == "the mask":
        os.utime(mask, (2e9, 2e9))
    elif what == "a picture more":
        shutil.copy(files[0], files[0].with_name("z.png"))
    else:
        make_salient(network, size=64)
    with pytest.raises(OutputExistsError):
        done()


@pytest.mark.parametrize("name", WRITTEN)
def test_an_output_of_someone_else_is_not_replaced(name: str, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    stopped(inputs, out, 40)
    if out.suffix:
        out.write_bytes(b"precious")
    else:
        out.mkdir()
        (out / "precious.png").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        resumed(inputs, out)


@pytest.mark.parametrize("sides", [{"matte": "matte.mov"}, {"matte": "mattes", "format": "png"}])
def test_results_that_have_their_names_already_are_no_obstacle(
    sides: dict[str, str], inputs: Path, tmp_path: Path
) -> None:
    sides = {**sides, "matte": str(tmp_path / sides["matte"])}
    out, whole = tmp_path / ("frames" if "format" in sides else "out.mov"), Partial.commit
    done: list[Path] = []

    def commit(self: Partial) -> None:
        if done:
            no_room()
        done.append(self.final)
        whole(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Partial, "commit", commit)
        with pytest.raises(OutputError, match="full"):
            resumed(inputs, out, **sides)
    assert out.exists()
    assert not Path(sides["matte"]).exists()
    result = resumed(inputs, out, **sides)
    assert [side.frames for side in result.written.extra_outputs] == [FRAMES]
    other = tmp_path / "peaceful"
    other.mkdir()
    peaceful = {**sides, "matte": str(other / Path(sides["matte"]).name)}
    matte(inputs / "clip.mov", other / out.name, **options(inputs, **peaceful))
    assert fingerprint(out) == fingerprint(other / out.name)
    assert fingerprint(Path(sides["matte"])) == fingerprint(Path(peaceful["matte"]))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", ["cut", "cut.mov"])
def test_work_kept_in_the_sources_own_folder_is_no_change_of_it(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    make_pictures(plates := tmp_path / "plates", frames=5)
    more = options(inputs, resume=True, fps="25")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(Partial, "commit", no_room)
        matte(plates, plates / name, **more)
    assert hidden(plates) == [work_of(plates / name).name]
    assert matte(plates, plates / name, **more).resumed_at == 5
    assert hidden(plates) == []


def test_only_one_run_at_a_time(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    stopped(inputs, out, 40)
    with (
        FileLock(work_of(out) / "lock"),
        pytest.raises(UsageError, match="is locked by another vidmatte process"),
    ):
        resumed(inputs, out)
    resumed(inputs, out)


def test_a_run_without_the_option_takes_no_notice(
    inputs: Path, peaceful: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out.mov"
    stopped(inputs, out, 40)
    result = matte(inputs / "clip.mov", out, **options(inputs))
    assert result.resumed_at == 0
    assert fingerprint(out) == peaceful("out.mov", "isnet")
    assert hidden(tmp_path) == [work_of(out).name]
    assert any("is the work of an earlier run with --resume" in line for line in result.warnings)


def test_what_cannot_be_taken_up_is_refused_at_once(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume and --cache exclude each other"):
        resumed(inputs, tmp_path / "out.mov", cache=str(tmp_path / "cache"))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_costs_nothing_that_is_done(
    name: str,
    inputs: Path,
    peaceful: Callable[[str, str], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, room = tmp_path / name, [150_000 if name == "out.mov" else 20_000]
    whole = framelog._write_all

    def write_all(file: Any, data: bytes) -> None:
        whole(file, data[: max(0, room[0])])  # a full disk takes what still fits
        room[0] -= len(data)
        if room[0] < 0:
            no_room()

    reporter = StopAfter(FRAMES + 1)
    settings = make_settings(**options(inputs, resume=True))
    with monkeypatch.context() as patch, open_reader(inputs / "clip.mov", settings) as source:
        patch.setattr(framelog, "_write_all", write_all)
        with pytest.raises(OutputError, match="disk is full"):
            run(source, out, find_model(settings, lambda _: None), settings, reporter)
    (note,) = reporter.notes
    result = resumed(inputs, out)
    assert result.resumed_at > 5
    assert note == f"vidmatte: --resume continues from frame {result.resumed_at} of {name}"
    assert list(differences(peaceful(name, "isnet"), fingerprint(out))) == []


def test_after_room_was_made_a_run_goes_on(
    inputs: Path, peaceful: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(OutputError, match="disk is full"):
            resumed(inputs, disk / "out.mov")
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        result = resumed(inputs, disk / "out.mov")
        assert 5 < result.resumed_at <= FRAMES
        assert fingerprint(disk / "out.mov") == peaceful("out.mov", "isnet")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_several_inputs_are_taken_up_one_by_one(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, cuts = (tmp_path / name for name in ("first.mov", "second.mov", "cuts"))
    shutil.copy(inputs / "clip.mov", first)
    whole = first.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    words = [str(first), str(second), "-o", str(cuts), "--format", "mov", "--resume",
             "--model", str(inputs / "isnet.onnx"), "--family", "isnet"]  # fmt: skip
    assert main(words) == 1
    assert sorted(path.name for path in cuts.glob("*.mov")) == ["first.mov"]
    written = (cuts / "first.mov").stat()
    second.write_bytes(whole)
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "first.mov: already finished by an earlier run" in told
    assert "2 done, 0 failed" in told
    assert (cuts / "first.mov").stat() == written
    assert fingerprint(cuts / "first.mov") == fingerprint(cuts / "second.mov")
    assert hidden(cuts) == []


def test_a_picture_folder_and_one_picture(inputs: Path, tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "shots", frames=40)
    chosen = options(inputs, fps="25")
    matte(tmp_path / "shots", tmp_path / "peaceful", **chosen)
    settings = make_settings(**chosen, resume=True)
    model = find_model(settings, lambda _: None)
    with open_reader(tmp_path / "shots", settings) as source, pytest.raises(InterruptedRunError):
        run(source, tmp_path / "cut", model, settings, StopAfter(30))
    assert matte(tmp_path / "shots", tmp_path / "cut", **chosen, resume=True).resumed_at > 10
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "peaceful")
    matte(pictures[0], tmp_path / "one.png", **options(inputs, resume=True))
    assert hidden(tmp_path) == []


def folder_run(inputs: Path, folder: Path, out: Path, **more: Any) -> Result:
    """Matte a folder of pictures."""
    return matte(folder, out, **options(inputs, fps="25", **more))


def stopped_folder(inputs: Path, out: Path) -> tuple[list[Path], int]:
    """The 40 pictures of a folder beside ``out``, on which a run was stopped, and how many
    frames it has left."""
    files = make_pictures(out.parent / "shots", frames=40)
    settings = make_settings(**options(inputs, fps="25", resume=True))
    model = find_model(settings, lambda _: None)
    with open_reader(files[0].parent, settings) as source, pytest.raises(InterruptedRunError):
        run(source, out, model, settings, StopAfter(18))
    done = FrameLog(work_of(out) / "frames.log").survey(lambda head: True).count
    assert 5 < done < 38
    return files, done


@pytest.mark.parametrize(
    ("name", "then"), [("cut", "rendered again"), ("cut", "one more"), ("cut.mkv", "gone")]
)
def test_pictures_whose_frames_are_not_done_may_change(
    name: str, then: str, inputs: Path, tmp_path: Path
) -> None:
    """The result is that of the pictures which are there then."""
    shots, out = tmp_path / "shots", tmp_path / name
    files, done = stopped_folder(inputs, out)
    if then == "rendered again":
        shutil.copyfile(files[3], files[38])
        os.utime(files[38], (1, 1))
    elif then == "gone":
        files[38].unlink()
    else:
        shutil.copyfile(files[3], shots / "zz_0041.png")
    result = folder_run(inputs, shots, out, resume=True)
    place = 40 if then == "one more" else 38
    assert result.resumed_at == min(done, place - LONGEST_LOOK_AHEAD)
    assert result.written.frames == {"gone": 39, "one more": 41}.get(then, 40)
    (tmp_path / "plain").mkdir()
    folder_run(inputs, shots, tmp_path / "plain" / name)
    assert fingerprint(out) == fingerprint(tmp_path / "plain" / name)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("change", ["has changed", "is missing", "is new"])
def test_a_picture_whose_frame_is_done_may_not_change(
    change: str, inputs: Path, tmp_path: Path
) -> None:
    shots, out = tmp_path / "shots", tmp_path / "cut"
    files, done = stopped_folder(inputs, out)
    named = files[2].name
    if change == "has changed":
        os.utime(files[2], (1, 1))
    elif change == "is missing":
        files[2].rename(tmp_path / "aside.png")
    else:
        named = "0.png"
        shutil.copy(files[2], shots / named)
    said = rf"{named} {change}, but its frame is one of the {done} finished ones: restore the"
    with pytest.raises(UsageError, match=said):
        folder_run(inputs, shots, out, resume=True)
    if change == "is missing":  # nothing was lost by asking
        (tmp_path / "aside.png").rename(files[2])
        assert folder_run(inputs, shots, out, resume=True).resumed_at == done


def test_a_finished_folder_is_no_more_told_by_other_pictures(inputs: Path, tmp_path: Path) -> None:
    files = make_pictures(tmp_path / "shots", frames=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Partial, "commit", no_room)
        with pytest.raises(OutputError):
            folder_run(inputs, tmp_path / "shots", tmp_path / "cut", resume=True)
    files[3].unlink()
    with pytest.raises(
        UsageError, match=rf"differs: other pictures \({files[3].name} is missing\)"
    ):
        folder_run(inputs, tmp_path / "shots", tmp_path / "cut", resume=True)


def test_no_filter_looks_farther_ahead_than_is_cut_off() -> None:
    farthest = [
        TemporalFilter(window, "best", 1.0, PER_FRAME).look_ahead for window in WINDOWS.values()
    ]
    assert max(farthest) == LONGEST_LOOK_AHEAD


def test_what_was_found_before_the_stop_is_still_said(inputs: Path, tmp_path: Path) -> None:
    def empty_at_first(position: float, *shape: int) -> Any:
        from scene import draw_ball, draw_nothing

        return (draw_nothing if position < 5 else draw_ball)(position, *shape)

    make_movie(tmp_path / "clip.mov", frames=70, size=(128, 96), draw=empty_at_first)
    for name in ("isnet.onnx",):
        shutil.copy(inputs / name, tmp_path)
    chosen = options(tmp_path)
    meant = matte(tmp_path / "clip.mov", tmp_path / "peaceful.mov", **chosen).quality
    assert meant.empty == [0, 1, 2, 3, 4]
    stopped(tmp_path, tmp_path / "out.mov", 50)
    result = resumed(tmp_path, tmp_path / "out.mov")
    assert result.resumed_at > 30
    assert result.quality == meant


def with_all_kept(inputs: Path, out: Path, network: str, **more: Any) -> None:
    """Leave the work of a run that stored every frame and then failed to rename its output."""
    out.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(Partial, "commit", no_room)
        resumed(inputs, out, network, **more)
    (work_of(out) / "finished.json").unlink()


def draw_with_a_fault(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """A still ball that is too dark for the network in one frame."""
    picture = draw_ball(0, width, height, lit)
    return Picture(picture.rgb * np.float32(0.4), picture.alpha) if position == 24 else picture


def test_a_matte_jump_at_the_first_resumed_frame_is_reported(inputs: Path, tmp_path: Path) -> None:
    """It is found by comparison with the frame before, which was written earlier."""
    make_movie(tmp_path / "clip.mov", frames=30, size=(64, 48), draw=draw_with_a_fault)
    shutil.copy(inputs / "isnet.onnx", tmp_path)
    unmixed = {"smooth": "off"}  # without the temporal filter, which looks back by itself
    meant = matte(tmp_path / "clip.mov", tmp_path / "a.mov", **options(tmp_path, **unmixed)).quality
    assert meant.jumps == [24, 25]
    out = tmp_path / "kept" / "out.mov"
    with_all_kept(tmp_path, out, "isnet", **unmixed)
    cut_log(work_of(out) / "frames.log", 24)
    result = resumed(tmp_path, out, **unmixed)
    assert result.resumed_at == 24
    assert result.quality == meant


def draw_quick_cuts(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """Objects on a white background: one for 30 frames, then a new one every four frames.

    Most of the picture is clipped, so the cut detector takes every other cut for a flash. Which
    ones depends on the frame at which it started, unless that was before the first cut.
    """
    shot = max(0, int(position) - 26) // 4
    rgb = np.ones((height, width, 3), np.float32)
    blocks = np.random.default_rng(shot).random((height // 8, width // 20)).astype(np.float32)
    thing = np.kron(blocks, np.ones((8, 8), np.float32))
    rgb[: thing.shape[0], : thing.shape[1]] = thing[..., None]
    return Picture(rgb, 1 - rgb[..., 0])


def test_a_quick_cut_at_the_first_resumed_frame_is_found(inputs: Path, tmp_path: Path) -> None:
    """The cut detector has to see enough earlier frames again to be in the same state."""
    make_movie(tmp_path / "clip.mov", frames=50, size=(160, 96), draw=draw_quick_cuts)
    shutil.copy(inputs / "rvm.onnx", tmp_path)
    matte(tmp_path / "clip.mov", tmp_path / "out.mov", **options(tmp_path, "rvm"))
    uncut = options(tmp_path, "rvm", cuts=False)
    matte(tmp_path / "clip.mov", tmp_path / "uncut.mov", **uncut)
    meant = fingerprint(tmp_path / "out.mov")
    assert fingerprint(tmp_path / "uncut.mov") != meant, (
        "the cuts make no difference: nothing is tested"
    )
    with_all_kept(tmp_path, tmp_path / "kept" / "out.mov", "rvm")
    out = tmp_path / "kept" / "out.mov"
    cut_log(work_of(out) / "frames.log", 42)
    assert resumed(tmp_path, out, "rvm").resumed_at == 42
    assert list(differences(meant, fingerprint(out))) == []


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("8-bit 709", {}),
        ("10-bit 2020 HLG", {}),
        ("4:2:2 interlaced", {}),
        ("variable rate", {}),
        ("late start", {}),
        ("601 SD", {"in_point": "f5"}),
        ("drop frame timecode", {"in_point": "f20", "out_point": "f90"}),
        ("variable rate", {"conform": "30"}),
        ("variable rate", {"in_point": "f2", "out_point": "f8"}),
    ],
)
def test_pictures_from_any_number_are_the_same(
    kind: str, more: dict[str, str], tmp_path: Path
) -> None:
    if "pts" in SOURCE_KINDS[kind].options:
        movie = SOURCE_KINDS[kind].make(tmp_path)
    else:
        # Several groups of pictures, open ones too, so that there is something to jump to.
        codec = SOURCE_KINDS[kind].options.get("codec", "libx264")
        groups = {"g": "12", "bf": "2"} if codec in ("libx264", "mpeg2video") else {}
        if codec == "libx264":
            groups |= {"x264-params": "open-gop=1"}
        movie = SOURCE_KINDS[kind].make(tmp_path, frames=130, options=groups)
    settings = make_settings(**more)
    with open_reader(movie.path, settings) as source:
        meant = list(pictures_of(source, 0, 0))
    step = max(1, len(meant) // 9)
    for index in [1, *range(step, len(meant), step), len(meant) - 1]:
        with open_reader(movie.path, settings) as source:
            found = list(pictures_of(source, index, meant[index][0]))
        assert found == meant[index:], f"from {index} on"


def pictures_of(source: Reader, index: int, pts: int) -> Iterator[tuple[int, int, bytes]]:
    """Time, duration and samples of each picture."""
    for picture in source.pictures_from(index, pts):
        samples = b"".join(np.ascontiguousarray(p).tobytes() for p in plane_arrays(picture.pixels))
        yield picture.pts, picture.duration, samples


def test_a_jump_is_a_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie: Movie = make_movie(tmp_path / "clip.mov", frames=200, options={"g": "10", "bf": "2"})
    seen = 0
    whole = PacketDecoder.frames

    def counted(self: PacketDecoder, stream: Any) -> Iterator[Any]:
        nonlocal seen
        for frame in whole(self, stream):
            seen += 1
            yield frame

    monkeypatch.setattr(PacketDecoder, "frames", counted)
    with open_reader(movie.path, make_settings()) as source:
        assert len(list(source.pictures_from(150, 150 * round(1 / (25 * source.clip.time_base)))))
    assert 50 <= seen < 100


def test_a_log_ends_at_its_first_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "frames.log"
    log = FrameLog(path)
    log.open(Summary())
    for index in range(5):
        log.append({"index": index, "findings": {}, "state": []}, [bytes([index]) * 1000])
    log.close()
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        found = log.survey(lambda head: True)
        assert found.count == size * 5 // len(data)
        assert found.end == found.count * len(data) // 5
    path.write_bytes(data)
    assert [body[0] for _, body in log.records()] == [0, 1, 2, 3, 4]

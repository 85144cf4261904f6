"""Stopped runs resume where they were, with the same result as an undisturbed run."""

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
from kill_and_resume import (
    CASES,
    CUT,
    FRAMES,
    Trials,
    differences,
    fingerprint,
    make_clip,
    make_inputs,
    tiny_options,
)
from media import SOURCE_KINDS, Movie, make_movie, make_pictures
from scene import Picture, draw_ball
from tiny_onnx import make_salient

from vidmatte.alpha.temporal_filter import TemporalFilter
from vidmatte.alpha.track import LONGEST_LOOK_AHEAD, WINDOWS
from vidmatte.api import matte
from vidmatte.cli.main import main
from vidmatte.core.families import PER_FRAME
from vidmatte.errors import InterruptedRunError, OutputError, OutputExistsError, UsageError
from vidmatte.jobs.checkpoint import frame_log as framelog
from vidmatte.jobs.checkpoint.compat import differences as differences_of
from vidmatte.jobs.checkpoint.frame_log import FrameLog, Summary
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import _EXCLUDED_OPTIONS
from vidmatte.jobs.run import run
from vidmatte.jobs.spec import READ_OPTIONS, Result
from vidmatte.models.registry import find_model
from vidmatte.models.runtimes import openvino
from vidmatte.pixels.formats import plane_arrays
from vidmatte.readers.base import Reader
from vidmatte.readers.movie.decode import PacketDecoder
from vidmatte.readers.movie.reader import MovieReader
from vidmatte.readers.open import open_reader
from vidmatte.settings import make_settings
from vidmatte.writers.partial import Partial

#: First missing frames: around the warm-up, the stored states, the cut, the ends.
PLACES = (1, 15, 17, 33, 49, CUT - 1, CUT, CUT + 1, CUT + 3, FRAMES - 1, FRAMES)
WRITTEN = ("out.mov", "frames")
#: Frames of ``short.mov``, and after which of them a run of it is stopped.
SHORT, EARLY = 40, 8
SEAMS = [("out.mov", "isnet", first) for first in PLACES]
SEAMS += [("out.mov", "rvm", first) for first in (1, 17, 33, CUT, CUT + 1, FRAMES - 1)]
SEAMS += [("frames", "rvm", first) for first in (15, 33, FRAMES)]


class StopAfter(Reporter):
    """Interrupts a run after that many frames, and records its notes."""

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
    """A folder with the clip, its first 40 frames in ``short.mov``, and the two networks."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    make_clip(folder / "short.mov", SHORT)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs: Path) -> Callable[[str, str], dict[str, str]]:
    """The result of a run without --resume, by the names of output and network."""
    made: dict[tuple[str, str], dict[str, str]] = {}

    def fingerprint_of(out: str, network: str) -> dict[str, str]:
        if (out, network) not in made:
            folder = inputs / f"undisturbed-{network}"
            folder.mkdir(exist_ok=True)
            matte(inputs / "clip.mov", folder / out, **tiny_options(inputs, network))
            made[out, network] = fingerprint(folder / out)
        return made[out, network]

    return fingerprint_of


def stopped(
    inputs: Path, out: Path, after: int, network: str = "isnet", clip: str = "clip.mov", **more: Any
) -> str:
    """Interrupt a run after that many frames; returns its message."""
    settings = make_settings(**tiny_options(inputs, network, resume=True, **more))
    with (
        open_reader(inputs / clip, settings) as source,
        pytest.raises(InterruptedRunError) as caught,
    ):
        run(source, out, find_model(settings, lambda _: None), settings, StopAfter(after))
    return str(caught.value)


def resumed(
    inputs: Path, out: Path, network: str = "isnet", clip: str = "clip.mov", **more: Any
) -> Result:
    """Resume a run and let it finish."""
    return matte(inputs / clip, out, **tiny_options(inputs, network, resume=True, **more))


def stopped_early(inputs: Path, out: Path, **more: Any) -> None:
    """Interrupt a run of the short clip."""
    stopped(inputs, out, EARLY, clip="short.mov", **more)


def resumed_early(inputs: Path, out: Path, network: str = "isnet", **more: Any) -> Result:
    """Resume a run of the short clip and let it finish."""
    return resumed(inputs, out, network, "short.mov", **more)


def checkpoint_of(out: Path) -> Path:
    """The checkpoint folder of an output."""
    return out.with_name(f".{out.name}.resume")


def hidden(folder: Path) -> list[str]:
    """Hidden files beside the results."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def cut_log(path: Path, frames: int) -> None:
    """Shorten a log to that many frames."""
    seen = [0]

    def is_valid(head: dict[str, Any]) -> bool:
        seen[0] += 1
        return seen[0] <= frames

    log = FrameLog(path)
    log.open(log.survey(is_valid))
    log.close()


@pytest.fixture(scope="module")
def complete(inputs: Path) -> Callable[[str, str], Path]:
    """A folder with the checkpoint of a run that had saved every frame, by output and network."""
    made: dict[tuple[str, str], Path] = {}

    def folder_of(out: str, network: str) -> Path:
        if (out, network) not in made:
            folder = inputs / f"complete-{network}-{out}"
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Partial, "commit", disk_full)
                with pytest.raises(OutputError):
                    resumed(inputs, folder / out, network)
            made[out, network] = folder
        return made[out, network]

    return folder_of


def disk_full(*_: Any) -> None:
    """Fail like a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("name", "network", "first"), SEAMS)
@pytest.mark.thinned(5)
def test_resuming_at_any_frame_changes_nothing(
    name: str,
    network: str,
    first: int,
    inputs: Path,
    complete: Callable[[str, str], Path],
    undisturbed: Callable[[str, str], dict[str, str]],
    tmp_path: Path,
) -> None:
    shutil.copytree(complete(name, network), tmp_path / "out")
    out = tmp_path / "out" / name
    (checkpoint_of(out) / "finished.json").unlink()
    cut_log(checkpoint_of(out) / "frames.log", first)
    result = resumed(inputs, out, network)
    assert result.resumed_at == first
    assert result.written.frames == FRAMES
    assert list(differences(undisturbed(name, network), fingerprint(out))) == []
    assert hidden(out.parent) == []


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """Killed runs; their fork server stays until the end."""
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
@pytest.mark.thinned(3)
def test_a_killed_run_resumes(name: str, trials: Trials) -> None:
    trial = trials.run(name)
    assert trial.kills
    assert trial.differences == [], trial


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_killed_runs_resume(trials: Trials) -> None:
    for number in range(30):
        trial = trials.run(list(CASES)[number % len(CASES)])
        assert trial.differences == [], trial


@pytest.mark.parametrize("name", WRITTEN)
def test_an_interrupt_reports_where_it_resumes(
    name: str, inputs: Path, undisturbed: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / name
    message = stopped(inputs, out, 50)
    survey = FrameLog(checkpoint_of(out) / "frames.log").survey(lambda head: True)
    assert 30 < survey.count <= 60
    assert message.endswith(f"{out} was not written; --resume continues from frame {survey.count}")
    result = resumed(inputs, out)
    assert result.resumed_at == survey.count
    assert list(differences(undisturbed(name, "isnet"), fingerprint(out))) == []


def test_a_run_that_saved_nothing_leaves_no_checkpoint(inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**tiny_options(inputs, resume=True))
    with (
        open_reader(inputs / "clip.mov", settings) as source,
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ValueError, match="no picture"),
    ):
        patch.setattr(MovieReader, "_frames", no_picture)
        run(source, tmp_path / "a.mov", find_model(settings, str), settings, Reporter())
    assert hidden(tmp_path) == []


def no_picture(*_: Any) -> Iterator[Any]:
    """Fail like a broken source."""
    raise ValueError("no picture")


def test_changed_options_are_refused(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    stopped_early(inputs, out)
    size = (checkpoint_of(out) / "frames.log").stat().st_size
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
            resumed_early(inputs, out, **change)
        assert f"{checkpoint_of(out)} belongs to a different job (differs: {named}" in str(
            caught.value
        )
        assert "another" not in str(caught.value)
        assert (checkpoint_of(out) / "frames.log").stat().st_size == size
    assert differences_of({"settings": {"erode": 2.0}}, {"settings": {"erode": 0.0}}) == [
        "--erode 2, now without"
    ]
    assert differences_of({"version": "0.1", "settings": {"gone": 1}}, {"version": "0.2"}) == [
        "vidmatte 0.1, now 0.2"
    ]
    # Options without effect on the result may change.
    assert resumed_early(inputs, out, threads=2, memory="64M", batch=1).resumed_at > 0


def test_another_runtime_is_refused(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with --runtime auto, if the package was installed before and is not now."""
    if not (openvino.is_installed() and openvino.has_bfloat16()):
        pytest.skip("OpenVINO is not the runtime of choice here")
    out = tmp_path / "out.mov"
    stopped_early(inputs, out)
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    changed = "differs: OpenVINO, bfloat16, now onnxruntime"
    with pytest.raises(UsageError, match=changed):
        resumed_early(inputs, out)


def test_every_option_counts_except_the_excluded_ones() -> None:
    assert set(_EXCLUDED_OPTIONS) == {
        "accept_licence", "batch", "cache", "device", "family", "like", "manifest",
        "max_megapixels", "memory",
        "model", "models_dir", "overwrite", "resume", "strict", "threads", "timeline",
    }  # fmt: skip
    read = {
        "audio_from",
        "background",
        "clean_plate",
        "garbage_matte",
        "holdout",
        "subjects",
        "trimap",
    }
    assert set(READ_OPTIONS) == read
    assert not set(_EXCLUDED_OPTIONS) & set(READ_OPTIONS)


def test_a_changed_mask_is_refused(inputs: Path, tmp_path: Path) -> None:
    (mask,) = make_pictures(tmp_path / "masks", size=(64, 48), frames=1)
    out = tmp_path / "out.mov"
    stopped_early(inputs, out, garbage_matte=str(mask))
    os.utime(mask, (1, 1))
    message = r"differs: --garbage-matte [^ ]*png has changed"
    with pytest.raises(UsageError, match=message):
        resumed_early(inputs, out, garbage_matte=str(mask))


@pytest.mark.parametrize("which", ["short.mov", "isnet.onnx"])
def test_a_changed_file_is_refused(which: str, inputs: Path, tmp_path: Path) -> None:
    copies = tmp_path / "inputs"
    copies.mkdir()
    for name in ("short.mov", "isnet.onnx"):
        shutil.copy(inputs / name, copies)
    out = tmp_path / "out.mov"
    stopped_early(copies, out)
    if which == "short.mov":
        os.utime(copies / which, (1, 1))
    else:
        make_salient(copies / which, size=64)
    named = {"short.mov": "short.mov has changed", "isnet.onnx": "other weights of"}
    with pytest.raises(UsageError, match=f"differs: {named[which]}"):
        resumed_early(copies, out)


@pytest.mark.parametrize("at", [0.1, 0.9])
@pytest.mark.thinned(2)
def test_a_damaged_frame_is_detected_and_redone(
    at: float,
    inputs: Path,
    complete: Callable[[str, str], Path],
    undisturbed: Callable[[str, str], dict[str, str]],
    tmp_path: Path,
) -> None:
    shutil.copytree(complete("out.mov", "isnet"), tmp_path / "out")
    out = tmp_path / "out" / "out.mov"
    (checkpoint_of(out) / "finished.json").unlink()
    log = checkpoint_of(out) / "frames.log"
    cut_log(log, 80)
    data = bytearray(log.read_bytes())
    before = FrameLog(log).survey(lambda head: True).count
    data[int(at * len(data))] ^= 0x10
    log.write_bytes(data)
    result = resumed(inputs, out)
    assert 0 < result.resumed_at < before
    assert list(differences(undisturbed("out.mov", "isnet"), fingerprint(out))) == []


@pytest.mark.parametrize(
    "how", ["missing", "other content", pytest.param("cut short", marks=pytest.mark.slow)]
)
@pytest.mark.thinned(2)
def test_a_damaged_image_is_redone(
    how: str, inputs: Path, undisturbed: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "frames"
    stopped(inputs, out, 80)
    picture = checkpoint_of(out) / "pictures-0" / "000023.png"
    data = picture.read_bytes()
    picture.unlink()
    if how == "cut short":
        picture.write_bytes(data[:100])
    elif how == "other content":
        picture.write_bytes(data[:-1] + b"!")
    assert resumed(inputs, out).resumed_at == 23
    assert list(differences(undisturbed("frames", "isnet"), fingerprint(out))) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_finished_job_is_not_run_again(name: str, inputs: Path, tmp_path: Path) -> None:
    settings = make_settings(**tiny_options(inputs, resume=True))
    out, model = tmp_path / name, find_model(settings, lambda _: None)
    with open_reader(inputs / "short.mov", settings) as source:
        first = run(source, out, model, settings, Reporter())
    written = fingerprint(out)
    again = resumed_early(inputs, out)  # as if the first was killed while removing its checkpoint
    assert again.written.notes == (f"{name}: already finished by an earlier run",)
    assert (again.written.frames, again.written.bytes) == (SHORT, first.written.bytes)
    assert again.quality == first.quality
    assert fingerprint(out) == written
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("out", ["out.mov", "cut"])
def test_a_run_killed_after_its_end_counts_as_finished(
    out: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By then the checkpoint folder is gone or empty: the manifest shows that all is complete."""
    shutil.copytree(make_pictures(inputs / "few", frames=3)[0].parent, tmp_path / "shots")
    chosen = ["--model", str(inputs / "isnet.onnx"), "--family", "isnet", "--fps", "25"]
    words = [str(tmp_path / "shots"), "-o", str(tmp_path / out), *chosen]
    words += ["--matte", str(tmp_path / "m.mkv"), "--resume"]
    assert main(words) == 0
    made = fingerprint(tmp_path / out)
    checkpoint_of(tmp_path / out).mkdir()
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


@pytest.mark.parametrize("what", ["the source", "the mask", "another picture", "the weights"])
def test_another_jobs_result_does_not_count_as_finished(
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
    elif what == "another picture":
        shutil.copy(files[0], files[0].with_name("z.png"))
    else:
        make_salient(network, size=64)
    with pytest.raises(OutputExistsError):
        done()


@pytest.mark.parametrize("name", WRITTEN)
def test_an_existing_output_is_not_replaced(name: str, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    stopped_early(inputs, out)
    if out.suffix:
        out.write_bytes(b"precious")
    else:
        out.mkdir()
        (out / "precious.png").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        resumed_early(inputs, out)


@pytest.mark.parametrize("extras", [{"matte": "matte.mov"}, {"matte": "mattes", "format": "png"}])
@pytest.mark.thinned(2)
def test_outputs_that_were_already_renamed_are_no_obstacle(
    extras: dict[str, str], inputs: Path, tmp_path: Path
) -> None:
    extras = {**extras, "matte": str(tmp_path / extras["matte"])}
    out, original = tmp_path / ("frames" if "format" in extras else "out.mov"), Partial.commit
    done: list[Path] = []

    def commit(self: Partial) -> None:
        if done:
            disk_full()
        done.append(self.final)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Partial, "commit", commit)
        with pytest.raises(OutputError, match="full"):
            resumed_early(inputs, out, **extras)
    assert out.exists()
    assert not Path(extras["matte"]).exists()
    result = resumed_early(inputs, out, **extras)
    assert [extra.frames for extra in result.written.extra_outputs] == [SHORT]
    other = tmp_path / "undisturbed"
    other.mkdir()
    undisturbed = {**extras, "matte": str(other / Path(extras["matte"]).name)}
    matte(inputs / "short.mov", other / out.name, **tiny_options(inputs, **undisturbed))
    assert fingerprint(out) == fingerprint(other / out.name)
    assert fingerprint(Path(extras["matte"])) == fingerprint(Path(undisturbed["matte"]))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", ["cut", "cut.mov"])
def test_a_checkpoint_in_the_sources_folder_does_not_change_the_source(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    make_pictures(plates := tmp_path / "plates", frames=5)
    more = tiny_options(inputs, resume=True, fps="25")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(Partial, "commit", disk_full)
        matte(plates, plates / name, **more)
    assert hidden(plates) == [checkpoint_of(plates / name).name]
    assert matte(plates, plates / name, **more).resumed_at == 5
    assert hidden(plates) == []


def test_only_one_run_at_a_time(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    stopped_early(inputs, out)
    with (
        FileLock(checkpoint_of(out) / "lock"),
        pytest.raises(UsageError, match="is locked by another vidmatte process"),
    ):
        resumed_early(inputs, out)
    resumed_early(inputs, out)


def test_a_run_without_the_option_ignores_the_checkpoint(inputs: Path, tmp_path: Path) -> None:
    out, undisturbed = tmp_path / "out.mov", tmp_path / "undisturbed.mov"
    matte(inputs / "short.mov", undisturbed, **tiny_options(inputs))
    stopped_early(inputs, out)
    result = matte(inputs / "short.mov", out, **tiny_options(inputs))
    assert result.resumed_at == 0
    assert fingerprint(out) == fingerprint(undisturbed)
    assert hidden(tmp_path) == [checkpoint_of(out).name]
    assert any("is the work of an earlier run with --resume" in line for line in result.warnings)


def test_a_job_that_cannot_be_resumed_is_refused_at_once(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume and --cache exclude each other"):
        resumed(inputs, tmp_path / "out.mov", cache=str(tmp_path / "cache"))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_loses_no_finished_frame(
    name: str,
    inputs: Path,
    undisturbed: Callable[[str, str], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, space = tmp_path / name, [100_000 if name == "out.mov" else 20_000]
    original = framelog._write_all

    def write_all(file: Any, data: bytes) -> None:
        original(file, data[: max(0, space[0])])  # a full disk accepts what still fits
        space[0] -= len(data)
        if space[0] < 0:
            disk_full()

    reporter = StopAfter(FRAMES + 1)
    settings = make_settings(**tiny_options(inputs, resume=True))
    with monkeypatch.context() as patch, open_reader(inputs / "clip.mov", settings) as source:
        patch.setattr(framelog, "_write_all", write_all)
        with pytest.raises(OutputError, match="disk is full"):
            run(source, out, find_model(settings, lambda _: None), settings, reporter)
    (note,) = reporter.notes
    result = resumed(inputs, out)
    assert result.resumed_at > 5
    assert note == f"vidmatte: --resume continues from frame {result.resumed_at} of {name}"
    assert list(differences(undisturbed(name, "isnet"), fingerprint(out))) == []


def test_a_run_resumes_after_disk_space_was_freed(
    inputs: Path, undisturbed: Callable[[str, str], dict[str, str]], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(OutputError, match="disk is full"):
            resumed(inputs, disk / "out.mov")
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        result = resumed(inputs, disk / "out.mov")
        assert 5 < result.resumed_at <= FRAMES
        assert fingerprint(disk / "out.mov") == undisturbed("out.mov", "isnet")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_several_inputs_resume_one_by_one(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, cuts = (tmp_path / name for name in ("first.mov", "second.mov", "cuts"))
    shutil.copy(inputs / "short.mov", first)
    data = first.read_bytes()
    second.write_bytes(data[: len(data) // 2])
    words = [str(first), str(second), "-o", str(cuts), "--format", "mov", "--resume",
             "--model", str(inputs / "isnet.onnx"), "--family", "isnet"]  # fmt: skip
    assert main(words) == 1
    assert sorted(path.name for path in cuts.glob("*.mov")) == ["first.mov"]
    written = (cuts / "first.mov").stat()
    second.write_bytes(data)
    capsys.readouterr()
    assert main(words) == 0
    stderr = capsys.readouterr().err
    assert "first.mov: already finished by an earlier run" in stderr
    assert "2 done, 0 failed" in stderr
    assert (cuts / "first.mov").stat() == written
    assert fingerprint(cuts / "first.mov") == fingerprint(cuts / "second.mov")
    assert hidden(cuts) == []


def test_an_image_folder_and_a_single_image(inputs: Path, tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "shots", frames=40, size=(64, 48))
    chosen = tiny_options(inputs, fps="25")
    matte(tmp_path / "shots", tmp_path / "undisturbed", **chosen)
    settings = make_settings(**chosen, resume=True)
    model = find_model(settings, lambda _: None)
    with open_reader(tmp_path / "shots", settings) as source, pytest.raises(InterruptedRunError):
        run(source, tmp_path / "cut", model, settings, StopAfter(30))
    assert matte(tmp_path / "shots", tmp_path / "cut", **chosen, resume=True).resumed_at > 10
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "undisturbed")
    matte(pictures[0], tmp_path / "one.png", **tiny_options(inputs, resume=True))
    assert hidden(tmp_path) == []


def folder_run(inputs: Path, folder: Path, out: Path, **more: Any) -> Result:
    """Matte a folder of pictures."""
    return matte(folder, out, **tiny_options(inputs, fps="25", **more))


def stopped_folder(inputs: Path, out: Path) -> tuple[list[Path], int]:
    """The 40 pictures of a folder beside ``out`` on which a run was stopped, and the number of
    frames that it saved."""
    files = make_pictures(out.parent / "shots", frames=40, size=(64, 48))
    settings = make_settings(**tiny_options(inputs, fps="25", resume=True))
    model = find_model(settings, lambda _: None)
    with open_reader(files[0].parent, settings) as source, pytest.raises(InterruptedRunError):
        run(source, out, model, settings, StopAfter(18))
    done = FrameLog(checkpoint_of(out) / "frames.log").survey(lambda head: True).count
    assert 5 < done < 38
    return files, done


@pytest.mark.parametrize(
    ("name", "then"), [("cut", "rendered again"), ("cut", "one more"), ("cut.mkv", "gone")]
)
def test_pictures_without_a_finished_frame_may_change(
    name: str, then: str, inputs: Path, tmp_path: Path
) -> None:
    """The result is that of the new pictures."""
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
def test_a_picture_with_a_finished_frame_may_not_change(
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
    message = rf"{named} {change}, but its frame is one of the {done} finished ones: restore the"
    with pytest.raises(UsageError, match=message):
        folder_run(inputs, shots, out, resume=True)
    if change == "is missing":  # the refusal lost nothing
        (tmp_path / "aside.png").rename(files[2])
        assert folder_run(inputs, shots, out, resume=True).resumed_at == done


def test_a_finished_folder_with_other_pictures_is_a_different_job(
    inputs: Path, tmp_path: Path
) -> None:
    files = make_pictures(tmp_path / "shots", frames=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Partial, "commit", disk_full)
        with pytest.raises(OutputError):
            folder_run(inputs, tmp_path / "shots", tmp_path / "cut", resume=True)
    files[3].unlink()
    with pytest.raises(
        UsageError, match=rf"differs: other pictures \({files[3].name} is missing\)"
    ):
        folder_run(inputs, tmp_path / "shots", tmp_path / "cut", resume=True)


def test_no_filters_look_ahead_exceeds_the_limit() -> None:
    farthest = [
        TemporalFilter(window, "best", 1.0, PER_FRAME).look_ahead for window in WINDOWS.values()
    ]
    assert max(farthest) == LONGEST_LOOK_AHEAD


def test_findings_before_the_stop_are_still_reported(inputs: Path, tmp_path: Path) -> None:
    def empty_at_first(position: float, *shape: int) -> Any:
        from scene import draw_ball, draw_nothing

        return (draw_nothing if position < 5 else draw_ball)(position, *shape)

    make_movie(tmp_path / "clip.mov", frames=70, size=(64, 48), draw=empty_at_first)
    for name in ("isnet.onnx",):
        shutil.copy(inputs / name, tmp_path)
    chosen = tiny_options(tmp_path)
    expected = matte(tmp_path / "clip.mov", tmp_path / "undisturbed.mov", **chosen).quality
    assert expected.empty == [0, 1, 2, 3, 4]
    stopped(tmp_path, tmp_path / "out.mov", 50)
    result = resumed(tmp_path, tmp_path / "out.mov")
    assert result.resumed_at > 30
    assert result.quality == expected


def save_every_frame(inputs: Path, out: Path, network: str, **more: Any) -> None:
    """Make the checkpoint of a run that saved every frame and then failed to rename its output."""
    out.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(Partial, "commit", disk_full)
        resumed(inputs, out, network, **more)
    (checkpoint_of(out) / "finished.json").unlink()


def draw_dark_frame(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """A still ball that is too dark for the network in one frame."""
    picture = draw_ball(0, width, height, lit)
    return Picture(picture.rgb * np.float32(0.4), picture.alpha) if position == 24 else picture


def test_a_matte_jump_at_the_first_resumed_frame_is_reported(inputs: Path, tmp_path: Path) -> None:
    """It is found by comparison with the frame before, which was written earlier."""
    make_movie(tmp_path / "clip.mov", frames=30, size=(64, 48), draw=draw_dark_frame)
    shutil.copy(inputs / "isnet.onnx", tmp_path)
    unfiltered = {"smooth": "off"}  # without the temporal filter, which looks back on its own
    expected = matte(
        tmp_path / "clip.mov", tmp_path / "a.mov", **tiny_options(tmp_path, **unfiltered)
    ).quality
    assert expected.jumps == [24, 25]
    out = tmp_path / "saved" / "out.mov"
    save_every_frame(tmp_path, out, "isnet", **unfiltered)
    cut_log(checkpoint_of(out) / "frames.log", 24)
    result = resumed(tmp_path, out, **unfiltered)
    assert result.resumed_at == 24
    assert result.quality == expected


def draw_quick_cuts(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """Objects on a white background: one for 30 frames, then a new one every four frames.

    Most of the picture is clipped, so the cut detector takes every other cut for a flash. Which
    ones depends on the frame at which it started, unless that was before the first cut.
    """
    shot = max(0, int(position) - 26) // 4
    rgb = np.ones((height, width, 3), np.float32)
    blocks = np.random.default_rng(shot).random((height // 8, width // 20)).astype(np.float32)
    pattern = np.kron(blocks, np.ones((8, 8), np.float32))
    rgb[: pattern.shape[0], : pattern.shape[1]] = pattern[..., None]
    return Picture(rgb, 1 - rgb[..., 0])


def test_a_quick_cut_at_the_first_resumed_frame_is_found(inputs: Path, tmp_path: Path) -> None:
    """The cut detector has to see enough earlier frames again to be in the same state."""
    make_movie(tmp_path / "clip.mov", frames=50, size=(160, 96), draw=draw_quick_cuts)
    shutil.copy(inputs / "rvm.onnx", tmp_path)
    matte(tmp_path / "clip.mov", tmp_path / "out.mov", **tiny_options(tmp_path, "rvm"))
    uncut = tiny_options(tmp_path, "rvm", cuts=False)
    matte(tmp_path / "clip.mov", tmp_path / "uncut.mov", **uncut)
    expected = fingerprint(tmp_path / "out.mov")
    assert fingerprint(tmp_path / "uncut.mov") != expected, (
        "the cuts make no difference: nothing is tested"
    )
    save_every_frame(tmp_path, tmp_path / "saved" / "out.mov", "rvm")
    out = tmp_path / "saved" / "out.mov"
    cut_log(checkpoint_of(out) / "frames.log", 42)
    assert resumed(tmp_path, out, "rvm").resumed_at == 42
    assert list(differences(expected, fingerprint(out))) == []


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
@pytest.mark.thinned(3)
def test_pictures_from_any_number_are_the_same(
    kind: str, more: dict[str, str], tmp_path: Path
) -> None:
    if "pts" in SOURCE_KINDS[kind].options:
        movie = SOURCE_KINDS[kind].make(tmp_path)
    else:
        # Several GOPs, including open ones, so that there are key frames to seek to.
        codec = SOURCE_KINDS[kind].options.get("codec", "libx264")
        groups = {"g": "12", "bf": "2"} if codec in ("libx264", "mpeg2video") else {}
        if codec == "libx264":
            groups |= {"x264-params": "open-gop=1"}
        movie = SOURCE_KINDS[kind].make(tmp_path, frames=130, options=groups)
    settings = make_settings(**more)
    with open_reader(movie.path, settings) as source:
        expected = list(pictures_of(source, 0, 0))
    step = max(1, len(expected) // 9)
    for index in [1, *range(step, len(expected), step), len(expected) - 1]:
        with open_reader(movie.path, settings) as source:
            found = list(pictures_of(source, index, expected[index][0]))
        assert found == expected[index:], f"from {index} on"


def pictures_of(source: Reader, index: int, pts: int) -> Iterator[tuple[int, int, bytes]]:
    """Time, duration and samples of each picture."""
    for picture in source.pictures_from(index, pts):
        samples = b"".join(np.ascontiguousarray(p).tobytes() for p in plane_arrays(picture.pixels))
        yield picture.pts, picture.duration, samples


def test_reading_from_the_middle_seeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie: Movie = make_movie(tmp_path / "clip.mov", frames=200, options={"g": "10", "bf": "2"})
    seen = 0
    original = PacketDecoder.frames

    def counted(self: PacketDecoder, stream: Any) -> Iterator[Any]:
        nonlocal seen
        for frame in original(self, stream):
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
        head = {"index": index, "pts": index, "duration": 1, "new_shot": False, "findings": {}}
        log.append({**head, "encoded": [], "state": []}, [bytes([index]) * 1000])
    log.close()
    data = path.read_bytes()
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        found = log.survey(lambda head: True)
        assert found.count == size * 5 // len(data)
        assert found.end == found.count * len(data) // 5
    path.write_bytes(data)
    assert [body[0] for _, body in log.records()] == [0, 1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("first", [33, CUT + 1])
def test_two_networks_joined_by_auto_resume(inputs: Path, tmp_path: Path, first: int) -> None:
    """The state of the joining is kept beside the recurrent network's."""
    files = []
    for family in ("isnet", "rvm"):
        file = tmp_path / f"own-{family}.onnx"
        file.write_bytes((inputs / f"{family}.onnx").read_bytes())
        file.with_suffix(".toml").write_text(f'family = "{family}"\n')
        files.append(str(file))
    more = {"model": "+".join(files), "family": None, "combine": "auto"}
    matte(inputs / "clip.mov", tmp_path / "whole", **(tiny_options(inputs, "isnet") | more))
    stopped(inputs, tmp_path / "part", first, **more)
    resumed(inputs, tmp_path / "part", **more)
    assert fingerprint(tmp_path / "part") == fingerprint(tmp_path / "whole")

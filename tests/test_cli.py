"""The command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import Tone, make_movie, make_pictures
from tiny_onnx import make_recurrent, make_salient

import vidmatte
from vidmatte.cli import batch as cli_matte
from vidmatte.cli.help_page import PAGE, _make_help
from vidmatte.cli.main import main
from vidmatte.cli.outputs import plan_outputs
from vidmatte.cli.tool_commands import _BENCH_OPTIONS, _PREVIEW_OPTIONS
from vidmatte.errors import UsageError
from vidmatte.jobs.spec import Job
from vidmatte.settings import (
    AdjustOptions,
    InputOptions,
    MachineOptions,
    MatteOptions,
    ModelOptions,
    OutputOptions,
    Settings,
    SubjectOptions,
    make_settings,
    options_of,
)
from vidmatte.settings.values import parse_bytes, parse_rate

COLUMNS = 80
#: Packages that are slow to import and that help does not need.
HEAVY = {
    "av", "cv2", "filelock", "isal", "numpy", "onnx", "onnxruntime", "openvino", "platformdirs",
    "rich", "torch", "tqdm",
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    return ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]


def python(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidmatte", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_help_fits_a_terminal() -> None:
    done = python("--help")
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= COLUMNS
    for word in ("INPUT", "--model", "--smooth", "models", "info", "ProRes 4444"):
        assert word in done.stdout


#: Options without effect on a sheet of a few frames, and those that a benchmark does not use.
NOT_OF_PREVIEW = (
    "only pace smooth_strength foreground cuts format codec alpha matte foreground_file comp"
    " background checker size crop quality exr_compression exr_layers shadow timeline manifest"
    " start_number handles conform strict audio resume batch memory audio_from audio_tracks like"
    " input_size input_format input_fps"
)
NOT_OF_BENCH = (
    "screen key keep_shadows clean_plate subject subjects only follow trimap cache"
    " pace smooth_strength cuts threshold"
    " gamma keep_largest remove_specks"
    " fill_holes dilate erode feather garbage_matte holdout invert despill despill_strength codec"
    " alpha matte"
    " foreground_file comp background checker size crop quality exr_compression exr_layers shadow"
    " timeline manifest start_number fps video_track handles conform like"
    " deinterlace colour strict audio audio_from audio_tracks overwrite resume"
    " input_size input_format input_fps"
)


@pytest.mark.parametrize(
    ("used", "unused"),
    [(_PREVIEW_OPTIONS, NOT_OF_PREVIEW), (_BENCH_OPTIONS, NOT_OF_BENCH)],
    ids=["preview", "bench"],
)
def test_preview_and_bench_take_every_option_or_leave_it_out_on_purpose(
    used: tuple[str, ...], unused: str
) -> None:
    assert sorted([*used, *unused.split()]) == sorted(Settings().model_dump())


@pytest.mark.parametrize("words", [["--help"], ["preview", "--help"]], ids=" ".join)
def test_nothing_heavy_is_imported_for_help(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "vidmatte", *words]
    stderr = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in stderr.splitlines()}
    assert "vidmatte" in imported and ("typer" in imported) == (len(words) > 1), stderr
    assert not HEAVY & imported


def test_a_run_imports_no_runtime_before_its_input_is_opened_and_nothing_of_subjects() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "vidmatte", "none.mov", "-o", "cut.mov"]
    stderr = subprocess.run(command, capture_output=True, text=True).stderr
    assert "none.mov" in stderr.splitlines()[-1]
    imported = {line.rpartition("|")[2].strip() for line in stderr.splitlines()}
    assert "vidmatte.jobs.run" in imported
    unused = {"onnx", "onnxruntime", "openvino", "tqdm", "torch", "vidmatte.core.prompts"}
    assert not unused & imported
    assert not [name for name in imported if name.startswith("vidmatte.alpha.guidance")]


def test_the_stored_help_page_is_that_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert PAGE.read_text("utf-8") == _make_help(), "run 'python -m vidmatte.cli.help_page'"


def test_a_narrow_terminal_gets_a_help_page_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = python("--help")
    options = done.stdout.partition("Examples:")[0]
    assert max(map(len, options.splitlines())) <= 60 and "--model" in options


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_help_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vidmatte", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "vidmatte: stdout: No space left on device\n")


def test_version() -> None:
    assert python("--version").stdout.startswith("vidmatte 0.")


def test_a_run_reports_what_was_written(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_movie(tmp_path / "my clip.mp4", frames=6, audio=[Tone()])
    out = tmp_path / "out put.mov"
    assert main([str(tmp_path / "my clip.mp4"), "-o", str(out), *tiny]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "6 frames, 192x108, 25 fps, prores" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert main([str(tmp_path / "my clip.mp4"), "-o", str(out), *tiny]) != 0
    assert "--overwrite" in capsys.readouterr().err
    assert main([str(tmp_path / "my clip.mp4"), "-o", str(out), "--overwrite", "-q", *tiny]) == 0
    assert capsys.readouterr().err == ""


def test_json_lines(tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    make_movie(tmp_path / "clip.mp4", frames=6)
    clip, out = str(tmp_path / "clip.mp4"), str(tmp_path / "out.mov")
    matte = str(tmp_path / "m.mkv")
    words = ["--json", "--runtime", "onnxruntime"]  # which causes no note on any CPU
    assert main([clip, "-o", out, "--matte", matte, *words, *tiny]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    kinds = list(dict.fromkeys(event["event"] for event in events))
    assert kinds == ["start", "progress", "done", "summary"]
    events.pop()
    assert events[-1]["frames"] == 6
    assert events[-1]["output"] == out
    assert set(events[-1]["busy_seconds"]) == {"read", "matte", "motion", "steady", "write"}
    assert events[-1]["busy_seconds"]["write"] > 0, "the encoders' time is not counted"
    assert events[-1]["manifest"] == f"{out}.json"
    assert events[-1]["resumed_at"] == 0
    (extra,) = events[-1]["sides"]
    assert (extra["output"], extra["frames"], extra["format"]) == (matte, 6, "ffv1")


def test_ctrl_c_is_an_event_too(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    make_movie(tmp_path / "clip.mp4", frames=6)
    words = [str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out.mov"), "--json", *tiny]
    for place in (
        "vidmatte.jobs.report.JsonReporter.advance",
        "vidmatte.models.registry.ModelChoice.fetch",
    ):
        monkeypatch.setattr(place, stopped)
        assert main(words) == 130
        captured = capsys.readouterr()
        stop, last = (json.loads(line) for line in captured.out.splitlines()[-2:])
        assert (stop["event"], last["event"]) == ("stopped", "summary")
        assert captured.err == f"vidmatte: {stop['message']}\n"


@pytest.mark.parametrize(
    ("command", "place"),
    [("bench", "vidmatte.cli.tools.make_clip"), ("preview", "vidmatte.cli.tools.find_model")],
)
def test_ctrl_c_stops_the_other_commands_with_a_line(
    command: str, place: str, tmp_path: Path, tiny: list[str],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    monkeypatch.setattr(place, stopped)
    words = [str(clip)] if command == "preview" else []
    assert main([command, *words, *tiny]) == 130
    assert capsys.readouterr().err == "vidmatte: stopped\n"


def test_one_failing_input_does_not_stop_the_others(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_movie(tmp_path / "a.mp4", frames=3)
    make_pictures(tmp_path / "shots", frames=4)
    (tmp_path / "b.mp4").write_text("no movie")
    names = [str(tmp_path / name) for name in ("a.mp4", "b.mp4", "shots")]
    cuts = tmp_path / "cuts"
    assert main([*names, "-o", f"{cuts}/", "--format", "mov", "--fps", "24", *tiny]) == 2
    stderr = capsys.readouterr().err
    assert "b.mp4" in stderr
    cuts_made = sorted(file.name for file in cuts.glob("*.mov"))
    assert cuts_made == ["shots.mov"], stderr
    assert "--fps 24 is for picture folders" in stderr
    assert main([*names, "-o", f"{cuts}/", "--format", "mov", "--overwrite", *tiny]) == 1
    assert sorted(file.name for file in cuts.glob("*.mov")) == ["a.mov", "shots.mov"]
    assert "2 done, 1 failed" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["check_job", "run"])
def test_an_internal_error_on_one_input_does_not_stop_the_others(
    place: str,
    tmp_path: Path,
    tiny: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both in the check of all inputs and in a run."""
    names = [str(make_movie(tmp_path / f"{name}.mp4", frames=3).path) for name in "abc"]
    original = getattr(cli_matte, place)

    def faulty(*arguments: Any, **named: Any) -> Any:
        places = [one.output if isinstance(one, Job) else one for one in arguments]
        if any(Path(names[1]).stem == Path(str(one)).stem for one in places):
            raise ZeroDivisionError("injected")
        return original(*arguments, **named)

    monkeypatch.setattr(cli_matte, place, faulty)
    cuts = tmp_path / "cuts"
    assert main([*names, "-o", f"{cuts}/", "--format", "mov", *tiny]) == 1
    stderr = capsys.readouterr().err
    assert "b.mp4: ZeroDivisionError: injected" in stderr
    assert "2 done, 1 failed" in stderr
    assert sorted(file.name for file in cuts.glob("*.mov")) == ["a.mov", "c.mov"]
    assert main([names[1], "-o", str(tmp_path / "b.mov"), *tiny]) == 70


def test_out_of_memory_is_no_internal_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(**_: object) -> None:
        raise MemoryError("Unable to allocate 2.00 GiB")

    monkeypatch.setattr("vidmatte.cli.main.app", out_of_memory)
    assert main([]) == 1
    line = "not enough memory (Unable to allocate 2.00 GiB): close other programs"
    assert capsys.readouterr().err == f"vidmatte: {line}, or take smaller pictures\n"


def test_where_results_go(tmp_path: Path) -> None:
    def plan(inputs: list[str], output: str | None, **options: object) -> list[str]:
        pairs = plan_outputs([Path(name) for name in inputs], output, make_settings(**options))
        return [str(target) for _, target in pairs]

    assert plan(["clip.mp4"], "out.mov") == ["out.mov"]
    assert plan(["clip.mp4"], "frames") == ["frames"]
    assert plan(["a/clip.v2.mp4"], "cuts", format="mov") == ["cuts/clip.v2.mov"]
    assert plan(["clip.mp4"], None) == ["clip_matte.mov"]
    assert plan(["a.mp4", "a.mov"], "cuts", format="mov") == ["cuts/a_mp4.mov", "cuts/a_mov.mov"]
    assert plan(["a.mp4", "b.mp4"], "cuts", format="png") == ["cuts/a", "cuts/b"]
    assert plan(["clip.mp4"], "SH010.v2/") == ["SH010.v2"]
    assert plan(["clip.mp4"], "SH010.v2/", format="mov") == ["SH010.v2/clip.mov"]
    assert plan(["a.mp4", "b.mp4"], "cuts.v2/") == ["cuts.v2/a.mov", "cuts.v2/b.mov"]
    assert plan(["x/a.mp4", "y/a.mp4"], None) == ["x/a_matte.mov", "y/a_matte.mov"]
    assert plan(["a.mp4", "a.mov"], None) == ["a_mp4_matte.mov", "a_mov_matte.mov"]
    assert plan(["photo.jpg"], None) == ["photo_matte.png"]
    assert plan(["photo.jpg"], "cut.tif") == ["cut.tif"]
    assert plan(["photo.jpg"], "cut/") == ["cut/photo.png"]
    assert plan(["photo.jpg"], "cut", format="exr") == ["cut/photo.exr"]
    assert plan(["a.jpg", "b.mp4"], "cut") == ["cut/a.png", "cut/b.mov"]
    assert plan(["a.jpg", "a.png"], "cut") == ["cut/a_jpg.png", "cut/a_png.png"]
    assert plan(["a.jpg", "b.jpg"], "cut", format="png") == ["cut/a.png", "cut/b.png"]
    for inputs, output in ((["a.mp4", "b.mp4"], "out.mov"), (["x/a.mp4", "y/a.mp4"], "cuts"),
                           (["a.mp4"], "")):  # fmt: skip
        with pytest.raises(UsageError):
            plan(inputs, output)
    (tmp_path / "same.mov").touch()
    with pytest.raises(UsageError, match="input itself"):
        plan([str(tmp_path / "same.mov")], str(tmp_path / "same.mov"))


def test_images_are_written_directly_into_the_folder(tmp_path: Path, tiny: list[str]) -> None:
    photos = make_pictures(tmp_path / "photos", frames=3)
    for one in (photos, photos[:1]):
        out = tmp_path / f"cut.v{len(one)}"
        assert main([*map(str, one), "-o", f"{out}/", "-q", "--no-manifest", *tiny]) == 0
        assert sorted(path.name for path in out.iterdir()) == [photo.name for photo in one]


def test_one_frame_is_singular(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=1).path
    assert main([str(clip), "-o", str(tmp_path / "cut.mov"), *tiny]) == 0
    printed = capsys.readouterr()
    assert "cut.mov: 1 frame, " in printed.out + printed.err


@pytest.mark.parametrize(
    ("out", "found"), [(".", "000001.png"), ("..", "000001.png"), ("f_%02d.png", "f_01.png"),
    ("take1:2.mov", "take1:2.mov")],
)  # fmt: skip
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_results_in_the_current_folder(
    out: str, found: str, more: list[str], tmp_path: Path, tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    here = tmp_path / "folder" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    words = ["--overwrite"] if out == ".." else []
    assert main([str(clip), "-o", out, "-q", *tiny, *more, *words]) == 0
    folder = here.parent if out == ".." else here
    assert (folder / found).is_file()
    assert Path.cwd() == here, "the current folder was replaced"
    assert main(["verify", out]) == 0
    assert not [path for path in tmp_path.rglob(".*")]


@pytest.mark.skipif(sys.platform != "linux", reason="file names can be any bytes on Linux only")
@pytest.mark.parametrize("more", [[], ["--resume"], ["--json"]])
def test_a_file_name_need_not_be_utf_8(more: list[str], tmp_path: Path, tiny: list[str]) -> None:
    plates = tmp_path / os.fsdecode(b"pl\xff")
    for number, file in enumerate(make_pictures(tmp_path / "plates", frames=2)):
        file.rename(file.with_name(os.fsdecode(b"%d\xfe.png" % number)))
    (tmp_path / "plates").rename(plates)
    for out in (tmp_path / os.fsdecode(b"out\xfd.mov"), tmp_path / os.fsdecode(b"cut\xfd")):
        assert main([str(plates), "-o", str(out), "-q", *tiny, *more]) == 0
        assert main(["verify", str(out)]) == 0


def test_a_single_pixel_is_refused(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((1, 1, 3), np.uint8))
    assert main([str(tmp_path / "p.png"), *tiny]) == 2
    assert "a single pixel" in capsys.readouterr().err


def test_a_folder_may_have_a_dot_in_its_name(tmp_path: Path, tiny: list[str]) -> None:
    make_movie(tmp_path / "clip.mp4", frames=2)
    folders = [tmp_path / name for name in ("SH010.v2", "matte.v2", "fg", "comp.v1")]
    extras = zip(("--matte", "--foreground", "--comp"), folders[1:], strict=True)
    words = [word for flag, folder in extras for word in (flag, f"{folder}/")]
    out = ["-o", f"{folders[0]}/"]
    assert main([str(tmp_path / "clip.mp4"), *out, *words, "-q", *tiny]) == 0
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--model", "isnt"], "isnet"),
        (["--smooth", "much"], "choose from"),
        (["--batch", "1000"], "0 to 64"),
        (["--memory", "lots"], "512M"),
        (["--device", "tpu"], "cuda"),
        (["--format", "avi"], "prores"),
        (["--family", "isnet"], ".onnx"),
        (["--no-such-option"], "--no-such-option"),
        (["--in", "f100"], "outside"),
        (["--fps", "25"], "picture folders"),
        (["--codec", "avi"], "vidmatte: format avi"),
        (["--codec", "cineform", "--format", "prores"], "use one of them"),
        (["--checker", "--alpha", "premultiplied"], "has a background, and no alpha"),
        (["--quality", "90"], "prores has no choice of it"),
        (["--quality", "101"], "0 to 100"),
        (["--handles", "5"], "--in or --out"),
        (["--start-number", "5"], "%06d"),
        (["--combine", "max"], "two models"),
        (["--model", "isnet+u2netp", "--downsample", "0.5"], "recurrent models"),
        (["--model", "isnet+u2netp", "--foreground", "model"], "gives none"),
        (["--model", "isnet", "--foreground", "model"], "gives none"),
    ],
)
@pytest.mark.thinned(3)
def test_bad_options_are_named_in_one_line(
    words: list[str], part: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_movie(tmp_path / "clip.mp4", frames=3)
    capfd.readouterr()
    assert main([str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out.mov"), *words]) != 0
    stderr = capfd.readouterr().err
    assert part in stderr
    assert len(stderr.strip().splitlines()) == 1, stderr
    assert not (tmp_path / "out.mov").exists()


@pytest.mark.parametrize("words", [["", "-o", "out.mov"], ["info", ""], ["preview", ""]])
def test_an_empty_name_is_not_the_current_folder(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_pictures(tmp_path, frames=2)
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    stderr = capfd.readouterr().err
    assert "name is empty" in stderr
    assert len(stderr.strip().splitlines()) == 1, stderr
    with pytest.raises(UsageError, match="name is empty"):
        vidmatte.stream("")


def test_info_describes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_movie(
        tmp_path / "clip.mov", frames=4, rate=Fraction(30000, 1001), timecode="01:00:00;00",
        audio=[Tone()],
    )  # fmt: skip
    assert main(["info", str(tmp_path / "clip.mov")]) == 0
    stdout = capsys.readouterr().out
    for part in ("30000/1001", "01:00:00;00", "192x108", "yuv420p", "bt709", "48000 Hz"):
        assert part in stdout
    assert main(["info", str(tmp_path / "clip.mov"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames"] == 4
    assert facts["rate"] == "30000/1001"
    assert facts["colour"]["matrix"] == "bt709"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.mp4 --erode abc", "--erode abc: expected a number from 0 to 500"),
        ("a.mp4 --remove-specks 1.5", "--remove-specks 1.5: expected a whole number from 0 to"),
        ("a.mp4 --batch 65", "--batch 65: allowed is 0 to 64"),
        ("preview a.mp4 --frames 0", "--frames 0: allowed is 1 or more"),
        ("bench --rounds 101", "--rounds 101: allowed is 100 or less"),
        ("a.mp4 --fps 1e-999999999", "--fps: '1e-999999999' is not a frame rate"),
        ("a.mp4 --conform 1001", "--conform: '1001' is not a frame rate"),
        ("a.mp4 --memory 0", "--memory: '0' is not an amount"),
        ("a.mp4 --nope", "No such option: --nope"),
        ("a.mp4 --comp c.mp4 --background=", "--background: empty value"),
    ],
)
def test_a_wrong_value_is_reported_with_its_option(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert len(stderr.splitlines()) == 1


def test_a_cache_is_a_folder(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(make_pictures(tmp_path, frames=1)[0])
    assert main([photo, "--cache", photo, *tiny]) == 2
    assert "that is a file: name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_during_an_import_is_a_stop(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing(**_: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    handlers = {one: signal.getsignal(one) for one in signal.valid_signals()}
    monkeypatch.setattr("vidmatte.cli.main.app", importing)
    try:
        assert main([]) == 130
    finally:
        for one, handler in handlers.items():
            if signal.getsignal(one) != handler:
                signal.signal(one, handler)
    assert capsys.readouterr().err == "vidmatte: stopped\n"


def test_one_bad_file_among_several_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mov", "c.mov"):
        make_movie(tmp_path / name, frames=2)
    (tmp_path / "b.mov").write_bytes(b"")
    names = [str(tmp_path / name) for name in ("a.mov", "b.mov", "c.mov", "d.mov")]
    assert main(["info", *names]) == 2
    captured = capsys.readouterr()
    assert [name in captured.out for name in names] == [True, False, True, False]
    assert [
        names[place] in line for place, line in zip((1, 3), captured.err.splitlines(), strict=True)
    ]
    assert main(["info", "--json", *names]) == 2
    assert [fact.get("frames") for fact in json.loads(capsys.readouterr().out)] == [
        2,
        None,
        2,
        None,
    ]
    model = str(make_salient(tmp_path / "tiny.onnx"))
    made = str(tmp_path / "made.mov")
    assert main([names[0], "-o", made, "--model", model, "--family", "isnet"]) == 0
    assert main(["verify", names[2], made, names[3]]) == 2
    assert "matches its manifest" in capsys.readouterr().out


def test_options_of_the_table_are_checked() -> None:
    assert parse_rate("29.97") == Fraction(30000, 1001)
    assert parse_rate("23.976") == Fraction(24000, 1001)
    assert parse_rate("25") == 25
    assert parse_rate("12.5") == Fraction(25, 2)
    assert parse_rate("0.002") == Fraction(1, 500)
    assert parse_rate("29.123456789123").denominator <= 1_000_000
    assert parse_bytes("1.5G") == 3 * 2**29
    for wrong in ({"batch": "many"}, {"downsample": 2.0}, {"fps": "0"}, {"conform": "x"}):
        with pytest.raises(UsageError):
            Settings(**wrong)
    with pytest.raises(UsageError, match="unknown option tint"):
        make_settings(tint="red")


def test_values_from_python_equal_those_of_the_command_line() -> None:
    given = {
        "fps": Fraction(24000, 1001), "conform": 25, "in_point": 1.5, "memory": 512_000_000,
        "threshold": (0.1, 0.9), "background": Path("a.png"), "comp": Path("c.mp4"),
        "gamma": 2, "batch": np.int64(3),
    }  # fmt: skip
    settings = Settings(**given)
    expected = {
        "fps": "24000/1001", "conform": "25", "in_point": "1.5", "memory": "512000000",
        "threshold": "0.1,0.9", "background": "a.png", "comp": "c.mp4", "gamma": 2.0, "batch": 3,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in expected} == expected
    json.dumps(settings.model_dump())


@pytest.mark.parametrize(
    "wrong",
    [
        {"erode": float("nan")}, {"gamma": float("nan")}, {"memory": "inf"}, {"memory": "nan"},
        {"batch": 1.5}, {"gamma": "2"}, {"cuts": "no"}, {"overwrite": 1}, {"batch": True},
        {"fps": True}, {"model": None}, {"smooth": None}, {"comp": {"a": 1}}, {"background": b"x"},
        {"gamma": 10**400}, {"gamma": Fraction(-(10**400))}, {"cache": "\0"}, {"model": "a\0.onnx"},
    ],
)  # fmt: skip
def test_values_of_the_wrong_type_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": "abc"}, "--threshold: 'abc' is not a pair of levels: write LOW,HIGH with"),
        ({"threshold": (0.9, 0.1)}, "--threshold: '0.9,0.1' is not a pair of levels"),
        ({"in_point": "f-1"}, "--in: 'f-1' is not a frame, time or timecode: write f120 (frame)"),
        ({"out_point": "noon"}, "--out: 'noon' is not a frame, time or timecode"),
        ({"device": "cuda:0,cuda:0"}, "--device: 'cuda:0,cuda:0' is not a device: choose auto"),
        ({"background": "#12345"}, "--background: '#12345' is neither a file nor a colour"),
        ({"gamma": "2"}, "--gamma '2': expected a number from 0.05 to 20"),
        ({"batch": 1.5}, "--batch 1.5: expected a whole number from 0 to 64"),
        ({"cuts": "no"}, "--cuts 'no': expected True or False"),
        ({"comp": {"a": 1}}, "--comp {'a': 1}: expected a string"),
        ({"resume": True, "cache": "kept"}, "--resume and --cache exclude each other"),
    ],
)
def test_settings_are_checked_on_construction(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**wrong)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        Settings().changed(**wrong)


def test_a_file_name_may_look_like_a_partial_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("#12.png").touch()
    assert Settings(background="#12.png").background == "#12.png"


def test_the_json_schema_matches_the_options() -> None:
    schema = Settings.model_json_schema()
    assert schema["properties"].keys() == options_of(Settings).keys()
    for name, option in options_of(Settings).items():
        shown = schema["properties"][name]
        found = {**shown, **next((one for one in shown.get("anyOf", [])), {})}
        assert shown["description"] == option.help
        default = list(option.default) if option.kind is tuple else option.default
        assert shown["default"] == default
        assert (shown["group"], shown["decides"]) == (option.group, option.decides)
        one_word = (found["const"],) if "const" in found else ()
        assert tuple(found.get("enum", one_word)) == option.choices
        assert (found.get("minimum"), found.get("maximum")) == (option.low, option.high)
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}
        assert found["type"] == kinds[option.kind]
    assert "\n" not in schema["description"]


def test_each_part_takes_its_own_options() -> None:
    parts = (
        ModelOptions,
        SubjectOptions,
        MatteOptions,
        AdjustOptions,
        OutputOptions,
        InputOptions,
        MachineOptions,
    )
    names = [name for part in parts for name in options_of(part)]
    assert names == list(options_of(Settings))
    settings = Settings(erode=2)
    assert all(isinstance(settings, part) for part in parts)
    assert AdjustOptions(erode=2).erode == settings.erode
    with pytest.raises(UsageError, match="unknown option batch"):
        AdjustOptions(batch=2)


@pytest.mark.parametrize(("name", "message"), [("", "name is empty"), ("a\0.mov", "NUL character")])
def test_an_output_without_a_name_is_refused(name: str, message: str, tmp_path: Path) -> None:
    """An empty name does not mean the current folder."""
    make_movie(tmp_path / "clip.mp4", frames=2)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    with pytest.raises(UsageError, match=message):
        vidmatte.matte(
            tmp_path / "clip.mp4", name, model=model, family="isnet", format="png", overwrite=True
        )


def test_a_users_own_recurrent_file(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=5)
    model = make_recurrent(tmp_path / "own.onnx")
    out = tmp_path / "out.webm"
    words = [str(tmp_path / "clip.mp4"), "-o", str(out), "--model", str(model), "--family", "rvm"]
    assert main([*words, "-q"]) == 0
    with av.open(str(out)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 5


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_trailing_slash_means_a_folder_even_with_an_image_suffix(
    resume: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make_movie(tmp_path / "clip.mp4", frames=2)
    model = ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet", *resume]
    (place := tmp_path / "to").mkdir()
    for words in (
        [f"{place}/a.png/"],
        [f"{place}/b.exr/", "--format", "exr"],
        [f"{place}/c.png/", "--matte", f"{place}/m.png/"],
    ):
        assert main([str(tmp_path / "clip.mp4"), "-o", *words, *model, "-q"]) == 0
    made = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    pictures = {f"{name}/00000{n}.png" for name in ("a.png", "c.png", "m.png") for n in (0, 1)}
    manifests = {"a.png.json", "b.exr.json", "c.png.json"}
    assert {*made} == pictures | {"b.exr/000000.exr", "b.exr/000001.exr"} | manifests
    vidmatte.matte(tmp_path / "clip.mp4", f"{place}/d.png/", model=model[1], family="isnet")
    assert len(list((place / "d.png").iterdir())) == 2
    with pytest.raises(
        UsageError, match=r"d_%02d\.png/: a folder's name cannot contain a frame number"
    ):
        vidmatte.matte(tmp_path / "clip.mp4", f"{place}/d_%02d.png/", model=model[1])
    made = {path.name for path in place.iterdir()}

    def check(*_: object, **__: object) -> None:
        assert {path.name for path in place.iterdir()} == made, "files were created before the run"
        raise UsageError("enough")

    with monkeypatch.context() as patch:
        patch.setattr("vidmatte.api.run", check)
        with pytest.raises(UsageError, match="enough"):
            vidmatte.matte(tmp_path / "clip.mp4", f"{place}/f.png/", model=model[1], family="isnet")
    # A job that cannot run creates no folder.
    assert main([str(tmp_path / "gone.mp4"), "-o", f"{place}/e.png/", *model]) == 1
    assert not (place / "e.png").exists()
    capsys.readouterr()
    assert main([str(tmp_path / "clip.mp4"), "-o", f"{place}/no/e.png/", *model]) == 1
    assert "no such folder for e.png: create it" in capsys.readouterr().err

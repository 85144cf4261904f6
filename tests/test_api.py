"""The contract of the Python API: errors, interrupts, progress, types."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, get_type_hints

import av
import cv2
import numpy as np
import pytest
from media import make_movie, make_pictures
from tiny_onnx import make_salient

import vidmatte
from vidmatte import keywords
from vidmatte.core.prompts import Prompt
from vidmatte.errors import (
    InterruptedRunError,
    OutputError,
    OutputExistsError,
    UsageError,
    VidmatteError,
    WeightsError,
)
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import Progress
from vidmatte.models.weights.catalogue import lookup
from vidmatte.readers.open import open_reader
from vidmatte.settings import Option, OutputOptions, Settings, make_settings, options_of


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small clip of six frames."""
    folder = tmp_path_factory.mktemp("clip")
    return make_movie(folder / "clip.mp4", size=(96, 64), frames=6).path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options that choose a network of a few kilobytes."""
    path = make_salient(tmp_path_factory.mktemp("network") / "tiny.onnx")
    return {"model": path, "family": "isnet"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for results."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def ctrl_c(*_: object, **__: object) -> None:
    """What Ctrl+C in the terminal does to a program without a handler of its own."""
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_a_loop_that_logs_failures(clip: Path, tiny: dict[str, Any], out: Path) -> None:
    swallowed = []
    with pytest.raises(KeyboardInterrupt) as caught:
        for _ in range(2):
            try:
                vidmatte.matte(clip, out / "cut.mov", progress=ctrl_c, **tiny)
            except Exception as error:  # noqa: BLE001 (as in such a loop)
                swallowed.append(error)
    assert swallowed == []
    assert isinstance(caught.value, InterruptedRunError)
    assert not isinstance(caught.value, Exception)
    assert str(caught.value).startswith("stopped after 1 frame: ")
    assert list(out.iterdir()) == []


def test_ctrl_c_before_the_first_frame_raises_the_same_error(
    clip: Path, tiny: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidmatte.models.registry.ModelChoice.fetch", ctrl_c)
    with pytest.raises(InterruptedRunError, match=r"before the first frame of .*cut\.mov"):
        vidmatte.matte(clip, out / "cut.mov", **tiny)
    assert list(out.iterdir()) == []


@pytest.fixture
def nothing_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a model whose weights are missing, on a machine that cannot fetch them."""
    (mirror := tmp_path / "mirror").mkdir()
    monkeypatch.setenv("VIDMATTE_MODELS_URL", mirror.as_uri())
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    return {"model": "u2netp", "models_dir": tmp_path / "no weights"}


def test_a_job_is_checked_before_its_weights_are_fetched(
    clip: Path, out: Path, tmp_path: Path, nothing_to_fetch: dict[str, Any]
) -> None:
    existing = out / "existing.mov"
    existing.write_text("of another run")
    (tall := tmp_path / "tall.png").write_bytes(
        cv2.imencode(".png", np.zeros((64, 32), np.uint8))[1].tobytes()
    )
    for wrong, error, message in (
        ({"output": existing}, OutputExistsError, "exists: --overwrite replaces it"),
        ({"matte": clip, "overwrite": True}, UsageError, "replace .* an input itself"),
        ({"output": out / "cut.avi"}, UsageError, "avi"),
        ({"garbage_matte": tall}, UsageError, "--garbage-matte .*another shape"),
        ({"threshold": "abc"}, UsageError, "--threshold: 'abc' is not a pair of levels"),
        ({"batch": 4, "model": "rvm"}, UsageError, "--batch 4: a recurrent model"),
        ({"comp": out / "c.mp4", "background": "whte"}, UsageError, "neither a file nor a colour"),
        ({"foreground": "model"}, UsageError, "gives none"),
        ({}, WeightsError, "u2netp"),
    ):
        options: dict[str, Any] = {"output": out / "cut.mov", **nothing_to_fetch, **wrong}
        with pytest.raises(error, match=message):
            vidmatte.matte(clip, **options)
    for wrong, message in (
        ({"holdout": tall}, "--holdout .*another shape"),
        ({"downsample": 0.5}, "--downsample 0.5"),
    ):
        with pytest.raises(UsageError, match=message):
            vidmatte.stream(clip, **{**nothing_to_fetch, **wrong})
    assert [path.name for path in out.iterdir()] == ["existing.mov"]
    assert not (tmp_path / "no weights").exists()


def test_a_full_disk_is_reported_before_anything_is_fetched(
    clip: Path,
    out: Path,
    nothing_to_fetch: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = lookup("u2netp").size_bytes
    for free, message in (
        (0, rf"^{out}: not enough disk space: 0.0 MB free"),
        (size - 1, rf"not enough disk space: .* {size / 2**20:.1f} MB needed"),
    ):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: usage)
        with pytest.raises(OutputError, match=message):
            vidmatte.matte(clip, out / "cut.mov", **nothing_to_fetch)
    assert list(out.iterdir()) == []


def test_a_checked_job_lists_what_will_be_written(
    clip: Path, tiny: dict[str, Any], out: Path
) -> None:
    settings = make_settings(matte=f"{out}/m/", comp=out / "c.mp4", **tiny)
    job = make_job(clip, out / "cut.webm", settings)
    with open_reader(job.source, job.settings) as source:
        checked = check_job(job, source)
        assert check_job(job, source, checked.model).model is checked.model
    assert checked.job is job
    assert checked.clip.frame_count == 6
    assert [row.name for row in checked.formats] == ["webm", "png16", "h264"]
    assert checked.model.missing_bytes == 0
    assert list(out.iterdir()) == []
    folder = make_job(clip, f"{out}/shot.v2/", make_settings())
    assert (folder.is_folder, folder.settings.format) == (True, "png")


#: Options that make a job impossible; checking them needs no model.
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "an output that exists": {},
    "a threshold of one number": {"threshold": "0.5"},
    "a threshold of no numbers": {"threshold": "abc"},
    "a missing mask": {"garbage_matte": "nowhere.png"},
    "a mask of another shape": {"holdout": "tall.png"},
    "a missing background": {"background": "nowhere.png", "comp": "comp.mp4"},
    "a matte at the path of the result": {"matte": "cut.mov"},
    "a checkpoint and a cache": {"resume": True, "cache": "kept"},
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_job_is_refused_before_weights_are_fetched(
    what: str, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> Path:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr("vidmatte.models.weights.store.Store.ensure", fetch)
    monkeypatch.chdir(out)
    make_pictures(out, size=(64, 96), frames=1)[0].rename("tall.png")
    if not IMPOSSIBLE[what]:
        (out / "cut.mov").write_bytes(b"precious")
    before = sorted(out.iterdir())
    with pytest.raises(VidmatteError) as caught:
        vidmatte.matte(clip, "cut.mov", model="u2netp", **IMPOSSIBLE[what])
    assert "\n" not in str(caught.value)
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize("text", ["abc", "0.5", "0.9,0.1", "0.1,1.5", "-1,1", "0.1,0.2,0.3"])
def test_a_threshold_is_checked_when_the_settings_are_made(text: str) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*threshold[^\n]*$"):
        Settings(threshold=text)


def test_progress_is_reported_frame_by_frame(clip: Path, tiny: dict[str, Any], out: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    def report(progress: Progress) -> None:
        seen.append((progress.done, progress.total))

    vidmatte.matte(clip, out / "cut.mov", progress=report, **tiny)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_an_exception_of_progress_stops_the_run_and_propagates(
    clip: Path, tiny: dict[str, Any], out: Path
) -> None:
    class EnoughError(Exception):
        pass

    def report(progress: Progress) -> None:
        if progress.done == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        vidmatte.matte(clip, out / "cut.mov", progress=report, **tiny)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "output None: expected a path"),
        (3, "output 3: expected a path"),
        (b"cut.mov", "output b'cut.mov': expected a path"),
        ("cut\ud800.mov", "the name contains an unpaired surrogate"),
        ("x" * 251 + ".mov", "has 255 bytes, the limit is 241"),
        ("x" * 238 + ".mov", "has 242 bytes, the limit is 241"),
        ("x" * 250, "has 250 bytes, the limit is 241"),
        ("x" * 300 + "/cut.mov", "the name has 300 bytes, the limit is 255 here"),
    ],
)
def test_an_invalid_output_is_refused(
    output: Any, message: str, clip: Path, tiny: dict[str, Any]
) -> None:
    with pytest.raises(VidmatteError, match=message) as caught:
        vidmatte.matte(clip, output, **tiny)
    assert len(str(caught.value).splitlines()) == 1


def test_the_longest_name_is_accepted(clip: Path, tiny: dict[str, Any], out: Path) -> None:
    name = "x" * 237 + ".mov"
    assert vidmatte.matte(clip, out / name, **tiny).written.path.name == name


def test_an_extra_output_with_too_long_a_name_is_refused(
    clip: Path, tiny: dict[str, Any], out: Path
) -> None:
    with pytest.raises(OutputError, match="has 255 bytes, the limit is"):
        vidmatte.matte(clip, out / "cut.mov", matte=out / ("x" * 251 + ".mov"), **tiny)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("source", [None, 3, b"clip.mp4", "clip\ud800.mp4", "x" * 300 + ".mp4"])
def test_an_invalid_source_is_refused(source: Any, tiny: dict[str, Any], out: Path) -> None:
    with pytest.raises(VidmatteError):
        vidmatte.matte(source, out / "cut.mov", **tiny)
    with pytest.raises(VidmatteError):
        vidmatte.stream(source, **tiny)


def test_progress_is_a_function(clip: Path, tiny: dict[str, Any], out: Path) -> None:
    progress: Any = 3
    with pytest.raises(UsageError, match="progress 3: expected a function of one argument"):
        vidmatte.matte(clip, out / "cut.mov", progress=progress, **tiny)


def test_the_types_of_options_are_those_of_the_table() -> None:
    """``keywords`` gives a type checker the same types as the table of options."""

    def accepted(option: Option) -> Any:
        if option.kind is tuple:  # one prompt or file, or several
            one = keywords.Text if option.name == "timeline" else Prompt | str
            return one | Sequence[one]
        if option.kind is not str:
            return option.kind
        if option.name == "manifest":  # also True and False, as it was a switch
            return str | bool
        # --foreground also accepts a file.
        is_word = option.choices and option.name != "foreground"
        text = str if is_word else keywords.Text
        return text if option.default is not None else text | None

    options = options_of(vidmatte.Settings)
    assert get_type_hints(keywords.Options) == {
        name: accepted(one) for name, one in options.items()
    }
    of_files = set(options_of(OutputOptions))
    assert keywords.StreamOptions.__annotations__.keys() == set(options) - of_files


def test_the_functions_take_those_options() -> None:
    assert get_type_hints(vidmatte.matte)["options"] == Unpack[keywords.Options]
    assert get_type_hints(vidmatte.stream)["options"] == Unpack[keywords.StreamOptions]


def test_the_public_names_are_listed_and_found() -> None:
    script = """
import sys, vidmatte
loaded = {name for name in sys.modules if name.startswith("vidmatte.")}
assert loaded <= {"vidmatte._version"}, loaded
listed = [name for name in dir(vidmatte) if not name.startswith("_")]
assert listed == sorted(name for name in vidmatte.__all__ if not name.startswith("_")), listed
assert vidmatte.errors.VidmatteError is vidmatte.VidmatteError
assert all(getattr(vidmatte, name) is not None for name in listed)
try:
    vidmatte.nope
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'vidmatte' has no attribute 'nope'\n"


def test_help_gives_the_meaning_and_range_of_every_option() -> None:
    doc = vidmatte.Settings.__doc__ or ""
    for option in options_of(vidmatte.Settings).values():
        assert f"\n{option.name}: " in doc
        assert option.help in doc
    assert "\nsmooth: str = 'auto'; one of auto, on, live, strong, off\n" in doc
    assert "\nerode: float = 0.0; 0 to 500\n" in doc


def test_streamed_frames_can_be_put_in_sets(clip: Path, tiny: dict[str, Any]) -> None:
    with vidmatte.stream(clip, **tiny) as frames:
        first, second = next(frames), next(frames)
    assert len({first, second, first}) == 2
    assert first != second


def test_the_callers_environment_is_unchanged(
    clip: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's telemetry is off all the same: it would leave files in the cache folder."""
    script = """
import os, sys, vidmatte
with vidmatte.stream(sys.argv[1], model=sys.argv[2], family="isnet", runtime="onnxruntime") as all:
    assert len(list(all)) == 6
assert "ORT_DISABLE_TELEMETRY" not in os.environ
"""
    (tmp_path / "home").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    words = [sys.executable, "-c", script, str(clip), str(tiny["model"])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.parametrize("policy", ["auto", "source"])
def test_ffv1_keeps_the_samples_as_the_readme_says(
    policy: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    clip = make_movie(tmp_path / "clip.mkv", frames=1, codec="ffv1", pixel_format="yuv444p").path
    vidmatte.matte(clip, tmp_path / "cut.mkv", foreground=policy, **tiny)
    before, after = planes(clip), planes(tmp_path / "cut.mkv")
    alpha = after[3]
    assert (alpha == 255).any()
    assert ((alpha > 0) & (alpha < 255)).any()
    same = (before == after[:3]).all(0)
    assert same[alpha == 255].all()
    assert same.all() == (policy == "source")


def planes(path: Path) -> np.ndarray:
    """(planes, H, W) uint8: the first frame's coded samples, none subsampled."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return np.stack(
            [
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
                for plane in frame.planes
            ]
        )

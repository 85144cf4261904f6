"""The chosen subject in whole runs: one of two bright discs that pass each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from guidance_drawn import Drawn, moving, texture
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.alpha.guidance.store import CoarseStore
from vidmatte.cli.main import main
from vidmatte.core.prompts import Mask, Moment, Point
from vidmatte.errors import InterruptedRunError, UsageError
from vidmatte.models.base import Network
from vidmatte.models.weights.store import Store
from vidmatte.settings import Settings

COUNT, RADIUS = 14, 34
PINK, AZURE = texture(1, (235, 150, 150)), texture(2, (130, 190, 245))
GROUND = texture(0, (40, 55, 40), 10)
LEFT, RIGHT = (70.0, 90.0), (250.0, 80.0)  # where the discs begin


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return two_discs(COUNT)


def two_discs(count: int) -> Drawn:
    """The pink disc goes right, behind the azure one that goes left."""
    discs = [(moving(LEFT, (12, 0)), RADIUS, PINK), (moving(RIGHT, (-12, 0)), RADIUS, AZURE)]
    return Drawn(discs, count, ground=lambda _: GROUND)


@pytest.fixture(scope="module")
def clip(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return written(drawn, tmp_path_factory.mktemp("clips") / "discs")


def written(drawn: Drawn, folder: Path) -> Path:
    folder.mkdir()
    for index, picture in enumerate(drawn.pictures):
        cv2.imwrite(str(folder / f"{index:04}.png"), picture[..., ::-1])
    return folder


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A network that marks what is bright; there is no backbone, so colours and motion decide."""
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    return tiny_options(tmp_path)


def tiny_options(folder: Path) -> dict[str, Any]:
    path = make_salient(folder / "tiny.onnx", 160)
    return {"model": path, "family": "isnet", "models_dir": folder / "models", "fps": 25}


@pytest.fixture(scope="module")
def made(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], np.ndarray]:
    """The alphas of an undisturbed run by its --subject, '' without one."""
    folder, found = tmp_path_factory.mktemp("made"), {}

    def alphas_with(subject: str) -> np.ndarray:
        if subject not in found:
            chosen = {"subject": subject} if subject else {}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("VIDMATTE_OFFLINE", "1")
                out = folder / str(len(found))
                found[subject] = run(clip, out, tiny_options(folder), **chosen)
        return found[subject]

    return alphas_with


def alphas(folder: Path) -> np.ndarray:
    """(T, H, W) float32 in 0..1 of a folder of PNGs."""
    files = sorted(folder.glob("*.png"))
    read = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[..., 3] for file in files]
    return np.stack(read).astype(np.float32) / 255


def shares(found: np.ndarray, drawn: Drawn, which: int) -> tuple[float, float]:
    """The worst IoU with the wanted disc on frames that show most of it, and the share of the
    other that is left."""
    wanted = np.stack([masks[which] for masks in drawn.masks])
    other = np.stack([masks[1 - which] for masks in drawn.masks])
    both = (found > 0.5) & wanted
    either = (found > 0.5) | wanted
    area = wanted.sum((1, 2))
    seen = area > 0.6 * area.max()
    worst = (both.sum((1, 2))[seen] / either.sum((1, 2))[seen]).min()
    return float(worst), float(found[other].mean())


def part_of(drawn: Drawn, frames: slice) -> Drawn:
    """Some frames of it."""
    part = Drawn.__new__(Drawn)
    part.masks = drawn.masks[frames]
    return part


#: Before the discs meet, where that is not what a test is about.
APART = {"out_point": "f7"}


def run(clip: Path, out: Path, tiny: dict[str, Any], **options: Any) -> np.ndarray:
    vidmatte.matte(clip, out, **{"manifest": False, **tiny, **options})
    return alphas(out)


@pytest.mark.parametrize(("point", "which"), [("70,90", 0), ("250,80", 1)])
def test_the_chosen_disc_stays_and_the_other_goes(
    drawn: Drawn, made: Callable[[str], np.ndarray], point: str, which: int
) -> None:
    plain = shares(made(""), drawn, which)
    assert plain[1] > 0.9, "the network takes both"
    worst, left = shares(made(point), drawn, which)
    assert worst > 0.85
    assert left < 0.05


def test_a_subject_named_on_the_last_frame_is_followed_back(
    clip: Path, drawn: Drawn, tiny: dict[str, Any], tmp_path: Path
) -> None:
    place = LEFT[0] + 12 * (COUNT - 1)
    subject = [Point(place, LEFT[1], Moment("frame", str(COUNT - 1)))]
    worst, left = shares(run(clip, tmp_path / "cut", tiny, subject=subject), drawn, 0)
    assert worst > 0.85
    assert left < 0.05


def test_frames_are_counted_as_the_in_point_counts_them(
    clip: Path, drawn: Drawn, tiny: dict[str, Any], tmp_path: Path
) -> None:
    place = LEFT[0] + 12 * 4
    found = run(clip, tmp_path / "cut", tiny, subject=f"{place},90@f4", in_point="f2")
    assert found.shape[0] == COUNT - 2
    assert shares(found, part_of(drawn, slice(2, None)), 0)[0] > 0.85


def test_a_correction_changes_only_its_span_and_needs_no_network(
    clip: Path,
    drawn: Drawn,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = {}
    for index in (0, 6, 10):
        path = tmp_path / f"mask{index}.png"
        cv2.imwrite(str(path), drawn.mask(index, 0) * 255)
        masks[index] = f"{path}@f{index}"
    options = {**tiny, "cache": tmp_path / "cache", "smooth": "live", "refine": "off"}
    first = run(clip, tmp_path / "first", options, subject=[masks[0], masks[6]])

    def loads(*_: object) -> Network:
        raise AssertionError("the network is loaded")

    monkeypatch.setattr("vidmatte.models.registry.load_network", loads)
    second = run(clip, tmp_path / "second", options, subject=list(masks.values()))
    assert np.array_equal(first[:7], second[:7])
    assert not np.array_equal(first[10], second[10])
    again = run(clip, tmp_path / "again", options, subject=list(masks.values()))
    assert np.array_equal(second, again)


def test_each_named_subject_gets_a_result_of_its_own(
    clip: Path,
    drawn: Drawn,
    tiny: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    subjects = ["--subject", "pink:70,90", "--subject", "azure:250,80", "--each"]
    assert main([str(clip), "-o", f"{tmp_path / 'cut'}/", *words, *subjects]) == 0
    assert f"done   {tmp_path / 'cut_azure'}" in capsys.readouterr().err
    pink, azure = alphas(tmp_path / "cut_pink"), alphas(tmp_path / "cut_azure")
    assert shares(pink, drawn, 0)[0] > 0.85
    assert shares(azure, drawn, 1)[0] > 0.85
    assert (pink + azure).max() < 1.5
    facts = json.loads((tmp_path / "cut_pink.json").read_text("utf-8"))
    assert facts["settings"]["only"] == "pink"
    assert facts["settings"]["subject"] == ["pink:70,90", "azure:250,80"]


def test_several_subjects_together_are_all_of_them(
    clip: Path, drawn: Drawn, tiny: dict[str, Any], tmp_path: Path
) -> None:
    found = run(clip, tmp_path / "cut", tiny | APART, subject=["pink:70,90", "azure:250,80"])
    every = np.stack([np.any(masks, axis=0) for masks in drawn.masks[:7]])
    assert found[every].mean() > 0.9


def test_a_run_that_was_stopped_goes_on_with_the_same_frames(
    clip: Path, tiny: dict[str, Any], made: Callable[[str], np.ndarray], tmp_path: Path
) -> None:
    """Stopped in the first pass, while the subject is tracked, and at last in the result."""
    options, work = {**tiny, "subject": "70,90"}, tmp_path / ".cut.resume"
    done: dict[str, int] = {}

    def note(progress: vidmatte.Progress) -> None:
        done[progress.phase] = progress.done

    for phase, said in (
        ("subject", "no result was written; --resume continues$"),
        ("following subject", "no result was written; --resume continues$"),
        ("", "--resume continues from frame [1-9]$"),
    ):

        def stop(progress: vidmatte.Progress, phase: str = phase) -> None:
            note(progress)
            if progress.phase == phase and progress.done == 6:
                raise KeyboardInterrupt

        done.clear()
        with pytest.raises(InterruptedRunError, match=said):
            run(clip, tmp_path / "cut", options, resume=True, progress=stop)
        assert ("subject" in done) == (phase != ""), "the first pass is kept once it is complete"
        assert (work / "subject").is_dir()
    done.clear()
    result = vidmatte.matte(
        clip, tmp_path / "cut", manifest=False, resume=True, progress=note, **options
    )
    assert result.resumed_at > 0
    assert done == {"following subject": 1, "": COUNT}, "only the key is followed again"
    assert np.array_equal(alphas(tmp_path / "cut"), made("70,90"))
    assert not work.exists()


def test_a_subject_is_tracked_by_one_run_at_a_time(
    clip: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    def second(_: vidmatte.Progress) -> None:
        with pytest.raises(UsageError, match=r"cut\.resume/subject is locked by another"):
            run(clip, tmp_path / "cut", tiny, subject="70,90", resume=True)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        run(clip, tmp_path / "cut", tiny, subject="70,90", resume=True, progress=second)


def test_a_subject_that_leaves_is_reported_as_lost(tiny: dict[str, Any], tmp_path: Path) -> None:
    def leaves(index: int) -> tuple[float, float] | None:
        return (70.0 - 30 * index, 90.0)

    drawn = Drawn(
        [(leaves, RADIUS, PINK), (moving(RIGHT, (0, 0)), RADIUS, AZURE)], 12, lambda _: GROUND
    )
    clip = written(drawn, tmp_path / "leaves")
    result = vidmatte.matte(clip, tmp_path / "cut", subject="70,90", manifest=False, **tiny)
    assert result.quality.lost
    assert result.quality.lost[-1] == 11
    assert any("the chosen subject was not found" in line for line in result.quality.lines())
    assert alphas(tmp_path / "cut")[-1].max() < 0.1


def test_events_name_the_phases_and_the_doubtful_frames(
    clip: Path, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    assert main([str(clip), "-o", f"{tmp_path}/cut/", "--json", "--subject", "1", *words]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one.get("phase") for one in events if one["event"] == "start"} == {
        "subject", "following subject", None,
    }  # fmt: skip
    done = next(one for one in events if one["event"] == "done")
    assert 0 < len(done["quality"]["subject_doubtful"]) <= 5
    notes = [one["text"] for one in events if one["event"] == "note"]
    assert any("by colour and motion alone" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": "320,90"}, "point 320,90 is outside the frame"),
        ({"subject": "70,90@f14"}, "frame 14 is not read: choose f0 to f13"),
        ({"subject": "70,90@f1", "in_point": "f2"}, "frame 1 is not read: choose f2 to f13"),
        ({"subject": "70,90@later"}, "'later' is not a time"),
        ({"subject": "none.png"}, "neither a prompt nor a picture that exists"),
        ({"subject": "9"}, "subject at f0: no candidate 9: choose 1 to 2"),
        ({"subject": "pink:70,90", "only": "azure"}, "the subjects are pink"),
        ({"only": "azure"}, "it needs --subject"),
        ({"subjects": "none.json"}, "cannot be read"),
        ({"subject": Mask(np.ones((9, 9), np.uint8))}, "save it as a picture"),
        ({"subject": 1.5}, "expected a string"),
    ],
)
def test_a_wrong_subject_is_one_line_and_nothing_is_written(
    clip: Path, tiny: dict[str, Any], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        vidmatte.matte(clip, tmp_path / "cut", **tiny, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cut").exists()


def test_most_mistakes_are_found_before_weights_are_fetched(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetches(*_: object, **__: object) -> Path:
        raise AssertionError("weights are fetched")

    monkeypatch.setattr(Store, "ensure", fetches)
    with pytest.raises(UsageError, match="outside the frame"):
        vidmatte.matte(clip, tmp_path / "cut", subject="320,90", fps=25)
    square = {"version": 1, "width": 90, "height": 90, "prompts": [{"kind": "region", "choose": 1}]}
    (tmp_path / "square.json").write_text(json.dumps(square), "utf-8")
    with pytest.raises(UsageError, match="is for frames of 90x90 and the clip's are 320x180"):
        vidmatte.matte(clip, tmp_path / "cut", subjects=tmp_path / "square.json", fps=25)


def test_masks_and_rules_choose_too(
    clip: Path, drawn: Drawn, tiny: dict[str, Any], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "a mask.png"), drawn.mask(0, 1) * 255)
    subjects = {"version": 1, "prompts": [{"kind": "mask", "path": "a mask.png"}]}
    (tmp_path / "subjects.json").write_text(json.dumps(subjects), "utf-8")
    part = part_of(drawn, slice(7))
    by_mask = run(clip, tmp_path / "mask", tiny | APART, subjects=tmp_path / "subjects.json")
    assert shares(by_mask, part, 1)[0] > 0.85
    centre = run(clip, tmp_path / "centre", tiny | APART, subject="centre")
    assert shares(centre, part, 1)[0] > 0.85 or shares(centre, part, 0)[0] > 0.85


@pytest.mark.parametrize("command", ["subjects", "preview"])
def test_sheets_show_what_can_be_chosen_and_what_is(
    clip: Path,
    tiny: dict[str, Any],
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    chosen = ["--subject", "70,90", "--subject", "70,90@f3"] if command == "preview" else []
    sheet = tmp_path / "sheet.png"
    assert main([command, str(clip), "-o", str(sheet), *words, *chosen]) == 0
    height = cv2.imread(str(sheet)).shape[0]
    said = capsys.readouterr().err
    if command == "subjects":
        assert height == 180
        assert "2 candidates; choose one with --subject 1" in said
    else:
        assert height == 2 * 180
        assert "2 key frames with the chosen subject's mask" in said


def words_of(tiny: dict[str, Any]) -> list[str]:
    """Options as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]


@pytest.mark.parametrize("cached", [False, True])
def test_a_preview_shows_each_subject_on_any_frames(
    clip: Path,
    drawn: Drawn,
    tiny: dict[str, Any],
    tmp_path: Path,
    cached: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    followed = []

    class Noted(CoarseStore):
        def append(self, frame: CoarseFrame) -> None:
            followed.append(frame)
            super().append(frame)

    monkeypatch.setattr("vidmatte.jobs.subjects.CoarseStore", Noted)
    words = [*words_of(tiny), "--subject=pink:70,90", "--subject=azure:238,80@f1"]
    words += [f"--cache={tmp_path / 'cache'}"] * cached
    sheet = tmp_path / "sheet.png"
    assert main(["preview", str(clip), "-o", str(sheet), *words, "--at=f5", "--at=0.08"]) == 0
    assert "2 frames with the chosen subject" in capsys.readouterr().err
    assert len(followed) == (COUNT if cached else 6), "no frame after the last that is shown"
    picture = cv2.imread(str(sheet))[..., ::-1].astype(float)
    assert picture.shape == (2 * 180, 320, 3)
    for row, index in enumerate((2, 5)):
        change = picture[180 * row : 180 * row + 180] - drawn.pictures[index]
        pink, azure = drawn.masks[index]
        assert change[pink][:, 2].mean() < -30, "the first one's tint has little blue"
        assert change[azure][:, 0].mean() < -20, "the second one's little red"
        rest = ~(cv2.dilate((pink | azure).astype(np.uint8), np.ones((9, 9))) > 0)
        rest[:60, :150] = False  # the names
        assert np.abs(change[rest]).mean() < 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--at=f14"], "--at f14: frame 14 is not read: choose f0 to f13"),
        (["--at=f1", "--frames=2"], "--frames 2 and --at f1 exclude each other"),
    ],
)
def test_frames_that_a_preview_cannot_show_are_named(
    clip: Path,
    tiny: dict[str, Any],
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sheet = tmp_path / "sheet.png"
    given = [*words_of(tiny), "--subject=70,90", *words]
    assert main(["preview", str(clip), "-o", str(sheet), *given]) == 2
    assert message in capsys.readouterr().err
    assert not sheet.exists()


def test_a_stream_gives_the_same_alphas(
    clip: Path, tiny: dict[str, Any], made: Callable[[str], np.ndarray]
) -> None:
    found = made("70,90")
    with vidmatte.stream(clip, **tiny, subject=vidmatte.Point(70, 90)) as frames:
        streamed = np.stack([frame.alpha for frame in frames])
    assert np.abs(streamed - found).max() <= 0.5 / 255 + 1e-6


def test_settings_keep_prompts_as_texts() -> None:
    settings = Settings(subject=[Point(1, 2), "!3,4@f5"])
    assert settings.subject == ("1,2", "!3,4@f5")
    assert Settings(subject=2).subject == ("2",)
    assert not Settings().has_subject


def test_runs_with_a_real_backbone(
    clip: Path, drawn: Drawn, weights: Callable[[str], Path], tmp_path: Path
) -> None:
    path = make_salient(tmp_path / "tiny.onnx", 160)
    folder = weights("rvm").parent
    options = {"model": path, "family": "isnet", "models_dir": folder, "fps": 25, **APART}
    found = run(clip, tmp_path / "cut", options, subject="70,90")
    worst, left = shares(found, part_of(drawn, slice(7)), 0)
    assert worst > 0.85
    assert left < 0.05

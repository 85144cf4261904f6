"""The events of ``--json``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from media import make_movie, make_pictures
from tiny_onnx import make_salient

import vidmatte
from vidmatte.cli.main import main
from vidmatte.jobs.manifest import _digest

REFERENCE = Path(__file__).parent.parent / "examples" / "REFERENCE.md"
Event = dict[str, Any]


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """The options that choose a tiny network."""
    return ["--model", str(make_salient(tmp_path / "tiny.onnx")), "--family", "isnet"]


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """The path of a small clip."""
    return str(make_movie(tmp_path / "clip.mp4", size=(48, 32), frames=6).path)


def events(capsys: pytest.CaptureFixture[str], *words: str) -> list[Event]:
    """The events of a call; the last one has its exit status."""
    status = main([*words, "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[-1]["status"] == status
    return found


@pytest.mark.parametrize(
    ("words", "error", "status"),
    [
        (["--model", "nosuch"], "ModelError", 1),
        (["--model", "./nofile.onnx"], "ModelError", 1),
        (["--smooth", "nosuch"], "UsageError", 2),
        (["--bogus"], "UsageError", 2),
        (["--batch", "many"], "UsageError", 2),
        (["-q", "--verbose"], "UsageError", 2),
        (["other.mp4"], "UsageError", 2),
        (["-o", ""], "UsageError", 2),
    ],
)
def test_an_error_of_the_call_is_its_last_event(
    words: list[str], error: str, status: int, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([clip, "-o", "out.mov", "--json", *words]) == status
    captured = capsys.readouterr()
    (event,) = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == f"vidmatte: {event['message']}\n"
    assert event == {
        "event": "error", "error": error, "message": event["message"], "status": status
    }  # fmt: skip


def test_other_commands_print_no_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--json", "--bogus"]) == 2
    assert main(["--", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_events_of_an_input_name_it(
    tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make_movie(Path("a.mp4"), size=(48, 32), frames=6)
    make_pictures(Path("shots"), frames=2)
    Path("b.mp4").write_text("no movie")
    inputs = {"./a.mp4": "cuts/a.mov", "b.mp4": "cuts/b.mov", "shots/": "cuts/shots.mov"}
    found = events(capsys, *inputs, "-o", "cuts/", "--format", "mov", *tiny)
    own = [event for event in found if event.get("input")]
    assert {event["input"]: event["output"] for event in own} == inputs
    assert all(event["output"] == inputs[event["input"]] for event in own)
    (failed,) = [event for event in own if event["event"] == "failed"]
    assert (failed["input"], failed["error"]) == ("b.mp4", "SourceError")
    done = [event for event in own if event["event"] == "done"]
    assert [event["manifest"] for event in done] == ["cuts/a.mov.json", "cuts/shots.mov.json"]
    assert found[-1] == {
        "event": "summary", "done": ["./a.mp4", "shots/"], "failed": ["b.mp4"],
        "unfinished": [], "not_begun": [], "status": 1,
    }  # fmt: skip
    texts = [event["text"] for event in found if event["event"] == "note"]
    assert texts, "no note on the image folder's assumed rate"
    assert not any(text.startswith("vidmatte") for text in texts)


def test_the_last_progress_is_that_of_the_last_frame(
    tmp_path: Path, clip: str, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = events(capsys, clip, "-o", str(tmp_path / "out.mov"), *tiny)
    progress = [event for event in found if event["event"] == "progress"]
    assert (progress[0]["done"], progress[-1]["done"]) == (1, 6)
    first, last = progress[0]["busy_seconds"], progress[-1]["busy_seconds"]
    assert all(first[stage] <= last[stage] for stage in first)


def test_a_stop_lists_what_was_not_done(
    tmp_path: Path, clip: str, tiny: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidmatte.jobs.report.JsonReporter.advance", stopped)
    other = str(make_movie(tmp_path / "other.mp4", size=(48, 32), frames=3).path)
    cuts = tmp_path / "cuts"
    *_, stop, last = events(capsys, clip, other, "-o", f"{cuts}/", "--format", "mov", *tiny)
    assert (stop["event"], stop["input"]) == ("stopped", clip)
    assert stop["output"] == str(cuts / "clip.mov")
    assert (last["unfinished"], last["not_begun"], last["status"]) == ([clip], [other], 130)


def test_quiet_and_verbose_have_an_effect_on_events(
    tmp_path: Path, clip: str, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [clip, "-o", str(tmp_path / "out.mov"), "--overwrite", *tiny]
    quiet = events(capsys, *words, "-q")
    assert [event["event"] for event in quiet] == ["done", "summary"]
    details = [event for event in events(capsys, *words, "-v") if event["event"] == "detail"]
    assert any(event["text"].startswith("busy: ") for event in details)


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_weights_are_reported_with_their_digest(
    more: list[str], tmp_path: Path, clip: str, tiny: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.mov"
    sum_ = hashlib.sha256(Path(tiny[1]).read_bytes()).hexdigest()
    for _ in range(1 + len(more)):  # the second run finds it finished
        done = events(capsys, clip, "-o", str(out), *tiny, *more)[-2]
        assert done["weights"] == [{"name": "tiny.onnx", "sha256": sum_}]
    assert json.loads(Path(done["manifest"]).read_text())["model"]["sha256"] == sum_
    result = vidmatte.matte(clip, out, model=tiny[1], family="isnet", overwrite=True)
    assert [(one.name, one.sha256) for one in result.weights] == [("tiny.onnx", sum_)]


def section(title: str) -> str:
    """A section of the reference, without its title."""
    return REFERENCE.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def documented() -> dict[str, set[str]]:
    """The keys of each event, from the reference's table."""
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", section("JSON events"), re.MULTILINE)
    keys = {
        event: set(re.findall(r"`(\w+)`", cell))
        for first, cell in rows
        for event in re.findall(r"`(\w+)`", first)
    }
    return {
        event: own | (set() if event in ("summary", "error") else {"input", "output"})
        for event, own in keys.items()
    }


def test_the_reference_lists_the_keys(
    tmp_path: Path, clip: str, tiny: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = [str(tmp_path / "cut.mov"), str(tmp_path / "late.mov")]
    (plates := tmp_path / "plates").mkdir()
    make_pictures(plates, frames=2)
    words = [str(plates), "-o", out[0], *tiny]
    found = [*events(capsys, *words, "-v"), *events(capsys, *words), *events(capsys, clip, "--bad")]
    shared = ["--workers", "2", "--segment-frames", "3"]
    found += events(capsys, clip, "-o", str(tmp_path / "shared.mov"), *tiny, *shared)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidmatte.jobs.report.JsonReporter.advance", stopped)
    found += events(capsys, clip, "-o", out[1], *tiny)
    seen = {event.pop("event"): set(event) for event in found}
    assert seen == documented()


def test_the_reference_lists_the_manifest(tmp_path: Path, clip: str, tiny: list[str]) -> None:
    cut = tmp_path / "cut"
    vidmatte.matte(clip, cut, model=tiny[1], family="isnet")
    manifest = json.loads((tmp_path / "cut.json").read_text())
    fields = re.findall(r"^\| `(\w+)` \|", section("Manifest"), re.MULTILINE)
    assert fields == list(manifest)
    lines = "".join(f"{_digest(cut / name)}  {name}\n" for name in manifest["result"]["files"])
    assert hashlib.sha256(lines.encode()).hexdigest() == manifest["result"]["sha256"]

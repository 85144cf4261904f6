"""The manifest beside a result: its content, and that it detects a change of any file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from media import Movie, make_movie, make_pictures
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import OutputExistsError, SourceError, SourceMissingError
from vidmatte.jobs.manifest import Provenance, describe, read, size_of, verify, write
from vidmatte.settings import Settings
from vidmatte.writers.extra_outputs import ExtraOutputs
from vidmatte.writers.output_paths import output_paths

PROVENANCE = Provenance(
    command=["vidmatte", "clip.mp4", "-o", "out.mov"],
    model="isnet",
    weights="ab" * 32,
    device="cpu",
    settings=Settings().model_dump(),
    warnings=["a broken packet at 0.20 s was skipped"],
)


def make_result(movie: Movie, out: Path, **extras: Path) -> Path:
    clip, written = write_clip(movie, out, extras=ExtraOutputs(**extras))
    return write(describe(written, clip, PROVENANCE), out)


@pytest.mark.parametrize("name", ["out.mov", "frames", "cut_%04d.png"])
def test_the_manifest_records_how_the_result_was_made(
    name: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie = source_movie("drop frame timecode")
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / name
    path = make_result(movie, out)
    assert path == output_paths(out).manifest
    assert path.name == {"cut_%04d.png": "cut_.png.json"}.get(name, f"{name}.json")
    found = json.loads(path.read_text())
    assert found["model"] == {"name": "isnet", "sha256": "ab" * 32}
    assert found["command"][0] == "vidmatte"
    assert found["settings"]["model"] == Settings().model
    assert found["source"]["sha256"] == hashlib.sha256(movie.path.read_bytes()).hexdigest()
    assert found["source"]["bytes"] == movie.path.stat().st_size
    assert (found["frames"], found["rate"]) == (movie.frames, "30000/1001")
    assert (found["timecode"], found["reel"]) == ("01:00:00;00", "A001C003")
    assert found["alpha"] == "straight"
    assert found["colour"]["primaries"] == "bt709"
    assert found["warnings"] == list(PROVENANCE.warnings)
    assert found["result"]["bytes"] == size_of(out)
    assert verify(out) == []


def test_any_change_is_detected(source_movie: Callable[[str], Movie], tmp_path: Path) -> None:
    original = source_movie("8-bit 709")
    source = tmp_path / "clip.mp4"
    source.write_bytes(original.path.read_bytes())
    clip, written = write_clip(source, out := tmp_path / "out.mov", extras=ExtraOutputs(
        matte=tmp_path / "m.mkv"))  # fmt: skip
    write(describe(written, clip, PROVENANCE), out)
    assert verify(out) == []
    data = out.read_bytes()
    out.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert verify(out) == ["out.mov: checksum mismatch"]
    out.write_bytes(data + b"x")
    assert verify(out) == [f"out.mov has {len(data) + 1} bytes, expected {len(data)}"]
    out.write_bytes(data)
    (tmp_path / "m.mkv").unlink()
    assert verify(out) == ["m.mkv is missing"]
    moved = tmp_path / "elsewhere.mp4"
    source.rename(moved)
    assert verify(out) == ["m.mkv is missing", "clip.mp4 is missing"]
    assert verify(out, source=moved) == ["m.mkv is missing"]


def test_a_changed_image_of_a_sequence_is_detected(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    make_result(source_movie("8-bit 709"), out := tmp_path / "frames")
    (out / "000003.png").rename(tmp_path / "3.png")
    (out / "000004.png").rename(out / "000003.png")
    (tmp_path / "3.png").rename(out / "000004.png")
    assert verify(out) == ["frames: checksum mismatch"]


def test_images_of_other_runs_are_no_change(tmp_path: Path) -> None:
    long, short = (make_movie(tmp_path / f"{n}.mp4", frames=n).path for n in (6, 2))
    out = tmp_path / "frames"
    write_clip(long, out)
    clip, written = write_clip(short, out, overwrite=True)
    write(describe(written, clip, PROVENANCE), out)
    assert verify(out) == []
    (out / "000001.png").unlink()
    (difference,) = verify(out)
    assert "bytes, expected" in difference


@pytest.mark.parametrize("name", ["cut", "out.mov", "cut_%04d.png"])
def test_a_result_in_the_sources_folder_does_not_change_it(name: str, tmp_path: Path) -> None:
    """Only files that were read count, not results, manifests or a file browser's files."""
    plates = tmp_path / "plates"
    pictures = make_pictures(plates, frames=3)
    options = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet", "fps": "25"}
    vidmatte.matte(plates, out := plates / name, **options)
    (plates / ".DS_Store").touch()
    assert verify(out) == []
    assert read(out)["source"]["files"] == [path.name for path in pictures]
    pictures[1].write_bytes(pictures[0].read_bytes())
    (difference,) = verify(out)
    assert difference.startswith("plates has ")


def test_a_folders_manifest_without_file_names_covers_all_files(tmp_path: Path) -> None:
    """As written by earlier versions."""
    make_pictures(plates := tmp_path / "plates", frames=3)
    clip, written = write_clip(plates, out := tmp_path / "out.mov")
    facts = describe(written, clip, PROVENANCE)
    del facts["source"]["files"]
    write(facts, out)
    assert verify(out) == []
    (plates / "more.png").touch()
    assert verify(out) == ["plates: checksum mismatch"]


def test_an_extra_output_may_be_in_another_folder(
    source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    for name in ("mattes", "cuts"):
        (tmp_path / name).mkdir()
    out = tmp_path / "cuts" / "out.mov"
    make_result(source_movie("8-bit 709"), out, matte=tmp_path / "mattes" / "m.mkv")
    assert verify(out) == []


def test_an_invalid_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match="no such file or folder, and no manif"):
        read(tmp_path / "out.mov")
    (tmp_path / "out.mov").touch()
    with pytest.raises(SourceMissingError, match="--no-manifest, moved, or is an extra output"):
        read(tmp_path / "out.mov")
    (tmp_path / "out.mov.json").write_text("{")
    with pytest.raises(SourceError, match="not a manifest"):
        read(tmp_path / "out.mov")
    (tmp_path / "out.mov.json").write_text('{"schema": 0}')
    with pytest.raises(SourceError, match="schema 1"):
        read(tmp_path / "out.mov")
    source = {"path": "a.mov", "bytes": 1, "sha256": ""}
    for changed in ({}, {"source": source}, {"source": source, "result": source, "sides": {}}):
        (tmp_path / "out.mov.json").write_text(json.dumps({"schema": 1, **changed}))
        with pytest.raises(SourceError, match="incomplete manifest"):
            verify(tmp_path / "out.mov")


@pytest.mark.parametrize(("out", "beside"), [("out.mov", "out.mov.json"), ("cut", "cut.json")])
def test_a_manifest_replaces_only_manifests(
    out: str, beside: str, source_movie: Callable[[str], Movie], tmp_path: Path
) -> None:
    movie, path = source_movie("8-bit 709"), tmp_path / beside
    path.write_text('{"my": "notes"}')
    with pytest.raises(OutputExistsError, match="is not a manifest: --overwrite replaces it"):
        write_clip(movie, tmp_path / out)
    assert path.read_text() == '{"my": "notes"}'
    assert not (tmp_path / out).exists()
    write_clip(movie, tmp_path / out, manifest=False)
    write_clip(movie, tmp_path / out, overwrite=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputExistsError, match="path is a folder"):
        write_clip(movie, tmp_path / out, overwrite=True)


@pytest.mark.parametrize("name", ["frames", "frames/cut_%04d.png"])
def test_images_missing_from_the_manifest_are_reported(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, matte = tmp_path / name, tmp_path / "frames" / "m_%03d.png"
    for count in (5, 2):
        movie = make_movie(tmp_path / f"{count}.mp4", size=(64, 48), frames=count)
        clip, written = write_clip(
            movie, out, extras=ExtraOutputs(matte=matte if count == 2 else None), overwrite=True
        )
        write(describe(written, clip, PROVENANCE), out)
        assert main(["verify", str(out)]) == (count == 2)
    (line,) = capsys.readouterr().err.splitlines()
    first = "cut_0002.png" if "%" in name else "000002.png"
    # The matte's images are known; a folder's images are all files with their suffix.
    assert f"{out}: 3 pictures not listed in its manifest, like {first}: remove" in line
    for file in sorted(out.parent.rglob(first[:-5] + "[234].png")):
        file.unlink()
    (tmp_path / "frames" / "notes.txt").touch()
    assert main(["verify", str(out)]) == 0
    (tmp_path / "frames" / "extra.png").touch()
    assert main(["verify", str(out)]) == ("%" not in name)


def test_verify_accepts_the_manifests_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", size=(64, 48), frames=2)
    for name in ("out.mov", "frames", "cut_%04d.png"):
        manifest = make_result(movie, out := tmp_path / name)
        assert main(["verify", str(manifest)]) == 0
        assert capsys.readouterr().out == f"{out}: matches its manifest\n"
    (tmp_path / "other.json").write_text("[]")
    assert main(["verify", str(tmp_path / "other.json")]) == 1
    assert "other.json: not a manifest" in capsys.readouterr().err

"""``vidmatte models``: the output and the effect of each subcommand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from weights_support import CONTENT, OTHER, entry_of, release

from vidmatte.cli.main import main
from vidmatte.cli.models import app
from vidmatte.errors import ModelError, UsageError, WeightsError
from vidmatte.models.weights import catalogue
from vidmatte.models.weights.catalogue import CATALOGUE
from vidmatte.models.weights.store import Store


def run(*arguments: str) -> Result:
    """The subcommand's result; the package's errors are raised as for the main entry point."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A catalogue that includes the toy model, available from a folder; an empty store."""
    monkeypatch.delenv("VIDMATTE_OFFLINE", raising=False)
    share = tmp_path / "share"
    share.mkdir()
    (share / "toy.onnx").write_bytes(CONTENT)
    entry = entry_of(release((share / "toy.onnx").as_uri()))
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, entry))
    monkeypatch.setitem(catalogue._BY_NAME, "toy", entry)
    monkeypatch.setenv("VIDMATTE_MODELS_DIR", str(tmp_path / "models"))
    return Store()


def test_the_list_fits_80_columns(tmp_path: Path) -> None:
    result = run("--models-dir", str(tmp_path))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last line is a path of any length
    for entry in CATALOGUE:
        (row,) = [line for line in lines[: lines.index("")] if line.split(" ")[0] == entry.name]
        assert entry.purpose in row
        assert entry.licence in row
        assert row.endswith(" -")
    assert lines[-1] == f"Folder: {tmp_path}"


def test_the_list_shows_fetched_and_damaged(toy: Store) -> None:
    def row() -> str:
        (line,) = [line for line in run().output.splitlines() if line.startswith("toy ")]
        return line

    assert row().endswith(" -")
    run("pull", "toy")
    assert row().endswith(" fetched")
    (toy.folder / "toy.onnx").write_bytes(OTHER)
    assert row().endswith(" damaged")


def test_the_list_as_json(toy: Store) -> None:
    run("pull", "toy")
    rows = {row["name"]: row for row in json.loads(run("--json").output)}
    assert rows["toy"]["state"] == "fetched"
    assert rows["toy"]["path"] == str(toy.folder / "toy.onnx")
    assert rows["isnet"]["aliases"] == ["isnet-general-use"]
    assert rows["isnet"]["state"] == "not fetched"
    assert len(rows["isnet"]["sources"]) == 2


def test_pull_prints_the_licence_to_stderr_and_the_path_to_stdout(toy: Store) -> None:
    result = run("pull", "toy")
    assert result.stdout == f"toy: {toy.folder / 'toy.onnx'}\n"
    assert "licence of the weights MIT" in result.stderr
    assert (toy.folder / "toy.onnx").read_bytes() == CONTENT


def test_pull_quiet_prints_nothing(toy: Store) -> None:
    result = run("pull", "--quiet", "toy")
    assert (result.stdout, result.stderr) == ("", "")
    assert (toy.folder / "toy.onnx").exists()


def test_pull_checks_all_names_before_fetching(toy: Store) -> None:
    with pytest.raises(ModelError, match="'nonsense'"):
        run("pull", "toy", "nonsense")
    assert not toy.folder.exists()


@pytest.mark.parametrize("place", ["before", "after"])
def test_models_dir_works_before_and_after_the_subcommand(
    toy: Store, tmp_path: Path, place: str
) -> None:
    option = ["--models-dir", str(tmp_path / "other")]
    run(*([*option, "pull", "toy"] if place == "before" else ["pull", "toy", *option]))
    assert (tmp_path / "other" / "toy.onnx").exists()
    assert not toy.folder.exists()


def test_verify_names_damaged_files(toy: Store) -> None:
    assert run("verify").output == f"no weights in {toy.folder}\n"
    run("pull", "toy")
    assert "toy: as published, SHA-256 " in run("verify").output
    (toy.folder / "toy.onnx").write_bytes(OTHER)
    with pytest.raises(WeightsError, match="is damaged"):
        run("verify")
    with pytest.raises(WeightsError, match="rvm is not here"):
        run("verify", "rvm")


def test_path_prints_one_line_for_scripts(toy: Store) -> None:
    assert run("path").stdout == f"{toy.folder}\n"
    run("pull", "toy")
    result = run("path", "toy")
    assert result.stdout == f"{toy.folder / 'toy.onnx'}\n"
    assert result.stderr == ""


def test_path_of_a_missing_model_fails(toy: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "path", "toy"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{toy.folder / 'toy.onnx'}\n"  # where to put it by hand
    (line,) = captured.err.splitlines()
    assert "models pull toy" in line


@pytest.mark.parametrize("words", [["path"], ["pull", "toy"], ["remove", "toy"], []])
def test_a_models_folder_that_is_a_file_is_refused(
    words: list[str], toy: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDMATTE_MODELS_DIR", str(tmp_path / "file"))
    assert main(["models", *words]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert f"{tmp_path / 'file'} cannot be used: it is a file: name a folder" in line
    assert captured.out == ""


@pytest.mark.parametrize("url", ["notaurl", "no/such/folder"])
def test_a_mirror_that_is_neither_url_nor_folder_is_refused(
    url: str, toy: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDMATTE_MODELS_URL", url)
    assert main(["models", "pull", "toy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"VIDMATTE_MODELS_URL={url}: neither a URL" in line


def test_remove(toy: Store) -> None:
    run("pull", "toy")
    assert run("remove", "toy").output == "toy: removed, 600 kB freed\n"
    assert run("remove", "toy").output == "toy: not fetched\n"


def test_json_on_a_subcommand_is_refused(toy: Store) -> None:
    with pytest.raises(UsageError, match="--json has no effect on 'models path'"):
        run("--json", "path")


def test_help_fits_80_columns() -> None:
    for arguments in ([], ["pull"], ["verify"], ["path"], ["remove"]):
        output = run(*arguments, "--help").output
        assert max(map(len, output.splitlines())) <= 80
        assert "--models-dir" in output

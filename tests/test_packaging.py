"""What is handed on: the source distribution and the package's metadata."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_source_distribution_holds_the_whole_project() -> None:
    """The build backend takes what is named; what is new at the top has to be named too."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git clone: what belongs to the project is not known")
    words = ["git", "ls-files"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {name.split("/")[0] for name in listed.splitlines()}
    by_themselves = {"pyproject.toml", "vidmatte", PROJECT["project"]["readme"]}
    by_themselves.update(PROJECT["project"]["license-files"])
    named = {name.rstrip("/") for name in PROJECT["tool"]["flit"]["sdist"]["include"]}
    assert files == named | by_themselves


def test_the_metadata_says_what_it_is() -> None:
    project = PROJECT["project"]
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "vidmatte" / "py.typed").is_file()
    assert {"video", "matting"} <= set(project["keywords"])

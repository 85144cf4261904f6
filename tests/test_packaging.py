"""The source distribution and the package's metadata."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_source_distribution_is_complete() -> None:
    """The build backend includes only listed paths; a new top-level entry has to be listed."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git clone: the project's files are not known")
    words = ["git", "ls-files"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {name.split("/")[0] for name in listed.splitlines()}
    by_themselves = {"pyproject.toml", "vidmatte", PROJECT["project"]["readme"]}
    by_themselves.update(PROJECT["project"]["license-files"])
    named = {name.rstrip("/") for name in PROJECT["tool"]["flit"]["sdist"]["include"]}
    assert files == named | by_themselves


def test_the_metadata_describes_the_package() -> None:
    project = PROJECT["project"]
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "vidmatte" / "py.typed").is_file()
    assert {"video", "matting"} <= set(project["keywords"])

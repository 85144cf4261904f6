"""Which pictures a folder holds, in what order, and the names of their results."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

from vidmatte.core.names import manifest_fault, manifest_in
from vidmatte.errors import SourceError
from vidmatte.media.dpx import dpx_time
from vidmatte.media.exr import exr_time
from vidmatte.media.png import is_animated_png
from vidmatte.media.webp import is_animated_webp
from vidmatte.settings.values import HIGHEST_RATE, LOWEST_RATE, parse_rate

#: FFmpeg's decoder for the pictures of each suffix.
DECODERS = {
    ".png": "png",
    ".jpg": "mjpeg",
    ".jpeg": "mjpeg",
    ".jpe": "mjpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".exr": "exr",
    ".dpx": "dpx",
    ".webp": "webp",
    ".bmp": "bmp",
    ".tga": "targa",
}
#: With those of HEIF files, see ``media.heif``.
SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif", *DECODERS})
#: Formats whose headers may state a frame rate and a timecode.
_TIME_READERS = {".exr": exr_time, ".dpx": dpx_time}


def files_of(path: Path) -> list[Path]:
    """The files that an input ``path`` stands for: itself, or a folder's pictures in natural
    order (2 before 10). Other files in the folder are not read.
    """
    if not path.is_dir():
        return [path]
    found = (file for file in path.iterdir() if _is_named_as_picture(file) and file.is_file())
    return sorted(found, key=_natural_key)


def _is_named_as_picture(file: Path) -> bool:
    """Whether a file has a picture's suffix and is not hidden."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, at least one, in the order of ``files_of``. Raises SourceError,
    also for a broken link, whose frame would be missing silently."""
    for file in folder.iterdir():
        if _is_named_as_picture(file) and file.is_symlink() and not file.exists():
            raise SourceError(
                f"{file}: a link to {file.readlink()}, which does not exist: fix or remove the link"
            )
    found = files_of(folder)
    if not found:
        nested = sorted(
            {file.parent for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES}
        )
        hint = f", but {nested[0]} has some" if nested else ""
        raise SourceError(
            f"{folder}: no picture in this folder{hint} ({' '.join(sorted(SUFFIXES))})"
        )
    return found


def stated_time(files: list[Path]) -> tuple[Fraction | None, int | None]:
    """The frame rate that headers of pictures state, the first of those that do, and the
    timecode of the first picture, a word for ``timecode.from_bcd``; None where there is none.
    """
    rate: Fraction | None = None
    first: int | None = None
    for file in files:
        read = _TIME_READERS.get(file.suffix.lower())
        if read is None:
            continue
        value, word = read(file)
        first = word if file == files[0] else first
        if value is not None and LOWEST_RATE <= value <= HIGHEST_RATE:
            rate = parse_rate(f"{value:.6f}")
            break
    return rate, first


def result_names(files: list[Path]) -> tuple[str, ...]:
    """The name of each picture's result, without suffix: the picture's stem.

    Where two share a stem (a.jpg and a.png), their suffixes stay in the name, and so does that
    of a third whose stem is such a name (a.png.jpg).
    """
    names = [file.stem for file in files]
    while True:
        shared = Counter(names)
        longer = [
            name if shared[name] == 1 else file.name
            for name, file in zip(names, files, strict=True)
        ]
        if longer == names:
            return tuple(names)
        names = longer


def results_among(files: list[Path]) -> list[str]:
    """A warning where manifests in the folder list some of the pictures as results."""
    folder, names = files[0].parent, {file.name for file in files}
    results: set[str] = set()
    for note in folder.glob("*.json"):
        manifest = manifest_in(note)
        if manifest is not None and manifest_fault(manifest) is None:
            for entry in (manifest["result"], *manifest["sides"]):
                results |= names & {entry.get("name"), *entry.get("files", ())}
    if not results or results == names:
        return []
    return [
        f"{folder.name}: {len(results)} of its {len(names)} pictures are results of an earlier run,"
        f" such as {min(results)}, and are read as frames: keep results in a separate folder"
    ]


def animation_notes(files: list[Path]) -> list[str]:
    """A warning if pictures of a folder are animated: only the first frame of each is read."""
    found = [file for file in files if is_animated_png(file) or is_animated_webp(file)]
    if not found:
        return []
    return [
        f"{found[0].parent.name}: {len(found)} of its pictures are animated, like {found[0].name}:"
        " the first frame of each is used; pass an animated picture alone to read all frames"
    ]


def missing_numbers(files: list[Path]) -> list[str]:
    """A warning where the file numbers have gaps."""
    values = [number for file in files if (number := _frame_number(file)) is not None]
    if len(values) < len(files) or len(set(values)) < len(values):
        return []
    missing = values[-1] - values[0] + 1 - len(values)
    if missing <= 0:
        return []
    what = "number is" if missing == 1 else "numbers are"
    place = next(i for i in range(1, len(values)) if values[i] != values[i - 1] + 1)
    return [
        f"{files[0].parent.name}: {missing} {what} missing, the first after"
        f" {files[place - 1].name}: the pictures are read without gaps"
    ]


#: A number. A minus before the last number of a name is its sign after a dot, an underscore or
#: nothing (``shot.-0002``), else a separator (``shot-0002``).
_NUMBER = re.compile(r"((?:(?:^|(?<=[._]))-)?\d+(?=\D*$)|\d+)")


def _natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts numbers by value and letters without case; ties by the exact name."""
    parts = _NUMBER.split(file.name)
    key = [(1, 0, part.casefold()) for part in parts]
    key[1::2] = [(0, int(part), "") for part in parts[1::2]]
    return key, file.name


def _frame_number(file: Path) -> int | None:
    """The number at the end of a picture's name; None without one."""
    *_, number, rest = [None, *_NUMBER.split(file.stem)]
    return int(number) if number is not None and not rest else None

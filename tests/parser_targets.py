"""The parsers that are ours, each as a function of bytes, for a fuzzer and for the replay of what
it found.

    python tests/parser_targets.py TARGET SECONDS [CORPUS]    # needs atheris

Whatever the bytes are, a target returns, or raises one of ``EXPECTED``; the corpus in
``tests/corpus/TARGET`` holds seeds and the inputs that once did something else.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path


def _watched() -> contextlib.AbstractContextManager[object]:
    """While atheris runs this file, what is imported within reports its branches to it."""
    if __name__ != "__main__":
        return contextlib.nullcontext()
    import atheris

    rooms = [
        "vidmatte.core",
        "vidmatte.media",
        "vidmatte.jobs.checkpoint",
        "vidmatte.models.weights",
    ]
    return atheris.instrument_imports(include=rooms)


with _watched():
    from vidmatte.core.names import manifest_fault
    from vidmatte.core.stored import parse
    from vidmatte.errors import VidmatteError
    from vidmatte.jobs.checkpoint.compat import StoredJob, StoredResult, read_note
    from vidmatte.jobs.checkpoint.frame_log import FrameLog, TornRecordError
    from vidmatte.media import dpx, icc, limits, png, quicktime, stated_size, webp
    from vidmatte.media.exr import check_window
    from vidmatte.media.matroska import patch_aspect
    from vidmatte.media.tiff import check_kind
    from vidmatte.models.weights.record import read_record

CORPUS = Path(__file__).parent / "corpus"
#: What callers handle: one line for the user, or the decoder's own answer.
EXPECTED = (VidmatteError, ValueError, OSError, TornRecordError)


def of_picture(suffix: str) -> Callable[[bytes, Path], None]:
    """All that is read of a picture before its decoder gets it."""

    def target(data: bytes, folder: Path) -> None:
        file = folder / f"a{suffix}"
        file.write_bytes(data)
        limits.check_pixels(file, data, 10**6)
        check_kind(file, data)
        check_window(file, data)
        dpx.is_linear_in_name(file)
        png.is_animated_png(file)
        limits.check_chunks(file)
        png.with_stored_samples(limits.without_bombs(data))
        profile = icc.profile_of(file)
        if profile is not None:
            icc.is_srgb(profile)

    return target


def of_profile(data: bytes, folder: Path) -> None:
    """An ICC profile, whole as ``profile_of`` gives it."""
    head = len(data).to_bytes(4, "big") + data[4:36] + b"acsp" + data[40:]
    if len(head) >= 132:
        icc.profile_name(head)


def of_webp(data: bytes, folder: Path) -> None:
    """An animated WebP."""
    (folder / "a.webp").write_bytes(data)
    webp.patch_duration(folder / "a.webp", Fraction(1, 2))
    webp.read_webp(folder / "a.webp")


def of_matroska(data: bytes, folder: Path) -> None:
    """The stated size of a Matroska file, and its pixel aspect, patched."""
    (folder / "a.mkv").write_bytes(data)
    stated_size.missing_end(folder / "a.mkv")
    patch_aspect(folder / "a.mkv", Fraction(4, 3))


def of_quicktime(data: bytes, folder: Path) -> None:
    """The stated size of a QuickTime file, and its vendor, patched."""
    (folder / "a.mov").write_bytes(data)
    stated_size.missing_end(folder / "a.mov")
    quicktime.patch_vendor(folder / "a.mov", "ap4h", "appl")


def of_manifest(data: bytes, folder: Path) -> None:
    """A manifest."""
    found = parse(data)
    if isinstance(found, dict):
        manifest_fault(found)


def of_notes(data: bytes, folder: Path) -> None:
    """The notes of --resume and of weights."""
    for name in ("job.json", "finished.json", "w.onnx.json"):
        (folder / name).write_bytes(data)
    read_record(folder / "w.onnx")
    for name, model in (("job.json", StoredJob), ("finished.json", StoredResult)):
        try:
            read_note(folder / name, model)
        except VidmatteError:
            continue


def of_frame_log(data: bytes, folder: Path) -> None:
    """A log of frames, read as a resumed run does."""
    (folder / "frames.log").write_bytes(data)
    log = FrameLog(folder / "frames.log")
    found = log.survey(lambda head: True)
    log.count = found.count
    for head, body in log.records():
        assert len(body) >= 0
        assert head["index"] >= 0


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "png": of_picture(".png"),
    "tiff": of_picture(".tif"),
    "exr": of_picture(".exr"),
    "dpx": of_picture(".dpx"),
    "jpeg": of_picture(".jpg"),
    "webp_picture": of_picture(".webp"),
    "webp": of_webp,
    "icc": of_profile,
    "matroska": of_matroska,
    "quicktime": of_quicktime,
    "manifest": of_manifest,
    "notes": of_notes,
    "frame_log": of_frame_log,
}


def run_target(name: str, data: bytes, folder: Path) -> None:
    """Run a target on bytes. Raises what is not expected."""
    try:
        TARGETS[name](data, folder)
    except EXPECTED:
        return


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Let atheris look for inputs that raise what is not expected."""
    import atheris

    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        options = [
            f"-max_total_time={seconds}",
            "-max_len=4096",
            "-timeout=10",
            "-rss_limit_mb=1500",
        ]
        atheris.Setup(
            [sys.argv[0], str(corpus), str(CORPUS / name), *options, f"-artifact_prefix={corpus}/"],
            lambda data: run_target(name, data, folder),
        )
        atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    target, time_limit, *rest = sys.argv[1:]
    found = Path(rest[0]) if rest else Path(tempfile.mkdtemp())
    fuzz(target, int(time_limit), found)

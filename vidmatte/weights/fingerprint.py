"""What a published file must be, and whether a file is that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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


def sha256_of(path: Path) -> str:
    """Lower-case hex SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
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
    md5 = md5_of(path) if any(one.sha256 is None for one in candidates) else None
    for one in candidates:
        if (one.sha256 == sha256) if one.sha256 else (one.md5 == md5):
            return one
    return None

"""Files by URL, through fsspec: copied to the local disk to be read, and sent as results.

Only within a ``Staging`` is a URL read; ``local_path`` then gives its copy, and ``origin_of`` the
URL of a copy. Outside of one both leave paths as they are.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from filelock import FileLock, Timeout

from vidmatte.errors import (
    OutputError,
    OutputExistsError,
    SourceError,
    SourceMissingError,
    UsageError,
    VidmatteError,
)

#: Sources that are copied at once, where nothing else is asked for.
READERS = 4
#: How the files begin by which readers on several machines are counted.
READER = "reader-"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://.+", re.IGNORECASE | re.DOTALL)
#: Stores of objects in buckets: folders need not be created, and a bucket only by its owner.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"})
_LOCK_SECONDS = 0.2  # between two looks for a free place among the readers


def remote_url(text: str | Path) -> str | None:
    """The URL that a text is; None for a path, also for one with a colon that is there, and for
    ``file:`` URLs, see ``plain_path``."""
    name = str(text)
    if _URL.fullmatch(name) is None or name.lower().startswith("file:"):
        return None
    return None if os.path.lexists(name) or os.path.lexists(name.partition("//")[0]) else name


def plain_path(text: str) -> str:
    """The path that a ``file://`` URL stands for; any other text as it is."""
    is_file = text.lower().startswith("file:///") and not os.path.lexists("file:")
    return unquote(urlsplit(text).path) if is_file else text


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and its path there. Raises UsageError where a package is
    missing, or the protocol is unknown."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            f"{url}: reading and writing URLs needs fsspec: pip install 'vidmatte[remote]'"
        ) from None
    scheme, rest = url.split("://", 1)
    if "@" in rest.partition("/")[0] and ":" in rest.partition("@")[0]:
        raise UsageError(
            f"{scheme}://...: a URL with a password would be recorded in manifests: use the"
            f" environment or the configuration of {scheme}"
        )
    try:
        system, path = fsspec.core.url_to_fs(f"{scheme.lower()}://{rest}")
    except ImportError as error:
        raise UsageError(f"{url}: a package for {scheme}:// is missing: {_reason(error)}") from None
    except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
        raise UsageError(f"{url}: {_reason(error)}") from None
    return system, path


class Staging:
    """Local copies of what URLs name, until it is closed; one at a time in a process.

    readers: copies that are made at once. gate: a folder that several machines see, within which
    they count their readers together.
    """

    def __init__(self, readers: int = READERS, gate: Path | None = None) -> None:
        self._readers, self._gate = readers, gate
        self._folder: Path | None = None
        self._copies: dict[str, Path] = {}
        self._lock = Lock()

    def __enter__(self) -> Staging:
        global _current  # the process stages its files in one place
        _current = self
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def share(self, readers: int, gate: Path) -> None:
        """Count the readers together with those of others from now on."""
        self._readers, self._gate = readers, gate

    def fetch(self, urls: Iterable[str]) -> None:
        """Copy the files and folders of URLs, so many at once. Raises UsageError, SourceError."""
        with ThreadPoolExecutor(self._readers, thread_name_prefix="vidmatte-fetch") as threads:
            for _ in threads.map(self.copy_of, dict.fromkeys(urls)):
                pass

    def copy_of(self, url: str) -> Path:
        """The local copy of a URL, made where there is none. Raises UsageError, SourceError."""
        found = self._copies.get(url)
        if found is None:
            with _place_among(self._readers, self._gate):
                found = _fetch(url, self.new_folder())
            self._copies[url] = found
        return found

    def new_folder(self) -> Path:
        """An empty folder, removed with the staging."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="vidmatte-"))
        return Path(tempfile.mkdtemp(dir=self._folder))

    @staticmethod
    def release(folder: Path) -> Path:
        """Take a folder of ``new_folder`` out of the staging, so that it stays; where it is now.
        Raises OSError."""
        return folder.rename(folder.parent.with_name(f"vidmatte-unsent-{uuid4().hex[:8]}"))

    def origin_of(self, path: Path) -> str | None:
        """The URL whose copy is at a path."""
        return next((url for url, copy in self._copies.items() if copy == path), None)


_current: Staging | None = None


def local_path(text: str | Path) -> Path:
    """A path, or where the copy of a URL is. Raises UsageError, SourceError."""
    url = None if _current is None else remote_url(text)
    return Path(text) if url is None or _current is None else _current.copy_of(url)


def origin_of(path: Path) -> str | None:
    """The URL whose copy is at a path; None for other files."""
    return None if _current is None else _current.origin_of(path)


def send(path: Path, url: str, *, overwrite: bool) -> None:
    """Write a file or folder to a URL: each file under a temporary name, which it loses when it is
    complete. Raises UsageError, OutputError, OutputExistsError."""
    system, target = file_system(url)
    with _errors(url, OutputError, "cannot be written"):
        if path.is_dir():
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                name = file.relative_to(path).as_posix()
                _send_file(system, file, f"{target.rstrip('/')}/{name}", url, overwrite)
        else:
            _send_file(system, path, target, url, overwrite)


def check_output(url: str, *, overwrite: bool) -> None:
    """Raise OutputError where a URL is in a bucket that is missing, OutputExistsError where it
    names a file that is there, unless ``overwrite``. Raises UsageError."""
    system, target = file_system(url)
    with _errors(url, OutputError, "cannot be written"):
        if _is_in_bucket(url):
            _check_bucket(system, target.lstrip("/").partition("/")[0], url)
        if not overwrite and system.isfile(target):
            raise OutputExistsError(f"{url} exists: --overwrite replaces it")


def is_folder(url: str) -> bool:
    """Whether a URL names a folder that is there. Raises UsageError, OutputError."""
    system, target = file_system(url)
    with _errors(url, OutputError, "cannot be looked at"):
        return bool(system.isdir(target))


def parent_of(url: str) -> str:
    """The URL of the folder that a URL is in, with a slash at its end."""
    return url.rstrip("/").rpartition("/")[0] + "/"


def _check_bucket(system: Any, bucket: str, url: str) -> None:
    try:
        system.info(bucket)
    except FileNotFoundError:
        raise OutputError(
            f"{url}: there is no bucket {bucket}: check its name, or create it"
        ) from None
    except OSError:  # who may write objects need not be allowed to look at the bucket
        return


def _is_in_bucket(url: str) -> bool:
    return url.partition("://")[0].lower() in _BUCKETS


def _send_file(system: Any, file: Path, target: str, url: str, overwrite: bool) -> None:
    folder, _, name = target.rpartition("/")
    unfinished = f"{folder}/.{name}.{uuid4().hex[:8]}"
    if not overwrite and system.exists(target):
        raise OutputExistsError(f"{url} exists ({name}): --overwrite replaces it")
    try:
        if folder and not _is_in_bucket(url):
            system.makedirs(folder, exist_ok=True)
        system.put_file(str(file), unfinished)
        sent, size = system.info(unfinished)["size"], file.stat().st_size
        if sent != size:
            raise OutputError(f"{url}: {sent} of {size} bytes of {name} arrived: try again")
        system.mv(unfinished, target)
    except BaseException:
        with suppress(Exception):
            system.rm(unfinished)
        raise


def _fetch(url: str, folder: Path) -> Path:
    """Copy a file, or the files of a folder, into an empty folder."""
    system, path = file_system(url)
    # A '#' or '?' is a part of a key; only where the path is a URL itself it is not.
    named = unquote(urlsplit(url).path) if "://" in path else path
    copy = folder / PurePosixPath(named.rstrip("/") or urlsplit(url).netloc).name
    with _errors(url, SourceError, "cannot be read"):
        facts = system.info(path)
        if facts["type"] != "directory":
            _fetch_file(system, facts, path, copy, url)
            return copy
        copy.mkdir()
        for one in system.ls(path, detail=True):
            if one["type"] == "file":
                _fetch_file(system, one, one["name"], copy / PurePosixPath(one["name"]).name, url)
    return copy


def _fetch_file(system: Any, facts: Any, path: str, copy: Path, url: str) -> None:
    system.get_file(path, str(copy))
    size, expected = copy.stat().st_size, facts.get("size")
    if expected is not None and size != expected:
        raise SourceError(f"{url}: {size} of {expected} bytes arrived: try again")


@contextmanager
def _place_among(readers: int, gate: Path | None) -> Iterator[None]:
    """Wait for a place among the readers of all machines that see ``gate``."""
    if gate is None:
        yield
        return
    gate.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(gate / f"{READER}{number}", thread_local=False) for number in range(readers)]
    with _first_free(locks):
        yield


def _first_free(locks: Sequence[FileLock]) -> Any:
    """Wait until one of the locks is free; what releases it."""
    while True:
        for lock in locks:
            with suppress(Timeout):
                return lock.acquire(timeout=_LOCK_SECONDS / len(locks))


@contextmanager
def _errors(url: str, kind: type[VidmatteError], what: str) -> Iterator[None]:
    """Turn what a file system raises into one line."""
    try:
        yield
    except VidmatteError:
        raise
    except FileNotFoundError as error:
        missing = SourceMissingError if kind is SourceError else kind
        raise missing(f"{url}: there is no such file or folder") from error
    except Exception as error:  # each file system has errors of its own
        if kind is SourceError and getattr(error, "errno", None) == errno.ENOSPC:
            raise SourceError(
                f"{url}: the disk is full, no room for its copy in {tempfile.gettempdir()}: free"
                " some, or set TMPDIR"
            ) from error
        raise kind(f"{url} {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

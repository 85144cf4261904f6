"""Networks as OpenVINO has compiled them, kept beside their weights: the next run starts sooner.

A file is as large as the weights. It is made for one file of weights, one CPU, one version and one
use of the threads, all of which its name depends on; the name also has the file's checksum.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from isal import isal_zlib

from vidmatte._version import __version__
from vidmatte.core.stored import key_of
from vidmatte.models.weights.record import STALE_S, record_path

_SUFFIX = ".compiled"
_MOST_FILES = 4  # of one file of weights: for other numbers of threads, batches, precisions


def compiled_files(path: Path) -> list[Path]:
    """All compiled forms of the weights at ``path``, the newest first."""
    found = path.parent.glob(f"{path.name}.*{_SUFFIX}")
    return sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)


def compiled_key(path: Path, facts: Mapping[str, Any]) -> str | None:
    """The name of a compiled network by all that it depends on; None where none is kept: only the
    store's files have a record, and only beside them anything is written."""
    if not record_path(path).is_file():
        return None
    state = path.stat()
    return key_of([__version__, state.st_size, state.st_mtime_ns, dict(facts)])


def read_compiled(path: Path, key: str) -> np.ndarray | None:
    """The compiled network of that key, (N,) uint8; None where there is none. A damaged file is
    removed. It is mapped where the system lets mapped files be removed: see ``free_pages``."""
    for file in path.parent.glob(f"{path.name}.{key}.*{_SUFFIX}"):
        if os.name == "nt" or not file.stat().st_size:
            data = np.fromfile(file, np.uint8)
        else:  # copied on writing: the runtime's tensors are writable
            data = np.memmap(file, np.uint8, mode="c")
        if file.name.split(".")[-2] == f"{isal_zlib.crc32(data):08x}":
            return data
        file.unlink(missing_ok=True)
    return None


def free_pages(kept: np.ndarray) -> None:
    """Free the memory of a network of ``read_compiled`` that the runtime has read: it has most of
    the weights in another order too, and what it still needs comes from the file again: of isnet's
    168 MB about 80. The array has to live as long as the network."""
    source: Any = kept.base
    if isinstance(source, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED)


def keep_compiled(path: Path, key: str, data: bytes) -> None:
    """Keep a compiled network, in one step; of several of the same weights the newest few stay."""
    name = f"{path.name}.{key}.{isal_zlib.crc32(data):08x}{_SUFFIX}"
    temporary = path.parent / f".{name}.{uuid4().hex}"
    # A full disk or a folder that cannot be written costs the next run a second, no more.
    with contextlib.suppress(OSError):
        try:
            temporary.write_bytes(data)
            temporary.replace(path.parent / name)
        finally:
            temporary.unlink(missing_ok=True)
        half_written = path.parent.glob(f".{path.name}.*{_SUFFIX}.*")
        stale = [one for one in half_written if time.time() - one.stat().st_mtime > STALE_S]
        for old in (*compiled_files(path)[_MOST_FILES:], *stale):
            old.unlink(missing_ok=True)

"""Out of memory: how it is recognised, the one line that reports it, and malloc's settings."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vidmatte.errors import DeviceError, OutOfMemoryError, VidmatteError

#: What onnxruntime, CUDA, torch and OpenVINO say where memory does not suffice; they have
#: no class for it.
_OOM_MESSAGES = (
    "out of memory", "failed to allocate", "smaller than requested bytes", "bad_alloc",
    "bad allocation", "could not allocate", "cannot allocate", "status_alloc_failed",
    "can't start new thread",
)  # fmt: skip
_NARROW_MARGIN = "close other programs"  # the first step wherever it is the machine's memory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the machine ran out of memory."""
    if isinstance(error, SystemError) and error.__cause__ is not None:
        error = error.__cause__  # of a function in C that went on after it
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OOM_MESSAGES)


def oom_error(error: BaseException) -> str:
    """What to say of such an error that is raised where nobody knows what the memory was for."""
    return f"{_not_enough_memory(reason_of(error))}: {_NARROW_MARGIN}, or take smaller pictures"


def device_oom_error(device: str, what: str) -> DeviceError:
    """The error for a device, by its name, whose memory does not suffice for ``what``."""
    step = (
        f"{_NARROW_MARGIN}, choose a smaller model or fewer --threads"
        if device == "cpu"
        else "choose a smaller model or --device cpu"
    )
    return DeviceError(f"{device}: {_not_enough_memory(f'for {what}')}: {step}")


def frames_oom_error(
    source: object, reason: str, memory: str, batch: int | None = None
) -> OutOfMemoryError:
    """The error for an input whose frames on their way do not fit the machine's memory.

    reason: what they are, ``for ...``, or ``reason_of`` an error. memory, batch: what the
    options that could be lowered are, as far as it is known.
    """
    now = "" if batch is None else f" (now {batch})"
    return OutOfMemoryError(
        f"{source}: {_not_enough_memory(reason)}: {_NARROW_MARGIN}, lower --memory (now {memory})"
        f" or --batch{now}, or make the picture smaller"
    )


def _not_enough_memory(reason: str) -> str:
    """The start of every such line."""
    return f"not enough memory {reason}"


def reason_of(error: BaseException) -> str:
    """The first line of what such an error says, in brackets."""
    return f"({(str(error).splitlines() or ['no more of it'])[0]})"


@contextmanager
def oom_errors(source: object, memory: str) -> Iterator[None]:
    """Raise OutOfMemoryError, as ``frames_oom_error`` has it, for what libraries raise in the block
    when memory runs out."""
    try:
        yield
    except VidmatteError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise frames_oom_error(source, reason_of(error), memory) from error
        raise


@contextmanager
def quick_collections() -> Iterator[None]:
    """Have the garbage collector look at nothing in the block that was there before it.

    With all modules loaded a full collection takes as long as a small photo's result.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # mallopt(3)
_MMAP_THRESHOLD = 32 << 20  # bytes: larger pieces come from the kernel, and go back to it
_TRIM_THRESHOLD = 256 << 20  # bytes, free at the heap's end
_USER_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def tune_malloc() -> bool:
    """Have glibc serve all threads from one heap; False where it does not, or the user chose.

    By default each thread has a heap of its own. Frames are allocated in one thread and freed
    in another, so heaps fill up with what the others need: sharing one saves a tenth to a sixth
    of the memory at 1080p, and half of the page faults. Blocks of a frame's size stay allocated
    for the next frame instead of going back to the kernel, which would clear them again.
    Programs call it before they start threads; a library does not decide this.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _USER_VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = (
        (M_ARENA_MAX, 1),
        (M_MMAP_THRESHOLD, _MMAP_THRESHOLD),
        (M_TRIM_THRESHOLD, _TRIM_THRESHOLD),
    )
    return all(mallopt(option, value) for option, value in wanted)

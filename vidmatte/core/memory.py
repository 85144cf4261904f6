"""A lack of memory: how it is known from other failures, and the one line that says so."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vidmatte.errors import DeviceError, OutOfMemoryError, VidmatteError

#: What onnxruntime, CUDA, torch and OpenVINO say where memory does not suffice; they have
#: no class for it.
SAID = (
    "out of memory", "failed to allocate", "smaller than requested bytes", "bad_alloc",
    "bad allocation", "could not allocate", "cannot allocate", "status_alloc_failed",
)  # fmt: skip
CLOSE = "close other programs"  # the first step wherever it is the machine's memory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether something failed for lack of memory, a device's or the machine's."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in SAID)


def lack(error: BaseException) -> str:
    """What to say of such an error that is raised where nobody knows what the memory was for."""
    return f"{insufficient(reason_of(error))}: {CLOSE}, or take smaller pictures"


def lack_on_device(device: str, what: str) -> DeviceError:
    """The error for a device, by its name, whose memory does not suffice for ``what``."""
    step = (
        f"{CLOSE}, choose a smaller model or fewer --threads"
        if device == "cpu"
        else "choose a smaller model or --device cpu"
    )
    return DeviceError(f"{device}: {insufficient(f'for {what}')}: {step}")


def lack_for_frames(
    source: object, reason: str, memory: str, batch: int | None = None
) -> OutOfMemoryError:
    """The error for an input whose frames on their way do not fit the machine's memory.

    reason: what they are, ``for ...``, or ``reason_of`` an error. memory, batch: what the
    options that could be lowered are, as far as it is known.
    """
    now = "" if batch is None else f" (now {batch})"
    return OutOfMemoryError(
        f"{source}: {insufficient(reason)}: {CLOSE}, lower --memory (now {memory}) or"
        f" --batch{now}, or make the picture smaller"
    )


def insufficient(reason: str) -> str:
    """What all such lines have in common."""
    return f"the memory does not suffice {reason}"


def reason_of(error: BaseException) -> str:
    """The first line of what such an error says, in brackets."""
    return f"({(str(error).splitlines() or ['no more of it'])[0]})"


@contextmanager
def lack_told(source: object, memory: str) -> Iterator[None]:
    """Raise OutOfMemoryError, as ``lack_for_frames`` has it, for what libraries raise in the block
    for lack of memory."""
    try:
        yield
    except VidmatteError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise lack_for_frames(source, reason_of(error), memory) from error
        raise


M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # mallopt(3)
LARGEST_KEPT = 32 << 20  # bytes: larger pieces come from the kernel, and go back to it
FREE_KEPT = 256 << 20  # bytes, free at the heap's end
CHOSEN = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def share_heap() -> bool:
    """Have glibc serve all threads from one heap; False where it does not, or the user chose.

    Left alone it gives each thread one of its own. Frames are allocated in one thread and
    freed in another, so the heaps fill up with what the others need: sharing saves a tenth
    to a sixth of the memory at 1080p, and half of the page faults. Pieces of a frame's size
    are kept for the next frame instead of given back to the kernel, which would clear them
    again. To be called by programs, before they start threads; it is not for libraries to
    decide.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, FREE_KEPT))
    return all(mallopt(option, value) for option, value in wanted)

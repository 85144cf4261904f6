"""One heap for all threads: what one stage frees, the next one takes."""

from __future__ import annotations

import ctypes
import os
import sys

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

"""Standard input and output as streams of bytes: read or written once, and given up at once.

FFmpeg reads and writes them through these objects. A wait for the program at the other end ends
with ``cancel``, which any thread may call.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable

_POLL_SECONDS = 0.1
WATCH_SECONDS = 0.2  # between looks at a pipe that nothing is written to
_PIPE_SIZE = 1 << 20  # bytes that a pipe is asked to hold
_LARGEST_WRITE = 1 << 20  # bytes
_CAN_WAIT = sys.platform != "win32"  # where select takes sockets only


def is_abandoned(number: int) -> bool:
    """Whether the program that reads a pipe, by the file descriptor of its writing end, has
    closed its end, as far as the system tells."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def wait_abandoned(check: Callable[[], bool], is_over: threading.Event) -> bool:
    """Wait until ``check`` says that a pipe's reader has gone: True; False once ``is_over``."""
    while not is_over.wait(WATCH_SECONDS):
        if check():
            return True
    return False


class _End:
    """One end of a pipe, by its file descriptor."""

    #: FFmpeg would guess a format by it.
    name = ""

    def __init__(self, number: int) -> None:
        self._number = number
        self._is_cancelled = False
        #: Bytes that went through.
        self.position = 0
        #: What ended it, besides its end.
        self.error: BaseException | None = None
        if sys.platform == "linux":
            import fcntl

            with contextlib.suppress(OSError):  # no pipe, or more than the system allows
                fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def cancel(self) -> None:
        """End a wait in progress, and all later ones."""
        self._is_cancelled = True


class PipeReader(_End):
    """The reading end. After an error it reads as ended, and ``error`` has the error: FFmpeg does
    not pass on an interrupt."""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, as many as there are; empty at the end. Waits for the first."""
        try:
            while not self._is_cancelled and self.error is None:
                if _CAN_WAIT and not select.select([self._number], [], [], _POLL_SECONDS)[0]:
                    continue
                data = os.read(self._number, size)
                self.position += len(data)
                return data
        except BaseException as error:  # noqa: BLE001 (raised again by ``check``)
            self.error = error
        return b""

    def check(self) -> None:
        """Raise what ended the reading, if it was an error."""
        if self.error is not None:
            raise self.error


class PipeWriter(_End):
    """The writing end; the descriptor itself stays open when it is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(os.dup(number))
        self._is_closed = False
        if _CAN_WAIT:
            self._was_blocking = os.get_blocking(self._number)
            os.set_blocking(self._number, False)

    def write(self, data: bytes) -> int:
        """Write all of it; returns its length. Raises BrokenPipeError where nobody reads any
        more, OSError."""
        left = memoryview(data).cast("B")
        while len(left):
            if self._is_cancelled:
                raise BrokenPipeError
            try:
                done = os.write(self._number, left[:_LARGEST_WRITE])
            except BlockingIOError:
                select.select([], [self._number], [], _POLL_SECONDS)
                continue
            self.position += done
            left = left[done:]
        return len(data)

    def is_abandoned(self) -> bool:
        """Whether the program that reads it has closed its end, as far as the system tells."""
        return not self._is_closed and is_abandoned(self._number)

    def close(self) -> None:
        """Close it; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if _CAN_WAIT:
            with contextlib.suppress(OSError):
                os.set_blocking(self._number, self._was_blocking)
        os.close(self._number)

"""The errors that vidmatte raises, each with one clear line for the user.

Classes also inherit the matching builtin, so ``except FileNotFoundError`` and
the like keep working for callers of the Python API.
"""

from __future__ import annotations


class VidmatteError(Exception):
    """Base of all errors that vidmatte raises on purpose.

    The message is one line: the value, what is allowed, the next step.
    ``exit_status`` is the exit status of the command line.
    """

    exit_status = 1


class UsageError(VidmatteError, ValueError):
    """An option or argument is wrong or conflicts with another."""

    exit_status = 2


class SourceError(VidmatteError, ValueError):
    """The input exists but cannot be used as a clip or picture."""


class SourceMissingError(SourceError, FileNotFoundError):
    """The input does not exist or may not be read."""


class OutputError(VidmatteError, OSError):
    """The output cannot be written (permission, full disk, refused by the encoder)."""


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and ``overwrite`` is not set."""


class VerificationError(VidmatteError, RuntimeError):
    """The written file, read back, differs from what should have been written."""


class ModelError(VidmatteError, ValueError):
    """The model is unknown, or its file does not match its family."""


class WeightsError(VidmatteError, RuntimeError):
    """The weights cannot be fetched: no source answered, or the checksum does not match."""


class DeviceError(VidmatteError, RuntimeError):
    """The requested device cannot be used."""


class OutOfMemoryError(VidmatteError, MemoryError):
    """There is not enough memory for the frames."""


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl+C or a terminating signal stopped the run; the partial output was removed.

    Not an Exception, and so not a VidmatteError: a loop that logs failures and continues
    (``except Exception``) must end with Ctrl+C.
    """

    exit_status = 130

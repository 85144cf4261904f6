"""Every way a run can end early, each with one clear line for the user.

Classes also inherit the builtin that fits, so ``except FileNotFoundError`` and
the like keep working for callers of the Python API.
"""

from __future__ import annotations


class VidmatteError(Exception):
    """Base of all errors that vidmatte raises on purpose.

    The message is one line: the value, what is allowed, the next step.
    ``exit_status`` is what the command line exits with.
    """

    exit_status = 1


class UsageError(VidmatteError, ValueError):
    """An option or argument is wrong or does not fit the others."""

    exit_status = 2


class SourceError(VidmatteError, ValueError):
    """The input exists but cannot be used as a clip or picture."""


class SourceMissingError(SourceError, FileNotFoundError):
    """The input does not exist or may not be read."""


class OutputError(VidmatteError, OSError):
    """The output cannot be written (permission, full disk, refused by the encoder)."""


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and ``overwrite`` was not asked for."""


class VerificationError(VidmatteError, RuntimeError):
    """The written file, read back, is not what was meant to be written."""


class ModelError(VidmatteError, ValueError):
    """The model is unknown, or its file is not what its family says."""


class WeightsError(VidmatteError, RuntimeError):
    """The weights cannot be had: no source answered, or what came is not the file."""


class DeviceError(VidmatteError, RuntimeError):
    """The device that was asked for is not usable here."""


class OutOfMemoryError(VidmatteError, MemoryError):
    """The machine's memory does not suffice for the frames."""


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl+C or a terminating signal stopped the run; the partial output is gone.

    No Exception, and so no VidmatteError: a loop that logs what fails and goes on
    (``except Exception``) must end with Ctrl+C.
    """

    exit_status = 130

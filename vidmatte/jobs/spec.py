"""What a job is: an input, an output and the options between them; and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Clip
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.registry import ModelChoice
from vidmatte.settings import Settings, names_of
from vidmatte.writers.base import WriteResult
from vidmatte.writers.format_spec import OutputFormat

#: The options that name a file or folder which is read.
READ_OPTIONS = names_of(Settings, reads=True)


@dataclass(frozen=True)
class Job:
    """One input and the path of its result.

    source: as the user wrote it. settings: those for this output, see ``check.make_job``.
    is_folder: the output is a folder for pictures, though its name may look like a picture's.
    subject_folder: where what is known about the source's subjects is kept for other jobs on the
    same source; None for a temporary folder, or ``--cache``.
    """

    source: str | Path
    output: Path
    settings: Settings
    is_folder: bool = False
    subject_folder: Path | None = None

    @property
    def path(self) -> Path:
        """The source's path."""
        return Path(self.source)


@dataclass(frozen=True)
class CheckedJob:
    """A job that passed its check, and what the check determined.

    clip: the input's properties. model: the networks, chosen but not fetched. formats: that of the
    output, then those of the extra outputs; empty where an earlier run seems to have finished it.
    """

    job: Job
    clip: Clip
    model: ModelChoice
    formats: tuple[OutputFormat, ...]


@dataclass(frozen=True)
class Result:
    """The outputs of a run, and how it went.

    busy_seconds: work by stage, excluding waits. quality: what looks wrong in the
    mattes. carried: frames of this run whose alpha was carried from key frames, as ``--pace``
    allows. resumed_at: how many frames earlier runs had finished. manifest: its path,
    None without one. source: the file or folder, None where the source is neither
    (``clip.source`` names it). weights: the model's, each with ``name``, ``path`` and
    ``sha256`` (64 hexadecimal digits, computed on first access unless it is known).
    """

    source: Path | None
    clip: Clip
    written: WriteResult
    model: str
    device: str
    seconds: float
    busy_seconds: dict[str, float]
    warnings: tuple[str, ...]
    quality: Quality
    carried: int = 0
    resumed_at: int = 0
    manifest: Path | None = None
    weights: tuple[Weights, ...] = ()

    @property
    def fps(self) -> float:
        """Frames per second of this run."""
        return (self.written.frames - self.resumed_at) / self.seconds if self.seconds else 0.0


def files_to_read(settings: Settings) -> Iterator[tuple[str, Path]]:
    """The options that name an existing file or folder to read, with its path; colours are
    skipped."""
    for name in READ_OPTIONS:
        text = getattr(settings, name)
        if text and Path(text).exists():
            yield name, Path(text)
    if not settings.has_subject:
        return
    from vidmatte.alpha.guidance.subjects_file import mask_files

    for place, mask in enumerate(mask_files(settings.subject, settings.subjects)):
        if mask.exists():
            yield f"subject mask {place}", mask

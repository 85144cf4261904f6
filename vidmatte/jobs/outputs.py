"""The writer of a job: its outputs, checked and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidmatte.core.frame import Clip
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer
from vidmatte.writers.open import output_class, output_specs
from vidmatte.writers.output import close_backgrounds


def open_writer(
    out: Path,
    clip: Clip,
    settings: Settings,
    facts: dict[str, Any] | None = None,
    *,
    is_folder: bool = False,
) -> Writer:
    """A sink that writes ``clip`` to ``out`` in the format of its suffix or of the settings,
    and the side results with it.

    facts: what decides the result besides its format; ``--resume`` takes up work of the
    same facts alone. is_folder: ``out`` is a folder, though its name may look like a picture's.
    The job has been checked, see ``check_outputs``. Raises OutputExistsError, OutputError.
    """
    from vidmatte.writers.multi_writer import MultiWriter

    outputs = [
        output_class(plan.row)(plan) for plan in output_specs(out, clip, settings, is_folder)
    ]
    try:
        for output in outputs:
            output.partial.check()  # something may have come there since the job was checked
    except BaseException:
        close_backgrounds(outputs)
        raise
    if settings.resume and clip.kind != "picture":
        from vidmatte.jobs.checkpoint.writer import open_checkpoint

        return open_checkpoint(clip, settings, outputs, facts or {})
    return MultiWriter(clip, settings, outputs)

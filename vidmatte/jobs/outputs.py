"""The writer of a job: its outputs, checked, and opened with or without a spool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidmatte.core.frame import Clip
from vidmatte.jobs.checkpoint.folder import may_replace_at
from vidmatte.settings import Settings
from vidmatte.writers.open import output_class, output_specs
from vidmatte.writers.output_paths import output_paths

if TYPE_CHECKING:
    from vidmatte.writers.multi_writer import MultiWriter
    from vidmatte.writers.output import Output
    from vidmatte.writers.placed import PlacedWriter
    from vidmatte.writers.spool import Spool


def _make_outputs(
    out: Path, clip: Clip, settings: Settings, *, is_folder: bool = False
) -> list[Output]:
    """The outputs of a checked job, the main one first; nothing is opened.

    The format comes from the suffix of ``out`` or from the settings. is_folder: ``out`` is a
    folder, though its name may look like a picture's. Raises OutputExistsError, OutputError
    where a file was created there since the job was checked.
    """
    from vidmatte.writers.output import close_backgrounds

    specs = output_specs(out, clip, settings, is_folder, may_replace_at(out, settings))
    outputs: list[Output] = [output_class(spec)(spec) for spec in specs]
    try:
        for output in outputs:
            output.partial.check()
    except BaseException:
        close_backgrounds(outputs)
        raise
    return outputs


def open_writer(
    out: Path,
    clip: Clip,
    settings: Settings,
    facts: dict[str, Any] | None = None,
    *,
    is_folder: bool = False,
) -> MultiWriter | PlacedWriter:
    """A writer of ``clip`` to ``out`` and to the extra outputs; see ``_make_outputs``.

    With ``--size`` or ``--crop`` they are opened once the still's alpha is known.
    With ``--resume`` it has a spool, in the work folder beside ``out``. facts: what determines
    the frames besides the outputs; stored work with other facts is refused.
    """
    if settings.size is not None or settings.crop is not None:
        from vidmatte.writers.placed import PlacedWriter

        return PlacedWriter(
            clip,
            settings,
            lambda placed: open_outputs(out, placed, settings, is_folder=is_folder),
        )
    return open_outputs(out, clip, settings, facts, is_folder=is_folder)


def open_outputs(
    out: Path,
    clip: Clip,
    settings: Settings,
    facts: dict[str, Any] | None = None,
    *,
    is_folder: bool = False,
    spool: Spool | None = None,
) -> MultiWriter:
    """The writer of a clip in its final size; see ``open_writer``.

    spool: used instead of one in the work folder.
    """
    from vidmatte.writers.multi_writer import MultiWriter
    from vidmatte.writers.output import close_backgrounds

    outputs = _make_outputs(out, clip, settings, is_folder=is_folder)
    if spool is None and settings.resume and clip.kind != "picture":
        from vidmatte.jobs.checkpoint.spool import open_checkpoint

        specs = [output.spec for output in outputs]
        try:
            spool = open_checkpoint(output_paths(out).work, clip, specs, facts or {})
        except BaseException:
            close_backgrounds(outputs)
            raise
    return MultiWriter(clip, settings, outputs, spool)

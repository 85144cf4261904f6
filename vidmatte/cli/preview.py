"""``vidmatte preview``: a contact sheet before a long run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vidmatte.network.model import find_model
from vidmatte.preview import check_sheet, write_sheet
from vidmatte.run.report import TextReporter
from vidmatte.settings import make_settings
from vidmatte.sink.names import beside, whole


def preview(clip: Path, output: Path | None, frames: int, options: dict[str, Any]) -> None:
    """Write the sheet and say where. Raises VidmatteError."""
    settings = make_settings(**options)
    reporter = TextReporter(bar=False, verbose=False)
    out = output or beside(clip, f"{whole(clip).stem}_preview.png")
    check_sheet(clip, out, settings)
    model = find_model(settings, reporter.note, quiet=not sys.stderr.isatty())
    if settings.smooth in ("on", "live"):
        reporter.note(
            f"vidmatte: --smooth {settings.smooth}: a sheet's frames are matted one by one,"
            " so the temporal filter is not seen here"
        )
    shown = write_sheet(
        clip, out, model, settings, frames, lambda line: reporter.note(f"vidmatte: {line}")
    )
    counted = f"{shown} frame{'s' if shown != 1 else ''}"
    reporter.note(f"{out}: {counted} over a checkerboard, black, white, and their alpha")

"""``vidmatte bench``: how fast this machine mattes, stage by stage."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from vidmatte.bench.clip import make_clip
from vidmatte.bench.stages import Measured, measure
from vidmatte.errors import UsageError
from vidmatte.network.model import Model, find_model
from vidmatte.run.report import TextReporter
from vidmatte.settings import Settings, make_settings
from vidmatte.sink import check_sink
from vidmatte.source import open_source

SIDES = (64, 16384)
MADE_SIZE = "1920x1080"
BUSY = 0.05  # of the cores taken by other programs: beyond this the rates say little


def bench(
    clip: Path | None,
    size: str | None,
    frames: int,
    rounds: int,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """Measure and print. Without a clip one of ``frames`` frames of ``size`` (None: MADE_SIZE)
    is made.

    Raises VidmatteError.
    """
    settings = replace(make_settings(**options), overwrite=True, audio=False)
    reporter = TextReporter(bar=False, verbose=False)
    if clip is not None and size is not None:
        raise UsageError(f"--size {size}: {clip} has a size of its own: leave one of them out")
    width, height = parse_size(size or MADE_SIZE)
    with tempfile.TemporaryDirectory(prefix="vidmatte-bench-") as folder:
        if clip is None:
            clip = Path(folder) / "made.mp4"
            make_clip(clip, width, height, frames)
        elif settings.out_point is None:
            settings = replace(settings, out_point=last_point(clip, settings, frames))
        output = target(Path(folder), settings)
        with open_source(clip, settings) as source:
            check_sink(output, source.clip, settings)
            count = source.clip.frame_count
            if settings.out_point is None and count is not None and count < frames:
                reporter.note(
                    f"{source.clip.path.name}: {count} of the {frames} frames of --frames are"
                    " there: give a longer clip for rates that hold"
                )
            said = f"{source.clip.path.name}, {source.clip.width}x{source.clip.height}"
        model = find_model(settings, reporter.note, quiet=not sys.stderr.isatty())
        tell = reporter.note if sys.stderr.isatty() else lambda _: None
        measured = measure(clip, output, model, settings, rounds, tell)
    if as_json:
        typer.echo(json.dumps(facts(measured, model, said, settings), indent=2))
    else:
        typer.echo("\n".join(lines(measured, model, said, settings)))


def parse_size(text: str) -> tuple[int, int]:
    """'1920x1080' as width and height, both even. Raises UsageError."""
    width, _, height = text.lower().partition("x")
    low, high = SIDES
    if width.isdigit() and height.isdigit():
        sides = int(width), int(height)
        if all(low <= side <= high and side % 2 == 0 for side in sides):
            return sides
    raise UsageError(f"--size {text}: write it like 1920x1080, even sides of {low} to {high}")


def last_point(clip: Path, settings: Settings, frames: int) -> str | None:
    """Where to stop in a clip that has more than ``frames`` frames from its in point."""
    with open_source(clip, settings) as source:
        count, first = source.clip.frame_count, source.clip.first
    return None if count is None or count <= frames else f"f{first + frames}"


def target(folder: Path, settings: Settings) -> Path:
    """Where the results go: a file, or a folder for pictures."""
    from vidmatte.sink.formats import by_name

    row = by_name(settings.format or "prores")
    if row.container is not None:
        return folder / f"out{row.suffixes[0]}"
    return folder / "out"


def facts(measured: Measured, model: Model, clip: str, settings: Settings) -> dict[str, Any]:
    """What was measured, for JSON. Times in milliseconds a frame."""
    return {
        "clip": clip,
        "model": model.name,
        "network": model.network.about,
        "device": model.device.name,
        "format": settings.format or "prores",
        "cores": measured.cores,
        "stages": {
            name: {
                "frames": cost.frames,
                "fps": round(cost.fps, 3),
                "core_ms": round(cost.core_ms, 2),
            }
            for name, cost in measured.stages.items()
        },
        "core_ms": round(measured.core_ms, 2),
        "bound_fps": round(measured.bound_fps, 3),
        "pipeline": {
            "frames": measured.pipeline.frames,
            "fps": round(measured.pipeline.fps, 3),
            "core_ms": round(measured.pipeline.core_ms, 2),
        },
        "share_of_bound": round(measured.share, 4),
        "cores_taken_by_others": round(measured.taken, 3),
        "peak_memory_bytes": measured.peak_bytes,
    }


def lines(measured: Measured, model: Model, clip: str, settings: Settings) -> list[str]:
    """What was measured, for people."""
    whole, peak = measured.pipeline, measured.peak_bytes
    rows = [
        f"{clip}; {model.name} on {model.device.name}; {settings.format or 'prores'};"
        f" {measured.cores} cores",
        f"network: {model.network.about}",
        "",
        f"{'alone':10}{'frames/s':>10}{'core ms/frame':>15}",
    ]
    for name, cost in measured.stages.items():
        rows.append(f"{name:10}{cost.fps:10.2f}{cost.core_ms:15.1f}")
    return [
        *rows,
        "",
        f"bound     {measured.bound_fps:10.2f}{measured.core_ms:15.1f}"
        f"   all stages, spread over {measured.cores} cores",
        f"pipeline  {whole.fps:10.2f}{whole.core_ms:15.1f}   {whole.frames} frames",
        f"share of the bound: {measured.share:.2f}",
        "peak memory: "
        + (f"{peak / 2**20:.0f} MiB" if peak is not None else "not told by this system"),
        *busy_note(measured),
    ]


def busy_note(measured: Measured) -> list[str]:
    """A line where other programs have taken what the share counts as idle."""
    if measured.taken <= BUSY:
        return []
    return [
        f"other programs took {100 * measured.taken:.0f} % of the cores meanwhile: rates and"
        " share are too low, core ms are near the truth"
    ]

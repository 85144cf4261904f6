"""``vidmatte preview``, ``score`` and ``bench``: their options, and what they print."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vidmatte.core.names import absolute_path, counted, sibling_path
from vidmatte.core.terminal import progress_bar
from vidmatte.errors import UsageError
from vidmatte.jobs.check import check_job, make_job
from vidmatte.jobs.report import TextReporter
from vidmatte.models.registry import Model, find_model
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings, make_settings
from vidmatte.tools.bench import Measured, measure
from vidmatte.tools.bench_clip import make_clip
from vidmatte.tools.preview import check_sheet, save_sheet, write_sheet
from vidmatte.tools.score import Comparison, compare
from vidmatte.tools.subject_sheet import candidate_sheet, field_sheet, key_mask_sheet

if TYPE_CHECKING:
    from vidmatte.cli.bench_compare import BenchComparison

_SHEET_FRAMES = 5


def preview(
    clip: Path, output: Path | None, frames: int | None, at: list[str], options: dict[str, Any]
) -> None:
    """Write the contact sheet and print its path. frames: how many, evenly spaced; at: which ones
    instead. Raises VidmatteError."""
    if at and frames is not None:
        raise UsageError(f"--frames {frames} and --at {at[0]} exclude each other: omit one")
    settings = make_settings(**options)
    reporter = TextReporter(bar=sys.stderr.isatty(), verbose=False)
    count = frames or _SHEET_FRAMES
    out = output or sibling_path(clip, f"{absolute_path(clip).stem}_preview.png")
    check_sheet(clip, out, settings)
    model = find_model(settings, reporter.note, quiet=not sys.stderr.isatty())
    if settings.has_subject and (at or frames):
        sheet, shown = field_sheet(clip, model, settings, reporter, count, at)
        save_sheet(sheet, out)
        what = f"{counted(shown, 'frame')} with the chosen subject, as a run will track it"
        reporter.note(f"{out}: {what}")
        return
    if settings.has_subject:
        sheet, masks = key_mask_sheet(clip, model, settings, reporter.note)
        save_sheet(sheet, out)
        what = f"{counted(masks, 'key frame')} with the chosen subject's mask"
        reporter.note(f"{out}: {what}, from which a run will track it")
        return
    if settings.smooth in ("on", "live"):
        reporter.note(
            f"vidmatte: --smooth {settings.smooth}: a sheet's frames are matted one by one,"
            " so the temporal filter has no effect on it"
        )
    shown = write_sheet(
        clip, out, model, settings, count, lambda line: reporter.note(f"vidmatte: {line}"), at
    )
    reporter.note(
        f"{out}: {counted(shown, 'frame')} over a checkerboard, black, white, and their alpha"
    )


def subjects(clip: Path, output: Path | None, at: str | None, options: dict[str, Any]) -> None:
    """Write the numbered sheet of a frame's candidates and print its path. Raises VidmatteError."""
    settings = make_settings(**options)
    reporter = TextReporter(bar=False, verbose=False)
    out = output or sibling_path(clip, f"{absolute_path(clip).stem}_subjects.png")
    check_sheet(clip, out, settings)
    model = find_model(settings, reporter.note, quiet=not sys.stderr.isatty())
    sheet, count = candidate_sheet(clip, model, settings, at)
    save_sheet(sheet, out)
    moment = f"@{at}" if at else ""
    reporter.note(f"{out}: {counted(count, 'candidate')}; choose one with --subject 1{moment}")


#: Heading and scale of each measure, in the order of the table.
_MEASURES = {
    "mad": ("MAD", "x 1e3"),
    "mse": ("MSE", "x 1e3"),
    "grad": ("Grad", "/ 1e3"),
    "conn": ("Conn", "/ 1e3"),
    "dtssd": ("dtSSD", "x 1e2"),
    "messd_dt": ("MESSDdt", "x 1e3"),
    "flicker": ("flicker", "x 1e2"),
}


def score(prediction: Path, truth: Path, motion: Path | None, as_json: bool) -> None:
    """Compare and print. Raises VidmatteError."""
    bar: Any = None

    def advance(done: int, count: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = progress_bar(total=count, desc=prediction.name, unit="f")
        bar.update(done - bar.n)

    try:
        if sys.stderr.isatty():
            found = compare(prediction, truth, motion, advance)
        else:
            found = compare(prediction, truth, motion)
    finally:
        if bar is not None:
            bar.close()
    typer.echo(
        json.dumps(_score_facts(found), indent=2) if as_json else "\n".join(_score_lines(found))
    )


def _score_facts(found: Comparison) -> dict[str, Any]:
    """A comparison for JSON; null is a measure that was not computed."""
    return {
        "prediction": str(found.prediction),
        "truth": str(found.truth),
        "prediction_shown": found.shown[0],
        "truth_shown": found.shown[1],
        "width": found.size[0],
        "height": found.size[1],
        "frames": found.frames,
        "scores": {name: found.scores.get(name) for name in _MEASURES},
        "scales": {name: scale for name, (_, scale) in _MEASURES.items()},
        "motion": found.motion,
        "worst": [{"frame": index, "mad": error} for index, error in found.worst],
        "notes": list(found.notes),
    }


def _score_lines(found: Comparison) -> list[str]:
    """A comparison as text: a table of one row, and notes on it."""
    cells = [("frames", str(found.frames))]
    cells += [
        (title, f"{found.scores[name]:.2f}" if name in found.scores else "-")
        for name, (title, _) in _MEASURES.items()
    ]
    widths = [max(map(len, cell)) + 2 for cell in cells]
    head, row = (
        "".join(cell[line].rjust(width) for cell, width in zip(cells, widths, strict=True))
        for line in (0, 1)
    )
    worst = ", ".join(f"f{index} {error:.2f}" for index, error in found.worst if error)
    ours, theirs = found.shown
    lines = [
        f"{found.prediction} ({ours}) against {found.truth} ({theirs})",
        head,
        row,
        f"worst by MAD: {worst or 'none, all are 0'}",
        f"scales: {_scales()}",
    ]
    if found.motion == "estimated":
        lines.append("MESSDdt along motion estimated from the truth; flicker needs --motion DIR")
    elif found.motion == "known":
        lines.append("MESSDdt and flicker along the known motion")
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _scales() -> str:
    """The measures of each scale."""
    titles: dict[str, list[str]] = {}
    for title, scale in _MEASURES.values():
        titles.setdefault(scale, []).append(title)
    return "; ".join(f"{', '.join(group)} {scale}" for scale, group in titles.items())


_SIDES = (64, 16384)
_GENERATED_SIZE = "1920x1080"
_BUSY = 0.05  # share of the cores that other programs use, above which rates are unreliable


def bench(
    clip: Path | None,
    size: str | None,
    frames: int,
    rounds: int,
    as_json: bool,
    options: dict[str, Any],
    comparison: BenchComparison | None = None,
) -> None:
    """Measure and print. Without a clip, one of ``frames`` frames of ``size`` (None:
    ``_GENERATED_SIZE``) is generated. comparison: with other programs, instead of the rates.

    Raises VidmatteError.
    """
    settings = make_settings(**options).changed(overwrite=True, audio=False)
    reporter = TextReporter(bar=False, verbose=False)
    if clip is not None and size is not None:
        raise UsageError(f"--size {size}: {clip} has its own size: use one of them")
    width, height = _parse_size(size or _GENERATED_SIZE)
    with tempfile.TemporaryDirectory(prefix="vidmatte-bench-") as folder:
        if clip is None:
            clip = Path(folder) / "made.mp4"
            make_clip(clip, width, height, frames)
        elif settings.out_point is None:
            settings = settings.changed(out_point=_last_point(clip, settings, frames))
        if comparison is not None:
            from vidmatte.cli.bench_compare import run_comparison

            run_comparison(clip, Path(folder), settings, frames, rounds, as_json, comparison)
            return
        output = _target(Path(folder), settings)
        with open_reader(clip, settings) as source:
            choice = check_job(make_job(clip, output, settings), source).model
            count = source.clip.frame_count
            if settings.out_point is None and count is not None and count < frames:
                reporter.note(
                    f"{source.clip.source.name}: it has only {count} of the {frames} frames of"
                    " --frames: use a longer clip for reliable rates"
                )
            title = f"{source.clip.source.name}, {source.clip.width}x{source.clip.height}"
        model = choice.fetch(reporter.note, quiet=not sys.stderr.isatty())
        report = reporter.note if sys.stderr.isatty() else lambda _: None
        measured = measure(clip, output, model, settings, rounds, report)
    if as_json:
        typer.echo(json.dumps(_bench_facts(measured, model, title, settings), indent=2))
    else:
        typer.echo("\n".join(_bench_lines(measured, model, title, settings)))


def _parse_size(text: str) -> tuple[int, int]:
    """'1920x1080' as width and height, both even. Raises UsageError."""
    width, _, height = text.lower().partition("x")
    low, high = _SIDES
    if width.isdigit() and height.isdigit():
        sides = int(width), int(height)
        if all(low <= side <= high and side % 2 == 0 for side in sides):
            return sides
    raise UsageError(f"--size {text}: write it like 1920x1080, even sides of {low} to {high}")


def _last_point(clip: Path, settings: Settings, frames: int) -> str | None:
    """The out point for a clip with more than ``frames`` frames from its in point, else None."""
    with open_reader(clip, settings) as source:
        count, first = source.clip.frame_count, source.clip.first_frame
    return None if count is None or count <= frames else f"f{first + frames}"


def _target(folder: Path, settings: Settings) -> Path:
    """The path of the results: a file, or a folder for pictures."""
    from vidmatte.writers.formats import by_name

    row = by_name(settings.format or "prores")
    if row.container is not None:
        return folder / f"out{row.suffixes[0]}"
    return folder / "out"


def _bench_facts(measured: Measured, model: Model, clip: str, settings: Settings) -> dict[str, Any]:
    """The measurements for JSON. Times in milliseconds per frame."""
    return {
        "clip": clip,
        "model": model.name,
        "network": model.network.description,
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
        "cores_taken_by_others": round(measured.used_share, 3),
        "peak_memory_bytes": measured.peak_bytes,
    }


def _bench_lines(measured: Measured, model: Model, clip: str, settings: Settings) -> list[str]:
    """The measurements as text."""
    pipeline, peak = measured.pipeline, measured.peak_bytes
    rows = [
        f"{clip}; {model.name} on {model.device.name}; {settings.format or 'prores'};"
        f" {measured.cores} cores",
        f"network: {model.network.description}",
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
        f"pipeline  {pipeline.fps:10.2f}{pipeline.core_ms:15.1f}   {pipeline.frames} frames",
        f"share of the bound: {measured.share:.2f}",
        "peak memory: "
        + (f"{peak / 2**20:.0f} MiB" if peak is not None else "not reported by this system"),
        *_busy_note(measured),
    ]


def _busy_note(measured: Measured) -> list[str]:
    """A line where other programs used cores that the share counts as idle."""
    if measured.used_share <= _BUSY:
        return []
    return [
        f"other programs used {100 * measured.used_share:.0f} % of the cores meanwhile: rates and"
        " share are too low, core ms are nearly right"
    ]

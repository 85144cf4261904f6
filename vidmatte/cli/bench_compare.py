"""``vidmatte bench --compare``: its options, and what is printed and drawn."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vidmatte.core.names import counted
from vidmatte.errors import OutputError, OutputExistsError, UsageError
from vidmatte.jobs.report import TextReporter
from vidmatte.models.registry import Model, find_model
from vidmatte.settings import Settings
from vidmatte.tools.bench_compare import Compared, check_measurable, compare_programs
from vidmatte.tools.bench_contenders import INSTALL, Match, find_rembg
from vidmatte.tools.bench_plot import Bar, bars_svg
from vidmatte.writers.base import as_output_error

_LEAST_DRAWN = 0.5  # core milliseconds a frame: a stage that is off has less


@dataclass(frozen=True)
class BenchComparison:
    """The options of ``--compare``. rembg: the command, None for the one on the PATH. plot: the
    SVG to write, None for none."""

    rembg: Path | None = None
    plot: Path | None = None


def chosen_comparison(
    wanted: bool, rembg: Path | None, plot: Path | None
) -> BenchComparison | None:
    """The comparison that is asked for, None for none. Raises UsageError, OutputError."""
    if not wanted:
        for flag, value in (("--rembg", rembg), ("--plot", plot)):
            if value is not None:
                raise UsageError(f"{flag} {value}: it has an effect with --compare only")
        return None
    check_measurable()
    if rembg is not None and shutil.which(rembg) is None:
        raise UsageError(f"--rembg {rembg}: there is no such command: {INSTALL}")
    if plot is not None:
        if plot.suffix.lower() != ".svg":
            raise UsageError(f"--plot {plot}: it is an SVG: write a name that ends in .svg")
        if plot.exists():
            raise OutputExistsError(f"--plot {plot}: it exists: remove it, or write another name")
        if not plot.absolute().parent.is_dir():
            raise OutputError(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    return BenchComparison(rembg, plot)


def run_comparison(
    clip: Path,
    folder: Path,
    settings: Settings,
    frames: int,
    rounds: int,
    as_json: bool,
    chosen: BenchComparison,
) -> None:
    """Compare and print. clip: what is given or made; folder: for all that is temporary.

    Raises VidmatteError.
    """
    reporter = TextReporter(bar=False, verbose=False)
    report = reporter.note if sys.stderr.isatty() else lambda _: None
    model = _one_network(settings, reporter.note)
    if settings.format is None:
        is_recurrent = model.weights[0].fed_as.recurrence is not None
        settings = settings.changed(format="prores" if is_recurrent else "png")
    match = Match.of(clip, folder, settings, model, frames)
    rembg, note = find_rembg(match, chosen.rembg)
    if note:
        reporter.note(f"vidmatte: {note}")
    contenders = match.contenders(rembg)
    found = compare_programs(contenders, match.frames, rounds, folder, match.suffix, report)
    facts = {**match.facts, "rounds": rounds, "notes": [note] if note else []}
    facts["programs"] = _rows(found, match.stages(rounds, report))
    if chosen.plot is not None:
        try:
            chosen.plot.write_text(_drawn(facts), "utf-8")
        except OSError as error:
            raise as_output_error(error, chosen.plot) from error
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def _one_network(settings: Settings, report: Callable[[str], None]) -> Model:
    """The model, its weights fetched. Raises UsageError for what a plain loop does not do."""
    if settings.format not in (None, "png", "prores"):
        raise UsageError(f"--format {settings.format}: --compare writes png or prores")
    model = find_model(settings, report, quiet=not sys.stderr.isatty())
    if len(model.weights) > 1 or model.weights[0].path is None:
        raise UsageError(
            f"--model {settings.model}: --compare is for one network: 'vidmatte models' lists them"
        )
    return model


def _rows(found: list[Compared], stages: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The programs for JSON. Times in milliseconds a frame."""
    peers = [one for one in found if one.is_peer]
    rows = {}
    for one in found:
        row: dict[str, Any] = {
            "core_ms": round(one.core_ms, 2),
            "ms": round(one.ms, 2),
            "alpha_difference": round(one.difference, 3),
            "coverage": round(one.coverage, 4),
        }
        if not one.is_peer:
            row["stages"] = {name: round(ms, 2) for name, ms in stages[one.name].items()}
            ratios = {peer.name: one.times_as_long(peer) for peer in peers}
            row["peers_take"] = {
                name: {"times": _rounded(clock), "times_core": _rounded(cores)}
                for name, (clock, cores) in ratios.items()
            }
        rows[one.name] = row
    return rows


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


def _title(facts: dict[str, Any]) -> str:
    """Model and job."""
    return f"{facts['model']}, {facts['width']}x{facts['height']}, {facts['job']}"


def _machine(facts: dict[str, Any]) -> str:
    """CPU, cores and how much was measured."""
    device = "" if facts["device"] == "cpu" else f", networks on {facts['device']}"
    rounds = counted(facts["rounds"], "round")
    return f"{facts['cpu']}, {facts['cores']} cores{device}; {facts['frames']} frames, {rounds}"


def _lines(facts: dict[str, Any]) -> list[str]:
    """The comparison as text: a row a program, a column for how many times as long each peer
    takes, and vidmatte's stages."""
    programs = facts["programs"]
    peers = [name for name, row in programs.items() if "stages" not in row]
    widths = [max(12, len(name) + 2) for name in peers]
    head = "".join(f"{name:>{width}}" for name, width in zip(peers, widths, strict=True))
    lines = [_title(facts), _machine(facts), ""]
    lines.append(f"{'a frame':24}{'core ms':>9}{'ms':>9}{'alpha':>8}{head}")
    for name, row in programs.items():
        times = [row.get("peers_take", {}).get(peer, {}).get("times_core") for peer in peers]
        cells = [f"{'' if one is None else f'{one:.2f} x':>{width}}"
                 for one, width in zip(times, widths, strict=True)]  # fmt: skip
        figures = f"{row['core_ms']:9.1f}{row['ms']:9.1f}{row['alpha_difference']:8.2f}"
        lines.append(f"{name:24}{figures}{''.join(cells)}".rstrip())
    lines.append("")
    for name, row in programs.items():
        if "stages" in row:
            parts = ", ".join(f"{stage} {ms:.0f}" for stage, ms in row["stages"].items())
            lines.append(f"{name}, core ms a frame by stage: {parts}")
    first = next(iter(programs))
    lines.append(
        f"alpha: mean difference to {first}, of 255; N x: core ms of that program over this row's"
    )
    if any(row["core_ms"] <= 0 or row["ms"] <= 0 for row in programs.values()):
        lines.append("so few frames take no longer than the start varies: use more --frames")
    return lines


def _drawn(facts: dict[str, Any]) -> str:
    """The comparison as an SVG. A complete run's time is divided as its stages' alone are, so that
    all bars show the same kind of measurement."""
    bars = []
    for name, row in facts["programs"].items():
        stages = {stage: ms for stage, ms in row.get("stages", {}).items() if ms >= _LEAST_DRAWN}
        alone = sum(stages.values())
        if not stages:
            stages, alone = {"": 1.0}, 1.0
        parts = ((stage, max(0.0, row["core_ms"]) * ms / alone) for stage, ms in stages.items())
        bars.append(Bar(name, tuple(parts)))
    caption = [
        _machine(facts),
        "Complete runs less their start, in turn, medians; vidmatte's divided as its stages alone.",
        f"vidmatte {facts['vidmatte']}: vidmatte bench --compare --model {facts['model']}",
    ]
    return bars_svg(f"{_title(facts)}: core milliseconds a frame", bars, caption)

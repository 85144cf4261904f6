"""What is reported of a result: one line, notes, and the facts for ``--json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vidmatte.cli.info import colour_lines
from vidmatte.core.concurrency import usable_cores
from vidmatte.core.frame import Clip
from vidmatte.core.names import counted, is_standard_stream
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.spec import Job, Result
from vidmatte.models.registry import Model
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult, worker_count


def report_result(
    reporter: Reporter, job: Job, result: Result, weights: list[dict[str, str]] | None = None
) -> None:
    """Report how a job succeeded. weights: where the result has none, their names and SHA-256."""
    for line in colour_lines(result.clip):
        reporter.detail(line.strip())
    for warning in result.warnings:
        reporter.note(f"vidmatte: {warning}")
    for line in result.quality.lines():
        reporter.note(f"vidmatte: look at {Path(_shown(job.output)).name}: {line}")
    if result.busy_seconds:
        reporter.detail(_busy_line(result))
    facts = _facts(result)
    reporter.summary(facts if weights is None else {**facts, "weights": weights}, _one_line(result))


def _shown(out: Path) -> str:
    """A result's name for the user."""
    return "stdout" if is_standard_stream(out) else str(out)


def _one_line(result: Result) -> str:
    """A summary of what was written, in one line."""
    written = result.written
    sound = f", {len(written.sound)} sound" if written.sound else ""
    size, made = f"{written.width}x{written.height}", f"{written.format} {written.pixel_format}"
    if result.clip.kind == "picture":  # it has no rate
        kilobytes = written.bytes / 1e3
        return (
            f"{_shown(written.path)}: {size}, {made}, {kilobytes:.0f} kB in {result.seconds:.1f} s"
        )
    frames = counted(written.frames, "frame")
    if result.carried:
        made_now = written.frames - result.resumed_at
        frames += f" (network on {made_now - result.carried} of {made_now})"
    return (
        f"{_shown(written.path)}: {frames}, {size}, {written.rate} fps, {made}{sound},"
        f" {written.bytes / 1e6:.1f} MB in {result.seconds:.1f} s ({result.fps:.2f} frames/s)"
    )


def shares_line(model: Model, clip: Clip, settings: Settings) -> str:
    """How the CPU cores are divided between the network and the encoders."""
    encoders = worker_count(clip.width, clip.height, settings.memory_bytes)
    network = (
        model.network.description
        if settings.cache is None
        else "loaded unless its alphas are cached"
    )
    return f"cores: {usable_cores()}; network: {network}; encoders: {encoders}"


def _busy_line(result: Result) -> str:
    """Each stage's share of the time."""
    shares = (
        f"{name} {100 * seconds / max(result.seconds, 1e-9):.0f} %"
        for name, seconds in result.busy_seconds.items()
    )
    return f"busy: {', '.join(shares)}"


def _written_facts(written: WriteResult, clip: Clip) -> dict[str, Any]:
    """What was written, for JSON."""
    return {
        "output": str(written.path),
        "frames": written.frames,
        "width": written.width,
        "height": written.height,
        "rate": None if clip.kind == "picture" else str(written.rate),
        "format": written.format,
        "pixel_format": written.pixel_format,
        "sound": list(written.sound),
        "bytes": written.bytes,
    }


def _facts(result: Result) -> dict[str, Any]:
    """A result for JSON; all paths are as the user gave them, absolute or relative."""
    written, manifest = result.written, result.manifest
    if manifest is not None and not written.path.is_absolute():
        manifest = Path(os.path.relpath(manifest))
    return {
        "input": str(result.clip.source),
        **_written_facts(written, result.clip),
        "model": result.model,
        "weights": [{"name": one.name, "sha256": one.sha256} for one in result.weights],
        "device": result.device,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "busy_seconds": {name: round(s, 3) for name, s in result.busy_seconds.items()},
        "sides": [_written_facts(extra, result.clip) for extra in written.extra_outputs],
        "manifest": None if manifest is None else str(manifest),
        "carried": result.carried,
        "resumed_at": result.resumed_at,
        "warnings": list(result.warnings),
        "quality": result.quality.as_facts(),
    }

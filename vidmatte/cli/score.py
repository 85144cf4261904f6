"""``vidmatte score``: how far a matte is from the truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from vidmatte.score.compare import Comparison, compare
from vidmatte.terminal import progress_bar

#: Heading and scale of each measure, in the order of the table.
MEASURES = {
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
    typer.echo(json.dumps(facts(found), indent=2) if as_json else "\n".join(lines(found)))


def facts(found: Comparison) -> dict[str, Any]:
    """A comparison for JSON; null is a measure that was not found."""
    return {
        "prediction": str(found.prediction),
        "truth": str(found.truth),
        "prediction_shown": found.shown[0],
        "truth_shown": found.shown[1],
        "width": found.size[0],
        "height": found.size[1],
        "frames": found.frames,
        "scores": {name: found.scores.get(name) for name in MEASURES},
        "scales": {name: scale for name, (_, scale) in MEASURES.items()},
        "motion": found.motion,
        "worst": [{"frame": index, "mad": error} for index, error in found.worst],
        "notes": list(found.notes),
    }


def lines(found: Comparison) -> list[str]:
    """A comparison for people: a table of one row, and what is to be known of it."""
    cells = [("frames", str(found.frames))]
    cells += [
        (title, f"{found.scores[name]:.2f}" if name in found.scores else "-")
        for name, (title, _) in MEASURES.items()
    ]
    widths = [max(map(len, cell)) + 2 for cell in cells]
    head, row = (
        "".join(cell[place].rjust(width) for cell, width in zip(cells, widths, strict=True))
        for place in (0, 1)
    )
    worst = ", ".join(f"f{index} {error:.2f}" for index, error in found.worst if error)
    ours, theirs = found.shown
    told = [
        f"{found.prediction} ({ours}) against {found.truth} ({theirs})",
        head,
        row,
        f"worst by MAD: {worst or 'none, all are 0'}",
        f"scales: {scales()}",
    ]
    if found.motion == "estimated":
        told.append("MESSDdt along motion estimated from the truth; flicker needs --motion DIR")
    elif found.motion == "known":
        told.append("MESSDdt and flicker along the known motion")
    return [*told, *(f"note: {note}" for note in found.notes)]


def scales() -> str:
    """The measures of each scale."""
    titles: dict[str, list[str]] = {}
    for title, scale in MEASURES.values():
        titles.setdefault(scale, []).append(title)
    return "; ".join(f"{', '.join(group)} {scale}" for scale, group in titles.items())

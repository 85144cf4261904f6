"""``vidmatte info``, ``formats`` and ``verify``: inputs, output formats, finished results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from vidmatte.cli.exit_status import MOST_FAILURES
from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError
from vidmatte.media.icc import profile_name
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.format_spec import OutputFormat, output_colour
from vidmatte.writers.formats import FORMATS, by_name
from vidmatte.writers.still_encoders import STILL_FORMATS


def show_info(inputs: list[Path], as_json: bool, settings: Settings) -> int:
    """Describe each input; return how many cannot be read, each reported on stderr."""
    from vidmatte.writers.render.cutout import colour_notes

    described, failed = [], 0
    for path in inputs:
        try:
            with open_reader(path, settings) as source:
                row = by_name("png" if source.clip.kind == "picture" else "prores")
                notes = [*source.warnings, *colour_notes(source.clip, row)]
                facts = _clip_facts(source.clip) | {"warnings": notes}
                lines = _info_lines(source.clip)
        except SourceError as error:
            failed += 1
            facts, lines = {"path": str(path), "error": str(error)}, []
            typer.echo(f"vidmatte: {error}", err=True)
        described.append(facts)
        lines += [f"  note         {warning}" for warning in facts.get("warnings", ())]
        if lines and not as_json:
            typer.echo("\n".join(lines))
    if as_json:
        typer.echo(json.dumps(described if len(described) > 1 else described[0], indent=2))
    return min(failed, MOST_FAILURES)


def _clip_facts(clip: Clip) -> dict[str, Any]:
    """A clip for JSON."""
    return {
        "path": str(clip.source),
        "kind": clip.kind,
        "container": clip.container,
        "codec": clip.codec,
        "width": clip.width,
        "height": clip.height,
        "rotation": clip.orientation.rotation,
        "mirrored": clip.orientation.mirrored,
        "sample_aspect_ratio": str(clip.sample_aspect_ratio),
        "rate": None if clip.kind == "picture" else str(clip.rate),
        "constant_rate": clip.constant_rate,
        "time_base": str(clip.time_base),
        "frames": clip.frame_count,
        "pixel_format": clip.pixel_format,
        "bit_depth": clip.bit_depth,
        "colour": clip.colour.as_names(),
        "stated_colour": clip.declared_colour.as_names(),
        "content_light": clip.display.content_light,
        "dolby_vision": clip.display.dolby_vision,
        "interlaced": clip.interlaced,
        "timecode": clip.timecode,
        "reel": clip.reel,
        "video": [asdict(track) for track in clip.video],
        "audio": [
            {
                "codec": track.codec,
                "sample_rate": track.sample_rate,
                "channels": track.channels,
                "language": track.language,
            }
            for track in clip.audio
        ],
    }


def _info_lines(clip: Clip) -> list[str]:
    """A clip for people."""
    rate = f"{clip.rate} fps" + ("" if clip.constant_rate else " on average, variable")
    count = f"{clip.frame_count} frames" if clip.frame_count else "unknown length"
    is_still = clip.kind == "picture"
    row = by_name("png" if is_still else "prores")
    output = output_colour(clip, row).as_names()
    started = f"from timecode {clip.timecode}" if clip.timecode else "no timecode"
    lines = [
        str(clip.source),
        f"  file         {clip.container}, {clip.codec}",
        *([] if is_still else [f"  time         {count}, {rate}, {started}"]),
        f"  size         {clip.width}x{clip.height}"
        + (", mirrored" if clip.orientation.mirrored else "")
        + (f", rotated by {angle} degrees" if (angle := clip.orientation.rotation) else "")
        + (f", pixel aspect {aspect}" if (aspect := clip.sample_aspect_ratio) != 1 else ""),
        f"  pixels       {clip.pixel_format}, {clip.bit_depth} bits"
        + (", interlaced (made progressive by bwdif)" if clip.interlaced else ""),
        *colour_lines(clip),
    ]
    if len(clip.video) > 1:
        lines += [
            f"  video track  {number}: {track.codec}, {track.width}x{track.height}"
            + (", default" if track.is_default else "")
            + (", read" if track.is_read else "")
            for number, track in enumerate(clip.video, 1)
        ]
    lines += [
        f"  sound        {track.codec}, {track.sample_rate} Hz, {track.channels} channels"
        + (f", {track.language}" if track.language else "")
        for track in clip.audio
    ] or ([] if is_still else ["  sound        none"])
    name = "PNG   " if is_still else "ProRes"
    lines.append(
        f"  as {name}    {row.pixel_format(clip)}, {output['matrix']}, {output['range']}"
        + ("" if is_still else f", {clip.rate} fps")
    )
    return lines


def colour_lines(clip: Clip) -> list[str]:
    """The colour properties that a clip is read with, and which of them it does not declare."""
    declared, used = clip.declared_colour.as_names(), clip.colour.as_names()
    lines = ["  colour       " + ", ".join(f"{key} {value}" for key, value in used.items())]
    filled = [key for key in used if declared[key] == "unspecified"]
    if filled:
        how = "by size" if clip.kind == "movie" else "as in sRGB"
        lines.append(f"               not declared, assumed {how}: {', '.join(filled)}")
    if (mastering := clip.display.mastering) is not None:
        low, high = (float(value) for value in mastering.luminance)
        lines.append(f"               mastered for {low:g} to {high:g} cd/m2")
    if clip.display.content_light is not None:
        lines.append(
            "               MaxCLL {}, MaxFALL {} cd/m2".format(*clip.display.content_light)
        )
    if clip.icc_profile is not None:
        lines.append(f"               ICC profile: {profile_name(clip.icc_profile)}")
    return lines


def verify_results(outputs: list[Path], source: Path | None) -> int:
    """Report for each result whether it matches its manifest; return how many do not."""
    failed = 0
    for path in outputs:
        try:
            checked = list(_verified(path, source))
        except SourceError as error:
            typer.echo(f"vidmatte: {error}", err=True)
            failed += 1
            continue
        for out, lines in checked:
            failed += bool(lines)
            for line in lines:
                typer.echo(f"vidmatte: {out}: {line}", err=True)
            if not lines:
                typer.echo(f"{out}: matches its manifest")
    return min(failed, MOST_FAILURES)


def _verified(path: Path, source: Path | None) -> Iterator[tuple[Path, list[str]]]:
    """Each result at ``path``, and how it differs from its manifest. Raises SourceError."""
    from vidmatte.jobs.call_manifest import read_for_call
    from vidmatte.jobs.manifest import differences, result_of, unlisted_files, verify

    if (call := read_for_call(path)) is not None:
        for out, manifest in call:
            yield out, differences(out, manifest, path.parent, source)
        return
    out = result_of(path)
    yield out, verify(out, source) + unlisted_files(out)


def show_formats(as_json: bool) -> None:
    """Print the table of output formats."""
    from vidmatte.writers.stream_formats import STREAM_FORMATS

    if as_json:
        typer.echo(json.dumps([_format_facts(row) for row in FORMATS], indent=2))
        return
    for row in (*FORMATS, *STREAM_FORMATS):
        where = "-o -" if row in STREAM_FORMATS else " ".join(row.suffixes)
        typer.echo(f"{row.name:10} {where:14} {row.depth}; alpha {row.alpha}")
        typer.echo(f"{'':10} {row.good_for}")


def _format_facts(row: OutputFormat) -> dict[str, Any]:
    """A format for JSON. kind: 'still' is for pictures only."""
    still = any(row is one for one in STILL_FORMATS)
    return {
        "name": row.name,
        "suffixes": list(row.suffixes),
        "depth": row.depth,
        "alpha": row.alpha if row.has_alpha else None,
        "good_for": row.good_for,
        "kind": "still" if still else "sequence" if row.container is None else "movie",
        "missing": row.missing(),
    }

"""The help of ``vidmatte`` itself: the main command's options, then the subcommands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vidmatte.settings import Settings

EXAMPLES = (
    ("vidmatte clip.mp4 -o out.mov", "ProRes 4444 with alpha and sound"),
    ("vidmatte clip.mp4 -o out.webm --model rvm", "VP9 with alpha, Opus sound"),
    ("vidmatte clip.mp4 -o frames/", "RGBA PNG pictures"),
    ("vidmatte plates/ -o cut/ --fps 24000/1001", "a picture folder, names kept"),
    ("vidmatte photo.jpg -o cutout.png", "one picture"),
    ("vidmatte a.mp4 b.mov -o cuts/ --format mov", "several, one result each"),
)


def write_help(main: Any, subcommands: Mapping[str, Any], ctx: Any, formatter: Any) -> None:
    """Write the whole help; ``main`` is the main command, hidden among the others."""
    formatter.write_usage("vidmatte", "INPUT... [-o PATH] [OPTIONS]")
    formatter.write_usage("vidmatte", "COMMAND ...", prefix="       ")
    formatter.write_paragraph()
    formatter.write_text("Cut the subject out of a video, with alpha, ready for a timeline.")
    groups = {row.name: row.metadata["group"] for row in fields(Settings)}
    sections: dict[str, list[tuple[str, str]]] = {"Options": []}
    for parameter in main.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.name != "inputs":
            sections.setdefault(groups.get(parameter.name, "Options"), []).append(record)
    sections["Options"].append(("--version", "say which version this is and exit"))
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=24)
    with formatter.section("Commands"):
        formatter.write_dl(
            [
                (name, command.get_short_help_str(80))
                for name, command in subcommands.items()
                if not command.hidden
            ]
        )
    with formatter.section("Examples"):
        for command, what in EXAMPLES:
            formatter.write(f"  {command:44} {what}\n")

"""The commands ``preview``, ``subjects``, ``bench`` and ``score``, as they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidmatte.cli.options import named_path, with_options


def _preview_command(
    clip: Annotated[
        Path, typer.Argument(metavar="INPUT", help="a movie or a picture folder", parser=named_path)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="the sheet (default: INPUT_preview.png)"
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=1, max=100, help="number of frames, evenly spaced (5)"),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="POINT", help="a frame, written like --in; repeat it"),
    ] = None,
    **options: Any,
) -> None:
    """Write a contact sheet: a few frames cut out, and their alpha.

    With --subject or --subjects: the mask of the chosen subject on each of its key frames, to
    check before a run; with --at or --frames what belongs to it on those frames, to which it is
    followed from the key frames. Otherwise frames are matted one by one, without the temporal
    filter: of --smooth only the mirrored run of 'strong' has an effect.
    """
    from vidmatte.cli.tools import preview

    preview(clip, output, frames, at or [], options)


_PREVIEW_OPTIONS = (
    "model", "family", "accept_licence", "screen", "key", "keep_shadows", "clean_plate",
    "subject", "subjects", "follow", "trimap", "cache",
    "combine", "smooth", "refine", "normalize", "downsample", "threshold", "gamma",
    "keep_largest", "remove_specks", "fill_holes", "dilate", "erode", "feather", "garbage_matte",
    "holdout", "invert", "despill", "despill_strength", "fps", "video_track", "in_point",
    "out_point", "deinterlace", "colour", "max_megapixels", "overwrite", "device", "runtime",
    "threads", "models_dir",
)  # fmt: skip


def _subjects_command(
    clip: Annotated[
        Path, typer.Argument(metavar="INPUT", help="a movie or a picture folder", parser=named_path)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="the sheet (default: INPUT_subjects.png)"
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="POINT", help="the frame, written like --in (default: the first)"
        ),
    ] = None,
    **options: Any,
) -> None:
    """Write a frame with the possible subjects numbered, for --subject NUMBER."""
    from vidmatte.cli.tools import subjects

    subjects(clip, output, at, options)


_SUBJECTS_OPTIONS = (
    "model", "family", "accept_licence", "screen", "key", "keep_shadows", "clean_plate",
    "combine", "normalize", "downsample", "fps", "video_track", "in_point", "out_point",
    "deinterlace", "overwrite", "device", "runtime", "threads", "models_dir",
)  # fmt: skip


_REMBG = typer.Option("--rembg", metavar="PATH", help="rembg's command (default: on the PATH)")
_PLOT = typer.Option("--plot", metavar="FILE", help="draw the comparison as an SVG")


def _bench_command(
    clip: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="a clip (default: a generated one)")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="size of the generated clip (default: 1920x1080)"
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", min=8, max=10000, help="frames of each run")
    ] = 48,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", metavar="N", min=1, max=100, help="runs; the medians are reported"
        ),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="also measure rembg and a plain loop")
    ] = False,
    rembg: Annotated[Path | None, _REMBG] = None,
    plot: Annotated[Path | None, _PLOT] = None,
    **options: Any,
) -> None:
    """Measure this machine: each stage alone, then the full pipeline."""
    from vidmatte.cli.bench_compare import chosen_comparison
    from vidmatte.cli.tools import bench

    comparison = chosen_comparison(compare, rembg, plot)
    bench(clip, size, frames, rounds, as_json, options, comparison)


_BENCH_OPTIONS = (
    "model", "family", "accept_licence", "combine", "smooth", "refine", "foreground", "normalize",
    "downsample", "format", "in_point", "out_point", "max_megapixels", "device", "runtime",
    "batch", "threads", "memory", "models_dir",
)  # fmt: skip


def _score_command(
    prediction: Annotated[
        Path, typer.Argument(metavar="PRED", help="mattes: a movie, a picture folder, a picture")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="ground truth, frame for frame")],
    motion: Annotated[
        Path | None,
        typer.Option(
            "--motion", metavar="DIR", help="known motion to the previous frame, as KITTI's PNGs"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure mattes against ground truth: MAD, MSE, Grad, Conn, dtSSD..."""
    from vidmatte.cli.tools import score

    score(prediction, truth, motion, as_json)


def add_to(app: typer.Typer) -> None:
    """Add the commands to an app."""
    width = {"max_content_width": 80}
    app.command("preview", context_settings=width)(with_options(_preview_command, _PREVIEW_OPTIONS))
    app.command("subjects", context_settings=width)(
        with_options(_subjects_command, _SUBJECTS_OPTIONS)
    )
    app.command("bench", context_settings=width)(with_options(_bench_command, _BENCH_OPTIONS))
    app.command("score", context_settings=width)(_score_command)

"""All options of a run in one table: default, type, allowed values, help.

The command line, the Python API and the manifest are made from this table. A row also says
what its option decides, and whether it names a file that is read: what is kept between runs,
and guarded, follows. ``Settings(...)`` checks every value when it is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from vidmatte.core.families import FAMILIES
from vidmatte.errors import UsageError
from vidmatte.option import (
    CONTROLS,
    NO_EFFECT,
    OUTPUT,
    RESULT,
    documented,
    option,
    parse_bytes,
    parse_rate,
    parsed,
    validated,
)


@documented
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run is done. Raises UsageError for a value that is not allowed."""

    model: str = option(
        "isnet",
        "network by name (see 'vidmatte models'), an .onnx file, or two joined by +",
        decides=NO_EFFECT,
    )
    family: str | None = option(
        None, "how an .onnx file of your own is fed", choices=FAMILIES, decides=NO_EFFECT
    )
    combine: str = option(
        "edges",
        "of two models, as in --model isnet+rvm: 'edges' takes the subject from the first and"
        " its soft edge from the second",
        choices=("edges", "max", "min", "mean"),
    )
    cache: str | None = option(
        None,
        "keep the raw alphas there, and use them again: other filters, controls and formats"
        " then need no network (but for --smooth off, live and strong, which see frames otherwise)",
        metavar="DIR",
        decides=NO_EFFECT,
    )
    smooth: str = option(
        "auto",
        "steady the alpha over time: 'auto' smooths per-frame models and leaves recurrent ones,"
        " 'live' looks at no later frame, 'strong' sees each frame mirrored as well"
        " (twice the network)",
        choices=("auto", "on", "live", "strong", "off"),
        decides=RESULT,
    )
    smooth_strength: float = option(
        1.0,
        "weight of the frames around in --smooth: 0 mixes none, 2 twice as much of them",
        low=0.0,
        high=2.0,
        decides=RESULT,
    )
    refine: str = option(
        "auto",
        "draw the soft edge along the picture's own detail; auto is fast for per-frame models,"
        " best also solves for what is in doubt (several times the time)",
        choices=("auto", "fast", "best", "off"),
        decides=RESULT,
    )
    foreground: str = option(
        "auto",
        "colours of soft pixels: 'estimate' without the old background, the 'source' as it is,"
        " 'model' as the network gives them; auto is model where there is one, else estimate",
        choices=("auto", "estimate", "source", "model"),
        decides=RESULT,
    )
    normalize: str = option(
        "clip",
        "'clip' keeps the network's own alpha, 'minmax' stretches each frame as rembg does",
        choices=("clip", "minmax"),
    )
    downsample: float = option(
        0.0,
        "rvm: size of the coarse pass against the frame (0 picks it by frame size)",
        low=0.0,
        high=1.0,
    )
    cuts: bool = option(True, "start afresh at each shot cut", negative="--no-cuts")
    threshold: str | None = option(
        None,
        "levels: alpha up to LOW becomes 0, from HIGH on 1",
        metavar="LOW,HIGH",
        group=CONTROLS,
    )
    gamma: float = option(
        1.0, "above 1 thickens soft parts, below 1 thins them", low=0.05, high=20.0, group=CONTROLS
    )
    keep_largest: bool = option(False, "keep only the largest thing", group=CONTROLS)
    remove_specks: int = option(
        0,
        "drop things up to this area in pixels",
        metavar="AREA",
        low=0,
        high=2**31,
        group=CONTROLS,
    )
    fill_holes: int = option(
        0, "fill holes up to this area in pixels", metavar="AREA", low=0, high=2**31, group=CONTROLS
    )
    dilate: float = option(
        0.0, "move the edge outward by pixels", metavar="PX", low=0.0, high=500.0, group=CONTROLS
    )
    erode: float = option(
        0.0, "move the edge inward by pixels", metavar="PX", low=0.0, high=500.0, group=CONTROLS
    )
    feather: float = option(
        0.0, "soften the edge by pixels", metavar="PX", low=0.0, high=500.0, group=CONTROLS
    )
    garbage_matte: str | None = option(
        None,
        "white (not transparent) is never subject: a picture, or a folder with one a frame",
        metavar="PATH",
        group=CONTROLS,
        reads=True,
    )
    holdout: str | None = option(
        None, "white is always subject", metavar="PATH", group=CONTROLS, reads=True
    )
    invert: bool = option(False, "take the background instead", group=CONTROLS)
    despill: str | None = option(
        None,
        "take a screen's light off the colours: hold that channel to the mean of the others",
        choices=("red", "green", "blue"),
        group=CONTROLS,
    )
    despill_strength: float = option(
        1.0, "how much of that light goes", low=0.0, high=1.0, group=CONTROLS
    )
    format: str | None = option(
        None, "output format (default: by the output's suffix)", group=OUTPUT
    )
    codec: str | None = option(
        None, "choose among formats of one suffix, like prores-xq or cineform", group=OUTPUT
    )
    alpha: str = option(
        "straight",
        "'premultiplied' multiplies the colours by alpha",
        choices=("straight", "premultiplied"),
        group=OUTPUT,
    )
    matte: str | None = option(
        None, "also write alpha as grey: .mov, .mp4, .mkv, pictures", metavar="FILE", group=OUTPUT
    )
    foreground_file: str | None = option(
        None,
        "also write the colours without alpha: .mov, .mkv, pictures (or '--foreground FILE')",
        metavar="FILE",
        group=OUTPUT,
    )
    comp: str | None = option(
        None, "also write a composite: .mp4, .mov, .mkv, pictures", metavar="FILE", group=OUTPUT
    )
    background: str | None = option(
        None,
        "of --comp: a colour (#20a040, white), a picture, a clip, or 'checker', the default",
        metavar="WHAT",
        group=OUTPUT,
        reads=True,
    )
    checker: bool = option(False, "same as --background checker", group=OUTPUT)
    manifest: bool = option(
        True,
        "a JSON file beside the result says how it was made ('vidmatte verify' checks it)",
        negative="--no-manifest",
        group=OUTPUT,
        decides=NO_EFFECT,
    )
    start_number: int = option(
        0,
        "number of the first picture of a pattern, as in -o 'cut/shot_%06d.png'",
        low=0,
        high=2**31,
        group=OUTPUT,
    )
    fps: str | None = option(
        None, "frame rate of a picture folder, like 25 or 24000/1001", metavar="RATE", group="Input"
    )
    in_point: str | None = option(
        None,
        "first frame, as f120, seconds or a timecode of the clip",
        metavar="POINT",
        group="Input",
        flag="--in",
    )
    out_point: str | None = option(
        None,
        "first frame left out, written like --in",
        metavar="POINT",
        group="Input",
        flag="--out",
    )
    handles: int = option(
        0, "frames to add on both sides of --in and --out", low=0, high=1000, group="Input"
    )
    conform: str | None = option(
        None, "make the rate constant, repeating and dropping frames", metavar="RATE", group="Input"
    )
    deinterlace: str = option(
        "auto",
        "'auto' where the source says that it is interlaced, 'bwdif' always",
        choices=("auto", "off", "bwdif"),
        group="Input",
    )
    strict: bool = option(
        False,
        "stop at a movie's frame that does not decode (else the one before it is repeated) or is"
        " damaged, and at a file that is shorter than it says; a broken picture always stops",
        group="Input",
        decides=NO_EFFECT,
    )
    audio: bool = option(
        True, "carry the source's sound tracks", negative="--no-audio", group=OUTPUT
    )
    overwrite: bool = option(
        False, "replace an output that exists", group=OUTPUT, decides=NO_EFFECT
    )
    resume: bool = option(
        False,
        "keep finished frames in a folder .NAME.resume beside the output, as large as the output,"
        " until it is complete; after a run that was stopped, killed or failed go on from there",
        group=OUTPUT,
        decides=NO_EFFECT,
    )
    device: str = option(
        "auto", "cpu, cuda or cuda:0,cuda:1", metavar="DEVICE", group="Machine", decides=NO_EFFECT
    )
    runtime: str = option(
        "auto",
        "what runs the network on the CPU; auto is openvino where it is installed, the CPU"
        " computes in bfloat16 and the model bears that",
        choices=("auto", "onnxruntime", "openvino"),
        group="Machine",
    )
    batch: int = option(
        0,
        "frames in one run of a per-frame network (0: automatic)",
        low=0,
        high=64,
        group="Machine",
        decides=NO_EFFECT,
    )
    threads: int = option(
        0,
        "CPU threads of the network (0: automatic)",
        low=0,
        high=256,
        group="Machine",
        decides=NO_EFFECT,
    )
    memory: str = option(
        "256M", "memory for frames on their way", metavar="SIZE", group="Machine", decides=NO_EFFECT
    )
    models_dir: str | None = option(
        None,
        "where weights are kept (default: the platform's cache folder)",
        metavar="DIR",
        group="Machine",
        decides=NO_EFFECT,
    )

    def __post_init__(self) -> None:
        for row in fields(self):
            object.__setattr__(self, row.name, validated(row, getattr(self, row.name)))
        parsed("--memory", self.memory, parse_bytes)
        for flag, rate in (("--fps", self.fps), ("--conform", self.conform)):
            if rate is not None:
                parsed(flag, rate, parse_rate)
        if self.checker and self.background not in (None, "checker"):
            raise UsageError(f"--checker and --background {self.background} exclude each other")
        if self.checker and self.comp is None:
            raise UsageError("--checker: it needs --comp FILE to show it")
        if self.codec is not None and self.format not in (None, self.codec):
            raise UsageError(f"--codec {self.codec} and --format {self.format}: give one of them")
        if self.handles and self.in_point is None and self.out_point is None:
            raise UsageError(f"--handles {self.handles}: it needs --in or --out")
        if self.smooth == "off" and self.smooth_strength != 1:
            raise UsageError(f"--smooth-strength {self.smooth_strength:g}: --smooth is off")
        if self.despill is None and self.despill_strength != 1:
            strength = f"--despill-strength {self.despill_strength:g}"
            raise UsageError(f"{strength}: it needs --despill with red, green or blue")

    @property
    def memory_bytes(self) -> int:
        """The frame memory budget in bytes."""
        return parse_bytes(self.memory)


def make_settings(**options: Any) -> Settings:
    """Settings from keyword options; an unknown one is named. Raises UsageError."""
    known = {row.name for row in fields(Settings)}
    named = options.get("foreground")
    if isinstance(named, os.PathLike) or (isinstance(named, str) and set(named) & set("./\\")):
        # --foreground takes a policy or, as --matte and --comp do, a file or a folder.
        if options.get("foreground_file") is not None:
            raise UsageError(f"--foreground {named}: --foreground-file names a file already")
        options = {**options, "foreground": "auto", "foreground_file": str(named)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(
            f"no option is called {', '.join(unknown)}: there are {', '.join(sorted(known))}"
        )
    return Settings(**options)

"""The options of the matting: network, temporal filter and edges, subject, adjustments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from vidmatte.core.families import FAMILIES
from vidmatte.errors import UsageError
from vidmatte.settings.option import NO_EFFECT, RESULT, OptionModel, option
from vidmatte.settings.values import (
    Levels,
    Number,
    PaceName,
    Prompts,
    ScreenColour,
    Switch,
    Text,
    WholeNumber,
)

if TYPE_CHECKING:
    _Family = str
else:  # a type checker cannot evaluate the table of families
    _Family = Literal[FAMILIES]

_matte = partial(option, group="Matte")
_adjust = partial(option, group="Controls, in this order", decides=RESULT)
_key = partial(option, group="Key (--model chroma, difference)")
_subject = partial(option, group="Subject", decides=RESULT)
_MOST_PIXELS = 2**31


class ModelOptions(OptionModel):
    """Which network runs, and how its raw alpha is computed."""

    model: Text = _matte(
        "isnet",
        "network by name (see 'vidmatte models'), an .onnx file, two joined by +, or auto: isnet,"
        " or rvm where it clearly sees a person",
        decides=NO_EFFECT,
    )
    family: _Family | None = _matte(
        None,
        "architecture of an .onnx file of your own",
        decides=NO_EFFECT,
    )
    accept_licence: Text | None = _matte(
        None,
        "accept the licence of this model's weights, where it restricts their use; this is recorded"
        " beside them",
        metavar="NAME",
        decides=NO_EFFECT,
    )
    combine: Literal["edges", "auto", "max", "min", "mean"] = _matte(
        "edges",
        "how to join two models, as in --model isnet+rvm: 'edges' takes the subject from the first"
        " and its soft edge from the second, 'auto' takes the second where it clearly sees a"
        " person, 'max', 'min' and 'mean' work pixel by pixel",
    )
    normalize: Literal["clip", "minmax", "rembg"] = _matte(
        "clip",
        "'clip' keeps the network's own alpha, 'minmax' stretches each frame's from its minimum to"
        " its maximum, 'rembg' does this and every other step as rembg does",
    )
    like: Literal["rembg"] | None = _matte(
        None,
        "the alpha of another tool: 'rembg' is --normalize rembg --smooth off --refine off"
        " --foreground source --runtime onnxruntime",
        decides=NO_EFFECT,
    )
    pace: PaceName = _matte(
        "every",
        "frames that a per-frame network runs on: 'every' one, at least each N-th, or those that"
        " 'auto' chooses; motion carries the matte to the others",
        metavar="auto|every|N",
    )
    screen: ScreenColour | None = _key(
        None,
        "colour of the screen (default: found on the first frame's border)",
        metavar="#RRGGBB",
    )
    key: Levels | None = _key(
        None,
        "black and white point of the key, from 0 (all screen) to 1 (no screen); default: by the"
        " screen's noise",
        metavar="LOW,HIGH",
    )
    keep_shadows: Switch = _key(False, "keep soft shadows on the screen in the matte")
    clean_plate: Text | None = _key(
        None,
        "for --model difference: a picture of the scene without the subject, from the same camera"
        " position",
        metavar="PATH",
        reads=True,
    )
    downsample: Number = _matte(
        0.0,
        "for rvm: scale of the coarse pass relative to the frame (0: automatic)",
        low=0.0,
        high=1.0,
    )
    cache: Text | None = _matte(
        None,
        "keep the raw alphas in this folder and reuse them: a run with other filters, controls or"
        " formats then needs no network (except for --smooth off, live and strong)",
        metavar="DIR",
        decides=NO_EFFECT,
    )


class MatteOptions(OptionModel):
    """How the raw alpha becomes a steady matte with clean edges and colours."""

    smooth: Literal["auto", "on", "live", "strong", "off"] = _matte(
        "auto",
        "filter the alpha over time: 'auto' only for per-frame models, 'live' without later"
        " frames, 'strong' runs each frame mirrored too (twice the network's time)",
        decides=RESULT,
    )
    smooth_strength: Number = _matte(
        1.0,
        "weight of neighbouring frames in --smooth: 0 uses none, 2 twice the usual weight",
        low=0.0,
        high=2.0,
        decides=RESULT,
    )
    refine: Literal["auto", "fast", "best", "off"] = _matte(
        "auto",
        "align the soft edge with the picture's detail; 'auto' is 'fast' for per-frame models,"
        " 'best' also solves uncertain regions (several times the time)",
        decides=RESULT,
    )
    foreground: Literal["auto", "estimate", "source", "model"] = _matte(
        "auto",
        "colours of soft pixels: 'estimate' removes the old background, 'source' keeps them as"
        " they are, 'model' takes the network's; 'auto' is 'model' where the network gives colours,"
        " else 'estimate'",
        decides=RESULT,
    )
    cuts: Switch = _matte(
        True,
        "at each shot cut, reset the filter and a recurrent network's state",
        negative="--no-cuts",
    )

    @model_validator(mode="after")
    def _check_smoothing(self) -> Self:
        if self.smooth == "off" and self.smooth_strength != 1:
            raise UsageError(
                f"--smooth-strength {self.smooth_strength:g}: it needs --smooth, which is off"
            )
        return self


class SubjectOptions(OptionModel):
    """Which subject is meant, where the network marks more than one."""

    subject: Prompts = _subject(
        (),
        "what to keep: a point X,Y, a box LEFT,TOP,RIGHT,BOTTOM, a mask picture, largest, centre,"
        " person, all, or a number from 'vidmatte subjects'; @f12, @1.5 or @00:00:01:05 after it"
        " names the frame (default: the first); ! before it leaves it out; NAME: before it names"
        " one of several subjects; repeat the option to add or correct",
        metavar="WHAT",
    )
    subjects: Text | None = _subject(
        None,
        "read the same from a JSON file (examples/REFERENCE.md describes it)",
        metavar="FILE",
        reads=True,
    )
    only: Text | None = _subject(
        None,
        "write only this one of the named subjects",
        metavar="NAME",
    )
    follow: Literal["flow", "cutie"] = _subject(
        "flow",
        "how the subject is tracked: 'flow' by motion and appearance, 'cutie' by a network whose"
        " files you put into --models-dir",
    )
    trimap: Text | None = _subject(
        None,
        "a picture, or a folder with one per frame: white is subject, black is background, grey is"
        " solved from the colours",
        metavar="PATH",
        reads=True,
    )

    @model_validator(mode="after")
    def _check_only(self) -> Self:
        if self.only is not None and not self.subject and self.subjects is None:
            raise UsageError(f"--only {self.only}: it needs --subject or --subjects")
        if self.follow != "flow" and not self.subject and self.subjects is None:
            raise UsageError(f"--follow {self.follow}: it needs --subject or --subjects")
        return self

    @property
    def has_subject(self) -> bool:
        """Whether a subject is chosen."""
        return bool(self.subject) or self.subjects is not None


class AdjustOptions(OptionModel):
    """Manual adjustments of a matte, applied in this order."""

    threshold: Levels | None = _adjust(
        None,
        "levels: alpha up to LOW becomes 0, from HIGH on 1",
        metavar="LOW,HIGH",
    )
    gamma: Number = _adjust(
        1.0,
        "above 1 thickens soft parts, below 1 thins them",
        low=0.05,
        high=20.0,
    )
    keep_largest: Switch = _adjust(
        False,
        "keep only the largest connected region",
    )
    remove_specks: WholeNumber = _adjust(
        0,
        "remove regions up to this area in pixels",
        metavar="AREA",
        low=0,
        high=_MOST_PIXELS,
    )
    fill_holes: WholeNumber = _adjust(
        0,
        "fill holes up to this area in pixels",
        metavar="AREA",
        low=0,
        high=_MOST_PIXELS,
    )
    dilate: Number = _adjust(
        0.0,
        "move the edge outward by pixels",
        metavar="PX",
        low=0.0,
        high=500.0,
    )
    erode: Number = _adjust(
        0.0,
        "move the edge inward by pixels",
        metavar="PX",
        low=0.0,
        high=500.0,
    )
    feather: Number = _adjust(
        0.0,
        "soften the edge by pixels",
        metavar="PX",
        low=0.0,
        high=500.0,
    )
    garbage_matte: Text | None = _adjust(
        None,
        "a picture, or a folder with one per frame: white (not transparent) is never subject",
        metavar="PATH",
        reads=True,
    )
    holdout: Text | None = _adjust(
        None,
        "a picture, or a folder with one per frame: white is always subject",
        metavar="PATH",
        reads=True,
    )
    invert: Switch = _adjust(
        False,
        "keep the background instead",
    )
    despill: Literal["red", "green", "blue"] | None = _adjust(
        None,
        "remove a screen's spill: limit that channel to the mean of the other two",
    )
    despill_strength: Number = _adjust(
        1.0,
        "how much of the spill to remove, 0 to 1",
        low=0.0,
        high=1.0,
    )

    @model_validator(mode="after")
    def _check_despill(self) -> Self:
        if self.despill is None and self.despill_strength != 1:
            strength = f"--despill-strength {self.despill_strength:g}"
            raise UsageError(f"{strength}: it needs --despill with red, green or blue")
        return self

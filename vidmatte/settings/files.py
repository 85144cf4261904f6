"""The options of inputs and outputs."""

from __future__ import annotations

from functools import partial
from typing import Literal, Self

from pydantic import model_validator

from vidmatte.errors import UsageError
from vidmatte.settings.option import NO_EFFECT, RESULT, OptionModel, option
from vidmatte.settings.still_values import CropText, ManifestMode, ShadowText, SizeText
from vidmatte.settings.values import (
    MAX_MEGAPIXELS,
    BackgroundName,
    ColourNames,
    FrameSize,
    Number,
    Rate,
    Switch,
    Text,
    Texts,
    TrackNumbers,
    TrimPoint,
    WholeNumber,
)

_input = partial(option, group="Input")
_output = partial(option, group="Output", decides=RESULT)


class InputOptions(OptionModel):
    """Which frames of the input are read, and how."""

    fps: Rate | None = _input(
        None,
        "frame rate of a picture folder or a raw stream (.h264, .hevc), like 25 or 24000/1001",
        metavar="RATE",
    )
    input_size: FrameSize | None = _input(
        None,
        "for raw video from stdin: the frame size in pixels, like 1920x1080",
        metavar="WxH",
    )
    input_format: Text | None = _input(
        None,
        "for raw video from stdin: FFmpeg's name of the pixel format, like yuv420p or rgb24",
        metavar="NAME",
    )
    input_fps: Rate | None = _input(
        None,
        "for raw video, pictures or a raw stream from stdin: the frame rate",
        metavar="RATE",
    )
    video_track: WholeNumber = _input(
        0,
        "number of the video track that is read, from 1 on (default: the one that ffmpeg picks:"
        " the default track, else the largest)",
        low=0,
        high=1000,
    )
    in_point: TrimPoint | None = _input(
        None,
        "first frame, as f120, seconds or a timecode of the clip",
        metavar="POINT",
        flag="--in",
    )
    out_point: TrimPoint | None = _input(
        None,
        "first frame after the range, written like --in",
        metavar="POINT",
        flag="--out",
    )
    handles: WholeNumber = _input(
        0, "frames to add on both sides of --in and --out", low=0, high=1000
    )
    conform: Rate | None = _input(
        None,
        "make the frame rate constant, repeating and dropping frames",
        metavar="RATE",
    )
    deinterlace: Literal["auto", "off", "bwdif"] = _input(
        "auto",
        "'auto' where the source declares that it is interlaced, 'bwdif' always",
    )
    colour: ColourNames | None = _input(
        None,
        "colour tags of the input, where they are missing or wrong, like srgb, bt601, pq,"
        " range=full or primaries=bt2020,transfer=linear",
        metavar="TAGS",
    )
    max_megapixels: Number = _input(
        MAX_MEGAPIXELS,
        "largest picture or frame that is decoded, in millions of pixels",
        low=0.01,
        high=2000,
        decides=NO_EFFECT,
    )
    strict: Switch = _input(
        False,
        "stop at a movie's frame that is damaged or does not decode (otherwise the one before it is"
        " repeated), and at a file that is shorter than it declares; a broken picture always stops"
        " the run",
        decides=NO_EFFECT,
    )

    @property
    def max_pixels(self) -> int:
        """``max_megapixels`` in pixels."""
        return round(self.max_megapixels * 1e6)

    @model_validator(mode="after")
    def _check_raw(self) -> Self:
        if (self.input_size is None) != (self.input_format is None):
            given = f"--input-size {self.input_size}" if self.input_size else (
                f"--input-format {self.input_format}")  # fmt: skip
            raise UsageError(f"{given}: raw video needs --input-size, --input-format and a rate")
        return self

    @model_validator(mode="after")
    def _check_handles(self) -> Self:
        if self.handles and self.in_point is None and self.out_point is None:
            raise UsageError(f"--handles {self.handles}: it needs --in or --out")
        return self


class OutputOptions(OptionModel):
    """What is written, and how."""

    format: Text | None = _output(
        None,
        "output format (default: by the output's suffix)",
    )
    codec: Text | None = _output(
        None,
        "which of the formats with the same suffix, like prores-xq or cineform",
    )
    alpha: Literal["auto", "straight", "premultiplied"] = _output(
        "auto",
        "'premultiplied' multiplies the colours by alpha; 'auto' does so only in OpenEXR, which is"
        " defined that way",
    )
    matte: Text | None = _output(
        None,
        "also write alpha as grey: .mov, .mp4, .mkv, pictures",
        metavar="FILE",
    )
    foreground_file: Text | None = _output(
        None,
        "also write the colours without alpha: .mov, .mkv, pictures (or '--foreground FILE')",
        metavar="FILE",
    )
    comp: Text | None = _output(
        None,
        "also write a composite: .mp4, .mov, .mkv, pictures",
        metavar="FILE",
    )
    background: BackgroundName | None = _output(
        None,
        "what is behind the subject in --comp, or without --comp in the result itself: a colour"
        " (#20a040, white), a picture, a clip, 'checker', or blur:20 for the source blurred by 20"
        " pixels; default: checker in --comp, white in jpeg",
        metavar="WHAT",
        reads=True,
    )
    checker: Switch = _output(
        False,
        "same as --background checker",
    )
    size: SizeText | None = _output(
        None,
        "size of a still in pixels like 600x800, or of a print like 35x45mm@300, with the head"
        " placed as in ID photos; with --crop, or where no head is found, the whole subject",
        metavar="SIZE",
    )
    crop: CropText | None = _output(
        None,
        "crop a still: 'subject' to the subject, 'subject:20' with a margin of 20 pixels,"
        " 'subject:5%' of 5 per cent",
        metavar="WHAT",
    )
    quality: WholeNumber = _output(
        0,
        "for jpeg, webp, avif, webm and h264: 100 is best and largest (0: the format's default)",
        low=0,
        high=100,
    )
    exr_compression: Literal["zip", "zips", "piz", "dwaa"] | None = _output(
        None,
        "for exr: zip is the default, zips compresses line by line, dwaa is lossy and small; piz"
        " and dwaa need the package OpenEXR",
        metavar="NAME",
    )
    exr_layers: Switch = _output(
        False,
        "for exr: write all named subjects to one file a frame, each as a layer (NAME.R, NAME.G,"
        " ...) with a Cryptomatte id",
    )
    shadow: ShadowText | None = _output(
        None,
        "drop shadow on the background: X,Y,BLUR in pixels, to the right and down, as in 12,16,20;"
        " a fourth number is its opacity from 0 to 1 (default 0.5)",
        metavar="X,Y,BLUR",
    )
    timeline: Texts = _output(
        (),
        "also write a timeline: the original, the result over it and the --matte, disabled, on top;"
        " .fcpxml, .xml (FCP 7), .otio or .edl; can be repeated",
        metavar="FILE",
        decides=NO_EFFECT,
    )
    manifest: ManifestMode = _output(
        "each",
        "write a JSON file that records how a result was made ('vidmatte verify' checks it): for"
        " 'each' result, or 'one' for the whole call, beside -o FOLDER; --no-manifest is 'none'",
        metavar="WHICH",
        negative="--no-manifest",
        decides=NO_EFFECT,
    )
    start_number: WholeNumber = _output(
        0,
        "number of the first picture where -o is a pattern like 'cut/shot_%06d.png'",
        low=0,
        high=2**31,
    )
    audio: Switch = _output(
        True,
        "carry the source's sound tracks",
        negative="--no-audio",
    )
    audio_from: Text | None = _output(
        None,
        "take the sound from this file; its start is at the source's first frame",
        metavar="FILE",
        reads=True,
    )
    audio_tracks: TrackNumbers | None = _output(
        None,
        "carry these sound tracks only, like 1,3 (default: all that can be decoded)",
        metavar="LIST",
    )
    overwrite: Switch = _output(False, "replace an output that exists", decides=NO_EFFECT)
    resume: Switch = _output(
        False,
        "keep finished frames and the tracked subject in the folder .NAME.resume beside the output"
        " until it is complete, so that a run that failed, was stopped or killed continues from"
        " there; this takes as much disk space as the output",
        decides=NO_EFFECT,
    )

    @property
    def has_manifest(self) -> bool:
        """Whether a result has a manifest of its own."""
        return self.manifest == "each"

    @model_validator(mode="after")
    def _check_outputs(self) -> Self:
        if self.checker and self.background not in (None, "checker"):
            raise UsageError(f"--checker and --background {self.background} exclude each other")
        for flag, value in (("tracks", self.audio_tracks), ("from", self.audio_from)):
            if value is not None and not self.audio:
                raise UsageError(f"--audio-{flag} {value}: --no-audio excludes it")
        if self.codec is not None and self.format not in (None, self.codec):
            raise UsageError(f"--codec {self.codec} and --format {self.format}: use one of them")
        return self

"""Encoders of picture files that FFmpeg's do not cover alone, for the rows of ``formats``."""

from __future__ import annotations

from collections.abc import Callable

import av

from vidmatte.media.exr import ExrWriter
from vidmatte.media.icc import tiff_with_profile
from vidmatte.media.png import PngWriter, png_with_profile
from vidmatte.media.tiff import with_associated_alpha
from vidmatte.pixels.convert import set_tags
from vidmatte.writers.encoders import worker_encoder
from vidmatte.writers.format_spec import EncoderSpec


def exr_encoder(kind: int) -> Callable[[EncoderSpec], ExrWriter]:
    """A factory of OpenEXR encoders; kind: ``HALF`` or ``FLOAT`` of ``media.exr``."""

    def make(spec: EncoderSpec) -> ExrWriter:
        alpha = "premultiplied" if spec.premultiplied else "straight"
        return ExrWriter(spec.clip, kind, spec.colour, alpha)

    return make


def png_encoder(spec: EncoderSpec) -> PngWriter:
    """A PNG encoder whose chunks before the samples are FFmpeg's, plus the ICC profile."""
    clip, pixel_format = spec.clip, spec.row.pixel_format(spec.clip)
    picture = av.VideoFrame(clip.width, clip.height, pixel_format)
    set_tags(picture, spec.colour)
    encoder = worker_encoder(spec.row, clip, spec.colour)
    file = b"".join(map(bytes, encoder.encode(picture)))
    head = file[: file.index(b"IDAT") - 4]
    if spec.profile is not None:
        head = png_with_profile(head, spec.profile)
    return PngWriter(head, clip.width, clip.height, pixel_format)


class TiffEncoder:
    """FFmpeg's encoder; the alpha type and the ICC profile are patched into the file."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._encoder = worker_encoder(spec.row, spec.clip, spec.colour)
        self._premultiplied, self._profile = spec.premultiplied, spec.profile

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file as one bytes object."""
        data = b"".join(map(bytes, self._encoder.encode(picture)))
        if self._premultiplied:
            data = with_associated_alpha(data)
        if self._profile:
            data = tiff_with_profile(data, self._profile)
        return [data]

"""JPEG and AVIF, encoded by OpenCV.

FFmpeg's JPEG encoder has a coarser scale of quality and no 4:4:4 in full range by its plain
name, and its AVIF muxer takes no alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from vidmatte.errors import OutputError
from vidmatte.media.jpeg import jpeg_with_profile, with_density
from vidmatte.pixels import planes
from vidmatte.writers.encoders import quality_option
from vidmatte.writers.format_spec import (
    ColourRules,
    EncoderSpec,
    OutputFormat,
    always,
)

#: Slower settings take seconds a picture and save a few per cent.
_AVIF_SPEED = 8


class _JpegEncoder:
    """JPEG of rgb24 pictures, chroma in full resolution: edges keep their colour.

    Options of the row: ``quality`` (1..100), ``dpi``.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        options = spec.row.options
        self._options = [
            cv2.IMWRITE_JPEG_QUALITY, int(options["quality"]),
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        ]  # fmt: skip
        self._dpi = int(options.get("dpi", 0))
        self._profile = spec.profile

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file as one bytes object. Raises OutputError."""
        rgb = planes.plane_views(picture)[0]
        data = _encoded(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), self._options)
        if self._dpi:
            data = with_density(data, self._dpi)
        return [jpeg_with_profile(data, self._profile) if self._profile else data]


class _AvifEncoder:
    """AVIF of rgba or rgb24 pictures. Option of the row: ``quality`` (1..100, 100 is lossless)."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._options = [
            cv2.IMWRITE_AVIF_QUALITY, int(spec.row.options["quality"]),
            cv2.IMWRITE_AVIF_SPEED, _AVIF_SPEED,
        ]  # fmt: skip

    def encode(self, picture: av.VideoFrame) -> list[bytes]:
        """The file as one bytes object. Raises OutputError."""
        samples = planes.plane_views(picture)[0]
        order = cv2.COLOR_RGBA2BGRA if samples.shape[2] == 4 else cv2.COLOR_RGB2BGR
        return [_encoded(".avif", cv2.cvtColor(samples, order), self._options)]


def _encoded(suffix: str, pixels: np.ndarray, options: Sequence[int]) -> bytes:
    """A picture file of (H, W, 3 or 4) uint8 B, G, R, A. Raises OutputError."""
    try:
        is_done, data = cv2.imencode(suffix, pixels, options)
    except cv2.error as error:
        raise OutputError(f"the {suffix} encoder failed ({error.err or error})") from error
    if not is_done:
        raise OutputError(f"the {suffix} encoder failed: choose another format")
    return data.tobytes()


def _read_back_avif(path: Path) -> tuple[int, int, str]:
    """See ``OutputFormat.read_back``, of the colours: an alpha that is 1 everywhere is not stored.
    Raises ValueError, OSError."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if found is None:
        raise ValueError("OpenCV cannot decode it")
    height, width, _ = found.shape
    return width, height, "rgb24"


def _missing_avif() -> str | None:
    """Why this OpenCV writes no AVIF; None where it does."""
    if cv2.haveImageWriter(".avif"):
        return None
    return (
        f"this OpenCV ({cv2.__version__}) is built without AVIF"
        " (pip install -U opencv-python-headless)"
    )


STILL_FORMATS = (
    OutputFormat(
        "jpeg",
        (".jpg", ".jpeg"),
        None,
        "jpeg",
        "RGB, 8 bits, lossy",
        "none: the subject is on --background",
        "ID photos, shops and print",
        always("rgb24"),
        options={"quality": "92"},
        encoder=_JpegEncoder,
        decoded_format="yuvj444p",
        has_alpha=False,
        quality=quality_option,
        stores_density=True,
        colour_rules=ColourRules(tagged=False, icc_profile=True),
    ),
    OutputFormat(
        "avif",
        (".avif",),
        None,
        "avif",
        "RGB, 8 bits, lossy",
        "straight, 256 levels, lossy",
        "web pages: small stills",
        always("rgba"),
        options={"quality": "80"},
        encoder=_AvifEncoder,
        read_back=_read_back_avif,
        decoded_format="rgb24",
        straight_only=True,
        quality=quality_option,
        missing=_missing_avif,
        colour_rules=ColourRules(tagged=False),
    ),
)

"""Results made beside the main one in the same pass: matte, foreground, composite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidmatte.core.colour import LIMITED
from vidmatte.core.frame import Clip
from vidmatte.errors import UsageError
from vidmatte.settings import Settings
from vidmatte.writers.format_spec import Format, always
from vidmatte.writers.formats import FORMATS, PRORES, by_name, names_folder, suffix_row

PRORES_HQ = replace(
    PRORES,
    name="prores-hq",
    depth="4:2:2, 10 bits",
    alpha="none",
    good_for="editing: ProRes 422 HQ",
    pixel_format=always("yuv422p10le"),
    options={"profile": "hq", "vendor": "apl0"},
    codec_tag="apch",
    decoded_format="yuv422p10le",
)
H264 = Format(
    "h264",
    (".mp4",),
    "mp4",
    "libx264",
    "4:2:0, 8 bits",
    "none",
    "showing around: plays everywhere",
    always("yuv420p"),
    options={"crf": "16", "preset": "medium"},
    codec_tag="avc1",
    range=LIMITED,
    intra=False,
    max_size=16384,
    width_multiple=2,
    height_multiple=2,
)


def without_alpha(row: Format) -> Format:
    """The row for the same colours alone."""
    return replace(
        row,
        alpha="none",
        pixel_format=lambda clip: drop_alpha(row.pixel_format(clip)),
        decoded_format=row.decoded_format and drop_alpha(row.decoded_format),
    )


def drop_alpha(pixel_format: str) -> str:
    """The pixel format of the same samples without alpha."""
    packed = {"rgba": "rgb24", "bgra": "bgr0", "rgba64be": "rgb48be", "rgba64le": "rgb48le"}
    return packed.get(pixel_format, pixel_format.replace("yuva", "yuv").replace("gbrap", "gbrp"))


def grey(row: Format, pixel_format: str) -> Format:
    """The row for a matte: one channel."""
    return replace(
        row, depth="grey", alpha="none", pixel_format=always(pixel_format), decoded_format=None
    )


def table(*names: str, change: Callable[[Format], Format]) -> tuple[Format, ...]:
    """Rows of the main table, changed."""
    return tuple(change(row) for row in FORMATS if row.name in names)


#: What each side result can be written as; the first row of a suffix is its default.
MATTE_FORMATS = (
    PRORES_HQ,
    H264,
    grey(by_name("ffv1"), "gray16le"),
    grey(by_name("png"), "gray"),
    grey(by_name("png16"), "gray16be"),
    grey(by_name("tiff16"), "gray16le"),
)
FOREGROUND_FORMATS = table("prores", "ffv1", "png", "png16", "tiff16", change=without_alpha)
COMP_FORMATS = (
    H264,
    PRORES_HQ,
    replace(without_alpha(by_name("ffv1")), pixel_format=always("yuv444p10le")),
    *table("png", "png16", "tiff16", change=without_alpha),
)


@dataclass(frozen=True)
class Sides:
    """The side results that are wanted.

    matte: alpha as a grey picture. foreground: the colours alone. comp: the subject
    over ``background``: ``#rrggbb``, a colour's name, ``checker``, or a file.
    folders: which of them are folders though their names have a suffix.
    """

    matte: Path | None = None
    foreground: Path | None = None
    comp: Path | None = None
    background: str | None = None
    folders: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.background is not None and self.comp is None:
            raise UsageError(f"--background {self.background}: it needs --comp FILE to show it")

    @classmethod
    def of(cls, settings: Settings) -> Sides:
        """Those that the settings ask for. Raises UsageError."""

        named = {
            "matte": settings.matte,
            "foreground": settings.foreground_file,
            "comp": settings.comp,
        }
        return cls(
            **{what: Path(text) for what, text in named.items() if text is not None},
            background="checker" if settings.checker else settings.background,
            folders=frozenset(what for what, text in named.items() if text and names_folder(text)),
        )

    def wanted(self, clip: Clip) -> list[tuple[str, Path, Format]]:
        """(what, where, format) of each. Raises UsageError for an unknown suffix."""
        rows = [
            ("matte", self.matte, MATTE_FORMATS),
            ("foreground", self.foreground, FOREGROUND_FORMATS),
            ("comp", self.comp, COMP_FORMATS),
        ]
        return [
            (what, out, fitting(what, suffix_row(out, formats, folder), formats, clip))
            for what, out, formats in rows
            for folder in [what in self.folders]
            if out is not None
        ]


def fitting(what: str, row: Format, formats: tuple[Format, ...], clip: Clip) -> Format:
    """The row as the clip needs it.

    PNG pictures take 16 bits where the clip has more than 8 to show, mattes always. FFmpeg's
    ProRes of 4:2:2 loses the last column's chroma where the width is odd: 4:4:4 does not.
    """
    if row is PRORES_HQ and clip.width % 2:
        return without_alpha(PRORES)
    deep = what == "matte" or clip.bit_depth > 8
    if row.name != "png" or not deep:
        return row
    return next((other for other in formats if other.name == "png16"), row)

"""Extra outputs written in the same pass as the main one: matte, foreground, composite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidmatte.core.colour import LIMITED
from vidmatte.core.frame import Clip
from vidmatte.core.names import names_folder
from vidmatte.errors import UsageError
from vidmatte.settings import Settings
from vidmatte.writers.base import WriteResult
from vidmatte.writers.containers import MP4
from vidmatte.writers.encoders import crf_option
from vidmatte.writers.format_spec import ColourRules, Limits, OutputFormat, always
from vidmatte.writers.formats import FORMATS, PRORES, by_name, choose, suffix_row


def without_alpha(row: OutputFormat) -> OutputFormat:
    """The same format without alpha."""
    return replace(
        row,
        alpha="none",
        has_alpha=False,
        pixel_format=lambda clip: _drop_alpha(row.pixel_format(clip)),
        decoded_format=row.decoded_format and _drop_alpha(row.decoded_format),
    )


def _drop_alpha(pixel_format: str) -> str:
    """The pixel format with the same colour samples and no alpha."""
    packed = {"rgba": "rgb24", "bgra": "bgr0", "rgba64be": "rgb48be", "rgba64le": "rgb48le"}
    return packed.get(pixel_format, pixel_format.replace("yuva", "yuv").replace("gbrap", "gbrp"))


_PRORES_HQ = replace(
    PRORES,
    name="prores-hq",
    depth="4:2:2, 10 bits",
    alpha="none",
    has_alpha=False,
    good_for="editing: ProRes 422 HQ",
    pixel_format=always("yuv422p10le"),
    options={"profile": "hq", "vendor": "apl0"},
    codec_tag="apch",
    decoded_format="yuv422p10le",
    # FFmpeg's ProRes 4:2:2 loses the last column's chroma at odd widths, 4:4:4 does not.
    for_odd_widths=without_alpha(PRORES),
)
_H264 = OutputFormat(
    "h264",
    (".mp4",),
    MP4,
    "libx264",
    "4:2:0, 8 bits",
    "none",
    "sharing: plays everywhere",
    always("yuv420p"),
    options={"crf": "16", "preset": "medium"},
    codec_tag="avc1",
    quality=crf_option(51),
    intra=False,
    has_alpha=False,
    colour_rules=ColourRules(range=LIMITED),
    limits=Limits(max_size=16384, width_multiple=2, height_multiple=2),
)


def _grey(row: OutputFormat, pixel_format: str) -> OutputFormat:
    """The same format for a matte: one grey channel."""
    return replace(
        row,
        depth="grey",
        alpha="none",
        has_alpha=False,
        pixel_format=always(pixel_format),
        decoded_format=None,
    )


def _formats_table(
    *names: str, change: Callable[[OutputFormat], OutputFormat]
) -> tuple[OutputFormat, ...]:
    """The named rows of ``FORMATS``, each passed through ``change``."""
    return tuple(change(row) for row in FORMATS if row.name in names)


#: The formats of each extra output; the first row of a suffix is its default.
_MATTE_FORMATS = (
    _PRORES_HQ,
    _H264,
    _grey(by_name("ffv1"), "gray16le"),
    _grey(by_name("png"), "gray"),
    _grey(by_name("png16"), "gray16be"),
    _grey(by_name("tiff16"), "gray16le"),
)
_FOREGROUND_FORMATS = _formats_table(
    "prores", "ffv1", "png", "png16", "tiff16", change=without_alpha
)
_COMP_FORMATS = (
    _H264,
    _PRORES_HQ,
    replace(without_alpha(by_name("ffv1")), pixel_format=always("yuv444p10le")),
    *_formats_table("png", "png16", "tiff16", "jpeg", "avif", change=without_alpha),
    by_name("webp"),  # libwebp takes packed RGB with alpha only, and drops an opaque one
)


@dataclass(frozen=True)
class ExtraOutputs:
    """The extra outputs that a job asks for.

    matte: alpha as a grey picture. foreground: the colours alone. comp: the subject
    over ``background``: ``#rrggbb``, a colour's name, ``checker``, or a file.
    folders: which of them are folders although their names have a suffix.
    """

    matte: Path | None = None
    foreground: Path | None = None
    comp: Path | None = None
    background: str | None = None
    folders: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> ExtraOutputs:
        """The extra outputs of ``settings``. Raises UsageError."""
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

    def requested(self, clip: Clip) -> list[tuple[str, Path, OutputFormat]]:
        """(kind, path, format) of each output. Raises UsageError for an unknown suffix."""
        rows = [
            ("matte", self.matte, _MATTE_FORMATS),
            ("foreground", self.foreground, _FOREGROUND_FORMATS),
            ("comp", self.comp, _COMP_FORMATS),
        ]
        return [
            (what, out, _format_for(what, suffix_row(out, formats, folder), formats, clip))
            for what, out, formats in rows
            for folder in [what in self.folders]
            if out is not None
        ]


def opaque_format(out: Path, name: str | None, clip: Clip) -> OutputFormat:
    """The row of a main output that shows the subject on a background: by ``name``, else by
    suffix, as for ``--comp``. Raises UsageError."""
    rows = _COMP_FORMATS
    if name is not None:
        named = _OPAQUE_NAMES.get(wanted := choose(out, name).name, wanted)
        rows = tuple(row for row in rows if row.name == named)
        if not rows:
            raise UsageError(
                f"--format {name} with --background: no composite in that format: use"
                f" {', '.join(row.name for row in _COMP_FORMATS)}"
            )
    row = rows[0] if name is not None else suffix_row(out, rows, names_folder(out))
    is_odd = row.for_odd_widths is not None and clip.width % 2
    return row.for_odd_widths or row if is_odd else row


def format_of(written: WriteResult, clip: Clip) -> OutputFormat:
    """The format of a written main output, with alpha or on a background."""
    facts = (written.format, written.pixel_format)
    on_background = (row for row in _COMP_FORMATS if (row.name, row.pixel_format(clip)) == facts)
    return next(on_background, None) or by_name(written.format)


#: The format of a composite, where it has another name than that with alpha.
_OPAQUE_NAMES = {"prores": "prores-hq", "prores-xq": "prores-hq"}


def _format_for(
    what: str, row: OutputFormat, formats: tuple[OutputFormat, ...], clip: Clip
) -> OutputFormat:
    """The row that suits the clip.

    Picture files get 16 bits where the clip has more than 8; mattes always do.
    """
    if row.for_odd_widths is not None and clip.width % 2:
        return row.for_odd_widths
    deep = what == "matte" or clip.bit_depth > 8
    if row.deeper is None or not deep:
        return row
    return next((other for other in formats if other.name == row.deeper), row)

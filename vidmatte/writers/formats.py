"""The table of output formats, and the choice of a row by name or suffix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidmatte.core.colour import LIMITED
from vidmatte.core.names import FRAME_NUMBER, names_folder
from vidmatte.errors import UsageError
from vidmatte.media.exr_writer import FLOAT, HALF
from vidmatte.media.png import read_back_png
from vidmatte.writers.containers import APNG, GIF, MATROSKA, MOV, WEBM, WEBP
from vidmatte.writers.encoders import (
    TiffEncoder,
    Vp9AlphaEncoder,
    crf_option,
    exr_encoder,
    png_encoder,
    quality_option,
)
from vidmatte.writers.format_spec import (
    ColourRules,
    Limits,
    OutputFormat,
    always,
    with_alpha,
)
from vidmatte.writers.prores import ProresEncoder, prores_tags
from vidmatte.writers.still_encoders import STILL_FORMATS

#: ProRes decoders assume limited range, so full range is converted to it.
PRORES = OutputFormat(
    "prores",
    (".mov",),
    MOV,
    "prores_ks",
    "4:4:4, 10 bits",
    "straight, 1024 levels",
    "editing: ProRes 4444 in Premiere, Resolve, Final Cut, After Effects",
    always("yuva444p10le"),
    codec_tag="ap4h",
    options={"profile": "4444", "vendor": "apl0"},
    quantiser=1,
    encoder=ProresEncoder,
    decoded_format="yuva444p12le",
    colour_rules=ColourRules(range=LIMITED, frame_tags=prores_tags),
    limits=Limits(max_size=16383),
)

PNG = OutputFormat(
    "png",
    (".png",),
    None,
    "png",
    "RGB, 8 bits",
    "straight, 256 levels",
    "compositing and stills: one RGBA picture per frame, lossless",
    always("rgba"),
    encoder=png_encoder,
    straight_only=True,
    deeper="png16",
    stores_density=True,
    read_back=read_back_png,
    colour_rules=ColourRules(icc_profile=True),
)

_EXR = OutputFormat(
    "exr",
    (".exr",),
    None,
    "exr-half",
    "RGB, half float, linear light",
    "premultiplied, half float",
    "compositing in Nuke, Fusion, After Effects: one picture per frame, ZIP",
    always("gbrapf32le"),
    encoder=exr_encoder(HALF),
    decoded_format="gbrapf16le",
    associated=True,
    has_compression=True,
    colour_rules=ColourRules(linear=True, chromaticities=True),
)
EXR_CODED = replace(
    _EXR,
    name="exr-coded",
    depth="RGB, half float, unchanged code values",
    good_for="log and HDR material for tools that convert it themselves",
    colour_rules=ColourRules(chromaticities=True),
)

FORMATS: tuple[OutputFormat, ...] = (
    PRORES,
    replace(
        PRORES,
        name="prores-xq",
        good_for="editing where 4444 XQ is required: the same samples with that tag",
        options={"profile": "4444xq", "vendor": "apl0"},
        codec_tag="ap4x",
    ),
    OutputFormat(
        "cineform",
        (".mov",),
        MOV,
        "cfhd",
        "RGB, 12 bits",
        "straight, 4096 levels (soft ones within 0.5 %)",
        "editing on Windows: CineForm RGBA; widths that are multiples of 16",
        always("gbrap12le"),
        codec_tag="CFHD",
        options={"quality": "film3+"},
        limits=Limits(width_multiple=16, min_height=32),
    ),
    OutputFormat(
        "ffv1",
        (".mkv",),
        MATROSKA,
        "ffv1",
        "the source's own layout and depth",
        "straight, as deep as the picture",
        "archives and further processing: lossless, opaque samples unchanged",
        with_alpha,
        options={"level": "3", "slicecrc": "1"},
        # FFmpeg cannot split a plane this narrow into slices, and then writes nothing.
        narrow_options={"level": "1"},
        colour_rules=ColourRules(keeps_layout=True),
    ),
    OutputFormat(
        "webm",
        (".webm",),
        WEBM,
        "libvpx-vp9",
        "4:2:0, 8 bits",
        "straight, 256 levels, lossless",
        "web pages: VP9 with alpha in Chrome, Firefox, Edge, OBS",
        always("yuva420p"),
        options={
            "crf": "20",
            "cpu-used": "4",
            "row-mt": "1",
            "auto-alt-ref": "0",
            "lag-in-frames": "16",
        },
        intra=False,
        stream_encoder=Vp9AlphaEncoder,
        quality=crf_option(63),
        decoded_format="yuv420p",
        straight_only=True,
        colour_rules=ColourRules(constant_luminance=False),
        limits=Limits(max_size=16384),
    ),
    PNG,
    replace(
        PNG,
        name="png16",
        depth="RGB, 16 bits",
        alpha="straight, 65536 levels",
        good_for="compositing of 10-bit and deeper sources",
        pixel_format=always("rgba64be"),
        deeper=None,
    ),
    OutputFormat(
        "tiff16",
        (".tif", ".tiff"),
        None,
        "tiff",
        "RGB, 16 bits",
        "straight, 65536 levels",
        "print and stills: one picture per frame, deflate",
        always("rgba64le"),
        options={"compression_algo": "deflate"},
        encoder=TiffEncoder,
        stores_density=True,
        colour_rules=ColourRules(icc_profile=True),
    ),
    _EXR,
    replace(
        _EXR,
        name="exr32",
        codec="exr-float",
        depth="RGB, 32-bit float, linear light",
        alpha="premultiplied, 32-bit float",
        good_for="compositing where half is too coarse",
        encoder=exr_encoder(FLOAT),
        decoded_format="gbrapf32le",
    ),
    EXR_CODED,
    OutputFormat(
        "webp",
        (".webp",),
        WEBP,
        "libwebp_anim",
        "RGB, 8 bits",
        "straight, 256 levels, lossy",
        "previews: animated, no sound",
        always("bgra"),
        options={"quality": "80"},
        quality=quality_option,
        intra=False,
        straight_only=True,
        colour_rules=ColourRules(tagged=False),
        limits=Limits(max_size=16383),
    ),
    OutputFormat(
        "apng",
        (".apng", ".png"),
        APNG,
        "apng",
        "RGB, 8 bits",
        "straight, 256 levels",
        "web pages: animated, lossless, no sound; --format apng for .png",
        always("rgba"),
        options={"pred": "up"},
        intra=False,
        straight_only=True,
        colour_rules=ColourRules(tagged=False),
    ),
    OutputFormat(
        "gif",
        (".gif",),
        GIF,
        "gif",
        "252 colours",
        "2 levels, cut at half",
        "previews: animated, no sound",
        always("pal8"),
        # Without this FFmpeg crops each picture to its opaque part, and a single row to nothing.
        options={"gifflags": "-offsetting"},
        intra=False,
        decoded_format="bgra",
        colour_rules=ColourRules(tagged=False),
        limits=Limits(max_rate=100),
    ),
    *STILL_FORMATS,
)

#: Other names for a format.
ALIASES = {
    "mov": "prores",
    "prores4444": "prores",
    "prores4444xq": "prores-xq",
    "mkv": "ffv1",
    "vp9": "webm",
    "cfhd": "cineform",
    "tif": "tiff16",
    "tiff": "tiff16",
    "jpg": "jpeg",
}


def by_name(name: str) -> OutputFormat:
    """The row of a name or alias. Raises UsageError."""
    full_name = ALIASES.get(name.lower().lstrip("."), name.lower().lstrip("."))
    for row in FORMATS:
        if row.name == full_name:
            return row
    raise UsageError(f"format {name}: choose from {', '.join(row.name for row in FORMATS)}")


def choose(out: Path, name: str | None) -> OutputFormat:
    """The row for ``out``: by ``name``, else by suffix; no suffix means a PNG folder.

    Raises UsageError for a suffix that is unknown or not one of the format's.
    """
    suffix = out.suffix.lower()
    if name is not None:
        row = by_name(name)
        if row.container is not None and suffix not in row.suffixes:
            raise UsageError(
                f"{out.name}: --format {row.name} is written to {' or '.join(row.suffixes)}"
            )
        return row
    return suffix_row(out, FORMATS)


def check_suffix(output: str | Path, row: OutputFormat) -> None:
    """Raise UsageError if the name of a picture output has another format's suffix, which
    would mislead: a folder ``out.mov`` of PNGs, or EXRs called ``shot_0001.png``."""
    path, right_suffix = Path(output), row.suffixes[0]
    if row.container is not None or path.suffix.lower() in row.suffixes or names_folder(output):
        return
    if any(path.suffix.lower() in other.suffixes for other in FORMATS):
        single = path.with_suffix(right_suffix)
        folder = (
            ""
            if FRAME_NUMBER.search(path.name)
            else f", or -o {path.with_suffix('')}/ for a folder"
        )
        raise UsageError(
            f"{path}: --format {row.name} is written to {right_suffix}: write -o {single}{folder}"
        )


def is_pattern(out: Path) -> bool:
    """Whether a picture's name has a frame number field, like ``shot_%06d.png``.

    False without a picture's suffix or for an existing folder.
    """
    is_picture = any(
        row.container is None and out.suffix.lower() in row.suffixes for row in FORMATS
    )
    return is_picture and FRAME_NUMBER.search(out.name) is not None and not out.is_dir()


def suffix_row(out: Path, rows: tuple[OutputFormat, ...], is_folder: bool = False) -> OutputFormat:
    """The first of ``rows`` with the suffix of ``out``, .png for a folder.

    Raises UsageError if there is none.
    """
    suffix = ".png" if is_folder or not out.suffix or out.is_dir() else out.suffix.lower()
    for row in rows:
        if suffix in row.suffixes:
            return row
    known = sorted({suffix for row in rows for suffix in row.suffixes})
    raise UsageError(
        f"{out.name}: no format has the suffix {suffix}: use {', '.join(known)},"
        " or a folder for PNG pictures"
    )

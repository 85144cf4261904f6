"""Whether pictures have an alpha of their own; some formats have it in name only."""

from __future__ import annotations

from pathlib import Path

import av


def has_alpha(first: av.VideoFrame, files: list[Path]) -> bool:
    """Whether any of ``files`` may be transparent somewhere. ``first``: the first one, decoded.

    The decoder of JPEG gives CMYK an alpha that the file cannot have, that of WebP gives one
    to every lossless picture. A palette has it in its colours.
    """
    if first.format.has_palette:
        return bool(first.to_ndarray(format="rgba")[..., 3].min() < 255)
    if not any(component.is_alpha for component in first.format.components):
        return False
    kinds = {file.suffix.lower() for file in files}
    if kinds <= {".jpg", ".jpeg", ".jpe"} and first.format.name == "gbrap":
        return False
    return kinds != {".webp"} or any(map(webp_has_alpha, files))


def webp_has_alpha(file: Path) -> bool:
    """What a WebP picture says of its alpha; yes for what is none.

    https://developers.google.com/speed/webp/docs/riff_container
    https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification
    """
    with file.open("rb") as opened:
        head = opened.read(30)
    if head[12:16] == b"VP8X":
        return bool(head[20] & 0x10)
    if head[12:16] == b"VP8L":  # after the signature 14 bits of width and 14 of height
        return bool(head[24] & 0x10)
    return head[12:16] != b"VP8 "

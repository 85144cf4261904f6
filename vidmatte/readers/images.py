"""Picture folders and single pictures, in natural order, at their own bit depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from vidmatte.core.colour import BT709, FULL, SRGB, UNSPECIFIED, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import orientation_of
from vidmatte.errors import SourceError
from vidmatte.media.dpx import dpx_notes, is_linear_in_name
from vidmatte.media.exr import check_window
from vidmatte.media.icc import is_srgb, profile_of
from vidmatte.media.png import has_animated, with_stored_samples
from vidmatte.media.tiff import check_kind
from vidmatte.pixels.formats import Repacker, bit_depth, upright_format
from vidmatte.readers.base import DecodedPicture, FileSource, Reader
from vidmatte.readers.image_folder import (
    DECODERS,
    list_pictures,
    missing_numbers,
    result_names,
    results_among,
)
from vidmatte.readers.trim import SourcePoints, make_trim
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_rate

#: Of a still, which shows it to nobody, and of a folder without --fps.
STILL_RATE = Fraction(25)


class ImageReader(Reader):
    """A folder of pictures, or one picture. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        files = list_pictures(path) if path.is_dir() else [path]
        rate = parse_rate(settings.fps) if settings.fps else STILL_RATE
        self.points = SourcePoints(rate, start_timecode=None, frame_count=len(files))
        trim = make_trim(self.points, settings.in_point, settings.out_point, settings.handles)
        self._files = files[trim.first : trim.end]
        self._warnings: list[str] = []
        self._warned_of_profile = False
        if path.is_dir():
            if not settings.fps:
                self._warnings.append(f"{path.name}: no --fps given, using {STILL_RATE}")
            self._warnings += missing_numbers(self._files)
            self._warnings += results_among(files)
            self._warnings += has_animated(self._files)
        self._warnings += dpx_notes(self._files)
        names = [file.name for file in files] if path.is_dir() else []
        source = FileSource(path, names)
        first = read_picture(self._files[0])
        clip = _describe(source, self._files, first, rate)
        self._decoded = first if len(self._files) == 1 else None  # used once
        self.clip = (
            replace(clip, first_frame=trim.first, untrimmed_count=len(files)) if trim else clip
        )

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def pictures(self) -> Iterator[DecodedPicture]:
        return self.pictures_from(0, 0)

    def pictures_from(self, index: int, pts: int) -> Iterator[DecodedPicture]:  # noqa: ARG002
        clip = self.clip
        for number, file in enumerate(self._files[index:], index):
            frame, self._decoded = self._decoded or read_picture(file), None
            if _loses_precision(frame, clip):
                raise SourceError(
                    f"{file}: it is {frame.format.name}, but the folder began with"
                    f" {clip.pixel_format}, which would lose precision or colour: convert one kind"
                    " to the other, or pass the pictures one by one"
                )
            declared = _declared_tags(frame)
            self._check_profile(file, declared)
            colour = _resolved_tags(declared, frame)
            repack = Repacker(clip.working_format, orientation_of(frame), colour, clip.colour)
            pixels = repack(frame)
            if (pixels.width, pixels.height) != (clip.width, clip.height):
                raise SourceError(
                    f"{file}: it is {pixels.width}x{pixels.height}, but the folder began with"
                    f" {clip.width}x{clip.height}: pass pictures of several sizes one by one:"
                    f" {clip.source.name}/*{file.suffix}"
                )
            yield DecodedPicture(pixels, number, 1, name=clip.output_names[number])

    def _check_profile(self, file: Path, declared: ColourTags) -> None:
        """Warn of the first picture whose R'G'B' is not that of the folder's first picture."""
        found, used = _embedded_profile(file, declared), self.clip.icc_profile
        known = {profile for profile in (found, used) if profile and not is_srgb(profile)}
        if found == used or not known or self._warned_of_profile:
            return
        self._warned_of_profile = True
        self._warnings.append(
            f"{file.name}: its ICC profile differs from that of {self._files[0].name}, which is"
            " written for all: pass pictures of several profiles one by one"
        )


def read_picture(file: Path) -> av.VideoFrame:
    """One decoded picture. Raises SourceError naming the file."""
    try:
        for frame in _decode_complete(file):
            if is_linear_in_name(file):
                frame.color_trc = UNSPECIFIED
            return frame
    except MemoryError:  # FFmpeg's too: no fault of the file
        raise
    except FileNotFoundError as error:
        raise SourceError(
            f"{file}: it was removed during the run: put it back and run again"
            " (--resume keeps the finished frames)"
        ) from error
    except (OSError, av.error.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "it has no picture"
        raise SourceError(f"{file}: not a readable picture ({reason})") from error
    raise SourceError(f"{file}: not a readable picture (it is truncated)")


def _decode_complete(file: Path) -> Iterator[av.VideoFrame]:
    """The picture of a file, passed to its decoder in one packet.

    Opening it as a container would decode it twice, the first time to find its size, and is
    done only for files whose content does not match their suffix.
    """
    name = DECODERS.get(file.suffix.lower(), "png")
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    data = file.read_bytes()
    check_kind(file, data)
    check_window(file, data)
    packet = av.Packet(with_stored_samples(data) if name == "png" else data)
    try:
        yield from [*decoder.decode(packet), *decoder.decode(None)]
    except av.error.InvalidDataError:
        with av.open(str(file.absolute())) as container:
            yield from container.decode(video=0)


def _declared_tags(frame: av.VideoFrame) -> ColourTags:
    """The colour tags in a picture's file."""
    return ColourTags(
        matrix=UNSPECIFIED if _is_rgb(frame) else frame.colorspace or UNSPECIFIED,
        range=frame.color_range,
        primaries=frame.color_primaries or UNSPECIFIED,
        transfer=frame.color_trc or UNSPECIFIED,
    )


def _embedded_profile(file: Path, declared: ColourTags) -> bytes | None:
    """The ICC profile of a picture, unless it has colour tags (PNG's cICP takes precedence)."""
    return profile_of(file) if declared.primaries == UNSPECIFIED else None


def _resolved_tags(declared: ColourTags, frame: av.VideoFrame) -> ColourTags:
    """The colour tags of a picture; unspecified ones are those of sRGB, full range."""
    return replace(
        declared,
        range=declared.range or FULL,
        primaries=BT709 if declared.primaries == UNSPECIFIED else declared.primaries,
        transfer=SRGB if declared.transfer == UNSPECIFIED else declared.transfer,
    ).resolved(frame.width, frame.height, _is_rgb(frame))


def _is_rgb(frame: av.VideoFrame) -> bool:
    """True for samples without a matrix: RGB, a palette, or grey."""
    form = frame.format
    return form.is_rgb or form.has_palette or form.name.startswith("gray")


def _png_kind(file: Path) -> tuple[bool, bool]:
    """Whether a file named .png has more than 8 bits, and whether it is grey.

    https://www.w3.org/TR/png-3/#11IHDR
    """
    with file.open("rb") as opened:
        head = opened.read(26)
    if not head.startswith(b"\x89PNG"):  # another format with that suffix, or no picture
        return False, False
    depth, colour = head[24:25], head[25:26]
    return depth == b"\x10", colour in (b"\0", b"\4")


def _loses_precision(frame: av.VideoFrame, clip: Clip) -> bool:
    """Whether the clip's format cannot hold a picture's colours or its bit depth."""
    found = frame.format.name
    turns_grey = _is_grey(clip.working_format) and not _is_grey(found)
    return turns_grey or bit_depth(found) > max(8, clip.bit_depth)


def _is_grey(pixel_format: str) -> bool:
    """Whether a format has one component, or one and alpha."""
    return pixel_format.startswith(("gray", "ya", "mono"))


def _describe(source: FileSource, files: list[Path], first: av.VideoFrame, rate: Fraction) -> Clip:
    """The Clip of a folder or picture, from its first picture."""
    orientation = orientation_of(first)
    on_side = orientation.swaps_sides
    suffixes = {file.suffix.lower() for file in files}
    working = upright_format(first.format.name, orientation, first.width, first.height)
    kinds = {_png_kind(file) for file in files} if suffixes == {".png"} else set()
    depth = max([bit_depth(first.format.name), *(16 for deep, _ in kinds if deep)])
    declared = _declared_tags(first)
    colour = _resolved_tags(declared, first)
    profile = _embedded_profile(files[0], declared)
    if len(suffixes) > 1 or len(kinds) > 1:
        # Pictures of several kinds become RGB, each by its own tags.
        working = "rgb48le" if depth > 8 else "rgb24"
        declared = ColourTags()
        colour = declared.resolved(first.width, first.height, is_rgb=True)
    return Clip(
        source=source,
        kind="pictures" if source.path.is_dir() else "picture",
        width=first.height if on_side else first.width,
        height=first.width if on_side else first.height,
        rate=rate,
        time_base=1 / rate,
        pixel_format=first.format.name,
        working_format=working,
        bit_depth=depth,
        colour=colour,
        declared_colour=declared,
        frame_count=len(files),
        orientation=orientation,
        icc_profile=profile,
        has_alpha=_has_alpha(first, files),
        container="pictures",
        codec=files[0].suffix.lower().lstrip("."),
        output_names=result_names(files),
    )


def _has_alpha(first: av.VideoFrame, files: list[Path]) -> bool:
    """Whether any of ``files`` may have transparent pixels. first: the first one, decoded.

    FFmpeg's JPEG decoder gives CMYK an alpha that the file cannot have, its WebP decoder gives
    one to every lossless picture. A palette has alpha in its colours.
    """
    if first.format.has_palette:
        return bool(first.to_ndarray(format="rgba")[..., 3].min() < 255)
    if not any(component.is_alpha for component in first.format.components):
        return False
    kinds = {file.suffix.lower() for file in files}
    if kinds <= {".jpg", ".jpeg", ".jpe"} and first.format.name == "gbrap":
        return False
    return kinds != {".webp"} or any(map(_webp_has_alpha, files))


def _webp_has_alpha(file: Path) -> bool:
    """The alpha flag of a WebP picture; True for a file that is no WebP.

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

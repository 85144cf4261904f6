"""Picture folders and single pictures, in natural order, at their own bit depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from vidmatte.core import timecode
from vidmatte.core.colour import UNSPECIFIED, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import orientation_of
from vidmatte.errors import SourceError
from vidmatte.media.demux import not_readable, open_media
from vidmatte.media.dpx import dpx_notes, is_linear_in_name
from vidmatte.media.exr import check_window, exr_layer
from vidmatte.media.heif import read_heif
from vidmatte.media.heif_items import has_heif_alpha
from vidmatte.media.icc import is_srgb
from vidmatte.media.limits import check_pixels, decoder_limits, without_bombs
from vidmatte.media.png import PNG_SIGNATURE, with_stored_samples
from vidmatte.media.tiff import check_kind
from vidmatte.media.webp import WebpAnimation, is_animated_webp
from vidmatte.pixels.formats import Repacker, bit_depth, upright_format
from vidmatte.readers.base import DecodedPicture, FileSource, Reader, moved_timecode
from vidmatte.readers.image_folder import (
    DECODERS,
    animation_notes,
    list_pictures,
    missing_numbers,
    result_names,
    results_among,
    stated_time,
)
from vidmatte.readers.picture_tags import (
    declared_tags,
    embedded_profile,
    left_out_notes,
    resolved_tags,
)
from vidmatte.settings import Settings
from vidmatte.settings.points import SourcePoints, make_trim
from vidmatte.settings.values import MAX_PIXELS, parse_rate, stated_colour

#: Of a still, which shows it to nobody, and of a folder without --fps.
STILL_RATE = Fraction(25)


class ImageReader(Reader):
    """A folder of pictures, or one picture. Raises SourceError, UsageError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        files = list_pictures(path) if path.is_dir() else [path]
        self._warnings: list[str] = []
        rate, start = self._stated_time(path, files, settings.fps)
        self.points = SourcePoints(rate, start_timecode=start, frame_count=len(files))
        trim = make_trim(self.points, settings.in_point, settings.out_point, settings.handles)
        self._files = files[trim.first : trim.end]
        self._warned: set[str] = set()
        self._max_pixels = settings.max_pixels
        if path.is_dir():
            self._warnings += missing_numbers(self._files)
            self._warnings += results_among(files)
            self._warnings += animation_notes(self._files)
        self._warnings += dpx_notes(self._files)
        self._warnings += left_out_notes(self._files[0])
        names = [file.name for file in files] if path.is_dir() else []
        source = FileSource(path, names)
        first = read_picture(self._files[0], settings.max_pixels)
        self._decoded = first if len(self._files) == 1 else None  # used once
        self._stated = stated_colour(settings.colour, path.name, first.format.is_rgb)
        clip = _describe(source, self._files, first, rate, self._stated)
        self.clip = replace(clip, timecode=start)
        if trim:
            moved, warnings = moved_timecode(self.clip, trim)
            self._warnings += warnings
            self.clip = replace(
                clip, first_frame=trim.first, untrimmed_count=len(files), timecode=moved
            )

    def _stated_time(
        self, path: Path, files: list[Path], fps: str | None
    ) -> tuple[Fraction, str | None]:
        """The frame rate and the timecode of the first picture, by the options and the headers."""
        stated, word = stated_time(files)
        rate = parse_rate(fps) if fps else stated or STILL_RATE
        if path.is_dir() and fps and stated not in (None, rate):
            self._warnings.append(f"{path.name}: its files state {stated} fps; --fps {fps} is used")
        elif path.is_dir() and not fps and stated is None:
            self._warnings.append(f"{path.name}: no --fps given, using {STILL_RATE}")
        start, warnings = timecode.valid_or_dropped(
            path.name,
            None if word is None else timecode.from_bcd(word, rate),
            lambda text: timecode.validated(text, rate),
        )
        self._warnings += warnings
        return rate, start

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def pictures(self) -> Iterator[DecodedPicture]:
        return self.pictures_from(0, 0)

    def pictures_from(self, index: int, pts: int) -> Iterator[DecodedPicture]:  # noqa: ARG002
        clip = self.clip
        for number, file in enumerate(self._files[index:], index):
            frame = self._decoded or read_picture(file, self._max_pixels)
            self._decoded = None
            if _loses_precision(frame, clip):
                raise SourceError(
                    f"{file}: it is {frame.format.name}, but the folder began with"
                    f" {clip.pixel_format}, which would lose precision or colour: convert one kind"
                    " to the other, or pass the pictures one by one"
                )
            declared = declared_tags(file, frame, self._stated)
            self._check_profile(file, declared)
            colour = resolved_tags(declared, frame)
            self._check_tags(file, colour)
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
        found, used = embedded_profile(file, declared), self.clip.icc_profile
        known = {profile for profile in (found, used) if profile and not is_srgb(profile)}
        if found != used and known:
            self._warn_once("ICC profile", file, "pass pictures of several profiles one by one")

    def _check_tags(self, file: Path, colour: ColourTags) -> None:
        """Warn of the first picture with other primaries or another transfer than the clip's:
        its samples stay as they are."""
        if colour.light != self.clip.colour.light:
            self._warn_once("colour space", file, "pass pictures of several spaces one by one")

    def _warn_once(self, what: str, file: Path, advice: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._warnings.append(
                f"{file.name}: its {what} differs from that of {self._files[0].name}, which is"
                f" written for all: {advice}"
            )


def read_picture(file: Path, max_pixels: int = MAX_PIXELS) -> av.VideoFrame:
    """One decoded picture of at most ``max_pixels``. Raises SourceError naming the file."""
    try:
        for frame in _decode_complete(file, max_pixels):
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
    except ValueError as error:  # of an animated WebP; its own SourceErrors are some too
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{file}: not a readable picture ({error})") from error
    except av.error.PatchWelcomeError as error:
        raise SourceError(
            f"{file}: this kind of picture is not supported: save it as PNG, or as TIFF or OpenEXR"
            " with plain R, G, B"
        ) from error
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise not_readable(file, error, "picture") from error
    raise SourceError(f"{file}: not a readable picture (it is truncated)")


def _decode_complete(file: Path, max_pixels: int) -> Iterator[av.VideoFrame]:
    """The picture of a file, passed to its decoder in one packet.

    Opening it as a container would decode it twice, the first time to find its size, and is
    done only for files whose content does not match their suffix.
    """
    data = file.read_bytes()
    is_png = data.startswith(PNG_SIGNATURE)
    name = "png" if is_png else DECODERS.get(file.suffix.lower(), "png")
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = decoder_limits(max_pixels)
    check_pixels(file, data, max_pixels)
    check_kind(file, data)
    check_window(file, data)
    if data[4:8] == b"ftyp":
        yield read_heif(file, data)
        return
    if is_animated_webp(file):
        yield next(WebpAnimation(file).pictures())
        return
    if name == "exr":
        decoder.options = {**decoder_limits(max_pixels), "layer": exr_layer(file, data)}
    packet = av.Packet(with_stored_samples(without_bombs(data)) if is_png else data)
    try:
        yield from [*decoder.decode(packet), *decoder.decode(None)]
    except av.error.InvalidDataError:
        with open_media(file, max_pixels) as container:
            yield from container.decode(video=0)


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


def _describe(
    source: FileSource,
    files: list[Path],
    first: av.VideoFrame,
    rate: Fraction,
    stated: Mapping[str, int],
) -> Clip:
    """The Clip of a folder or picture, from its first picture. stated: see ``declared_tags``."""
    orientation = orientation_of(first)
    on_side = orientation.swaps_sides
    suffixes = {file.suffix.lower() for file in files}
    working = upright_format(first.format.name, orientation, first.width, first.height)
    kinds = {_png_kind(file) for file in files} if suffixes == {".png"} else set()
    depth = max([bit_depth(first.format.name), *(16 for deep, _ in kinds if deep)])
    declared = declared_tags(files[0], first, stated)
    colour = resolved_tags(declared, first)
    profile = embedded_profile(files[0], declared)
    if len(suffixes) > 1 or len(kinds) > 1:
        # Pictures of several kinds become RGB, each by its own tags.
        working = "rgb48le" if depth > 8 else "rgb24"
        declared = ColourTags().with_stated(stated)
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
    if any(has_heif_alpha(file) for file in files if file.suffix.lower() not in DECODERS):
        return True
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

"""Mattes as they lie in files: a movie or pictures with alpha, or grey ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vidmatte.core.colour import BT709, FULL, LUMA_WEIGHTS, ColourTags
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import Orientation, orientation_of, oriented
from vidmatte.errors import SourceError
from vidmatte.pixels import planes
from vidmatte.pixels.planes import is_yuv
from vidmatte.readers.image_folder import list_pictures, missing_numbers
from vidmatte.readers.images import read_picture
from vidmatte.readers.movie.container import open_container, picture_stream
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

#: Codecs whose alpha lies beside the picture, where only these decoders look.
_SEPARATE_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}


class Mattes(ABC):
    """The mattes of one file or folder, upright, to be read once.

    shown: ``alpha`` where the file has that channel, else ``luminance``.
    """

    shown: str

    def __init__(self, clip: Clip) -> None:
        assert clip.source.path is not None  # mattes are opened by their path
        self.path = clip.source.path
        self.size = (clip.width, clip.height)
        self.frame_count = clip.frame_count
        self.notes: list[str] = []
        self._clip = clip

    @abstractmethod
    def frames(self) -> Iterator[np.ndarray]:
        """Each matte, (H, W) float32 in 0..1, in order. Raises SourceError."""

    def _upright(self, matte: np.ndarray, orientation: Orientation, name: str) -> np.ndarray:
        """A matte turned upright. Raises SourceError where it is not of the first one's size,
        or not a number."""
        matte = oriented(matte, orientation)
        if matte.shape != self.size[::-1]:
            raise SourceError(
                f"{name}: it is {matte.shape[1]}x{matte.shape[0]}, the first picture is"
                f" {self.size[0]}x{self.size[1]}; give mattes of one size"
            )
        return _checked(matte, name)


def _checked(matte: np.ndarray, name: str) -> np.ndarray:
    """The matte. Raises SourceError, with ``name``, where it is not a number somewhere: no
    measure would be one either."""
    if np.isnan(matte.sum()):
        raise SourceError(
            f"{name}: the matte is not a number (NaN) somewhere; give one with values in 0..1"
        )
    return matte


def open_mattes(path: Path) -> Mattes:
    """The mattes of a movie, a folder of pictures or a picture.

    Raises SourceMissingError, SourceError.
    """
    with open_reader(path, Settings()) as source:
        clip = source.clip
    if clip.kind != "movie":
        return _AlphaPictures(clip) if clip.has_alpha else _GreyMattes(clip)
    decoder = _separate_alpha_decoder(path)
    if clip.has_alpha or decoder is not None:
        return _AlphaMovie(clip, decoder)
    return _GreyMattes(clip)


def _separate_alpha_decoder(path: Path) -> str | None:
    """The decoder that gives a movie's alpha where it lies beside the picture, as in WebM."""
    with open_container(path) as container:
        stream = picture_stream(container, path)
        said = {key.lower(): value for key, value in stream.metadata.items()}
        return (
            _SEPARATE_ALPHA_DECODERS.get(stream.codec_context.name)
            if said.get("alpha_mode") == "1"
            else None
        )


class _GreyMattes(Mattes):
    """Luminance of movies and pictures without alpha, from all of the range that they have.

    Mattes in grey formats are full range whatever is said, as in FFmpeg's own tools.
    """

    shown = "luminance"

    def frames(self) -> Iterator[np.ndarray]:
        """See ``Mattes.frames``."""
        with open_reader(self.path, Settings(deinterlace="off")) as source:
            colour = source.clip.colour
            if source.clip.pixel_format.startswith("gray"):
                colour = replace(colour, range=FULL)
            for number, picture in enumerate(source.pictures()):
                name = f"{self.path}, frame {number}"
                yield _checked(_luminance(picture.pixels, colour), name)
            about_rate = "no --fps given"  # which does not matter here
            self.notes += [line for line in source.warnings if about_rate not in line]


class _AlphaPictures(Mattes):
    """The alpha of pictures."""

    shown = "alpha"

    def frames(self) -> Iterator[np.ndarray]:
        """See ``Mattes.frames``."""
        files = list_pictures(self.path) if self.path.is_dir() else [self.path]
        self.notes += missing_numbers(files)
        for file in files:
            picture = read_picture(file)
            matte = _alpha_of(picture, str(file))
            yield self._upright(matte, orientation_of(picture), str(file))


class _AlphaMovie(Mattes):
    """The alpha of a movie; ``decoder``: FFmpeg's name of one that must be used."""

    shown = "alpha"

    def __init__(self, clip: Clip, decoder: str | None) -> None:
        super().__init__(clip)
        self._decoder = decoder

    def frames(self) -> Iterator[np.ndarray]:
        """See ``Mattes.frames``."""
        with open_container(self.path) as container:
            try:
                for number, frame in enumerate(self._decoded(container)):
                    name = f"{self.path}, frame {number}"
                    yield self._upright(_alpha_of(frame, name), self._clip.orientation, name)
            except av.error.FFmpegError as error:
                raise SourceError(
                    f"{self.path}: it does not decode ({error.strerror}); make it again"
                ) from error

    def _decoded(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = picture_stream(container, self.path)
        if self._decoder is None:
            stream.thread_type = "AUTO"
            yield from container.decode(stream)
            return
        try:
            context = VideoCodecContext.create(self._decoder, "r")
        except av.codec.codec.UnknownCodecError as error:
            raise SourceError(
                f"{self.path}: its alpha needs the decoder {self._decoder}, which this PyAV does"
                " not have; install PyAV from its wheel, or score ProRes or PNG"
            ) from error
        assert isinstance(context, VideoCodecContext)
        context.extradata = stream.codec_context.extradata
        for packet in container.demux(stream):
            yield from context.decode(packet)


def _alpha_of(frame: av.VideoFrame, name: str) -> np.ndarray:
    """The alpha of a decoded picture, (H, W) float32 in 0..1.

    Raises SourceError, with ``name``, where it has none.
    """
    components = frame.format.components
    if not any(component.is_alpha for component in components):
        raise SourceError(
            f"{name}: {frame.format.name} has no alpha, and the pictures before it have;"
            " give mattes of one kind"
        )
    kind = _sample_kind(frame.format)
    packed = len(frame.planes) == 1
    plane = frame.planes[-1]
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    samples = rows[: plane.height]
    if packed:
        count = len(components)
        # In FFmpeg's names of packed formats, channels stand in the order of memory.
        first = 0 if frame.format.name.startswith("a") else count - 1
        samples = samples[:, first : plane.width * count : count]
    else:
        samples = samples[:, : plane.width]
    if kind.kind == "f":
        return np.asarray(np.clip(samples.astype(np.float32), 0, 1))
    return samples.astype(np.float32) / np.float32(2 ** components[-1].bits - 1)


def _sample_kind(format_: av.VideoFormat) -> np.dtype:
    """How samples of a pixel format lie in memory."""
    bits = max(component.bits for component in format_.components)
    if "f16" in format_.name or "f32" in format_.name:
        kind = np.dtype(np.float16 if bits == 16 else np.float32)
    else:
        kind = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    return kind.newbyteorder(">" if format_.is_big_endian else "<")


def _luminance(picture: av.VideoFrame, colour: ColourTags) -> np.ndarray:
    """The luminance of a picture in a working format, (H, W) float32 in 0..1.

    Y'CbCr: luma, its range brought to 0..1. Grey: the samples, full range. R'G'B': weighted
    by the colours' matrix, that of bt709 where they have none.
    """
    name = picture.format.name
    arrays = planes.plane_views(picture)
    top = 1 if arrays[0].dtype == np.float32 else planes.full_scale(name)
    low, span = 0.0, float(top)
    if is_yuv(name) and colour.range != FULL:
        unit = (top + 1) / 256
        low, span = 16 * unit, 219 * unit
    if is_yuv(name) or (len(arrays) == 1 and arrays[0].ndim == 2):
        samples = arrays[0].astype(np.float32)
    else:
        kr, kb = LUMA_WEIGHTS.get(colour.matrix, LUMA_WEIGHTS[BT709])
        samples = _weighted(arrays, (kr, 1 - kr - kb, kb))
    return np.asarray(np.clip((samples - np.float32(low)) / np.float32(span), 0, 1))


def _weighted(arrays: list[np.ndarray], weights: tuple[float, float, float]) -> np.ndarray:
    """Sum of red, green and blue, each with its weight; packed (H, W, 3), or planes G, B, R."""
    if len(arrays) == 1:
        rgb = arrays[0].astype(np.float32)
    else:
        green, blue, red = arrays[:3]
        rgb = np.asarray(cv2.merge([red, green, blue])).astype(np.float32)
    return np.asarray(cv2.transform(rgb, np.array([weights], np.float32)))

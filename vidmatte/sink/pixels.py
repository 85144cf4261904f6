"""From a frame with its alpha to the picture that an encoder takes.

Where the output is YCbCr like the source, its planes are carried over by swscale
with one matrix and, but for ProRes from full range, one range on both sides: no
trip through RGB. So an opaque pixel is exactly what FFmpeg makes of the source.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from vidmatte.colour import FULL, ColourTags
from vidmatte.errors import UsageError
from vidmatte.frame import Clip, Frame
from vidmatte.sink import planes
from vidmatte.sink.foreground import box_of, extend
from vidmatte.sink.formats import Format, is_rgb, is_yuv, output_colour

#: No shortcuts in rounding or in chroma.
ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)

#: H.273 matrix number -> swscale's; others can be carried but not turned into RGB.
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


class PictureMaker:
    """Makes the pictures of one output. Not thread-safe: one for each worker.

    foreground: ``estimate``, ``source``, ``model`` or ``auto``, see the settings.
    """

    def __init__(self, clip: Clip, row: Format, foreground: str) -> None:
        self.pixel_format = row.pixel_format(clip)
        self.colour = output_colour(clip, row)
        self.policy = foreground
        self._source = clip.colour
        # A network's own foreground is display-referred 8-bit RGB: not the same light
        # as PQ or HLG samples, so these are estimated.
        self._takes_model = foreground in ("auto", "model") and not clip.colour.is_hdr
        self._working = self.pixel_format.replace("64be", "64le")
        self._full_scale = planes.full_scale(self._working)
        self._reformatter = VideoReformatter()
        self._model_reformatter = VideoReformatter()
        check_matrix(clip, self.pixel_format)

    def make(self, frame: Frame) -> av.VideoFrame:
        """The output picture with its tags, pts and time base. The frame is only read."""
        if frame.alpha is None:
            raise ValueError(f"{frame!r} reached the output without alpha")
        picture = self._convert(frame.picture, self._reformatter, self._source)
        levels = quantised(frame.alpha, self._full_scale)
        if self.policy != "source":
            self._clean(picture, frame, frame.alpha, levels)
        plane = planes.views(picture)[-1]
        np.copyto(plane if plane.ndim == 2 else plane[..., 3], levels)
        if self._working != self.pixel_format:
            picture = self._reformatter.reformat(picture, format=self.pixel_format, threads=1)
        self._tag(picture, frame)
        return picture

    def _convert(
        self, picture: av.VideoFrame, reformatter: VideoReformatter, source: ColourTags
    ) -> av.VideoFrame:
        """``picture`` in the working format; the alpha plane is not set."""
        both_yuv = is_yuv(picture.format.name) and is_yuv(self._working)
        # Between YCbCr formats the matrix is the same on both sides and not looked at.
        matrix = 1 if both_yuv else SWS_MATRIX[source.matrix or self.colour.matrix or 1]
        source_range = source.range if is_yuv(picture.format.name) else FULL
        return reformatter.reformat(
            picture,
            format=self._working,
            interpolation=ACCURATE,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=source_range,
            dst_color_range=self.colour.range,
            threads=1,
        )

    def _clean(
        self, picture: av.VideoFrame, frame: Frame, alpha: np.ndarray, levels: np.ndarray
    ) -> None:
        """Soft pixels get foreground colours, transparent ones their neighbours'."""
        from vidmatte.matte.foreground import estimate

        visible = np.asarray(cv2.compare(levels, 0, cv2.CMP_GT))
        box = box_of(visible)
        empty = black(self._working, self.colour.range)
        planes.fill_outside(picture, box, empty)
        if not box.width:
            return
        inside = box.slices
        visible = visible[inside]
        changed = np.asarray(cv2.compare(levels[inside], self._full_scale, cv2.CMP_LT))
        colour = np.ascontiguousarray(planes.colours(picture)[inside])
        if frame.foreground is not None and self._takes_model:
            given = av.VideoFrame.from_ndarray(frame.foreground, "rgb24")
            given = self._convert(given, self._model_reformatter, ColourTags(0, FULL))
            own = np.ascontiguousarray(planes.colours(given)[inside])
            cv2.copyTo(own, changed & visible, colour)
        else:
            colour = estimate(colour, np.ascontiguousarray(alpha[inside]))
        planes.put_colours(picture, changed, extend(colour, visible, empty), box)

    def _tag(self, picture: av.VideoFrame, frame: Frame) -> None:
        picture.colorspace = self.colour.matrix
        picture.color_range = self.colour.range
        picture.color_primaries = self.colour.primaries
        picture.color_trc = self.colour.transfer
        picture.pts = frame.pts
        picture.time_base = frame.time_base


def quantised(alpha: np.ndarray, full_scale: int) -> np.ndarray:
    """(H, W) float32 in 0..1 -> uint8 or uint16 in 0..full_scale, rounded to nearest.

    Values outside 0..1 are clipped.
    """
    kind = cv2.CV_8U if full_scale <= 255 else cv2.CV_16U
    levels = cv2.multiply(alpha, float(full_scale), dtype=kind)
    return np.asarray(cv2.min(levels, float(full_scale)) if full_scale < 65535 else levels)


def black(pixel_format: str, range_: int) -> tuple[int, int, int]:
    """Black in the channel order of ``planes.colours``."""
    if not is_yuv(pixel_format):
        return 0, 0, 0
    top = planes.full_scale(pixel_format) + 1
    return (0 if range_ == FULL else top // 16), top // 2, top // 2


def check_matrix(clip: Clip, pixel_format: str) -> None:
    """Raise UsageError where a YCbCr matrix would have to become RGB and cannot."""
    source_yuv = is_yuv(clip.working_format)
    if source_yuv and is_rgb(pixel_format) and clip.colour.matrix not in SWS_MATRIX:
        name = clip.colour.as_names()["matrix"]
        raise UsageError(
            f"{clip.path.name}: its colour matrix is {name}, which cannot be turned into RGB"
            " pictures: write .mov or .mkv, which keep it"
        )

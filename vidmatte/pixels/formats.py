"""The pixel formats that frames travel in, and the way into them without loss.

A frame keeps the source's own samples: planes are copied, not converted, wherever
the format is one of ``_WORKING_FORMATS``. Semi-planar, packed and big-endian layouts
are repacked into the planar little-endian one with the same samples.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from vidmatte.core.colour import BT709, FULL, ColourTags, linear_matrix
from vidmatte.core.orientation import UPRIGHT, Orientation, oriented

_YUV_LAYOUTS = ("420", "422", "444", "440", "411", "410")
_DEPTHS = ("", "9le", "10le", "12le", "14le", "16le")
_WORKING_FORMATS = frozenset(
    [f"yuv{layout}p{depth}" for layout in _YUV_LAYOUTS for depth in _DEPTHS]
    + [f"gbrp{depth}" for depth in _DEPTHS]
    + [f"gray{depth}" for depth in _DEPTHS]
    + ["rgb24", "rgb48le", "gbrpf32le", "grayf32le"]
)

#: Other layouts of the same samples, and what carries them.
_NEEDS_REPACKING = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv20le": "yuv422p10le",
    "nv24": "yuv444p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p216le": "yuv422p16le",
    "p410le": "yuv444p10le",
    "p416le": "yuv444p16le",
    "y210le": "yuv422p10le",
    "y212le": "yuv422p12le",
    "xv30le": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "vuya": "yuv444p",
    "ayuv64le": "yuv444p16le",
    "x2rgb10le": "gbrp10le",
    "gbrapf32le": "gbrpf32le",
    "ya8": "gray",
    "ya16le": "gray16le",
    "ya16be": "gray16le",
    "monob": "gray",
    "monow": "gray",
}

#: Accurate conversions: no shortcuts in rounding or in chroma.
ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def _working_format(pixel_format: str, on_side: bool) -> str:
    """The format that frames of ``pixel_format`` travel in.

    Unequal chroma subsampling cannot be turned on its side in place: such frames
    travel as 4:4:4 of the same depth where the stored picture lies ``swaps_sides``.
    """
    name = pixel_format.replace("yuvj", "yuv").replace("yuva", "yuv")
    name = name.replace("gbrap", "gbrp") if name != "gbrapf32le" else "gbrpf32le"
    name = name.removesuffix("be") + "le" if name.endswith("be") else name
    name = _NEEDS_REPACKING.get(pixel_format, _NEEDS_REPACKING.get(name, name))
    if name not in _WORKING_FORMATS:
        described = av.VideoFormat(pixel_format)
        if _is_float(pixel_format):
            return "gbrpf32le" if described.is_rgb else "grayf32le"
        deep = any(component.bits > 8 for component in described.components)
        if described.is_rgb or "pal" in pixel_format or described.has_palette:
            name = "rgb48le" if deep else "rgb24"
        else:
            name = "yuv444p16le" if deep else "yuv444p"
    if on_side and name.startswith(("yuv422", "yuv440", "yuv411", "yuv410")):
        name = "yuv444" + name[6:]
    return name


def upright_format(pixel_format: str, orientation: Orientation, width: int, height: int) -> str:
    """The format that frames of ``pixel_format`` travel in once they are upright.

    Where a row or column that has chroma of its own, the last of an odd number, becomes the
    first, subsampled chroma would lie beside its pixels: such frames travel as 4:4:4 too.
    """
    name = _working_format(pixel_format, orientation.swaps_sides)
    sizes = zip((height, width), orientation.reverses, chroma_steps(name), strict=True)
    if name.startswith("yuv") and any(back and size % step for size, back, step in sizes):
        name = "yuv444" + name[6:]
    return name


def grey_to_yuv(grey: str) -> str:
    """What carries grey of limited range, monochrome HEVC and H.264: YCbCr of the same luma.

    FFmpeg and all here take grey for full range. Grey floats have none and stay.
    """
    return grey if _is_float(grey) else f"yuv420p{grey.removeprefix('gray')}"


def _is_float(pixel_format: str) -> bool:
    """True where samples are half or single floats."""
    return "f16" in pixel_format or "f32" in pixel_format


def bit_depth(pixel_format: str) -> int:
    """Bits of one sample: 8 to 16, 32 for float."""
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def full_scale(pixel_format: str) -> int:
    """The largest sample of an integer format: 255, 1023, 4095, 65535."""
    return int(2 ** bit_depth(pixel_format)) - 1


def sample_type(pixel_format: str) -> np.dtype:
    """uint8, uint16 or float32, as FFmpeg stores this format."""
    depth = bit_depth(pixel_format)
    return np.dtype(np.uint8 if depth <= 8 else np.uint16 if depth <= 16 else np.float32)


def plane_arrays(frame: av.VideoFrame) -> list[np.ndarray]:
    """Writable views of a frame's planes, padding cut off.

    Planar formats: one (rows, columns) array a plane, in FFmpeg's order. Packed
    formats: one (rows, columns, channels) array, in which padding (the 0 of bgr0) is a channel.
    """
    dtype = sample_type(frame.format.name)
    is_packed = len(frame.planes) == 1 and len(frame.format.components) > 1
    channels = frame.format.padded_bits_per_pixel // (8 * dtype.itemsize) if is_packed else 1
    views = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), dtype)
        rows = rows.reshape(-1, plane.line_size // dtype.itemsize)
        view = rows[: plane.height, : plane.width * channels]
        views.append(view.reshape(*view.shape[:1], -1, channels) if channels > 1 else view)
    return views


def set_colour(frame: av.VideoFrame, colour: ColourTags) -> None:
    """Write resolved colour tags onto a frame, its matrix as swscale takes it."""
    frame.colorspace = linear_matrix(colour.matrix)
    frame.color_range = colour.range
    frame.color_primaries = colour.primaries
    frame.color_trc = colour.transfer


def reformatted(
    reformatter: VideoReformatter, picture: av.VideoFrame, pixel_format: str, **options: Any
) -> av.VideoFrame:
    """What ``reformatter`` makes of a picture, chroma over the pixels that it covers.

    swscale stretches the 17 samples of a row over its 33 pixels, where the last one covers half
    of what the others do: colours would lie up to a pixel beside their shapes. So the picture is
    given to it with that last row and column repeated, and comes back without them.
    """
    steps = chroma_steps(picture.format.name), chroma_steps(pixel_format)
    below, right = (
        -size % max(of)
        for size, of in zip((picture.height, picture.width), zip(*steps, strict=True), strict=True)
    )
    if steps[0] == steps[1] or not (below or right) or len(picture.planes) < 3:
        return reformatter.reformat(picture, format=pixel_format, **options)
    width, height = picture.width, picture.height
    padded = av.VideoFrame(width + right, height + below, picture.format.name)
    padded.colorspace, padded.color_range = picture.colorspace, picture.color_range
    for to, plane in zip(plane_arrays(padded), plane_arrays(picture), strict=True):
        more = [(0, size - given) for size, given in zip(to.shape, plane.shape, strict=True)]
        np.copyto(to, np.pad(plane, more, "edge"))
    made = reformatter.reformat(padded, format=pixel_format, **options)
    result = av.VideoFrame(width, height, pixel_format)
    result.colorspace, result.color_range = made.colorspace, made.color_range
    for to, plane in zip(plane_arrays(result), plane_arrays(made), strict=True):
        np.copyto(to, plane[: to.shape[0], : to.shape[1]])
    return result


def chroma_steps(pixel_format: str) -> tuple[int, int]:
    """Rows and columns of pixels that share a chroma sample."""
    described = av.VideoFormat(pixel_format)
    return 4 // described.chroma_height(4), 4 // described.chroma_width(4)


class Repacker:
    """Brings decoded frames into the working format, upright.

    Frames that need neither pass through as they are. The old full-range twins
    (yuvj420p and its like) count as the format whose samples they share. ``source``
    says how the samples are to be read, ``target`` (default: the same) how they are
    written: with equal tags samples are moved, not changed.
    """

    def __init__(
        self,
        working: str,
        orientation: Orientation,
        source: ColourTags,
        target: ColourTags | None = None,
    ) -> None:
        self.working = working
        self.orientation = orientation
        self.source = source
        self.target = target or source
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The same picture, tags set."""
        set_colour(frame, self.source)
        if _is_float(frame.format.name) and _is_float(self.working):
            frame = _as_planar_floats(frame, self.working)
        elif grey_to_yuv(frame.format.name) == self.working:
            frame = _as_luma(frame, self.working)
        elif frame.format.name == self.working.replace("yuv", "yuvj") and self.source.range != FULL:
            plain = av.VideoFrame(frame.width, frame.height, self.working)
            copy_planes(frame, plain)  # swscale takes every yuvj for full range
            frame = plain
        elif frame.format.name.replace("yuvj", "yuv") != self.working:
            frame = reformatted(
                self._reformatter,
                frame,
                self.working,
                interpolation=ACCURATE,
                threads=1,
                src_color_range=self.source.range,
                dst_colorspace=linear_matrix(self.target.matrix) or None,
                dst_color_range=self.target.range,
            )
        if self.orientation != UPRIGHT:
            frame = self._turned(frame)
        set_colour(frame, self.target)
        return frame

    def _turned(self, frame: av.VideoFrame) -> av.VideoFrame:
        width, height = frame.width, frame.height
        if self.orientation.swaps_sides:
            width, height = height, width
        # Another than the working one where a square picture lies on its side among upright ones.
        between = upright_format(self.working, self.orientation, frame.width, frame.height)
        upright = av.VideoFrame(width, height, between)
        copy_planes(self._resampled(frame, between), upright, self.orientation)
        return self._resampled(upright, self.working)

    def _resampled(self, frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
        """The picture with other chroma subsampling; one range for both, so that samples stay:
        full, which swscale takes a yuvj422p for in any case.
        """
        if frame.format.name.replace("yuvj", "yuv") == pixel_format:
            return frame
        return reformatted(
            self._reformatter,
            frame,
            pixel_format,
            interpolation=ACCURATE,
            threads=1,
            src_colorspace=BT709,
            dst_colorspace=BT709,
            src_color_range=FULL,
            dst_color_range=FULL,
        )


def _as_luma(grey: av.VideoFrame, working: str) -> av.VideoFrame:
    """A grey picture as the luma of one in ``working``, chroma neutral."""
    copy = av.VideoFrame(grey.width, grey.height, working)
    luma, *chroma = plane_arrays(copy)
    np.copyto(luma, plane_arrays(grey)[0])
    for plane in chroma:
        plane[...] = (full_scale(working) + 1) // 2
    return copy


def _as_planar_floats(frame: av.VideoFrame, working: str) -> av.VideoFrame:
    """A float picture in ``working``, light above 1 preserved (swscale would clip it)."""
    if frame.format.name == working:
        return frame
    kind = np.dtype(np.float16 if "f16" in frame.format.name else np.float32)
    if frame.format.is_big_endian:
        kind = kind.newbyteorder(">")
    copy = av.VideoFrame(frame.width, frame.height, working)
    targets = plane_arrays(copy)
    components = frame.format.components[: len(targets)]
    packed = max(component.plane for component in components) == 0 and len(components) > 1
    channels = len(frame.format.components) if packed else 1
    for place, component in enumerate(components):
        plane = frame.planes[component.plane]
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        offset = place if packed else 0
        samples = rows[:, offset : plane.width * channels : channels]
        # Components are counted R, G, B; planes of gbrp lie as G, B, R.
        np.copyto(targets[copy.format.components[place].plane], samples)
    return copy


def copy_planes(
    frame: av.VideoFrame, target: av.VideoFrame, orientation: Orientation = UPRIGHT
) -> None:
    """Copy a frame's samples into another of the same layout, turned on the way."""
    for to, plane in zip(plane_arrays(target), plane_arrays(frame), strict=True):
        np.copyto(to, oriented(plane, orientation))

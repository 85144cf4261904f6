"""How a stored picture lies: the display matrix of a movie, the EXIF orientation of a photo.

FFmpeg's decoders give both as a display matrix beside the frame's pixels.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type

#: Kinds of side data (AVFrameSideDataType) that PyAV 18.1 does not survive: it frees the
#: name of an ICC profile (15) twice, and refuses a frame with a kind later than those that it
#: knows, as EXIF (31).
_SAME_ANGLE = 0.5  # degrees
_UNREADABLE = (15, *range(28, 40))


class Orientation(NamedTuple):
    """What makes a stored picture upright: where ``mirrored`` its left and right are swapped,
    then it is turned counter-clockwise by ``rotation``, 0, 90, 180 or 270 degrees.
    """

    rotation: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height are swapped."""
        return self.rotation % 180 != 0

    @property
    def reverses(self) -> tuple[bool, bool]:
        """Whether the last of the stored picture's rows, and of its columns, becomes the first."""
        return self.rotation in (180, 270), self.mirrored != (self.rotation in (90, 180))


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the display matrix of a decoded frame asks for, to the nearest quarter turn."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = matrix[:5]
    determinant = a * d - b * c
    if determinant == 0:  # zeros: it says nothing
        return UPRIGHT
    # (c, d) is where the picture's downward axis points, which mirroring does not change.
    turn = math.degrees(math.atan2(c, d))
    return Orientation(round(turn / 90) * 90 % 360, mirrored=determinant < 0)


def tilt_of(frame: av.VideoFrame) -> str | None:
    """What a frame's display matrix asks for beside what ``orientation_of`` gives: a rotation by
    other degrees, or slanted axes. None where it asks for no more."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return None
    a, b, _, c, d = matrix[:5]
    if a * d == b * c:
        return None
    sign = 1 if a * d > b * c else -1
    turn = math.degrees(math.atan2(c, d))
    slant = (math.degrees(math.atan2(-sign * b, sign * a)) - turn + 180) % 360 - 180
    if abs(slant) > _SAME_ANGLE:
        return f"slants it by {abs(slant):.1f} degrees"
    if abs((turn + 45) % 90 - 45) > _SAME_ANGLE:
        way = "counter-clockwise" if turn > 0 else "clockwise"
        return f"rotates it by {abs(turn):.1f} degrees {way}"
    return None


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers a b u, c d v, x y w, as in ISO/IEC 14496-12 (8.3.2), or None.

    They take x, y (downward) of the stored picture to a x + c y, b x + d y.
    """
    data = side_data_of(frame).get(Type.DISPLAYMATRIX)
    return None if data is None else struct.unpack("=9i", data)


def side_data_of(frame: av.VideoFrame) -> dict[Type, bytes]:
    """What a decoder gives beside a frame's pixels, of the kinds that PyAV can read."""
    graph = av.filter.Graph()
    given = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    deletions = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in _UNREADABLE]
    sink = graph.add("buffersink")
    graph.link_nodes(given, *deletions, sink).configure()
    given.push(frame)
    beside: Any = sink.pull().side_data
    return {one.type: bytes(one) for one in beside}


def oriented(plane: np.ndarray, orientation: Orientation) -> np.ndarray:
    """A plane as ``orientation`` has it; the same array where that is upright."""
    rotation, mirrored = orientation
    if mirrored:
        plane = np.asarray(cv2.flip(np.ascontiguousarray(plane), 1))
    if rotation == 0:
        return plane
    code = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    return np.asarray(cv2.rotate(np.ascontiguousarray(plane), code[rotation]))

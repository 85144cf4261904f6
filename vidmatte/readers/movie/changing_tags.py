"""Colour tags that change inside a movie, as where clips of two cameras were joined.

Every frame is brought to the matrix, range, primaries and transfer of the first one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import av
import cv2
import numpy as np

from vidmatte.core.colour import (
    BT709,
    CHROMATICITIES,
    FULL,
    IDENTITY,
    RGB_TAGS,
    TO_LINEAR,
    UNSPECIFIED,
    ColourTags,
    is_convertible,
    same_matrix,
    to_bt709,
)
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import UPRIGHT
from vidmatte.errors import SourceError
from vidmatte.pixels.convert import Converter, set_tags
from vidmatte.pixels.formats import plane_arrays, upright_format
from vidmatte.pixels.network_rgb import CURVED
from vidmatte.settings.values import parse_colour

_CODES = 65535  # the largest one between the steps of a conversion


_Step = Callable[[av.VideoFrame], av.VideoFrame]


class TagFollower:
    """Converts the frames whose own tags differ from those of the clip's first frame.

    What a frame does not state is as in the first. stated: the option ``colour``, which
    counts for all frames. warnings: gets a line, once.
    """

    def __init__(self, clip: Clip, stated: str | None, warnings: list[str]) -> None:
        self._clip, self._warnings = clip, warnings
        self._stated = () if stated is None else tuple(parse_colour(stated))
        self._converters: dict[tuple[ColourTags, str], list[_Step]] = {}
        self._has_warned = False

    def __call__(self, frame: av.VideoFrame, seconds: float) -> av.VideoFrame:
        """The frame, converted where its tags are others. seconds: its time in the clip.

        Raises SourceError for a part that cannot be converted.
        """
        own = self.tags_of(frame)
        if own == self._clip.colour:
            return frame
        self._warn(own, seconds)
        return frame if self._is_same_code(own) else self._converted(frame, own)

    def tags_of(self, frame: av.VideoFrame) -> ColourTags:
        """The frame's own tags, the clip's where it states none; 0 is reserved, or for RGB."""
        first = self._clip.colour
        given = (frame.colorspace, frame.color_primaries, frame.color_trc)
        used = (first.matrix, first.primaries, first.transfer)
        matrix, primaries, transfer = (
            int(own) if own not in (0, UNSPECIFIED) else clips
            for own, clips in zip(given, used, strict=True)
        )
        if same_matrix(matrix, first.matrix):  # numbers of one and the same
            matrix = first.matrix
        is_full = frame.format.name.startswith("yuvj")
        own = replace(
            first,
            matrix=matrix if frame.format.name.startswith("yuv") else first.matrix,
            range=FULL if is_full else int(frame.color_range) or first.range,
            primaries=primaries,
            transfer=transfer,
        )
        return own.with_stated({tag: getattr(first, tag) for tag in self._stated})

    def _is_same_code(self, own: ColourTags) -> bool:
        """Whether samples of these tags are read as those of the first frame."""
        first = self._clip.colour
        is_same_light = not _is_convertible_light(own, first) or _is_same_light(own, first)
        is_same_range = own.range == first.range
        return is_same_light and is_same_range and same_matrix(own.matrix, first.matrix)

    def _warn(self, own: ColourTags, seconds: float) -> None:
        """Say once what changes. Raises SourceError for what would need another rendering."""
        clip, first = self._clip, self._clip.colour
        old, new = first.as_names(), own.as_names()
        changed = [tag for tag in old if old[tag] != new[tag]]
        change = ", ".join(f"{tag} {old[tag]} to {new[tag]}" for tag in changed)
        curves = {one.transfer if one.transfer in CURVED else BT709 for one in (own, first)}
        is_readable = self._is_same_code(own) or all(
            one.matrix == IDENTITY or is_convertible(one.matrix) for one in (own, first)
        )
        if len(curves) > 1 or not is_readable:
            raise SourceError(
                f"{clip.source.name}: the colours change at {seconds:.2f} s ({change}): cut it"
                " there and matte the parts separately"
            )
        if self._has_warned:
            return
        self._has_warned = True
        is_light_kept = not _is_convertible_light(own, first)
        kept = [tag for tag in changed if tag in ("primaries", "transfer") and is_light_kept]
        converted = [tag for tag in changed if tag not in kept]
        did = f"; {' and '.join(converted)} converted to the first frame's" if converted else ""
        left = f"; {' and '.join(kept)} read as the first frame's" if kept else ""
        self._warnings.append(
            f"{clip.source.name}: the colour tags change at {seconds:.2f} s ({change}){did}{left}"
        )

    def _converted(self, frame: av.VideoFrame, own: ColourTags) -> av.VideoFrame:
        """The frame in the clip's colours, its layout as it is."""
        name = upright_format(frame.format.name, UPRIGHT, frame.width, frame.height)
        if (own, name) not in self._converters:
            first = self._clip.colour
            is_moved = _is_convertible_light(own, first) and not _is_same_light(own, first)
            steps: list[_Step] = [Converter(own, name, first)]
            if is_moved or not same_matrix(own.matrix, first.matrix):
                steps = [Converter(own, "gbrp16le", RGB_TAGS), Converter(RGB_TAGS, name, first)]
            if is_moved:
                steps.insert(1, _LightConverter(own, first))
            self._converters[own, name] = steps
        result = frame
        for convert in self._converters[own, name]:
            result = convert(result)
        set_tags(result, self._clip.colour)
        return result


def _is_convertible_light(own: ColourTags, first: ColourTags) -> bool:
    """Whether both have primaries that are known and a curve with an agreed way to light."""
    tags = (own, first)
    return all(one.primaries in CHROMATICITIES and one.transfer in TO_LINEAR for one in tags)


def _is_same_light(own: ColourTags, first: ColourTags) -> bool:
    """Whether R'G'B' of both stand for the same colours; both are convertible."""
    points, wanted = CHROMATICITIES[own.primaries], CHROMATICITIES[first.primaries]
    return points == wanted and TO_LINEAR[own.transfer] is TO_LINEAR[first.transfer]


class _LightConverter:
    """R'G'B' of one kind of primaries and curve -> those of another, by way of linear light."""

    def __init__(self, own: ColourTags, first: ColourTags) -> None:
        scale = np.linspace(0.0, 1.0, _CODES + 1)
        self._light = TO_LINEAR[own.transfer](scale).astype(np.float32)
        self._codes, self._wanted = scale, TO_LINEAR[first.transfer](scale)
        to_target = np.linalg.inv(to_bt709(CHROMATICITIES[first.primaries]))
        matrix = to_target @ to_bt709(CHROMATICITIES[own.primaries])
        order = [1, 2, 0]  # planes of gbrp lie as G, B, R
        self._matrix = matrix[np.ix_(order, order)].astype(np.float32)

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A gbrp16le picture with the other codes; colours that the target lacks are clipped."""
        channels = [np.take(self._light, plane) for plane in plane_arrays(picture)]
        light = cv2.transform(cv2.merge(channels), self._matrix)
        codes = np.interp(light, self._wanted, self._codes) * _CODES
        result = av.VideoFrame(picture.width, picture.height, picture.format.name)
        for target, plane in zip(
            plane_arrays(result), cv2.split(np.rint(codes).astype(np.uint16)), strict=True
        ):
            np.copyto(target, plane)
        set_tags(result, RGB_TAGS)
        return result

"""Colour tags that change inside a movie, as where clips of two cameras were joined.

Every frame is brought to the matrix and range of the first one.
"""

from __future__ import annotations

from dataclasses import replace

import av

from vidmatte.core.colour import (
    BT709,
    FULL,
    IDENTITY,
    SRGB,
    UNSPECIFIED,
    ColourTags,
    is_convertible,
    same_matrix,
)
from vidmatte.core.frame import Clip
from vidmatte.core.orientation import UPRIGHT
from vidmatte.errors import SourceError
from vidmatte.pixels.convert import Converter, set_tags
from vidmatte.pixels.formats import upright_format
from vidmatte.pixels.network_rgb import CURVED
from vidmatte.settings.values import parse_colour

_RGB = ColourTags(IDENTITY, FULL, BT709, SRGB)


class TagFollower:
    """Converts the frames whose own tags differ from those of the clip's first frame.

    What a frame does not state is as in the first. stated: the option ``colour``, which
    counts for all frames. warnings: gets a line, once.
    """

    def __init__(self, clip: Clip, stated: str | None, warnings: list[str]) -> None:
        self._clip, self._warnings = clip, warnings
        self._stated = () if stated is None else tuple(parse_colour(stated))
        self._converters: dict[tuple[ColourTags, str], list[Converter]] = {}
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
        return own.range == first.range and same_matrix(own.matrix, first.matrix)

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
        kept = [tag for tag in changed if tag in ("primaries", "transfer")]
        converted = [tag for tag in changed if tag not in kept]
        did = f"; {' and '.join(converted)} converted to the first frame's" if converted else ""
        left = f"; {' and '.join(kept)} read as the first frame's" if kept else ""
        self._warnings.append(
            f"{clip.source.name}: the colour tags change at {seconds:.2f} s ({change}){did}{left}"
        )

    def _converted(self, frame: av.VideoFrame, own: ColourTags) -> av.VideoFrame:
        """The frame in the clip's matrix and range, its layout as it is."""
        name = upright_format(frame.format.name, UPRIGHT, frame.width, frame.height)
        if (own, name) not in self._converters:
            first = self._clip.colour
            is_other = not same_matrix(own.matrix, first.matrix)
            steps = [(own, "gbrp16le", _RGB), (_RGB, name, first)] if is_other else []
            steps = steps or [(own, name, first)]
            self._converters[own, name] = [Converter(*step) for step in steps]
        result = frame
        for convert in self._converters[own, name]:
            result = convert(result)
        set_tags(result, self._clip.colour)
        return result

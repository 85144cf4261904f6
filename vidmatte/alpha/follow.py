"""The first half of the temporal filter: each frame's soft edge redrawn, its motion found.

A frame leaves as a moment, which holds all that the second half (``steady``) needs of
it and of the way from the frame before. Nothing here looks at a moment again once it
was handed on, so the two halves may run on threads of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from vidmatte.alpha.average import Seen
from vidmatte.alpha.flow import Field, Glance, MotionEstimator
from vidmatte.alpha.refine import View, reduce_alpha, refine_edges


class HasAlpha(Protocol):
    """What a frame needs for the filter; ``vidmatte.frame.Frame`` has it."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    new_shot: bool
    mirrored: bool
    turn: int


AnyFrame = TypeVar("AnyFrame", bound=HasAlpha)


@dataclass(kw_only=True)
class Moment(Generic[AnyFrame]):
    """A frame on its way through the filter, and what its neighbours need of it.

    frame, view: None once the frame was handed on; view also where nothing is to be
    done. seen: its matte, None where no frames are mixed. to_last, from_last: the
    motion to the frame before and from it; None at the start of a shot.
    """

    frame: AnyFrame | None
    view: View | None = None
    seen: Seen | None = None
    to_last: Field | None = None
    from_last: Field | None = None


def follow(frames: Iterable[AnyFrame], *, redraw: bool, mix: bool) -> Iterator[Moment[AnyFrame]]:
    """The moments of ``frames``, in order.

    redraw: whether soft edges are redrawn. mix: whether frames are to be mixed, and so
    their motion is asked for. Each frame's ``alpha``, C-contiguous (H, W) float32, is
    changed in place. Raises ValueError for a frame without.
    """
    motion = MotionEstimator()
    last: tuple[Glance, np.ndarray] | None = None
    for frame in frames:
        if frame.alpha is None:
            raise ValueError("the frame has no alpha yet: the network comes before the filter")
        if not (redraw or mix):
            yield Moment(frame=frame)
            continue
        view = View.of(frame.rgb, frame.alpha)
        if redraw:
            refine_edges(frame.rgb, frame.alpha, view)
            view.alpha = reduce_alpha(frame.alpha, *view.alpha.shape)
        moment = Moment(frame=frame, view=view)
        if mix:
            moment.seen = seen = matte_seen(frame, frame.alpha, view)
            if last is not None and not frame.new_shot:
                moment.from_last, moment.to_last = motion.between(
                    last[0], seen.glance, last[1], view.grey
                )
            last = seen.glance, view.grey
        yield moment


def matte_seen(frame: HasAlpha, alpha: np.ndarray, view: View) -> Seen:
    """What a frame's neighbours are told of its refined alpha (H, W)."""
    box = view.box.enlarged(view.alpha.shape, *alpha.shape).grown(2, *alpha.shape)
    return Seen(
        codes=Seen.coded(box.crop(alpha)),
        box=box,
        glance=Glance.of(view),
        mirrored=frame.mirrored,
        turn=frame.turn,
    )

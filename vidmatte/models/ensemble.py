"""Two networks combined, for example one for the subject and one for its edge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from vidmatte.core.families import shared_profile
from vidmatte.core.frame import Clip, Frame
from vidmatte.models.base import Network
from vidmatte.models.keyer.network import Keyer
from vidmatte.models.person_first import PersonFirst
from vidmatte.settings import Settings

_Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]
EDGE_SHARE = 0.02  # width of the edge band against the frame's short side
_TRUST = "trust"  # the name of that state beside a recurrent network's, see ``Frame.state``


class CombinedNetwork(Network):
    """Runs both networks over every frame and combines their alphas.

    The foreground is the second's if any, else the first's.
    how: a name in ``COMBINATIONS``, or 'auto', see ``person_first``, which has a state and gives no
    foreground: that of a person network is of people only.
    """

    def __init__(self, first: Network, second: Network, how: str) -> None:
        self.recurrent = first.recurrent and second.recurrent
        self.state_count = first.state_count + second.state_count
        self.batch = first.batch + second.batch
        self.description = f"{first.description}; {second.description}"
        self.filter_profile = shared_profile([first.filter_profile, second.filter_profile])
        self._first, self._second = first, second
        self._is_auto = how == "auto"
        if self._is_auto:
            self.state_count = max(1, self.state_count)
        self._combine = COMBINATIONS["edges" if self._is_auto else how]
        if isinstance(second, Keyer) and how == "edges":
            self._combine = second.combined
        self._how = how
        if not self._is_auto and second.keeps_on is not None:
            self.keeps_on = first.keeps_on

    def begin(self, clip: Clip, settings: Settings) -> None:
        self._first.begin(clip, settings)
        self._second.begin(clip, settings)

    @property
    def batch_stride(self) -> int:
        return math.lcm(self._first.batch_stride, self._second.batch_stride)

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        pending: dict[int, tuple[Any, np.ndarray | None]] = {}
        chosen = PersonFirst() if self._is_auto else None

        def first_pass() -> Iterator[Frame]:
            for frame in self._first.predict(frames):
                if frame.on_device is not None:
                    pending[frame.index] = _set_aside(frame), None
                    yield frame
                    continue
                assert frame.alpha is not None
                if chosen is not None and frame.state is not None:
                    chosen.trust = frame.state.get(_TRUST)
                    others = {name: frame.state[name] for name in frame.state if name != _TRUST}
                    frame.state = others or None
                pending[frame.index] = frame.alpha.copy(), frame.foreground
                frame.foreground = None
                yield frame

        for frame in self._second.predict(first_pass()):
            alpha, foreground = pending.pop(frame.index)
            if frame.on_device is not None:
                from vidmatte.models.torch_networks import combine

                combine(alpha, frame.on_device, self._how)
                yield frame
                continue
            assert frame.alpha is not None
            if chosen is None:
                np.copyto(frame.alpha, self._combine(alpha, frame.alpha))
            else:
                np.copyto(frame.alpha, _chosen(chosen, frame, alpha))
                frame.foreground = foreground = None
            if frame.foreground is None:
                frame.foreground = foreground
            yield frame

    def cancel(self) -> None:
        self._first.cancel()
        self._second.cancel()


def _set_aside(frame: Frame) -> Any:
    """What the first network left of a frame on a device, apart from what the second one will;
    both use the same upload."""
    first = frame.on_device
    frame.on_device = type(first)(first.device, first.rgb)
    return first


def _chosen(chosen: PersonFirst, frame: Frame, first: np.ndarray) -> np.ndarray:
    """The alpha of a frame that has the second's; the state before it is stored if wanted."""
    assert frame.alpha is not None
    if frame.new_shot:
        chosen.trust = None
    if frame.wants_state and chosen.trust is not None:
        frame.state = (frame.state or {}) | {_TRUST: chosen.trust}
    return chosen.combined(first, frame.alpha, frame.rgb)


def _mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The average of both."""
    return np.asarray(np.float32(0.5) * (first + second))


def _edges(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first's alpha, but the second's in a soft band along the first's edge.

    The band reaches 2 % of the frame's short side to either side of where the first
    is 0.5 or undecided (0.05 to 0.95), and fades out over a quarter of that.
    """
    reach = max(2, round(EDGE_SHARE * min(first.shape)))
    subject = (first > 0.5).astype(np.uint8)
    outline = cv2.morphologyEx(subject, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    undecided = ((first > 0.05) & (first < 0.95)).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    band = cv2.dilate(cv2.max(outline, undecided), disc).astype(np.float32)
    share = cv2.GaussianBlur(band, (0, 0), max(0.5, reach / 4))
    return np.asarray(first + share * (second - first))


COMBINATIONS: dict[str, _Combine] = {
    "max": np.maximum,
    "min": np.minimum,
    "mean": _mean,
    "edges": _edges,
}

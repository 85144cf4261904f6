"""Recurrent networks, like Robust Video Matting (Lin et al., WACV 2022).

https://github.com/PeterL1n/RobustVideoMatting
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from vidmatte.core.concurrency import map_in_order
from vidmatte.core.families import Family
from vidmatte.core.frame import Frame
from vidmatte.models.base import Network, Normalization, sigmoid
from vidmatte.models.runtimes.device import Runner, on_host
from vidmatte.models.runtimes.onnx_file import recurrence_of
from vidmatte.models.runtimes.onnx_loader import FinishingStep


class RecurrentNetwork(Network):
    """A network with a state: alpha, and foreground if the family gives it, frame by frame.

    family: the row with the names of the network's inputs and outputs.
    finishing: computes the result from the outputs of ``runner``, for several frames at once;
    without it ``runner`` computes everything (see ``graph_split``).
    downsample: scale of the coarse pass relative to the frame, in 0..1; 0: automatic.
    """

    recurrent = True
    state_count = 1
    batch_stride = 1

    def __init__(
        self,
        runner: Runner,
        family: Family,
        downsample: float = 0.0,
        finishing: FinishingStep | None = None,
    ) -> None:
        self.description = runner.description
        self.filter_profile = family.filter_profile
        self._names = recurrence_of(family)
        self._kept = self._names.state_outputs
        self._logits = family.logits
        self._normalize = Normalization(family)
        self._runner = runner
        self._finisher = finishing.runner if finishing is not None else None
        self._reduced = finishing.reduced if finishing is not None else ""
        self._downsample = downsample
        self._refiner = _Refiner()
        if self._finisher is not None:
            self.batch = self._finisher.streams + 1
            self.description += f", details of {self._finisher.streams} frames at once"

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        steps = self._steps(frames)
        if self._finisher is None:
            return itertools.starmap(self._store, steps)
        return map_in_order(self._finish, steps, self._finisher.streams)

    def _finish(self, step: tuple[Frame, dict[str, Any]]) -> Frame:
        """The frame with its result, computed from the outputs of the first half."""
        assert self._finisher is not None
        frame, values = step
        outputs = self._finisher.run(values)
        if self._names.alpha in outputs:
            return self._store(frame, outputs)
        return self._refiner.refine(frame, *outputs.values())

    def _steps(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, dict[str, Any]]]:
        """Each frame with the values of its result, or those that it is computed from."""
        names = self._names
        state: dict[str, Any] = {}
        downsampler: _Downsampler | None = None
        for frame in frames:
            if frame.state is not None:
                state = frame.state
            if frame.new_shot or not state:
                state = self._first_state(frame)
            if frame.wants_state:
                frame.state = {name: on_host(value) for name, value in state.items()}
            height, width = frame.rgb.shape[:2]
            inputs, ratio = dict(state), 1.0
            if names.coarse is not None:
                ratio = names.coarse.ratio(width, height, self._downsample)
                inputs[names.coarse.input] = np.array([ratio], np.float32)
            if self._reduced:
                if downsampler is None or downsampler.key != (height, width, ratio):
                    downsampler = _Downsampler(height, width, ratio)
                inputs[self._reduced] = downsampler(frame.rgb)
            else:
                inputs[names.picture] = self._picture(frame)
            outputs = self._runner.run(inputs, keep=self._kept)
            state = {each.input: outputs[each.output] for each in names.states}
            yield frame, inputs | outputs

    def _picture(self, frame: Frame) -> Any:
        """The network's picture, (1, 3, H, W) float32."""
        picture = np.empty((1, 3, *frame.rgb.shape[:2]), np.float32)
        self._normalize(frame.rgb, picture[0])
        return picture

    def _first_state(self, frame: Frame) -> dict[str, Any]:
        """The state at the start of a shot: zeros."""
        height, width = frame.rgb.shape[:2]
        return {
            state.input: np.zeros(state.first_shape(width, height), np.float32)
            for state in self._names.states
        }

    def _store(self, frame: Frame, outputs: dict[str, Any]) -> Frame:
        """The frame with the network's alpha, and its foreground if there is one, in it."""
        alpha = outputs[self._names.alpha][0, 0]
        alpha = sigmoid(alpha) if self._logits else alpha
        np.clip(alpha, 0.0, 1.0, out=frame.writable_alpha())
        if self._names.foreground is not None:
            frame.foreground = _interleaved(outputs[self._names.foreground][0])
        return frame

    def cancel(self) -> None:
        self._runner.cancel()
        if self._finisher is not None:
            self._finisher.cancel()


class _Refiner(threading.local):
    """Computes alpha and foreground from linear models of a frame's colours.

    Each thread has its own work planes: allocating them for every frame took as long as the
    work itself.
    """

    _work: tuple[np.ndarray, np.ndarray] | None = None

    def refine(self, frame: Frame, slopes: np.ndarray, offsets: np.ndarray) -> Frame:
        """The frame with its result.

        slopes, offsets: (1, 4, h, w) float32 on the coarse grid, for R, G, B and alpha; see
        ``graph_split.split_before_refinement``. Takes a seventh of the time of the network's own
        steps.
        """
        height, width = frame.rgb.shape[:2]
        if self._work is None or self._work[0].shape != (height, width):
            self._work = (
                np.empty((height, width), np.float32),
                np.empty((height, width), np.float32),
            )
        slope, offset = self._work

        def enlarge(plane: np.ndarray, out: np.ndarray) -> None:
            cv2.resize(plane, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)

        codes = list(cv2.split(frame.rgb))
        red, green, blue = codes
        brightness = cv2.add(cv2.add(red, green, dtype=cv2.CV_16U), blue, dtype=cv2.CV_16U)
        for number, plane in enumerate(codes):
            enlarge(slopes[0, number] + np.float32(1), slope)
            enlarge(offsets[0, number] * np.float32(255), offset)
            cv2.multiply(slope, plane, dst=slope, dtype=cv2.CV_32F)
            cv2.add(slope, offset, dst=plane, dtype=cv2.CV_8U)
        frame.foreground = np.asarray(cv2.merge(codes))
        enlarge(slopes[0, 3], slope)
        enlarge(offsets[0, 3], offset)
        cv2.multiply(slope, brightness, dst=slope, scale=1 / 765, dtype=cv2.CV_32F)
        np.clip(cv2.add(slope, offset, dst=slope), 0.0, 1.0, out=frame.writable_alpha())
        return frame


def _interleaved(planes: np.ndarray) -> np.ndarray:
    """(3, H, W) float32 in 0..1 -> (H, W, 3) uint8, rounded."""
    # cv2.addWeighted scales, rounds to nearest and saturates in one pass over each plane.
    codes = [cv2.addWeighted(plane, 255.0, plane, 0.0, 0.0, dtype=cv2.CV_8U) for plane in planes]
    return np.asarray(cv2.merge(codes))


class _Downsampler:
    """Downsamples frames of one size by ``ratio``, 0..1.

    Bilinear without a low-pass filter: each pixel of the result is interpolated from the four
    around its position. These are read in 8 bits, so that the full frame need not be converted
    to float32 first. Positions and weights are those of ONNX's operator Resize (linear,
    half_pixel). https://onnx.ai/onnx/operators/onnx__Resize.html
    """

    def __init__(self, height: int, width: int, ratio: float) -> None:
        self.key = height, width, ratio
        self._rows, row_shares = _sample_positions(height, ratio)
        self._columns, column_shares = _sample_positions(width, ratio)
        weights = [np.outer(row, column) / 255 for row in row_shares for column in column_shares]
        self._weights = [np.dstack([weight] * 3).astype(np.float32) for weight in weights]

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, h, w) float32 in 0..1."""
        total: np.ndarray | None = None
        # Rows, then columns: cv2.remap refuses sides of 32767 pixels or more.
        bands = [rgb[rows] for rows in self._rows]
        corners = (band.take(columns, axis=1) for band in bands for columns in self._columns)
        for corner, weight in zip(corners, self._weights, strict=True):
            part = cv2.multiply(corner, weight, dtype=cv2.CV_32F)
            total = part if total is None else cv2.add(total, part, dst=total)
        assert total is not None
        return np.stack(cv2.split(total))[None]


def _sample_positions(length: int, ratio: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pixels before and after each sample position along one axis, and their weights."""
    scale = np.float32(ratio)
    count = int(scale * np.float32(length))
    place = (np.arange(count) + 0.5) / float(scale) - 0.5 if count > 1 else np.zeros(1)
    place = np.clip(place, 0, length - 1)
    before = place.astype(int)
    share = place - before
    return [before, np.minimum(before + 1, length - 1)], [1 - share, share]

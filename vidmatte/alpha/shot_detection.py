"""Shot cuts, found causally on thumbnails.

A cut is a frame whose structure cannot be had from the frame before it by any
motion. Differences of brightness alone are no cut (flashes, exposure), and
neither is a fast pan: structure is compared by local normalised correlation,
after a global shift and then a dense flow were tried.
"""

from __future__ import annotations

import cv2
import numpy as np

THUMBNAIL = (160, 90)  # width, height
_WINDOW = 9  # side of the correlation window, thumbnail pixels
_NOISE = 4.0  # variance (8-bit codes squared) under which texture counts as noise
_SAME_SHOT = 0.36  # correlation within one shot: 0.57 and up; across cuts: up to 0.22
_SURELY_SAME = 0.7
_FLAT = 1.5  # mean local deviation of a picture without structure
_AGREE = 1.5  # thumbnail pixels between a flow and its way back
_FLAT_JUMP = 12.0  # mean difference of 8-bit codes at which two flat pictures are different shots
BURNT_CODE, BURNT_SHARE = 245, 0.5
_LONGEST_FLASH = 4  # frames


class CutDetector:
    """Says of each frame whether it begins a new shot. Call it once per frame, in order."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._before_flash: np.ndarray | None = None
        self._flash_frames = 0
        self._window = cv2.createHanningWindow(THUMBNAIL, cv2.CV_32F)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(0)
        self._grid = pixel_grid()

    def is_new_shot(self, rgb: np.ndarray) -> bool:
        """True for the first frame and for each frame after a hard cut.

        rgb: (H, W, 3) uint8. A frame burnt out by a flash is not a cut, and the
        frame after the flash is compared with the one before it; white that stays
        is a cut after a few frames.
        """
        small = cv2.resize(rgb, THUMBNAIL, interpolation=cv2.INTER_AREA)
        thumb = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        last, self._last = self._last, thumb
        if last is None:
            return True
        if self._is_same_shot(last, thumb):
            self._flash_frames += self._before_flash is not None
            if self._flash_frames > _LONGEST_FLASH:
                self._end_flash()
                return True
            return False
        if self._before_flash is None and _is_burnt(thumb):
            self._before_flash, self._flash_frames = last, 1
            return False
        before = self._before_flash
        self._end_flash()
        return before is None or not self._is_same_shot(before, thumb)

    def _end_flash(self) -> None:
        self._before_flash, self._flash_frames = None, 0

    def _is_same_shot(self, last: np.ndarray, now: np.ndarray) -> bool:
        last_f, now_f = last.astype(np.float32), now.astype(np.float32)
        same, structure = _correlation(last_f, now_f)
        if min(structure) < _FLAT:
            return bool(np.abs(last_f - now_f).mean() < _FLAT_JUMP)
        if same > _SURELY_SAME:
            return True
        # Equalised, so that the motion search does not see changes of exposure.
        last_eq, now_eq = cv2.equalizeHist(last), cv2.equalizeHist(now)
        return (
            self._shifted(last_f, now_f, last_eq, now_eq) > _SAME_SHOT
            or self._warped(last_f, now_f, last_eq, now_eq) > _SAME_SHOT
        )

    def _shifted(
        self, last: np.ndarray, now: np.ndarray, last_eq: np.ndarray, now_eq: np.ndarray
    ) -> float:
        """Correlation of the overlap under the single best shift of the picture."""
        (dx, dy), _ = cv2.phaseCorrelate(
            last_eq.astype(np.float32), now_eq.astype(np.float32), self._window
        )
        dx, dy = round(dx), round(dy)
        width, height = THUMBNAIL[0] - abs(dx), THUMBNAIL[1] - abs(dy)
        if width * height < 0.3 * THUMBNAIL[0] * THUMBNAIL[1] or min(width, height) < _WINDOW:
            return -1.0
        x, y = max(dx, 0), max(dy, 0)
        return _correlation(
            last[y - dy : y - dy + height, x - dx : x - dx + width],
            now[y : y + height, x : x + width],
        )[0]

    def _warped(
        self, last: np.ndarray, now: np.ndarray, last_eq: np.ndarray, now_eq: np.ndarray
    ) -> float:
        """Correlation after the last frame was warped by dense flow.

        Flow bends any soft texture into any other, but not there and back: windows
        where the two directions disagree count as uncorrelated.
        """
        back = self._flow.calc(now_eq, last_eq, None)
        where = self._grid + back
        forth = warp(self._flow.calc(last_eq, now_eq, None), where)
        agree = (np.abs(back + forth).max(axis=2) < _AGREE).astype(np.float32)
        return _correlation(warp(last, where), now, agree)[0]


def pixel_grid() -> np.ndarray:
    """Each pixel's own place in a thumbnail, (H, W, 2) float32, x then y."""
    xs, ys = np.meshgrid(np.arange(THUMBNAIL[0]), np.arange(THUMBNAIL[1]))
    return np.dstack([xs, ys]).astype(np.float32)


def warp(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Sample at the places (H, W, 2) float32, x then y; the border is repeated outside."""
    return np.asarray(
        cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _correlation(
    a: np.ndarray, b: np.ndarray, trusted: np.ndarray | float = 1.0
) -> tuple[float, tuple[float, float]]:
    """Local normalised correlation of two (H, W) float32 pictures, and their structure.

    The first value, -1..1, is the mean over all windows, each weighing as much as
    the larger standard deviation in it, and scaled by ``trusted`` (0..1); then the
    mean deviation of each picture.
    """

    def local_mean(picture: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(picture, (_WINDOW, _WINDOW)))

    mean_a, mean_b = local_mean(a), local_mean(b)
    deviation_a = np.sqrt(np.maximum(local_mean(a * a) - mean_a * mean_a, 0))
    deviation_b = np.sqrt(np.maximum(local_mean(b * b) - mean_b * mean_b, 0))
    covariance = local_mean(a * b) - mean_a * mean_b
    weight = np.maximum(deviation_a, deviation_b)
    both = trusted * weight * covariance / (deviation_a * deviation_b + _NOISE)
    structure = float(deviation_a.mean()), float(deviation_b.mean())
    return float(both.sum() / (weight.sum() + 1e-6)), structure


def _is_burnt(thumb: np.ndarray) -> bool:
    """Whether most of a grey picture is clipped white, as under a flash."""
    return bool((thumb >= BURNT_CODE).mean() > BURNT_SHARE)

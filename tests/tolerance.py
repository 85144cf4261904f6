"""Every tolerance of the tests, each with its reason.

Values are on the scale of the compared arrays' own full range, so that 8-bit,
10-bit and float pictures share one table: ``CODE_8`` is one code value of 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CODE_8, CODE_10, CODE_16 = 1 / 255, 1 / 1023, 1 / 65535


@dataclass(frozen=True)
class Tolerance:
    """The largest allowed mean and single absolute difference, as parts of full range."""

    mean: float
    worst: float
    why: str


EXACT = Tolerance(0, 0, "lossless: nothing may change")
ROUNDED_8 = Tolerance(0.51 * CODE_8, 0.51 * CODE_8, "one rounding to 8 bits")
ROUNDED_16 = Tolerance(0.51 * CODE_16, 0.51 * CODE_16, "one rounding to 16 bits")
PRORES_PICTURE = Tolerance(
    0.5 * CODE_10, 3 * CODE_10, "ProRes 4444 quantises pictures; its alpha is lossless"
)
CLIP_PICTURE = Tolerance(
    4 * CODE_8, 1.0, "a test clip against its drawing: 4:2:0 chroma and a lossy codec"
)
SAME_NETWORK = Tolerance(CODE_8, 1.0, "one network, two methods of resizing")
SAME_SUMS = Tolerance(
    0.001 * CODE_8, 0.05 * CODE_8, "one network in float32: another batch, another order of sums"
)
SAME_LOOP = Tolerance(0.5 * CODE_8, 1.0, "one network over the same frames, batched differently")


def differences(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|actual - expected| as float64 parts of full range. Shapes and types must agree."""
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape} differ"
    assert actual.dtype == expected.dtype, f"types {actual.dtype} and {expected.dtype} differ"
    full = 1.0 if actual.dtype.kind == "f" else float(np.iinfo(actual.dtype).max)
    return np.abs(actual.astype(np.float64) - expected.astype(np.float64)) / full


def assert_close(
    actual: np.ndarray,
    expected: np.ndarray,
    tolerance: Tolerance,
    *,
    where: np.ndarray | None = None,
    full: float | None = None,
) -> None:
    """Fail with the differences and the worst position when two pictures differ too much.

    where: a mask over the leading axes; only marked values are compared, and at least one
        must be marked. full: the full-scale value if it is not the number type's maximum,
        as 1023 for 10-bit codes in uint16.
    """
    apart = differences(actual, expected)
    if full is not None:
        apart *= 1.0 if actual.dtype.kind == "f" else float(np.iinfo(actual.dtype).max)
        apart /= full
    if where is not None:
        assert where.any(), "the mask marks nothing: nothing would be compared"
        apart = np.where(
            where.reshape(where.shape + (1,) * (apart.ndim - where.ndim)), apart, np.nan
        )
    assert apart.size, "there is nothing to compare"
    mean, worst = float(np.nanmean(apart)), float(np.nanmax(apart))
    if mean <= tolerance.mean and worst <= tolerance.worst:
        return
    place = tuple(int(at) for at in np.unravel_index(np.nanargmax(apart), apart.shape))
    raise AssertionError(
        f"mean {mean * 255:.3f} and worst {worst * 255:.3f} of 255,"
        f" allowed {tolerance.mean * 255:.3f} and {tolerance.worst * 255:.3f}"
        f" ({tolerance.why}); the worst at {place}:"
        f" {actual[place]} instead of {expected[place]}"
    )

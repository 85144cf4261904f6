"""Where a run begins to read, to work and to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Point:
    """Frame numbers: ``lead`` is the first that is read, ``start`` the first that goes
    through the network and the filters, ``first`` the first that is written.

    Those between are there to bring detectors and filters into the state of a run that
    never stopped. pts: the time of frame ``lead``. shots: whether a frame begins a
    shot, by number, as far as it is known. state: a recurrent network's before
    frame ``start``. remarks: those of frames before ``first``, see ``Frame.remarks``.
    done: nothing is left to read; finished: nor to write.
    """

    lead: int = 0
    start: int = 0
    first: int = 0
    pts: int = 0
    shots: Mapping[int, bool] = field(default_factory=dict)
    state: dict[str, np.ndarray] | None = None
    remarks: Sequence[tuple[int, dict[str, list[str]]]] = ()
    done: bool = False
    finished: bool = False

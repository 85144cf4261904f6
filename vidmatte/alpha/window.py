"""Which frames around the present one the temporal filter averages, by mode.

Apart from the filter itself, so that who only asks how far it looks need not load it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Which frames before and after the present one are averaged, by their weights.

    ahead: how many of ``after`` are waited for. The first frames of a shot, which have no
    past, wait for as many more as make up for it: all of ``after`` for the very first.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    ahead: int

    def ahead_of(self, place: int) -> int:
        """Frames to wait for, of a frame with ``place`` frames of its shot before it."""
        return max(self.ahead, len(self.after) - place)

    def nearest(self) -> Window:
        """The part of it in which motion brings no errors with it."""
        return Window(self.before[:NEAR], self.after[:NEAR], min(self.ahead, NEAR))


LONGEST_PAST = 9
NEAR = 2  # frames away that count in full however far things move
#: With the present frame as many as three rounds of the turns in which frames are shown to
#: a network: no turn weighs much more than another. What is waited for makes one round.
WINDOWS = {
    "off": Window((), (), 0),
    "live": Window((1.0,) * LONGEST_PAST, (), 0),
    "on": Window((1.0,) * NEAR + (0.8,) * 6, (1.0,) * NEAR + (0.8,) * 2, 3),
}
WINDOWS["strong"] = WINDOWS["on"]
#: Frames after one that its result may depend on, whatever the mode; ``refine`` best looks from
#: each of the window's as far again as the nearest ones are.
LONGEST_LOOK_AHEAD = max(
    len(window.after) + len(window.nearest().after) for window in WINDOWS.values()
)

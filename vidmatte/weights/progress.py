"""How far a fetch is: bytes and rate on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from vidmatte.terminal import progress_bar


class FetchBar:
    """A bar on stderr for one fetch; silent when ``quiet`` or not on a terminal.

    Sources call ``start`` (again after a retry), then ``advance`` or ``reach``.
    """

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self.label = label
        self.visible = not quiet and sys.stderr.isatty()
        self.total: int | None = None
        self.done = 0
        self._bar: Any = None

    def __enter__(self) -> FetchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, total: int | None, done: int = 0) -> None:
        """Begin at ``done`` of ``total`` bytes; None where the total is not known."""
        self.close()
        self.total, self.done = total, done
        if self.visible:
            self._bar = progress_bar(
                desc=self.label,
                total=total,
                initial=done,
                unit="B",
                unit_scale=True,
            )

    def advance(self, count: int) -> None:
        """``count`` more bytes have come."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)

    def reach(self, done: int) -> None:
        """``done`` bytes have come in all; never past the total, never back."""
        if self.total is not None:
            done = min(done, self.total)
        if done > self.done:
            self.advance(done - self.done)
        elif self._bar is not None:
            self._bar.refresh()  # keeps the clock going while nothing comes

    def close(self) -> None:
        """Leave the terminal's line; doing it twice is harmless."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

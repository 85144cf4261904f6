"""The progress bar, on stderr, as wide as the terminal."""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(**options: Any) -> Any:
    """A tqdm bar with tqdm's own options."""
    from tqdm import tqdm

    # tqdm's monitor thread would outlive the bar; frames and bytes come often enough.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0})
    return bar(dynamic_ncols=True, file=sys.stderr, **options)

"""Cut the subject out of a video: a matte that lies exactly over the original."""

from __future__ import annotations

__version__ = "0.1.0"

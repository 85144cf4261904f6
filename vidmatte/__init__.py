"""Cut the subject out of a video: a matte that lies exactly over the original.

import vidmatte

vidmatte.matte("clip.mp4", "out.mov", model="isnet")
for frame in vidmatte.stream("clip.mp4", model="rvm"):
    frame.rgb, frame.alpha, frame.pts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidmatte.api import Result, Stream, StreamedFrame, matte, stream
    from vidmatte.settings import Settings

__version__ = "0.1.0"
__all__ = ["Result", "Settings", "Stream", "StreamedFrame", "matte", "stream"]


def __getattr__(name: str) -> Any:
    """Load the API on first use, so that ``vidmatte --help`` stays quick."""
    if name == "Settings":
        from vidmatte.settings import Settings

        return Settings
    if name in __all__:
        from vidmatte import api

        return getattr(api, name)
    raise AttributeError(f"module 'vidmatte' has no attribute {name!r}")

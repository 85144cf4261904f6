"""Cut the subject out of a video: a matte that lies exactly over the original.

import vidmatte

vidmatte.matte("clip.mp4", "out.mov", model="isnet")
with vidmatte.stream("clip.mp4", model="rvm") as frames:
    for frame in frames:
        frame.rgb, frame.alpha, frame.pts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidmatte._version import __version__

__all__ = [
    "Box",
    "Choice",
    "Mask",
    "Moment",
    "Point",
    "Progress",
    "Result",
    "Settings",
    "Stream",
    "StreamedFrame",
    "VidmatteError",
    "__version__",
    "errors",
    "matte",
    "stream",
]  # fmt: skip

if TYPE_CHECKING:
    from vidmatte import errors
    from vidmatte.api import Stream, StreamedFrame, matte, stream
    from vidmatte.core.prompts import Box, Choice, Mask, Moment, Point
    from vidmatte.errors import VidmatteError
    from vidmatte.jobs.report import Progress
    from vidmatte.jobs.spec import Result
    from vidmatte.settings import Settings
else:  # a type checker would take every name for one that __getattr__ knows

    def __getattr__(name: str) -> object:
        """Load the API on first use, so that ``vidmatte --help`` stays quick."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'vidmatte' has no attribute {name!r}")
        if name == "errors":
            return import_module("vidmatte.errors")
        homes = {
            "Settings": "vidmatte.settings",
            "VidmatteError": "vidmatte.errors",
            **dict.fromkeys(("Box", "Choice", "Mask", "Moment", "Point"), "vidmatte.core.prompts"),
        }
        return getattr(import_module(homes.get(name, "vidmatte.api")), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})

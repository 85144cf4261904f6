"""Tests that need what a machine may lack: a GPU, torch, an ffmpeg that is not ours.

Where it is missing they are skipped with the reason. Where a variable says that they
have to run they fail instead, so that none is lost unseen.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE_GPU = "VIDMATTE_REQUIRE_GPU"
REQUIRE_TORCH = "VIDMATTE_REQUIRE_TORCH"
REQUIRE_FFMPEG = "VIDMATTE_REQUIRE_FFMPEG"
VARIABLES = (REQUIRE_GPU, REQUIRE_TORCH, REQUIRE_FFMPEG)


def skip_or_fail(reason: str, variable: str) -> NoReturn:
    """Skip the running test for ``reason``, or fail it where ``variable`` is 1."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}, and {variable}=1 asks for it", pytrace=False)
    pytest.skip(reason)

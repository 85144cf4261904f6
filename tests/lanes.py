"""Tests that need something a machine may not have: a GPU, torch, a separate ffmpeg, a browser.

Without it they are skipped with the reason. If an environment variable requires them they
fail instead, so that no lane disappears unnoticed.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE_GPU = "VIDMATTE_REQUIRE_GPU"
REQUIRE_TORCH = "VIDMATTE_REQUIRE_TORCH"
REQUIRE_FFMPEG = "VIDMATTE_REQUIRE_FFMPEG"
REQUIRE_BROWSER = "VIDMATTE_REQUIRE_BROWSER"
VARIABLES = (REQUIRE_GPU, REQUIRE_TORCH, REQUIRE_FFMPEG, REQUIRE_BROWSER)


def skip_or_fail(reason: str, variable: str) -> NoReturn:
    """Skip the running test for ``reason``, or fail it if ``variable`` is 1."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}, and {variable}=1 asks for it", pytrace=False)
    pytest.skip(reason)

"""onnxruntime, quiet and without a word to its makers."""

from __future__ import annotations

import os
from typing import Any

FATAL_ONLY = 4


def onnxruntime() -> Any:
    """The module. Its first import, wherever it happens, goes through here.

    Left alone it writes an identity of this device into the user's cache folder and
    reports to its makers; and it prints its warnings on stderr.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as module

    module.set_default_logger_severity(FATAL_ONLY)
    return module

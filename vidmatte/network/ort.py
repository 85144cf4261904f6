"""onnxruntime, quiet and without a word to its makers."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

FATAL_ONLY = 4
SILENCE = "ORT_DISABLE_TELEMETRY"
_importing = Lock()


def onnxruntime() -> Any:
    """The module. Its first import, wherever it happens, goes through here.

    Left alone it writes an identity of this device into the user's cache folder and
    reports to its makers; and it prints its warnings on stderr.
    """
    with _importing:
        # It looks once, while it is imported: the environment is its owner's afterwards.
        is_ours = SILENCE not in os.environ
        os.environ.setdefault(SILENCE, "1")
        try:
            import onnxruntime as module
        finally:
            if is_ours:
                del os.environ[SILENCE]
    module.set_default_logger_severity(FATAL_ONLY)
    return module

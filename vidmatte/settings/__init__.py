"""All options of a run as typed models, one for each part of the program.

Each part takes its own model and no other: readers ``InputOptions``, networks ``ModelOptions``,
the choice of a subject ``SubjectOptions``, filters ``MatteOptions``, adjustments
``AdjustOptions``, writers ``OutputOptions``, and the code that divides cores and memory
``MachineOptions``. ``Settings`` combines all of them.
"""

from __future__ import annotations

import os
from typing import Any, Self

from pydantic import model_validator

from vidmatte.errors import UsageError
from vidmatte.settings.files import InputOptions, OutputOptions
from vidmatte.settings.machine import MachineOptions
from vidmatte.settings.matting import (
    AdjustOptions,
    MatteOptions,
    ModelOptions,
    SubjectOptions,
)
from vidmatte.settings.option import (
    NO_EFFECT,
    RAW_ALPHA,
    RESULT,
    Option,
    OptionModel,
    names_of,
    options_of,
)

__all__ = [
    "NO_EFFECT", "RAW_ALPHA", "RESULT", "AdjustOptions", "InputOptions",
    "MachineOptions", "MatteOptions", "ModelOptions", "Option", "OptionModel", "OutputOptions",
    "Settings", "SubjectOptions", "make_settings", "names_of", "options_of",
]  # fmt: skip


# Pydantic puts the fields of the last base first.
class Settings(
    MachineOptions,
    InputOptions,
    OutputOptions,
    AdjustOptions,
    MatteOptions,
    SubjectOptions,
    ModelOptions,
):
    """All options of a run. Raises UsageError for a value that is not allowed."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        return _with_preset(cls._foreground_or_its_file(values))

    @classmethod
    def _foreground_or_its_file(cls, values: Any) -> Any:
        """Accept in --foreground a policy or, as --matte and --comp do, a file or a folder."""
        value = values.get("foreground") if isinstance(values, dict) else None
        is_path = isinstance(value, str) and set(value) & set("./\\")
        if not is_path and not isinstance(value, os.PathLike):
            return values
        if values.get("foreground_file") is not None:
            raise UsageError(
                f"--foreground {value}: --foreground-file already names a file: use one of them"
            )
        return {**values, "foreground": "auto", "foreground_file": str(value)}

    @model_validator(mode="after")
    def _check_resume(self) -> Self:
        if self.resume and self.cache is not None:
            raise UsageError("--resume and --cache exclude each other: --resume alone is enough")
        return self


#: What ``--like`` stands for.
_PRESETS = {
    "rembg": {
        "normalize": "rembg",
        "pace": "every",
        "smooth": "off",
        "refine": "off",
        "foreground": "source",
        "runtime": "onnxruntime",
    }
}


def _with_preset(values: Any) -> Any:
    """The values with those that ``--like`` stands for. Raises UsageError for one of them that is
    given otherwise."""
    like = values.get("like") if isinstance(values, dict) else None
    preset = _PRESETS.get(like, {}) if isinstance(like, str) else {}
    if not preset:
        return values
    for name, value in preset.items():
        given = values.get(name, value)
        if given not in (value, options_of(Settings)[name].default):
            raise UsageError(f"--like {like} is --{name} {value}: omit --{name} {given}")
    return {**values, **preset}


def make_settings(**options: Any) -> Settings:
    """Settings from options by name, whatever their types. Raises UsageError."""
    return Settings(**options)

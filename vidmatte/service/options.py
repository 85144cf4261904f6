"""What a job can be set to: the options of the command line, the formats, and the presets."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter

from vidmatte.service.command_line import CommandLine
from vidmatte.service.context import Context
from vidmatte.settings import Option, Settings, options_of

#: Those that name files of the server, and those that the server sets.
_HIDDEN = (
    "matte", "foreground_file", "comp", "subjects", "garbage_matte", "holdout", "clean_plate",
    "cache", "models_dir", "audio_from", "timeline", "overwrite", "resume", "family", "format",
    "codec", "background", "manifest", "start_number", "exr_layers",
)  # fmt: skip
_KINDS = {bool: "bool", int: "int", float: "float", str: "text", tuple: "list"}


def _shown(option: Option) -> dict[str, Any]:
    """An option as the API shows it."""
    return {
        "name": option.name,
        "kind": _KINDS[option.kind],
        "default": list(option.default) if option.kind is tuple else option.default,
        "choices": list(option.choices),
        "low": option.low,
        "high": option.high,
        "help": option.help,
        "group": option.group,
        "flag": option.flag,
    }


def _preset(
    name: str, titles: tuple[str, str], used_for: str, output: dict[str, Any], **settings: Any
) -> dict[str, Any]:
    title = {"en": titles[0], "zh": titles[1]}
    output = {"format": None, "extras": [], "background": None, "timeline": None, **output}
    return {"name": name, "title": title, "for": used_for, "settings": settings, "output": output}


_WHITE = "#ffffff"
PRESETS = (
    _preset("prores", ("ProRes 4444 for editing", "ProRes 4444(剪辑)"), "movie",
            {"format": "prores"}),
    _preset("web", ("WebM for the web", "WebM(网页)"), "movie", {"format": "webm"}),
    _preset("png", ("PNG sequence", "PNG 序列"), "movie", {"format": "png"}),
    _preset("exr", ("OpenEXR for compositing", "OpenEXR(合成)"), "both", {"format": "exr"}),
    _preset("matte", ("Matte, with the cut-out", "蒙版(附抠像)"), "both", {"extras": ["matte"]}),
    _preset("id-photo", ("ID photo, 35 by 45 mm", "证件照 35×45 毫米"), "picture",
            {"format": "jpeg", "background": _WHITE}, size="35x45mm@300", quality=95),
    _preset("product", ("Product on white", "白底商品图"), "picture",
            {"format": "jpeg", "background": _WHITE}, crop="subject:8%", quality=92),
    _preset("transparent", ("Transparent picture", "透明背景图片"), "picture", {"format": "png"}),
    _preset("avatar", ("Avatar with a soft edge", "柔边头像"), "picture", {"format": "png"},
            size="512x512", feather=2.0),
)  # fmt: skip


class _Formats:
    """The table of output formats, which the command line gives: it needs libraries of video."""

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line, self._lock = command_line, threading.Lock()
        self._rows: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """All formats. Raises RequestError where the command line does not answer in time."""
        with self._lock:
            if not self._rows:
                self._rows = self._command_line.rows("formats")
            return self._rows


def router(context: Context) -> APIRouter:
    """The routes of settings, formats and presets."""
    routes = APIRouter(prefix="/api", tags=["settings"])
    formats = _Formats(context.command_line)

    @routes.get("/settings")
    def settings() -> Any:
        """The options of a job: those of the command line that name no file."""
        options = options_of(Settings).values()
        return {"options": [_shown(one) for one in options if one.name not in _HIDDEN]}

    @routes.get("/formats")
    def all_formats() -> Any:
        """The output formats, and what each is good for."""
        return {"formats": formats.rows()}

    @routes.get("/presets")
    def presets() -> Any:
        """Settings and outputs for common purposes."""
        return {"presets": list(PRESETS)}

    return routes

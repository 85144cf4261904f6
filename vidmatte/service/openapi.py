"""The OpenAPI document with examples, and a list of the endpoints for people."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

_CLIP = {
    "id": "5f1e0c9b7a3d2f48",
    "name": "clip.mp4",
    "bytes": 1055736,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created": "2026-01-31T12:00:00.000Z",
    "expires": "2026-02-07T12:00:00.000Z",
    "state": "ready",
    "error": None,
    "kind": "movie",
    "width": 1280,
    "height": 720,
    "frames": 250,
    "rate": "25",
    "first_frame": 0,
    "timecode": "01:00:00:00",
    "info": {"codec": "h264", "pixel_format": "yuv420p", "bit_depth": 8},
}
_PROBING = {**_CLIP, "state": "probing"} | dict.fromkeys(
    ("kind", "width", "height", "frames", "rate", "timecode", "info")
)
_UPLOAD = {
    "id": "0a1b2c3d4e5f6071",
    "name": "clip.mp4",
    "length": 1055736,
    "offset": 524288,
    "clip": None,
    "error": None,
    "expires": "2026-02-01T12:00:00.000Z",
}
_MODEL = {
    "name": "u2netp",
    "aliases": [],
    "family": "u2net",
    "licence": "Apache-2.0",
    "commercial": True,
    "note": "",
    "needs_acceptance": False,
    "description": "any subject, small and fast",
    "bytes": 4574861,
    "fetched": True,
    "fetching": False,
}
_OPTION = {
    "name": "feather",
    "kind": "float",
    "default": 0.0,
    "choices": [],
    "low": 0.0,
    "high": 500.0,
    "help": "soften the edge by pixels",
    "group": "Controls, in this order",
    "flag": "--feather",
}
_FORMAT = {
    "name": "prores",
    "suffixes": [".mov"],
    "depth": "4:4:4, 10 bits",
    "alpha": "straight, 1024 levels",
    "good_for": "editing: ProRes 4444 in Premiere, Resolve, Final Cut, After Effects",
    "kind": "movie",
    "missing": None,
}
_PRESET = {
    "name": "id-photo",
    "title": {"en": "ID photo, 35 by 45 mm", "zh": "证件照"},
    "for": "picture",
    "settings": {"size": "35x45mm@300"},
    "output": {"format": "jpeg", "extras": [], "background": "#ffffff", "timeline": None},
}
_HEALTH = {"status": "ok", "version": "1.0", "queued": 2, "running": 1, "free_bytes": 123456789}
#: What routes answer, where their modules do not say it themselves.
_EXAMPLES: dict[tuple[str, str], Any] = {
    ("post", "/api/clips"): _PROBING,
    ("get", "/api/clips"): {"clips": [_CLIP]},
    ("get", "/api/clips/{clip}"): _CLIP,
    ("get", "/api/clips/{clip}/info"): _CLIP["info"],
    ("get", "/api/uploads"): {"uploads": [_UPLOAD]},
    ("get", "/api/uploads/{upload}"): _UPLOAD,
    ("get", "/api/models"): {"models": [_MODEL]},
    ("post", "/api/models/{name}/fetch"): {**_MODEL, "fetched": False, "fetching": True},
    ("get", "/api/settings"): {"options": [_OPTION]},
    ("get", "/api/formats"): {"formats": [_FORMAT]},
    ("get", "/api/presets"): {"presets": [_PRESET]},
    ("get", "/api/health"): _HEALTH,
}
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_ERROR = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "a name for programs", "examples": ["missing"]},
        "message": {"type": "string", "description": "one line for people"},
    },
}
_ERROR_ANSWER = {
    "description": "Refused: what, and why.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for path, method, operation in _operations(document):
        answers = operation["responses"]
        answers.pop("422", None)
        answers["4XX"] = _ERROR_ANSWER
        answers["5XX"] = _ERROR_ANSWER
        example = _EXAMPLES.get((method, path))
        if example is not None:
            first = next(status for status in answers if status.startswith("2"))
            answers[first].setdefault("content", {})["application/json"] = {"example": example}
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each endpoint."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _as_page(document: dict[str, Any]) -> str:
    """The endpoints as a page without any script."""
    rows = [
        f"<dt><code>{method.upper()} {html.escape(path)}</code></dt>"
        f"<dd>{html.escape(operation.get('description', ''))}</dd>"
        for path, method, operation in _operations(document)
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vidmatte: API</title>'
        "</head><body><h1>vidmatte: API</h1><p>The same with all fields and examples:"
        ' <a href="/api/openapi.json">openapi.json</a> (OpenAPI).</p>'
        f"<dl>{''.join(rows)}</dl></body></html>"
    )


def router(app: FastAPI) -> APIRouter:
    """The routes of the document and of the list; the last ones that are added."""
    routes = APIRouter(tags=["api"])
    document: dict[str, Any] = {}

    def made() -> dict[str, Any]:
        if not document:
            document.update(describe(app))
        return document

    @routes.get("/api/openapi.json", include_in_schema=False)
    def as_json() -> Any:
        """The OpenAPI document."""
        return made()

    @routes.get("/api", include_in_schema=False)
    def as_page() -> HTMLResponse:
        """The list of the endpoints."""
        return HTMLResponse(_as_page(made()))

    return routes

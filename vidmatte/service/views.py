"""The routes of a clip's frames: views of the matte, and the candidates for its subject."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from vidmatte._version import __version__
from vidmatte.core import timecode
from vidmatte.core.stored import key_of
from vidmatte.errors import UsageError
from vidmatte.service.context import Context, RequestError
from vidmatte.service.viewer import Task, Viewer, busy, viewer_of
from vidmatte.settings import (
    AdjustOptions,
    InputOptions,
    MatteOptions,
    ModelOptions,
    Settings,
    SubjectOptions,
    names_of,
    options_of,
)

#: Seconds that a request waits for others before it is told to come again.
_WAIT_SECONDS = 20.0
_POLL_SECONDS = 0.1
_LONGEST_CROP = 4096
_MOST_PROMPTS, _LONGEST_PROMPT = 200, 200
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
#: The name of a file where the chosen subject is not followed to its frame.
_NOT_GATED = "-all"
_MODELS = (InputOptions, AdjustOptions, MatteOptions, SubjectOptions, ModelOptions)
#: Options that name a clip, as ``clip:ID``.
_FILES = ("garbage_matte", "holdout", "clean_plate")
#: Options that name files of the server, or folders; and those that decide no picture.
_PATHS = {*names_of(Settings, reads=True), "cache", "models_dir", "family", "foreground_file"} - {
    *_FILES,
    "background",
}
_DECIDES = {name for model in _MODELS for name in options_of(model)} | {"runtime"}
_View = Literal["source", "alpha", "cutout", "overlay", "wipe", "difference", "subject"]
_Format = Literal["jpeg", "png", "webp"]
_Number = Annotated[int, Path(ge=0, le=2**31, description="counted from 0")]
_Background = Annotated[str, Query(max_length=60)]
_Height = Annotated[int, Query(ge=0, le=2160)]
_Crop = Annotated[str | None, Query(max_length=60)]
_Split = Annotated[float, Query(ge=0, le=1)]
_SettingsText = Annotated[
    str, Query(max_length=20000, description="JSON: options of the command line by their names")
]


def router(context: Context) -> APIRouter:
    """The routes under ``/api/clips/{clip}/frames``."""
    routes = APIRouter(prefix="/api/clips/{clip}/frames/{number}", tags=["frames"])
    viewer = viewer_of(context)
    _add_frame(routes, context, viewer)
    _add_candidates(routes, context, viewer)
    return routes


def _add_frame(routes: APIRouter, context: Context, viewer: Viewer) -> None:
    @routes.get("", responses={200: {"content": {"image/jpeg": {}}}, 304: {}})
    async def frame(
        request: Request,
        clip: str,
        number: _Number,
        view: _View = "source",
        background: _Background = "checker",
        height: _Height = 720,
        crop: _Crop = None,
        split: _Split = 0.5,
        format: _Format = "jpeg",
        settings: _SettingsText = "{}",
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """One exact frame as a picture.

        ``view``: ``overlay`` tints what is kept, ``wipe`` has the source left of ``split`` and the
        cut-out right of it, ``difference`` is |source - cut-out over black|, ``subject`` tints what
        the frame's own prompts select. ``background``: ``checker``, ``black``, ``white``,
        ``RRGGBB`` or ``clip:ID``. ``height=0`` with ``crop=X,Y,WIDTH,HEIGHT`` shows source pixels.

        Smoothing over time is shown where ``settings`` have ``smooth`` or ``smooth_strength``: its
        first picture needs the network on up to 12 neighbours.
        """
        facts = await run_in_threadpool(_frame_facts, context, clip, number, view, background)
        facts |= {"height": height, "crop": _parsed_crop(crop, height), "format": format}
        facts["split"] = split if view == "wipe" else None
        checked, facts["files"] = await run_in_threadpool(_checked_settings, context, settings)
        facts["settings"] = _only_input(checked) if view == "source" else checked
        tag = _tag_of(facts)
        headers = {
            "ETag": f'"{tag}"',
            "X-Frame-Number": str(number),
            "Cache-Control": "private, no-cache",
            **facts.pop("headers"),
        }
        if if_none_match is not None and f'"{tag}"' in if_none_match:
            return Response(status_code=304, headers=headers)
        data, is_gated = await _picture(viewer, request, facts, tag)
        if not is_gated:
            headers["X-Subject"] = "not followed yet"
        return Response(data, media_type=f"image/{format}", headers=headers)


def _add_candidates(routes: APIRouter, context: Context, viewer: Viewer) -> None:
    @routes.get("/candidates")
    async def candidates(
        request: Request, clip: str, number: _Number, settings: _SettingsText = "{}"
    ) -> Any:
        """The regions that the network marks on a frame, numbered as a subject takes them, the
        largest first; boxes in pixels of the source, ``area`` as a share of the frame."""
        facts = await run_in_threadpool(_frame_facts, context, clip, number, "alpha", "checker")
        facts.pop("headers")
        checked, _ = await run_in_threadpool(_checked_settings, context, settings)
        facts |= {"op": "candidates", "settings": checked}
        task = viewer.submit(facts, _group_of(request, facts))
        answer = await _awaited(request, task)
        return {"candidates": answer["candidates"]}


def _frame_facts(
    context: Context, clip: str, number: int, view: str, background: str
) -> dict[str, Any]:
    """What a request to the worker says of its clip and background. Raises RequestError."""
    found = context.clips.ready(clip)
    frames = found["frames"]
    if frames is not None and number >= frames:
        raise RequestError(
            404, "no_frame", f"frame {number}: the clip has frames 0 to {frames - 1}"
        )
    ground: Any = None
    if view in ("cutout", "wipe"):
        ground = background
        if background.startswith("clip:"):
            other = background.removeprefix("clip:")
            ground = _file_of(context, context.clips.ready(other))
    return {
        "op": "frame",
        "clip": _file_of(context, found),
        "number": number,
        "view": view,
        "background": ground,
        "headers": _timecode_header(found, number),
    }


def _file_of(context: Context, clip: dict[str, Any]) -> dict[str, str]:
    return {"path": str(context.clips.path(clip["id"])), "sha256": clip["sha256"]}


def _timecode_header(clip: dict[str, Any], number: int) -> dict[str, str]:
    """The timecode of a frame, counted from the clip's own, or from 00:00:00:00."""
    if clip["kind"] != "movie" or not clip["rate"]:
        return {}
    try:
        start = clip["timecode"] or "00:00:00:00"
        return {"X-Timecode": timecode.shifted(start, number, Fraction(clip["rate"]))}
    except UsageError:  # the rate has no timecode
        return {}


def _parsed_crop(text: str | None, height: int) -> list[int] | None:
    """``X,Y,WIDTH,HEIGHT``. Raises RequestError."""
    if 0 < height < 64:
        raise RequestError(422, "invalid", f"height {height}: use 64 to 2160, or 0 with crop")
    if text is None and height:
        return None
    words = (text or "").split(",")
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or min(numbers) < 0 or not 0 < max(numbers[2:]) <= _LONGEST_CROP:
        form = f"X,Y,WIDTH,HEIGHT in source pixels, at most {_LONGEST_CROP} a side"
        raise RequestError(422, "invalid", f"crop {text or ''}: with height=0 give {form}")
    if height:
        raise RequestError(422, "invalid", f"crop {text}: add height=0")
    return numbers


def _checked_settings(context: Context, text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that decide a picture, those at their defaults left out, and the SHA-256 of the
    files that they name. Raises RequestError.

    Without a word on smoothing it is off, so that the first picture needs no neighbours.
    """
    try:
        given = json.loads(text)
        json.dumps(given, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RequestError(422, "invalid", f"settings: not JSON ({reason})") from None
    if not isinstance(given, dict):
        raise RequestError(422, "invalid", "settings: expected a JSON object of options by name")
    given = {name: value for name, value in given.items() if value is not None}
    refused = sorted(_PATHS & given.keys())
    if refused:
        raise RequestError(
            422, "invalid", f"settings: {refused[0]} is a path on the server, which is not allowed"
        )
    prompts = given.pop("subject", [])
    _check_prompts(prompts)
    files = _with_clips(context, given)
    if not {"smooth", "smooth_strength", "like"} & given.keys():
        given["smooth"] = "off"
    try:
        # Prompts are parsed by the worker: the server needs no numpy.
        only = given.pop("only", None)
        settings = Settings(**given)
    except (UsageError, TypeError) as error:
        raise RequestError(422, "invalid", str(error)) from None
    if settings.foreground_file is not None or set(settings.model) & set("./\\"):
        raise RequestError(422, "invalid", "settings: a path on the server is not allowed")
    known = options_of(Settings)
    found = {
        name: value
        for name in sorted(_DECIDES)
        if (value := getattr(settings, name)) != known[name].default
    }
    found |= {"subject": prompts} if prompts else {}
    return found | ({} if only is None else {"only": only}), files


def _with_clips(context: Context, given: dict[str, Any]) -> dict[str, str]:
    """Put the paths of clips into the options that name them; the SHA-256 of each."""
    files = {}
    for name in _FILES:
        if name in given:
            text = str(given[name])
            if not text.startswith("clip:"):
                raise RequestError(
                    422, "invalid", f"{name} {text}: write clip:ID, the id of an uploaded file"
                )
            file = _file_of(context, context.clips.ready(text.removeprefix("clip:")))
            given[name], files[name] = file["path"], file["sha256"]
    return files


def _check_prompts(prompts: Any) -> None:
    """Raise RequestError for anything but a list of short texts."""
    is_list = isinstance(prompts, list) and all(isinstance(one, str) for one in prompts)
    if not is_list or len(prompts) > _MOST_PROMPTS:
        raise RequestError(
            422, "invalid", f"subject: expected a list of up to {_MOST_PROMPTS} texts"
        )
    if any(len(one) > _LONGEST_PROMPT for one in prompts):
        raise RequestError(422, "invalid", f"subject: up to {_LONGEST_PROMPT} characters each")


def _only_input(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide how the source itself is read."""
    return {name: value for name, value in settings.items() if name in options_of(InputOptions)}


def _tag_of(facts: dict[str, Any]) -> str:
    """A name for all that decides a picture: 32 hexadecimal digits."""
    decides = {name: value for name, value in facts.items() if name != "headers"}
    for name in _FILES:  # their checksums are in ``files``
        decides["settings"] = {**decides["settings"], name: None}
    for name in ("clip", "background"):
        if isinstance(decides[name], dict):
            decides[name] = decides[name]["sha256"]
    return key_of([decides, __version__])


async def _picture(
    viewer: Viewer, request: Request, facts: dict[str, Any], tag: str
) -> tuple[bytes, bool]:
    """The picture, stored or new, and whether the chosen subject gates it. Raises RequestError."""
    suffix, store = _SUFFIXES[facts["format"]], viewer.store
    gated, free = store.file(tag, suffix), store.file(tag, _NOT_GATED + suffix)
    for file, is_gated in ((gated, True), (free, False)):
        data = await run_in_threadpool(store.read, file)
        if data is not None:
            return data, is_gated
    files = {"out": str(gated), "out_free": str(free)}
    answer = await _awaited(request, viewer.submit(facts | files, _group_of(request, facts)))
    data = await run_in_threadpool(store.read, FilePath(answer["file"]))
    if data is None:
        raise busy()
    return data, bool(answer["gated"])


def _group_of(request: Request, facts: dict[str, Any]) -> tuple[str, ...]:
    """The view of a client, whose newest request goes before its older ones."""
    client = "" if request.client is None else request.client.host
    return client, facts["clip"]["path"], facts["op"], facts["view"]


async def _awaited(request: Request, task: Task) -> dict[str, Any]:
    """The answer to a task. A client that has gone drops it. Raises RequestError."""
    answer = asyncio.wrap_future(task.answer)
    waited = 0.0
    while True:
        done, _ = await asyncio.wait({answer}, timeout=_POLL_SECONDS)
        if done:
            return answer.result()
        waited += _POLL_SECONDS
        has_gone = await request.is_disconnected()
        if (has_gone or waited > _WAIT_SECONDS) and task.answer.cancel():
            raise busy()

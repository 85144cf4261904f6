"""The process that decodes frames, runs the network and renders views for the service.

``python -m vidmatte.service.render_worker FOLDER`` reads one JSON request a line on stdin and
answers each with one line on stdout, in order; it ends with stdin. Pictures go into the file that
the request names. While no request comes, the frames beside the last one are prepared on a thread,
so that the next step finds them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidmatte.alpha.guidance.candidates import YELLOW, find_candidates, tinted
from vidmatte.alpha.masks import open_masks
from vidmatte.core.memory import is_out_of_memory
from vidmatte.core.prompts import Mask, parse_prompt
from vidmatte.errors import UsageError, VidmatteError, WeightsError
from vidmatte.models.load import augment_schedule
from vidmatte.service import render
from vidmatte.service.clip_frames import ByteCache, ClipFrames, NoFrameError
from vidmatte.service.frame_matte import FrameMatter, ShownFrame
from vidmatte.service.kept_alpha import write_new
from vidmatte.service.loaded import BusyError, LoadedModels, Recent
from vidmatte.service.smooth_window import resized
from vidmatte.settings import InputOptions, Settings, options_of

_SHOWN_BYTES = 160 << 20
_MOST_CLIPS, _MOST_MATTERS = 3, 6
#: Seconds without a request before the neighbours of the last frame are prepared.
_QUIET_SECONDS = 0.15


@dataclass(frozen=True)
class _Place:
    """The frame that was shown last, whose neighbours may be wanted next."""

    matter: FrameMatter
    number: int
    height: int
    strength: float
    step: int


class Renderer:
    """Answers requests. For one thread, besides that of the neighbours.

    folder: of the kept raw alphas. max_megapixels: of a frame. models_dir: None for the user's.
    """

    def __init__(
        self, folder: Path, max_megapixels: float = 200.0, models_dir: str | None = None
    ) -> None:
        self._folder = folder
        self._common: dict[str, Any] = {"max_megapixels": max_megapixels, "models_dir": models_dir}
        self._clips: Recent[ClipFrames] = Recent(_MOST_CLIPS)
        self._matters: Recent[FrameMatter] = Recent(_MOST_MATTERS)
        self._models = LoadedModels()
        self._shown: ByteCache[ShownFrame] = ByteCache(_SHOWN_BYTES)
        self._making = threading.Lock()  # decoders and networks are for one thread
        self._place: _Place | None = None
        self._asked = threading.Event()
        self._busy_until = float("inf")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request: facts, or ``status``, ``error`` and ``message``."""
        self._busy_until = float("inf")
        try:
            done = self._candidates if request["op"] == "candidates" else self._frame
            return {"ok": True, **done(request)}
        except Exception as error:  # noqa: BLE001 (every fault is answered)
            return {"ok": False, **_fault(error)}
        finally:
            self._busy_until = time.monotonic() + _QUIET_SECONDS
            self._asked.set()

    def close(self) -> None:
        """Close all clips."""
        with self._making:
            for clip in self._clips.values():
                clip.close()

    def prepare_neighbours(self) -> None:
        """Prepare the frames beside the last one, forever: for a thread of its own."""
        while True:
            self._asked.wait()
            while (left := self._busy_until - time.monotonic()) > 0:
                time.sleep(min(left, _QUIET_SECONDS))
            self._asked.clear()
            place = self._place
            if place is None:
                continue
            for number in (place.number + place.step, place.number - place.step):
                if place is not self._place or time.monotonic() < self._busy_until:
                    break
                try:
                    self._ready(place.matter, number, place.height, place.strength)
                except Exception:  # noqa: BLE001 (the request for it will say so)
                    continue

    def _ready(self, matter: FrameMatter, number: int, height: int, strength: float) -> ShownFrame:
        """A frame, made where it is not in memory."""
        found = matter.ready(number, height, strength)
        if found is None:
            with self._making:
                found = matter.shown(number, height, strength)
        return found

    def _settings(self, request: dict[str, Any]) -> Settings:
        given = request["settings"]
        given |= {"subject": tuple(given.get("subject", ()))}
        settings = Settings(**given, **self._common)
        for text in settings.subject:
            if isinstance(parse_prompt(text), Mask):
                raise UsageError(f"--subject {text}: use a point, a box, a rule or a number")
        return settings

    def _clip(self, clip: dict[str, Any], settings: Settings) -> ClipFrames:
        names = options_of(InputOptions)
        facts = [clip["path"], *(str(getattr(settings, name)) for name in names)]
        return self._clips.of(facts, lambda: ClipFrames(Path(clip["path"]), settings))

    def _matter(self, request: dict[str, Any], settings: Settings) -> FrameMatter:
        """The mattes of a clip by the settings, without the manual adjustments."""
        frames, sha256 = self._clip(request["clip"], settings), request["clip"]["sha256"]
        model = self._models.find(settings, sha256)
        names = ("smooth", "refine", "foreground", "invert", "subject", "only")
        facts = [id(frames), id(model), *(str(getattr(settings, name)) for name in names)]
        schedules = [augment_schedule(part.family, settings) for part in model.weights]
        return self._matters.of(
            [*facts, schedules],
            lambda: FrameMatter(
                frames, sha256, model, settings, self._folder, self._shown, self._models.features
            ),
        )

    def _candidates(self, request: dict[str, Any]) -> dict[str, Any]:
        """The regions that the network marks, in pixels of the source."""
        with self._making:
            matter = self._matter(request, self._settings(request))
            frame = matter.coarse(request["number"])
        width, height = matter.size
        across, down = width / frame.width, height / frame.height
        found = [
            {
                "number": one.number,
                "left": round(one.left * across),
                "top": round(one.top * down),
                "right": round(one.right * across),
                "bottom": round(one.bottom * down),
                "area": round(one.area / one.mask.size, 6),
            }
            for one in find_candidates(frame.alpha)
        ]
        return {"candidates": found}

    def _frame(self, request: dict[str, Any]) -> dict[str, Any]:
        """Render a view into the file ``out``, or ``out_free`` where it shows more than the chosen
        subject; nothing is rendered where one of them has been meanwhile."""
        for name in ("out", "out_free"):
            if Path(request[name]).is_file():
                return {"file": request[name], "gated": name == "out"}
        settings = self._settings(request)
        picture, is_gated = self._view(request, settings)
        crop = request["crop"]
        shown = render.cropped(picture, None if crop is None else tuple(crop))
        file = request["out" if is_gated else "out_free"]
        write_new(Path(file), render.encoded(shown, request["format"]))
        return {"file": file, "gated": is_gated}

    def _view(self, request: dict[str, Any], settings: Settings) -> tuple[np.ndarray, bool]:
        """The picture of a view, and whether it shows the chosen subject only."""
        view, number = request["view"], request["number"]
        with self._making:
            frames = self._clip(request["clip"], settings)
            full = frames.clip.height
            height = min(request["height"] or full, full)
            if view == render.PLAIN:
                width = max(1, round(frames.clip.width * height / full))
                return resized(frames.rgb(number), (width, height)), True
            matter = self._matter(request, settings)
            if view == "subject":
                return self._subject(matter, frames, number, height), True
        strength = settings.smooth_strength
        shown = self._ready(matter, number, height, strength)
        last = self._place
        back = last is not None and last.matter is matter and last.number > number
        self._place = _Place(matter, number, height, strength, -1 if back else 1)
        is_gated = shown.is_gated or not settings.subject
        return self._composed(request, settings, shown), is_gated

    def _subject(
        self, matter: FrameMatter, frames: ClipFrames, number: int, height: int
    ) -> np.ndarray:
        mask = matter.mask(number)
        if mask is None:
            raise UsageError(f"frame {number} has no prompt: add one with @f{number}")
        width = max(1, round(frames.clip.width * height / frames.clip.height))
        rgb = resized(frames.rgb(number), (width, height))
        return tinted(rgb, mask, outline=YELLOW)

    def _composed(
        self, request: dict[str, Any], settings: Settings, shown: ShownFrame
    ) -> np.ndarray:
        """One of the views that need the matte."""
        view, alpha = request["view"], self._adjusted(request, settings, shown)
        if view == "alpha":
            return render.grey(alpha)
        if view == "overlay":
            return tinted(shown.rgb, alpha)
        cutout = render.cut_out(shown, alpha, settings)
        if view == "difference":
            return render.difference(shown.rgb, cutout)
        over = cutout.over(self._ground(request, shown))
        return render.wiped(shown.rgb, over, request["split"]) if view == "wipe" else over

    def _adjusted(
        self, request: dict[str, Any], settings: Settings, shown: ShownFrame
    ) -> np.ndarray:
        """The alpha after the manual adjustments, with the masks of their files."""
        if settings.garbage_matte is None and settings.holdout is None:
            return render.adjusted_alpha(shown, settings)
        with self._making:
            clip = self._clip(request["clip"], settings).clip
        masks = [
            None if mask is None else resized(mask.at(request["number"]), shown.alpha.shape[::-1])
            for mask in open_masks(settings, clip)
        ]
        return render.adjusted_alpha(shown, settings, *masks)

    def _ground(self, request: dict[str, Any], shown: ShownFrame) -> np.ndarray:
        """The background of a frame: of a clip, the frame of the same moment, its last one goes
        on."""
        height, width = shown.alpha.shape
        ground = request["background"]
        if isinstance(ground, str):
            return render.flat_ground(ground, width, height)
        with self._making:
            frames = self._clip(ground, Settings(**self._common))
            own = self._clip(request["clip"], self._settings(request)).clip
            number = int(request["number"] / own.rate * frames.clip.rate)
            if not frames.has(number) and frames.clip.frame_count is not None:
                number = frames.clip.frame_count - 1
            return render.covering(frames.rgb(number), width, height)


def _fault(error: Exception) -> dict[str, Any]:
    """A failed request's status, name and line."""
    if isinstance(error, NoFrameError):
        return {"status": 404, "error": "no_frame", "message": str(error)}
    if isinstance(error, BusyError):
        return {"status": 503, "error": "busy", "message": str(error), "retry_after": 3}
    if isinstance(error, WeightsError):
        return {"status": 503, "error": "weights", "message": str(error), "retry_after": 60}
    if isinstance(error, VidmatteError):
        return {"status": 422, "error": "invalid", "message": str(error)}
    if is_out_of_memory(error):
        message = "there is not enough memory for this frame: ask for a smaller height"
        return {"status": 503, "error": "memory", "message": message, "retry_after": 10}
    traceback.print_exception(error)
    message = f"{type(error).__name__}: an internal error of vidmatte; its log says more"
    return {"status": 500, "error": "internal", "message": message}


def main(arguments: list[str]) -> None:
    """Answer requests until stdin ends."""
    folder, megapixels, models_dir = arguments
    # Libraries that print would break the answers: what they print goes to stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        renderer = Renderer(Path(folder), float(megapixels), models_dir or None)
        threading.Thread(target=renderer.prepare_neighbours, daemon=True).start()
        for line in sys.stdin:
            answers.write(json.dumps(renderer.answer(json.loads(line))) + "\n")
            answers.flush()
    os._exit(0)  # a network that is running on the other thread need not end first


if __name__ == "__main__":
    main(sys.argv[1:])

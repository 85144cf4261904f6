"""What the render worker has open: models by their settings, and other things used last."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from vidmatte.models.features import FrameFeatures, load_features
from vidmatte.models.registry import RAW_ALPHA_OPTIONS, Model, choose_model
from vidmatte.service.clip_frames import ClipFrames
from vidmatte.settings import Settings

_MOST_MODELS = 2
#: Seconds that a request waits for weights that are being fetched.
_FETCH_SECONDS = 8.0
_Made = TypeVar("_Made")


class BusyError(Exception):
    """Something is still being fetched; the message is for the user."""


class Recent(OrderedDict[str, _Made]):
    """The things made last, by a key; the ones used longest ago go."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, facts: Any, make: Callable[[], _Made]) -> _Made:
        """What ``facts`` stands for, made where it is missing."""
        key = json.dumps(facts, sort_keys=True, default=str)
        if key not in self:
            self[key] = make()
        self.move_to_end(key)
        while len(self) > self._most:
            _, old = self.popitem(last=False)
            if isinstance(old, ClipFrames):
                old.close()
        return self[key]


class LoadedModels:
    """Models by the settings that decide them; weights are fetched on a thread."""

    def __init__(self) -> None:
        self._models: Recent[Model] = Recent(_MOST_MODELS)
        self._features: Recent[FrameFeatures] = Recent(_MOST_MODELS)
        self._fetching: dict[str, Future[Model]] = {}
        self._threads = ThreadPoolExecutor(1)

    def find(self, settings: Settings, sha256: str) -> Model:
        """The model. Raises UsageError, ModelError, WeightsError, BusyError."""
        facts: dict[str, Any] = {name: getattr(settings, name) for name in RAW_ALPHA_OPTIONS}
        how = settings.smooth, settings.smooth_strength == 0
        facts |= {"model": settings.model, "smooth": how, "foreground": settings.foreground}
        if {*settings.model.split("+")} & {"chroma", "difference"}:
            facts["clip"] = sha256  # a key has a state for its clip
        return self._models.of(facts, lambda: self._made(settings))

    def features(self, model: Model) -> FrameFeatures:
        """The features for a model, see ``load_features``."""
        facts = [(part.family, part.sha256) for part in model.weights]
        return self._features.of(facts, lambda: load_features(model, lambda _: None, quiet=True))

    def _made(self, settings: Settings) -> Model:
        choice = choose_model(settings)
        if not choice.missing_bytes:
            return choice.fetch(lambda _: None)
        megabytes = choice.missing_bytes / 1e6
        under_way = self._fetching.get(settings.model)
        if under_way is None:
            under_way = self._threads.submit(choice.fetch, lambda _: None)
            self._fetching[settings.model] = under_way
        try:
            under_way.result(_FETCH_SECONDS)
        except FutureTimeoutError:
            raise BusyError(
                f"the weights of {settings.model}, {megabytes:.0f} MB, are being fetched"
            ) from None
        finally:
            if under_way.done():
                del self._fetching[settings.model]
        return choose_model(settings).fetch(lambda _: None)

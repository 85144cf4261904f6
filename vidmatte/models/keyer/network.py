"""Mattes without weights, as networks: a chroma key and the difference from a clean plate.

Beside a network, as in ``--model isnet+chroma``, a key's edge counts and the network fills its
inside; a plate adds what the network missed, and takes away where nothing differs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import UsageError
from vidmatte.models.base import Network
from vidmatte.models.keyer import (
    ChromaKeyer,
    CleanPlate,
    KeySettings,
    Screen,
    add_core,
    combine_with_plate,
    find_screen,
)
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import open_reader
from vidmatte.settings import ModelOptions, Settings
from vidmatte.settings.values import parse_threshold


class Keyer(Network):
    """A matte computed frame by frame, from no weights."""

    recurrent = False

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            # What a network beside it, which runs first, has found.
            before = None if frame.alpha is None else frame.alpha.copy()
            found = self._alpha(frame.rgb, before)
            np.copyto(frame.writable_alpha(), found)
            yield frame

    def cancel(self) -> None:
        """It ends by itself."""

    @abstractmethod
    def _alpha(self, rgb: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """The alpha of a frame, (H, W) float32 in 0..1."""

    @staticmethod
    @abstractmethod
    def combined(network: np.ndarray, key: np.ndarray) -> np.ndarray:
        """The alpha of a network and this one together, all (H, W) float32."""


class _ChromaNetwork(Keyer):
    """The chroma key. The screen's colour is the given one, or that of the clip's first frame."""

    description = "chroma key"

    def __init__(self, settings: ModelOptions, report: Callable[[str], None]) -> None:
        self._report = report
        low, high = (None, KeySettings().high)
        if settings.key is not None:
            low, high = parse_threshold(settings.key)
        self._options = KeySettings(low=low, high=high, keep_shadows=settings.keep_shadows)
        self._screen = None if settings.screen is None else _screen_of(settings.screen)
        self._keyer = ChromaKeyer(self._screen, self._options)

    def begin(self, clip: Clip, settings: Settings) -> None:
        self._keyer = ChromaKeyer(self._screen, self._options)
        if self._screen is None and (first := _first_frame(clip, settings)) is not None:
            screen = find_screen(first)  # once, so that every part of a clip has the same
            self._keyer = ChromaKeyer(screen, self._options)
            levels = (screen.red, screen.green, screen.blue)
            colour = "".join(f"{round(255 * level):02x}" for level in levels)
            self._report(
                f"{clip.source.name}: a {screen.primary} screen, #{colour} at the first frame's"
                " border; --screen sets another"
            )

    def _alpha(self, rgb: np.ndarray, before: np.ndarray | None) -> np.ndarray:  # noqa: ARG002
        return self._keyer.alpha(rgb)

    @staticmethod
    def combined(network: np.ndarray, key: np.ndarray) -> np.ndarray:
        return add_core(key, network)


class _DifferenceNetwork(Keyer):
    """The difference from a clean plate, a picture of the same size."""

    description = "difference from a clean plate"

    def __init__(self, settings: ModelOptions, _: Callable[[str], None]) -> None:
        assert settings.clean_plate is not None  # as ``check_keyer`` has found
        self._path = Path(settings.clean_plate)
        self._plate: CleanPlate | None = None

    def begin(self, clip: Clip, settings: Settings) -> None:  # noqa: ARG002
        picture = _first_frame_of(self._path, Settings(fps="25") if self._path.is_dir() else None)
        height, width = picture.shape[:2]
        if (width, height) != (clip.width, clip.height):
            raise UsageError(
                f"--clean-plate {self._path}: it is {width}x{height} and the clip is"
                f" {clip.width}x{clip.height}: give a picture of the clip's size"
            )
        self._plate = CleanPlate(picture)

    def _alpha(self, rgb: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        assert self._plate is not None
        return self._plate.difference(rgb, before)

    @staticmethod
    def combined(network: np.ndarray, key: np.ndarray) -> np.ndarray:
        return combine_with_plate(network, key)


_KEYERS: dict[str, type[_ChromaNetwork | _DifferenceNetwork]] = {
    "chroma": _ChromaNetwork,
    "difference": _DifferenceNetwork,
}


def load_keyer(name: str, settings: ModelOptions, report: Callable[[str], None]) -> Keyer:
    """The weightless network of that family. report: takes a line for the user. Raises
    UsageError."""
    return _KEYERS[name](settings, report)


def check_keyer(families: list[str], settings: ModelOptions) -> None:
    """Raise UsageError for options of a key that another model does not use, and for a difference
    without its plate."""
    if "chroma" not in families:
        for name, value in (("screen", settings.screen), ("key", settings.key)):
            if value is not None:
                raise UsageError(f"--{name} {value}: it is for --model chroma")
        if settings.keep_shadows:
            raise UsageError("--keep-shadows: it is for --model chroma")
    plate = settings.clean_plate
    if "difference" in families and plate is None:
        raise UsageError("--model difference: name the picture without the subject: --clean-plate")
    if "difference" not in families and plate is not None:
        raise UsageError(
            f"--clean-plate {plate}: it is for --model difference, or isnet+difference"
        )
    if plate is not None and not Path(plate).exists():
        raise UsageError(f"--clean-plate {plate}: there is no such file")
    if settings.screen is not None:
        ChromaKeyer(_screen_of(settings.screen))


def _screen_of(text: str) -> Screen:
    """'#20c040' -> its colour."""
    return Screen(*(int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)))


def _first_frame(clip: Clip, settings: Settings) -> np.ndarray | None:
    """The first frame of a clip as networks see it; None where the source is no file."""
    path = clip.source.path
    return None if path is None else _first_frame_of(path, settings)


def _first_frame_of(path: Path, settings: Settings | None) -> np.ndarray:
    """The first frame of a movie, folder or picture, (H, W, 3) uint8 RGB. Raises SourceError."""
    with open_reader(path, settings or Settings()) as source:
        picture = next(iter(source.pictures())).pixels
        return NetworkRgb(source.clip).of(picture)

"""What is seen of a key frame besides its alpha: people, close-ups of clicks and boxes, motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from vidmatte.alpha.guidance.close_ups import crops_around, crops_of_box, placed
from vidmatte.alpha.guidance.coarse import CoarseFrame, SmallPicture, reduced, small_picture
from vidmatte.alpha.guidance.key_masks import KeyLooks
from vidmatte.alpha.guidance.near_motion import DISTANCES, NearMotion, near_motions
from vidmatte.alpha.guidance.second_look import Crop
from vidmatte.core.frame import Frame
from vidmatte.core.prompts import Box, Choice, Point, Prompt
from vidmatte.errors import SourceError, WeightsError
from vidmatte.jobs.pipeline import build_raw_pipeline
from vidmatte.jobs.queue import Slot
from vidmatte.models.base import Network
from vidmatte.models.registry import Model, find_model
from vidmatte.models.runtimes.device import Device
from vidmatte.pixels.formats import copy_planes
from vidmatte.pixels.network_rgb import NetworkRgb
from vidmatte.readers.open import is_image, open_reader
from vidmatte.settings import Settings

_PERSON_MODEL = "rvm"
_PERSON_SIDE = 512  # pixels of the longer side of what it sees
_Alphas = tuple[np.ndarray, ...]


class KeyLooker:
    """Shows networks the key frames of a clip: the model's own, and one of people where its weights
    can be had. It remembers the close-ups of the last prompts and the motion around the last frame.
    Not thread-safe."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        report: Callable[[str], None] = lambda _: None,
        *,
        close_ups: bool = True,
    ) -> None:
        """report: takes a line for the user. close_ups: whether masks are made of them."""
        self._model, self._settings, self._report = model, settings, report
        self._has_close_ups = close_ups
        self._memory: dict[tuple[int, Point | Box], _Alphas] = {}
        self._motions: tuple[int, list[NearMotion]] | None = None

    def looks(
        self,
        number: int,
        frame: CoarseFrame,
        prompts: Sequence[Prompt],
        rgb: Callable[[], np.ndarray],
        nearby: Callable[[], Mapping[int, SmallPicture]] = dict,
    ) -> KeyLooks:
        """What the prompts of a frame ask for.

        number: of the frame. rgb: gives it, (H, W, 3) uint8. nearby: gives those at ``DISTANCES``
        from it that there are. Raises WeightsError, ModelError, DeviceError, SourceError.
        """
        person, of_point, of_boxes, motions = None, _Alphas(), {}, list[NearMotion]()
        if any(isinstance(prompt, Choice) and prompt.rule == "person" for prompt in prompts):
            found = alpha_of_picture(_small(rgb()), self._person)
            person = reduced(found, frame.width, frame.height)
        if self._has_close_ups:
            points = [prompt for prompt in prompts if isinstance(prompt, Point)]
            first = next((point for point in points if point.wanted), next(iter(points), None))
            if first is not None:
                of_point = self._kept(number, first, frame, rgb)
            boxes = [prompt for prompt in prompts if isinstance(prompt, Box)]
            of_boxes = {box: self._kept(number, box, frame, rgb) for box in boxes}
            if points or boxes:
                motions = self._motions_around(number, frame, nearby)
        self._forget(len(of_boxes) + 1)
        return KeyLooks(person, of_point, of_boxes, motions)

    def _motions_around(
        self, number: int, frame: CoarseFrame, nearby: Callable[[], Mapping[int, SmallPicture]]
    ) -> list[NearMotion]:
        """Motion to the frames around, from memory where the last prompts were on this frame."""
        if self._motions is None or self._motions[0] != number:
            self._motions = number, near_motions(frame, nearby())
        return self._motions[1]

    def _kept(
        self, number: int, prompt: Point | Box, frame: CoarseFrame, rgb: Callable[[], np.ndarray]
    ) -> _Alphas:
        """The close-ups of a prompt, from memory where it was asked for before."""
        found = self._memory.pop((number, prompt), None)
        if found is None:
            found = tuple(self._shown(rgb(), frame, prompt))
        self._memory[number, prompt] = found
        return found

    def _forget(self, kept: int) -> None:
        """All but the close-ups of the last ``kept`` prompts."""
        for key in list(self._memory)[:-kept]:
            del self._memory[key]

    def _shown(self, rgb: np.ndarray, frame: CoarseFrame, prompt: Point | Box) -> list[np.ndarray]:
        """The alphas of the close-ups, and of the whole frame for people."""
        height, width = rgb.shape[:2]
        if isinstance(prompt, Point):
            crops = crops_around(prompt.x, prompt.y, width, height)
        else:
            sides = prompt.left, prompt.top, prompt.right, prompt.bottom
            crops = crops_of_box(*sides, width, height)
        parts = [np.ascontiguousarray(rgb[crop.part]) for crop in crops]
        network = self._model.per_frame_network()
        alphas = [] if network is None else alphas_of_pictures(parts, network)
        found = list(zip(alphas, crops, strict=False))
        try:
            whole = Crop(0, 0, width, height)
            for picture, crop in zip([rgb, *parts], [whole, *crops], strict=True):
                found += [(alpha_of_picture(_small(picture), self._person), crop)]
        except WeightsError as error:
            self._report(f"close-ups without a network of people: {error}")
        return [placed(alpha, crop, width, height, frame) for alpha, crop in found]

    @cached_property
    def _person(self) -> Network:
        settings = Settings(model=_PERSON_MODEL, models_dir=self._settings.models_dir)
        return find_model(settings, self._report).network


class KeyPictures:
    """One frame of a source, by its number, and those around it: decoded together, when any is
    asked for, whatever the in and out points are."""

    def __init__(self, path: Path, number: int, settings: Settings) -> None:
        self._path, self._number = path, number
        self._first = 0 if is_image(path) else max(0, number + min(DISTANCES))
        self._settings = settings.changed(
            in_point=f"f{self._first}", out_point=None, handles=0, conform=None, audio=False
        )

    def rgb(self) -> np.ndarray:
        """The frame, (H, W, 3) uint8. Raises SourceError where the source does not have it."""
        return self._decoded[0]

    def nearby(self) -> dict[int, SmallPicture]:
        """The frames at ``DISTANCES`` from it that there are, by distance. Raises SourceError."""
        return self._decoded[1]

    @cached_property
    def _decoded(self) -> tuple[np.ndarray, dict[int, SmallPicture]]:
        own, nearby = None, dict[int, SmallPicture]()
        with open_reader(self._path, self._settings) as source:
            network_rgb = NetworkRgb(source.clip)
            for place, decoded in enumerate(source.pictures(), self._first):
                distance = place - self._number
                if distance == 0:
                    slot = Slot(source.clip, Device())  # the very bytes that a run sees
                    copy_planes(decoded.pixels, slot.picture)
                    network_rgb.view(slot.picture, slot.rgb)
                    own = slot.rgb
                elif distance in DISTANCES:
                    nearby[distance] = small_picture(network_rgb.of(decoded.pixels))
                if distance >= max(DISTANCES):
                    break
        if own is None:
            raise _missing_frame(self._path, self._number)
        return own, nearby


def _missing_frame(path: Path, number: int) -> SourceError:
    return SourceError(f"{path}: frame {number} cannot be decoded")


def _small(rgb: np.ndarray) -> np.ndarray:
    """A picture no larger than a network of people needs for an outline at the work size."""
    height, width = rgb.shape[:2]
    scale = min(1.0, _PERSON_SIDE / max(height, width))
    return reduced(rgb, max(1, round(scale * width)), max(1, round(scale * height)))


def alpha_of_frame(
    path: Path, number: int, model: Model, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """RGB (H, W, 3) uint8 and raw alpha (H, W) float32 of one frame of a source, by its number.

    Raises SourceError where the source does not have it.
    """
    single = settings.changed(
        in_point=f"f{number}", out_point=f"f{number + 1}", handles=0, conform=None, cache=None
    )
    with open_reader(path, single) as source:
        pipeline = build_raw_pipeline(source, model, single)
        with closing(pipeline):
            for frame in pipeline.pipeline:
                assert frame.alpha is not None
                found = frame.rgb.copy(), frame.alpha.copy()
                frame.release()
                return found
    raise _missing_frame(path, number)


def alpha_of_picture(
    rgb: np.ndarray, network: Network, index: int = 0, *, new_shot: bool = True
) -> np.ndarray:
    """A network's alpha (H, W) float32 of one picture (H, W, 3) uint8.

    index, new_shot: of the frame whose view of the augmentation is taken.
    """
    return _alphas([_frame_of(rgb, index, new_shot)], network)[0]


def alphas_of_pictures(pictures: Sequence[np.ndarray], network: Network) -> list[np.ndarray]:
    """The same of several, of any sizes, of a network that takes single pictures."""
    if network.batch > 1:  # what goes through it together has one size
        return [alpha_of_picture(rgb, network) for rgb in pictures]
    return _alphas([_frame_of(rgb, 0, True) for rgb in pictures], network)


def _frame_of(rgb: np.ndarray, index: int, new_shot: bool) -> Frame:
    picture = av.VideoFrame(rgb.shape[1], rgb.shape[0], "rgb24")
    return Frame(index, index, 1, Fraction(1, 25), picture, rgb, new_shot=new_shot)


def _alphas(frames: list[Frame], network: Network) -> list[np.ndarray]:
    """Raises ModelError, DeviceError."""
    alphas = [frame.alpha for frame in network.predict(iter(frames))]
    return [alpha for alpha in alphas if alpha is not None]

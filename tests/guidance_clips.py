"""Clips of two and three moving subjects, with the visible alpha of each.

Cut-outs (RGBA) move along paths in front of and behind each other, bent by travelling
waves, rotated, scaled, with 180-degree shutter blur, brightness drift, sensor noise and
H.264. The scene says which one is wanted. Every cut-out folder gives the same scenes; where
cut-outs are missing, drawn balls complete the cast (see ``read_cast``).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from composites import furry_ball, read_cutout

SHUTTER = 0.5  # of the frame's time
WIDTH, HEIGHT = 640, 360
ROLES = ("arms", "back", "side", "cat", "heavy", "fur", "car")
#: Which cut-out plays which role, if the folder has one of that name.
CAST = {
    "arms": "girl-1",
    "back": "girl-2",
    "side": "girl-3",
    "cat": "animal-1",
    "heavy": "animal-2",
    "fur": "lemur",
    "car": "car-1",
}


class Stop(NamedTuple):
    """A place on a path: time 0..1 of the shot, centre x, bottom y and height in frames."""

    time: float
    x: float
    bottom: float
    height: float


@dataclass(frozen=True)
class Actor:
    """A moving cut-out. ``name`` identifies it across shots."""

    name: str
    role: str
    path: tuple[Stop, ...]
    mirrored: bool = False
    dress: Callable[[np.ndarray], np.ndarray] | None = None

    def at(self, time: float) -> Stop:
        """The position at a time 0..1, interpolated linearly between the path's stops."""
        times = [stop.time for stop in self.path]
        values = [np.interp(time, times, [stop[i] for stop in self.path]) for i in (1, 2, 3)]
        return Stop(time, *map(float, values))


@dataclass(frozen=True)
class Shot:
    """Actors from back to front over a ground that pans by ``pan`` pixels a frame."""

    actors: tuple[Actor, ...]
    frames: int
    ground: int = 0
    pan: float = 1.0


@dataclass(frozen=True)
class Scene:
    """One clip; its first frame shows the wanted actor."""

    name: str
    wanted: str
    shots: tuple[Shot, ...]
    width: int = WIDTH
    height: int = HEIGHT
    noise: float = 3.0
    held_out: bool = False

    @property
    def frames(self) -> int:
        return sum(shot.frames for shot in self.shots)

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())


class Rendered(NamedTuple):
    """A frame: picture (H, W, 3) float32 0..255; visible alphas (H, W) float32 by actor."""

    picture: np.ndarray
    alphas: dict[str, np.ndarray]


@dataclass
class Stage:
    """The material of the scenes: cut-outs by role and backgrounds (H, W, 3) uint8 RGB."""

    cutouts: dict[str, np.ndarray]
    grounds: list[np.ndarray]
    _cache: dict[tuple, np.ndarray] = field(default_factory=dict)

    def sprite(self, actor: Actor) -> np.ndarray:
        """Premultiplied RGBA of an actor, cropped, with a transparent border; a cut-off lower
        edge is extended."""
        key = (actor.role, actor.mirrored, actor.dress)
        if key not in self._cache:
            cutout = self.cutouts[actor.role]
            x, y, w, h = cv2.boundingRect((cutout[..., 3] > 0.02).astype(np.uint8))
            cutout = cutout[y : y + h, x : x + w]
            if actor.dress is not None:
                cutout = np.dstack([actor.dress(cutout[..., :3]), cutout[..., 3:]])
            if actor.mirrored:
                cutout = cutout[:, ::-1]
            alpha = cutout[..., 3:]
            picture = np.concatenate([cutout[..., :3] * alpha, alpha], 2).astype(np.float32)
            if alpha[-1].max() > 0.5:
                picture = cv2.copyMakeBorder(picture, 0, h // 3, 0, 0, cv2.BORDER_REPLICATE)
            self._cache[key] = cv2.copyMakeBorder(picture, 8, 8, 8, 8, cv2.BORDER_CONSTANT)
        return self._cache[key]

    def layer(self, scene: Scene, actor: Actor, time: float, frame: float) -> np.ndarray:
        """Premultiplied RGBA of an actor in the frame at a time of its shot."""
        sprite = self.sprite(actor)
        cutout = self.cutouts[actor.role]
        _, _, w, h = cv2.boundingRect((cutout[..., 3] > 0.02).astype(np.uint8))
        stop, own = actor.at(time), zlib.crc32(actor.name.encode()) % 97
        scale = stop.height * scene.height / h
        angle = 0.04 * np.sin(0.2 * frame + own)
        bob = 0.008 * scene.height * np.sin(0.6 * frame + own)
        grid = self._grid(scene)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        place = np.array([stop.x * scene.width, stop.bottom * scene.height + bob])
        there = (grid - place) @ turn.T / scale + (w / 2 + 8, h + 8)
        bend = 2.2 / scale
        there = there + bend * np.stack(
            [
                np.sin(2 * np.pi * (there[..., 1] / (0.45 * h) - frame / 17)),
                np.sin(2 * np.pi * (there[..., 0] / (0.35 * h) - frame / 13)),
            ],
            -1,
        )
        if scale < 0.75:
            sprite = cv2.GaussianBlur(sprite, (0, 0), 0.35 / scale)
        return cv2.remap(sprite, there.astype(np.float32), None, cv2.INTER_LINEAR)

    def _grid(self, scene: Scene) -> np.ndarray:
        key = (scene.width, scene.height)
        if key not in self._cache:
            x, y = np.meshgrid(np.arange(scene.width), np.arange(scene.height))
            self._cache[key] = np.stack([x, y], -1).astype(np.float32)
        return self._cache[key]

    def ground(self, scene: Scene, shot: Shot, frame: float) -> np.ndarray:
        """The ground behind everything, (H, W, 3) float32."""
        picture = self.grounds[shot.ground % len(self.grounds)]
        h, w = picture.shape[:2]
        reach = abs(shot.pan) * shot.frames
        zoom = max((scene.width + reach + 8) / w, (scene.height + 16) / h)
        x = (scene.width - zoom * w) / 2 + shot.pan * (frame - shot.frames / 2)
        y = (scene.height - zoom * h) / 2
        place = np.float32([[zoom, 0, x], [0, zoom, y]])
        size = (scene.width, scene.height)
        return cv2.warpAffine(
            picture, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)

    def render(self, scene: Scene, shot: Shot, index: int) -> Rendered:
        """One frame of a shot, without noise: the mean over the shutter's time."""
        total = np.zeros((scene.height, scene.width, 3), np.float32)
        alphas = {actor.name: np.zeros(total.shape[:2], np.float32) for actor in shot.actors}
        steps = self._steps(scene, shot, index)
        for step in range(steps):
            frame = index + SHUTTER * ((step + 0.5) / steps - 0.5)
            time = frame / max(shot.frames - 1, 1)
            picture = self.ground(scene, shot, frame)
            open_to_view = np.ones(total.shape[:2], np.float32)
            layers = [self.layer(scene, actor, time, frame) for actor in shot.actors]
            for actor, layer in zip(reversed(shot.actors), reversed(layers), strict=True):
                alphas[actor.name] += open_to_view * layer[..., 3] / steps
                open_to_view = open_to_view * (1 - layer[..., 3])
            for layer in layers:
                picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
            total += picture / steps
        light = 1 + 0.06 * np.sin(0.15 * index)
        return Rendered(cv2.GaussianBlur(total * light, (0, 0), 0.5), alphas)

    @staticmethod
    def _steps(scene: Scene, shot: Shot, index: int) -> int:
        """Sub-frames: one for each 1.5 pixels that the fastest actor moves."""
        fastest, last = abs(shot.pan), max(shot.frames - 1, 1)
        for actor in shot.actors:
            a, b = actor.at(index / last), actor.at((index + 1) / last)
            fastest = max(
                fastest, scene.width * abs(a.x - b.x), scene.height * abs(a.bottom - b.bottom)
            )
        return int(np.clip(np.ceil(fastest * SHUTTER / 1.5), 2, 12))


@dataclass(frozen=True)
class Clip:
    """A rendered scene. rgb (T, H, W, 3) uint8 as decoded; wanted, others (T, H, W) uint8."""

    scene: Scene
    rgb: np.ndarray
    wanted: np.ndarray
    others: np.ndarray


def make_clip(stage: Stage, scene: Scene) -> Clip:
    """Render, compress and decode a scene."""
    random = np.random.default_rng(scene.seed)
    pictures, wanted, others = [], [], []
    for shot in scene.shots:
        for index in range(shot.frames):
            picture, alphas = stage.render(scene, shot, index)
            noise = random.normal(0, scene.noise, picture.shape)
            pictures.append(np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8))
            empty = np.zeros(picture.shape[:2], np.float32)
            mine = alphas.get(scene.wanted, empty)
            rest = sum((a for name, a in alphas.items() if name != scene.wanted), empty)
            wanted.append(np.rint(255 * np.clip(mine, 0, 1)).astype(np.uint8))
            others.append(np.rint(255 * np.clip(rest, 0, 1)).astype(np.uint8))
    return Clip(scene, compressed(pictures), np.stack(wanted), np.stack(others))


def compressed(pictures: list[np.ndarray], crf: int = 23) -> np.ndarray:
    """The pictures after H.264, yuv420p: (T, H, W, 3) uint8."""
    file = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(file, "w", format="mp4") as movie:
        options = {"crf": str(crf), "preset": "medium", "threads": "1"}
        options["x264-params"] = "asm=avx2"  # its AVX-512 code does not always give the same bytes
        stream = movie.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        movie.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as movie:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)])


def read_cast(folder: Path | None) -> dict[str, np.ndarray]:
    """Cut-outs by role: those of the folder that CAST names, drawn balls for the rest."""
    cast = {}
    for place, role in enumerate(ROLES):
        path = None if folder is None else folder / f"{CAST[role]}.png"
        known = path is not None and path.exists()
        cast[role] = read_cutout(path) if known and path else furry_ball(seed=place + 3)
    return cast


def grey(colours: np.ndarray) -> np.ndarray:
    """Grey clothes: two subjects that wear them differ by texture and brightness only."""
    return np.repeat(colours.mean(-1, keepdims=True), 3, -1)


def dark(colours: np.ndarray) -> np.ndarray:
    """A subject in the dark."""
    return 0.35 * colours


def line(*stops: tuple[float, float, float, float]) -> tuple[Stop, ...]:
    return tuple(Stop(*stop) for stop in stops)


def still(x: float, bottom: float, height: float) -> tuple[Stop, ...]:
    return line((0, x, bottom, height), (1, x, bottom, height))


def scenes() -> Iterator[Scene]:
    """The scenes, each named after its difficulty."""
    across = line((0, 0.27, 1.06, 0.85), (1, 0.75, 1.06, 0.85))
    back = line((0, 0.74, 1.06, 0.83), (1, 0.24, 1.06, 0.83))
    yield Scene(
        "front", "a", (Shot((Actor("b", "side", back), Actor("a", "arms", across)), 30, 0),)
    )
    yield Scene(
        "behind", "a", (Shot((Actor("a", "side", across), Actor("b", "back", back)), 30, 1),)
    )
    alike = (Actor("a", "side", across, dress=grey), Actor("b", "back", back, dress=grey))
    yield Scene("similar", "a", (Shot(alike, 30, 2),))
    hidden = line((0, 0.2, 0.95, 0.55), (1, 0.85, 0.95, 0.55))
    wall = still(0.55, 1.1, 1.0)
    yield Scene("occl", "a", (Shot((Actor("a", "heavy", hidden), Actor("b", "fur", wall)), 36, 3),))
    yield leaving("leave", "side", "arms", 4)
    growing = line((0, 0.25, 0.9, 0.35), (1, 0.6, 1.15, 0.95))
    passed = line((0, 0.65, 0.95, 0.55), (1, 0.4, 0.95, 0.55))
    yield Scene(
        "scale", "a", (Shot((Actor("b", "cat", passed), Actor("a", "heavy", growing)), 30, 5),)
    )
    yield cutting("cut", "side", "arms", 6)
    quick = line((0, 0.1, 1.06, 0.8), (0.5, 0.9, 1.06, 0.8), (1, 0.15, 1.06, 0.8))
    standing = Actor("b", "back", still(0.5, 1.06, 0.75))
    yield Scene("fast", "a", (Shot((standing, Actor("a", "arms", quick)), 30, 7),))
    yield panning("cam", 8)
    yield Scene(
        "ignored",
        "a",
        (
            Shot(
                (
                    Actor("b", "fur", still(0.68, 1.02, 0.9)),
                    Actor(
                        "a", "heavy", line((0, 0.12, 0.62, 0.2), (1, 0.32, 0.64, 0.2)), dress=dark
                    ),
                ),
                30,
                9,
            ),
        ),
    )
    twin = (Actor("a", "side", across), Actor("b", "side", back))
    yield Scene("twins", "a", (Shot(twin, 30, 10),))
    yield touching("group", 11)
    drive = line((0, 0.45, 0.92, 0.42), (1, 0.55, 0.92, 0.42))
    walker = line((0, -0.1, 1.06, 0.8), (1, 1.1, 1.06, 0.8))
    yield Scene(
        "carpers", "a", (Shot((Actor("a", "car", drive), Actor("b", "back", walker)), 30, 12),)
    )
    first, second = (
        line((0, 0.3, 0.95, 0.5), (1, 0.6, 0.95, 0.5)),
        line((0, 0.75, 1.0, 0.75), (1, 0.4, 1.0, 0.75)),
    )
    yield Scene(
        "animals", "a", (Shot((Actor("b", "fur", second), Actor("a", "cat", first)), 30, 13),)
    )
    yield from held_out_scenes()


def held_out_scenes() -> Iterator[Scene]:
    """Scenes that no setting was tuned on."""
    left = line((0, 0.8, 1.05, 0.9), (1, 0.2, 1.05, 0.9))
    right = line((0, 0.2, 0.98, 0.6), (1, 0.8, 0.98, 0.6))
    pair = (Actor("b", "fur", left), Actor("a", "heavy", right))
    yield Scene("trunk", "a", (Shot(pair, 30, 14),), held_out=True)
    three = (
        Actor("b", "arms", line((0, 0.2, 1.06, 0.8), (1, 0.5, 1.06, 0.8))),
        Actor("a", "back", line((0, 0.5, 1.06, 0.7), (1, 0.55, 1.06, 0.7))),
        Actor("c", "side", line((0, 0.85, 1.06, 0.85), (1, 0.45, 1.06, 0.85))),
    )
    yield Scene("hats", "a", (Shot(three, 30, 15),), width=960, height=540, held_out=True)
    blond = (
        Actor("a", "back", line((0, 0.75, 1.06, 0.8), (1, 0.3, 1.06, 0.95))),
        Actor("b", "cat", line((0, 0.2, 1.0, 0.5), (1, 0.7, 1.0, 0.5))),
    )
    yield Scene("blond", "a", (Shot(blond, 30, 16),), held_out=True)
    yield from later_scenes()


def later_scenes() -> Iterator[Scene]:
    """Scenes made after all others, to see whether the method holds beyond them."""
    nearer = line((0, 0.35, 0.9, 0.35), (1, 0.62, 1.2, 1.1))
    passer = line((0, 1.15, 1.06, 0.8), (1, -0.15, 1.06, 0.8))
    towards = (Actor("a", "back", nearer), Actor("b", "side", passer, mirrored=True))
    yield Scene("towards", "a", (Shot(towards, 24, 17),), held_out=True)
    entering = line((0, 0.0, 1.06, 0.85), (1, 0.45, 1.06, 0.85))
    leaves = line((0, 0.6, 1.0, 0.6), (1, -0.2, 1.0, 0.6))
    edge = (Actor("b", "fur", leaves), Actor("a", "side", entering))
    yield Scene("edge", "a", (Shot(edge, 24, 18, pan=-2.0),), held_out=True)
    darting = line((0, 0.9, 0.98, 0.28), (0.4, 0.45, 0.94, 0.26), (1, 0.05, 0.98, 0.3))
    sitting = Actor("b", "arms", still(0.4, 1.06, 0.9))
    yield Scene(
        "darting", "a", (Shot((sitting, Actor("a", "cat", darting)), 24, 19),), held_out=True
    )
    trio = (
        Actor("b", "side", line((0, 0.15, 1.06, 0.75), (1, 0.6, 1.06, 0.75)), dress=grey),
        Actor("a", "side", line((0, 0.5, 1.06, 0.8), (1, 0.4, 1.06, 0.8)), True, dress=grey),
        Actor("c", "side", line((0, 0.85, 1.06, 0.85), (1, 0.3, 1.06, 0.85)), dress=grey),
    )
    yield Scene("trio", "a", (Shot(trio, 24, 20),), held_out=True)


def leaving(name: str, wanted: str, other: str, ground: int) -> Scene:
    """The wanted subject leaves the frame, another enters, the wanted one returns."""
    mine = line(
        (0, 0.35, 1.06, 0.85),
        (0.3, -0.3, 1.06, 0.85),
        (0.62, -0.3, 1.06, 0.85),
        (1, 0.4, 1.06, 0.85),
    )
    yours = line(
        (0, 1.3, 1.06, 0.8), (0.25, 1.3, 1.06, 0.8), (0.6, 0.7, 1.06, 0.8), (1, 0.72, 1.06, 0.8)
    )
    return Scene(
        name, "a", (Shot((Actor("b", other, yours), Actor("a", wanted, mine)), 36, ground),)
    )


def cutting(name: str, wanted: str, other: str, ground: int) -> Scene:
    """A cut after which both have moved: mirrored, resized, over another background."""
    before = (Actor("b", other, still(0.7, 1.06, 0.8)), Actor("a", wanted, still(0.3, 1.06, 0.8)))
    after = (
        Actor("a", wanted, line((0, 0.72, 1.06, 1.0), (1, 0.66, 1.06, 1.0)), mirrored=True),
        Actor("b", other, line((0, 0.25, 1.06, 0.7), (1, 0.32, 1.06, 0.7)), mirrored=True),
    )
    return Scene(name, "a", (Shot(before, 14, ground), Shot(after, 16, ground + 3)))


def panning(name: str, ground: int) -> Scene:
    """The camera pans by 9 pixels a frame over standing subjects; a third one passes."""
    step = 9 * 30 / WIDTH
    cast = (
        Actor("a", "cat", line((0, 0.3, 0.98, 0.5), (1, 0.3 + step, 0.98, 0.5))),
        Actor("b", "heavy", line((0, 0.0, 0.95, 0.6), (1, step, 0.95, 0.6))),
        Actor("c", "side", line((0, 1.2, 1.06, 0.8), (1, -0.1, 1.06, 0.8))),
    )
    return Scene(name, "a", (Shot(cast, 30, ground, pan=9.0),))


def touching(name: str, ground: int) -> Scene:
    """Three subjects that touch throughout; the middle one is wanted."""
    cast = (
        Actor("b", "back", line((0, 0.33, 1.06, 0.85), (1, 0.36, 1.06, 0.85))),
        Actor("a", "arms", line((0, 0.5, 1.06, 0.8), (1, 0.52, 1.06, 0.8))),
        Actor("c", "side", line((0, 0.68, 1.06, 0.9), (1, 0.66, 1.06, 0.9))),
    )
    return Scene(name, "a", (Shot(cast, 30, ground),))

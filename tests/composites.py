"""Moving subjects with known alpha, colours and motion: ground truth to measure mattes against.

A cut-out (RGBA) moves along a smooth path, rotated, scaled and bent by travelling
waves, rendered at sub-pixel positions with 180-degree shutter blur over a slowly panning
background, with sensor noise, and compressed as H.264. Run as a script it writes
clips with their ground truth:

    python tests/composites.py OUT [--cutouts DIR] [--background FILE ...] [--seed N]

OUT/NAME.mp4 is the clip; OUT/NAME/alpha/00000.png the true alpha (16 bit);
OUT/NAME/motion/00001.png where each pixel was one frame earlier, as the KITTI
benchmark stores flow (16-bit PNG: x, y as 64 steps a pixel from 32768, valid).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

FRAMES = 24
SHUTTER = 0.5  # of the frame's time
LARGEST_SCALE = 1.7  # of a cut-out: more would make its edges softer than a camera's
FLOW_STEPS, FLOW_ZERO = 64.0, 32768.0


@dataclass(frozen=True)
class Scene:
    """One composite, fully determined by its values.

    cutout: (h, w, 4) float32, straight colours 0..255 and alpha 0..1 as the last channel.
    background: (H', W', 3) uint8, larger than the frame's shape or scaled up to it.
    share: height of the subject against the frame's. speed: pixels a frame, about.
    """

    name: str
    cutout: np.ndarray
    background: np.ndarray
    width: int = 1280
    height: int = 720
    share: float = 0.75
    speed: float = 5.0
    noise: float = 3.0
    wave: float = 2.5
    frames: int = FRAMES
    seed: int = 0

    @cached_property
    def premultiplied(self) -> np.ndarray:
        """The premultiplied cut-out with a transparent border; a cut-off lower edge is extended."""
        colour, alpha = self.cutout[..., :3], self.cutout[..., 3:]
        picture = np.concatenate([colour * alpha, alpha], axis=2).astype(np.float32)
        if alpha[-1].max() > 0.5:
            rows = picture.shape[0] // 3
            picture = cv2.copyMakeBorder(picture, 0, rows, 0, 0, cv2.BORDER_REPLICATE)
        return np.asarray(cv2.copyMakeBorder(picture, 8, 8, 8, 8, cv2.BORDER_CONSTANT))

    @cached_property
    def subject(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the opaque part of the cut-out."""
        x, y, w, h = cv2.boundingRect((self.cutout[..., 3] > 0.02).astype(np.uint8))
        return x + 8, y + 8, w, h

    def pose(self, time: float) -> tuple[np.ndarray, float, float]:
        """Centre in the frame (x, y), scale, and angle in radians, at a time in frames."""
        random = np.random.default_rng(self.seed)
        phase = random.uniform(0, 2 * np.pi, 6)
        _, _, w, h = self.subject
        scale = min(self.share * self.height / h, 0.95 * self.width / w, LARGEST_SCALE)
        reach = 0.16 * self.width  # of the path, to each side
        rate = self.speed / reach
        x = 0.5 * self.width + reach * np.sin(rate * time + phase[0])
        y = 0.5 * self.height + 0.25 * reach * np.sin(0.7 * rate * time + phase[1])
        if self.cutout[-1, :, 3].max() > 0.5:  # cut off below: placed on the lower border
            y += 0.5 * (self.height - scale * h) + 0.28 * reach
        scale *= 1 + 0.03 * np.sin(0.15 * time + phase[2])
        return np.array([x, y]), scale, 0.05 * np.sin(0.2 * time + phase[3])

    def wave_at(self, places: np.ndarray, time: float) -> np.ndarray:
        """The bend at places (..., 2) of the cut-out: a travelling wave, in its pixels."""
        size = max(self.subject[2:])
        along_x = np.sin(2 * np.pi * (places[..., 1] / (0.45 * size) - time / 17))
        along_y = np.sin(2 * np.pi * (places[..., 0] / (0.35 * size) - time / 13))
        return self.wave / self.pose(0)[1] * np.stack([along_x, along_y], axis=-1)

    def to_cutout(self, places: np.ndarray, time: float) -> np.ndarray:
        """Positions (..., 2) in the frame, mapped into the cut-out."""
        centre, scale, angle = self.pose(time)
        x, y, w, h = self.subject
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        straight = (places - centre) @ turn.T / scale + (x + w / 2, y + h / 2)
        return np.asarray(straight + self.wave_at(straight, time))

    def to_frame(self, places: np.ndarray, time: float) -> np.ndarray:
        """Positions (..., 2) in the cut-out, mapped into the frame: the inverse of to_cutout."""
        centre, scale, angle = self.pose(time)
        x, y, w, h = self.subject
        straight = places
        for _ in range(8):
            straight = places - self.wave_at(straight, time)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return np.asarray((straight - (x + w / 2, y + h / 2)) * scale @ turn + centre)

    @cached_property
    def grid(self) -> np.ndarray:
        """The centres of the frame's pixels, (H, W, 2)."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), -1).astype(
            np.float64
        )

    def motion(self, index: int) -> np.ndarray:
        """(H, W, 2) float32: the point at p in this frame was at p + motion in the previous one."""
        there = self.to_frame(self.to_cutout(self.grid, index), index - 1)
        return (there - self.grid).astype(np.float32)

    def layers(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Alpha (H, W), premultiplied colours and background (H, W, 3): float32, exact."""
        steps = int(np.clip(np.ceil(self.speed * SHUTTER / 1.5), 2, 9))
        subject = np.zeros((self.height, self.width, 4), np.float32)
        ground = np.zeros((self.height, self.width, 3), np.float32)
        picture = self.premultiplied
        shrink = self.pose(0)[1]
        if shrink < 0.75:  # against aliasing when the cut-out is scaled down a lot
            picture = cv2.GaussianBlur(picture, (0, 0), 0.35 / shrink)
        for step in range(steps):
            time = index + SHUTTER * ((step + 0.5) / steps - 0.5)
            places = self.to_cutout(self.grid, time).astype(np.float32)
            subject += cv2.remap(picture, places, None, cv2.INTER_CUBIC)
            ground += self.background_at(time)
        subject, ground = subject / steps, ground / steps
        alpha = np.clip(subject[..., 3], 0, 1)
        colour = np.clip(subject[..., :3], 0, 255 * alpha[..., None])
        return alpha, colour, ground

    def background_at(self, time: float) -> np.ndarray:
        """The background, slowly panned and zoomed, (H, W, 3) float32."""
        h, w = self.background.shape[:2]
        zoom = max(self.width / w, self.height / h) * (1.25 + 0.002 * time)
        x = 0.5 * self.width + 1.1 * (time - self.frames / 2) - zoom * w / 2
        y = 0.5 * self.height + 0.4 * (time - self.frames / 2) - zoom * h / 2
        place = np.float32([[zoom, 0, x], [0, zoom, y]])
        size = (self.width, self.height)
        moved = cv2.warpAffine(
            self.background, place, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(moved.astype(np.float32))

    def picture(self, index: int) -> np.ndarray:
        """The composite with its noise, (H, W, 3) uint8 RGB, before compression."""
        alpha, colour, ground = self.layers(index)
        clean = colour + (1 - alpha[..., None]) * ground
        random = np.random.default_rng((self.seed, index))
        noise = random.normal(0, self.noise, clean.shape).astype(np.float32)
        return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def furry_ball(seed: int = 0, side: int = 480, strokes: int = 5000) -> np.ndarray:
    """A ball of tapering strokes, (side, side, 4) float32, with exact coverage.

    Drawn at four times the size without anti-aliasing, then averaged down.
    """
    random = np.random.default_rng(seed)
    big = side * 4
    canvas = np.zeros((big, big, 4), np.uint8)
    centre, radius = big / 2, big * 0.36
    base = random.uniform(60, 200, 3)
    cv2.circle(canvas, (big // 2, big // 2), int(radius), (*map(int, base), 255), -1)
    for _ in range(strokes):
        angle, start = random.uniform(0, 2 * np.pi), radius * random.uniform(0.1, 1)
        length, curl = big * random.uniform(0.05, 0.13), random.uniform(-1.2, 1.2)
        shade = np.clip(base * random.uniform(0.5, 1.5) + random.normal(0, 12, 3), 0, 255)
        along = np.linspace(0, 1, 8)
        bent = angle + curl * along**2 * 0.5
        x = centre + np.cos(bent) * (start + length * along)
        y = centre + np.sin(bent) * (start + length * along)
        points = np.stack([x, y], -1).astype(np.int32)
        for part, (p, q) in enumerate(pairwise(points)):
            thick = max(1, round(6 * (1 - part / 7)))
            cv2.line(canvas, p.tolist(), q.tolist(), (*map(int, shade), 255), thick)
    for x, y in ((-0.1, -0.08), (0.1, -0.08)):
        spot = (int(centre + x * big), int(centre + y * big))
        cv2.circle(canvas, spot, big // 28, (250, 250, 245, 255), -1)
        cv2.circle(canvas, spot, big // 55, (15, 15, 20, 255), -1)
    alpha = canvas[..., 3:].astype(np.float32) / 255
    mean = cv2.resize(
        np.concatenate([canvas[..., :3] * alpha, alpha], 2),
        (side, side),
        interpolation=cv2.INTER_AREA,
    )
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return mean


def painted_background(seed: int = 0, height: int = 480, width: int = 854) -> np.ndarray:
    """A soft, photo-like background: light falloff, blurred objects, fine grain."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (2, 4, 8, 16, 64):
        light = random.normal(0, 60 / cells**0.6, (cells, cells * 2, 1))
        coarse = light + random.normal(0, 12 / cells**0.6, (cells, cells * 2, 3))
        picture += cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    picture += random.uniform(80, 150)
    for _ in range(14):
        corner = random.uniform((-50, -50), (width, height)).astype(int)
        size = random.uniform(10, 160, 2).astype(int)
        tone = random.uniform(40, 200) + random.normal(0, 9, 3)
        cv2.rectangle(picture, corner.tolist(), (corner + size).tolist(), tone.tolist(), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(3, 9))
    return np.clip(picture + random.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def read_cutout(path: Path) -> np.ndarray:
    """(h, w, 4) float32: RGB 0..255, alpha 0..1."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise SystemExit(f"{path} is not an RGBA picture: give a folder of cut-outs")
    picture = cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA).astype(np.float32)
    picture[..., 3] /= 255
    return picture


def read_backgrounds(paths: list[Path]) -> list[np.ndarray]:
    """Images, and the frames of movies at the first, second and third quarter."""
    grounds = []
    for path in paths:
        picture = cv2.imread(str(path))
        if picture is not None:
            grounds.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            continue
        with av.open(str(path)) as movie:
            frames = [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]
        grounds += [frames[len(frames) * quarter // 4] for quarter in (1, 2, 3)]
    return grounds


def standard_scenes(
    cutouts: dict[str, np.ndarray], grounds: list[np.ndarray], seed: int
) -> list[Scene]:
    """One scene per cut-out; size, speed, noise and background vary from scene to scene."""
    kinds = [  # width, height, share, speed, noise
        (1280, 720, 0.8, 5, 3.0),
        (960, 540, 0.75, 6.5, 2.5),
        (1280, 720, 0.7, 24, 3.0),
        (960, 540, 0.9, 5, 4.0),
        (1920, 1080, 0.45, 9, 2.5),
        (1280, 720, 0.65, 8.5, 4.0),
        (1280, 720, 0.9, 3, 3.0),
    ]
    scenes = []
    for place, (name, cutout) in enumerate(sorted(cutouts.items())):
        width, height, share, speed, noise = kinds[(place + 3 * seed) % len(kinds)]
        scenes.append(
            Scene(
                f"{name}-s{seed}",
                cutout,
                grounds[(2 * place + 5 * seed) % len(grounds)],
                width=width,
                height=height,
                share=share,
                speed=speed,
                noise=noise,
                seed=100 * seed + place,
            )
        )
    return scenes


def write_clip(scene: Scene, path: Path) -> None:
    """Encode a scene's pictures as H.264, yuv420p, crf 23, 25 frames a second, bt709."""
    with av.open(str(path), "w") as movie:
        stream = movie.add_stream("libx264", rate=25, options={"crf": "23", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        for index in range(scene.frames):
            frame = av.VideoFrame.from_ndarray(scene.picture(index), format="rgb24")
            movie.mux(stream.encode(frame))
        movie.mux(stream.encode(None))


def read_clip(path: Path) -> Iterator[np.ndarray]:
    """The frames of a written clip, (H, W, 3) uint8 RGB."""
    with av.open(str(path)) as movie:
        for frame in movie.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def write_truth(scene: Scene, folder: Path) -> None:
    """Alpha and motion of a scene as 16-bit PNGs, as the module's docstring says."""
    for kind in ("alpha", "motion"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(scene.frames):
        alpha, _, _ = scene.layers(index)
        codes = np.rint(alpha * 65535).astype(np.uint16)
        cv2.imwrite(str(folder / "alpha" / f"{index:05d}.png"), codes)
        if index:
            cv2.imwrite(
                str(folder / "motion" / f"{index:05d}.png"), encode_motion(scene.motion(index))
            )


def encode_motion(motion: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 pixels -> (H, W, 3) uint16 for cv2.imwrite (blue, green, red order)."""
    codes = np.rint(motion * FLOW_STEPS + FLOW_ZERO)
    valid = ((codes > 0) & (codes < 65535)).all(axis=2)
    codes = np.clip(codes, 0, 65535).astype(np.uint16)
    return np.dstack([valid.astype(np.uint16), codes[..., 1], codes[..., 0]])


def main() -> None:
    """Write the standard scenes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA PNGs (default: a drawn ball)")
    parser.add_argument("--background", type=Path, nargs="*", default=[], help="pictures, movies")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cutouts = {"ball": furry_ball(options.seed)}
    if options.cutouts:
        cutouts |= {path.stem: read_cutout(path) for path in sorted(options.cutouts.glob("*.png"))}
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(8)]
    options.out.mkdir(parents=True, exist_ok=True)
    for scene in standard_scenes(cutouts, grounds, options.seed):
        write_clip(scene, options.out / f"{scene.name}.mp4")
        write_truth(scene, options.out / scene.name)
        print(f"{scene.name}: {scene.width}x{scene.height}, {scene.frames} frames")


if __name__ == "__main__":
    main()

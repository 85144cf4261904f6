"""The error of keyed and clean-plate mattes.

    python tests/measure_keyer.py --cutouts DIR [--background FILE ...] [--network]

Cut-outs over a screen with uneven light, wrinkles, a soft shadow, spill, noise and H.264 in
4:2:0 (fair and hard light, green and blue, and clothes of the screen's colour), and over
photographs with a clean plate. MAD x 1000 and MSE x 1000, means over the cut-outs; with
``--network`` also u2netp's alpha alone and combined.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from composites import painted_background, read_backgrounds, read_cutout
from guidance_clips import compressed

from vidmatte.models.keyer import (
    ChromaKeyer,
    CleanPlate,
    KeySettings,
    add_core,
    combine_with_plate,
)
from vidmatte.models.weights.store import _default_folder as default_folder

WIDTH, HEIGHT = 1280, 720
SCREENS = {"green": (0.10, 0.62, 0.18), "blue": (0.08, 0.20, 0.65)}
LIGHTS = {  # noise, crf, shadow, spill, gain of the plate's light
    "fair": (2.5, 20, 0.25, 1.0, 1.01),
    "hard": (5.0, 28, 0.45, 1.5, 1.04),
}


def placed(cutout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out placed in the frame: premultiplied colours 0..1 and alpha."""
    x, y, w, h = cv2.boundingRect((cutout[..., 3] > 0.02).astype(np.uint8))
    sprite = cutout[y : y + h, x : x + w].copy()
    sprite[..., :3] *= sprite[..., 3:] / 255
    scale = min(0.85 * HEIGHT / h, 0.7 * WIDTH / w)
    place = np.float32([[scale, 0, WIDTH / 2 - scale * w / 2], [0, scale, HEIGHT - scale * h + 2]])
    laid = cv2.warpAffine(sprite, place, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    laid = cv2.GaussianBlur(laid, (0, 0), 0.6)
    return laid[..., :3], np.clip(laid[..., 3], 0, 1)


def screen(colour: tuple[float, ...], hard: bool, random: np.random.Generator) -> np.ndarray:
    """A lit screen with wrinkles, (H, W, 3) float32."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = 1.12 - 0.5 * ((x / WIDTH - 0.4) ** 2 + (y / HEIGHT - 0.35) ** 2)
    field = random.normal(size=(2, HEIGHT, WIDTH)).astype(np.float32)
    light += 1.8 * cv2.GaussianBlur(field[0], (0, 0), 30)
    light *= 1 + 0.45 * cv2.GaussianBlur(field[1], (0, 0), 9, sigmaY=60)
    if hard:
        light *= 0.75 + 0.35 * x / WIDTH
    return np.float32(colour) * light[..., None]


def keyed_frame(
    cutout: np.ndarray, colour: str, light: str, dressed: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A compressed frame before a screen, uint8, and its alpha."""
    random = np.random.default_rng(seed)
    noise, crf, shadow, spill, _ = LIGHTS[light]
    front, alpha = placed(cutout)
    if dressed:  # clothes towards the screen's colour
        low = np.clip((np.mgrid[0:HEIGHT, 0:WIDTH][0] / HEIGHT - 0.55) / 0.1, 0, 1)[..., None]
        grey = front.mean(-1, keepdims=True)
        front = front + 0.6 * low * (grey * np.float32(SCREENS[colour]) / 0.35 - front)
    ground = screen(SCREENS[colour], light == "hard", random)
    shade = cv2.GaussianBlur(np.roll(alpha, (25, 60), (0, 1)), (0, 0), 35) * shadow
    ground = ground * (1 - shade[..., None])
    rim = cv2.GaussianBlur(1 - alpha, (0, 0), 25)[..., None] * alpha[..., None]
    front = front + spill * 0.16 * rim * np.float32(SCREENS[colour])
    picture = 255 * (front + ground * (1 - alpha[..., None]))
    return noisy(picture, noise, crf, random, 1)[0], alpha


def noisy(
    picture: np.ndarray, noise: float, crf: int, random: np.random.Generator, count: int
) -> np.ndarray:
    """``count`` compressed frames of a picture, each with fresh noise."""
    frames = [picture + random.normal(0, noise, picture.shape) for _ in range(count)]
    return compressed([np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in frames], crf)


def plate_frame(
    cutout: np.ndarray, ground: np.ndarray, light: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A compressed frame before a photograph, its alpha, and the plate."""
    random = np.random.default_rng(seed)
    noise, crf, shadow, _, gain = LIGHTS[light]
    front, alpha = placed(cutout)
    scale = max(WIDTH / ground.shape[1], HEIGHT / ground.shape[0])
    large = cv2.resize(ground, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    behind = cv2.GaussianBlur(large[:HEIGHT, :WIDTH].astype(np.float32) / 255, (0, 0), 1)
    shade = cv2.GaussianBlur(np.roll(alpha, (20, 50), (0, 1)), (0, 0), 30) * 0.7 * shadow
    lit = behind * gain * (1 - shade[..., None])
    picture = 255 * (front + lit * (1 - alpha[..., None]))
    plate = noisy(255 * behind, 2.5, crf, random, 8).mean(0)
    return noisy(picture, noise, crf, random, 1)[0], alpha, plate.astype(np.float32)


def network() -> Callable[[np.ndarray], np.ndarray]:
    """u2netp: (H, W, 3) uint8 to alpha (H, W)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = default_folder() / "u2netp.onnx"
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

    def alpha(rgb: np.ndarray) -> np.ndarray:
        square = cv2.resize(rgb, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        shown = ((square - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
        found = session.run(None, {session.get_inputs()[0].name: shown})[0][0, 0]
        return np.clip(cv2.resize(found, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 1)

    return alpha


class Table:
    """Errors by row and method."""

    def __init__(self) -> None:
        self._errors: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(self, row: str, method: str, alpha: np.ndarray, truth: np.ndarray) -> None:
        error = alpha.astype(np.float64) - truth
        found = 1000 * float(np.abs(error).mean()), 1000 * float((error**2).mean())
        self._errors.setdefault((row, method), []).append(found)

    def print(self) -> None:
        for (row, method), found in self._errors.items():
            mad, mse = np.mean(found, axis=0)
            median = np.median([m for m, _ in found])
            print(f"{row:16s} {method:24s} MAD {mad:6.2f} (median {median:5.2f})  MSE {mse:5.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cutouts", type=Path, required=True, help="folder of RGBA PNGs")
    parser.add_argument("--background", type=Path, nargs="*", default=[])
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    cutouts = {path.stem: read_cutout(path) for path in sorted(options.cutouts.glob("*.png"))}
    grounds = read_backgrounds(options.background) or [painted_background(n) for n in range(4)]
    predict = network() if options.network else None
    table, spent, count = Table(), 0.0, 0
    for light in LIGHTS:
        for place, (_, cutout) in enumerate(cutouts.items()):
            for colour, dressed in (("green", False), ("blue", False), ("green", True)):
                row = f"{light} {colour}{' clothes' if dressed else ''}"
                rgb, truth = keyed_frame(cutout, colour, light, dressed, place)
                start = time.process_time()
                key = ChromaKeyer().alpha(rgb)
                spent, count = spent + time.process_time() - start, count + 1
                flat = ChromaKeyer(settings=KeySettings(low=0.12, local=False)).alpha(rgb)
                table.add(row, "key, one screen colour", flat, truth)
                table.add(row, "key", key, truth)
                if predict is not None:
                    seen = predict(rgb)
                    table.add(row, "network", seen, truth)
                    table.add(row, "key + network's core", add_core(key, seen), truth)
            rgb, truth, plate = plate_frame(cutout, grounds[place % len(grounds)], light, place)
            seen = predict(rgb) if predict is not None else np.zeros_like(truth)
            found = CleanPlate(plate).difference(rgb, seen)
            table.add(f"{light} plate", "difference alone", found, truth)
            if predict is not None:
                table.add(f"{light} plate", "network", seen, truth)
                table.add(f"{light} plate", "both", combine_with_plate(seen, found), truth)
    table.print()
    print(f"key: {1000 * spent / count:.0f} core ms a {HEIGHT}p frame")


if __name__ == "__main__":
    main()

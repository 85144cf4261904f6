"""One of two chosen, before and after: the picture in the README.

    python tests/subject_picture.py examples/subject.jpg

Two drawn furry balls cross over a painted background (guidance_clips.py). From left to right: a
source frame, what the network takes for the subject, and what is left with ``--subject`` and a
point on the first frame, both over grey.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from composites import furry_ball, painted_background
from guidance_clips import Actor, Scene, Shot, Stage, line, make_clip

import vidmatte

SIZE = (480, 270)
FRAMES, SHOWN = 18, 12
CLICK = (130, 180)  # inside the ball that goes right
GREY = "#606060"
QUALITY = 85


def scene() -> Scene:
    """A ball that goes right, behind one that goes left."""
    right = Actor("right", "arms", line((0, 0.27, 0.93, 0.62), (1, 0.72, 0.93, 0.62)))
    left = Actor("left", "back", line((0, 0.75, 0.98, 0.56), (1, 0.33, 0.98, 0.56)))
    return Scene("balls", "right", (Shot((right, left), FRAMES),), *SIZE)


def dyed(ball: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """A ball in another colour; its brightness stays."""
    grey = ball[..., :3].mean(-1, keepdims=True)
    return np.dstack([grey * np.float32(colour), ball[..., 3:]])


def composite(clip: Path, folder: Path, **options: Any) -> np.ndarray:
    """The frame shown of a run over grey, (H, W, 3) uint8 RGB."""
    comp = folder / "comp.mkv"
    settings = {"model": "u2netp", "comp": comp, "background": GREY, "overwrite": True}
    vidmatte.matte(clip, folder / "cut.mov", **settings, **options)
    with av.open(str(comp)) as movie:
        return [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)][SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("picture", type=Path, help="a .jpg or .png file")
    result = parser.parse_args().picture
    cast = {
        "arms": dyed(furry_ball(1), (1.35, 1.0, 0.55)),
        "back": dyed(furry_ball(4), (0.6, 0.95, 1.4)),
    }
    made = make_clip(Stage(cast, [painted_background(3)]), scene())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frames = folder / "clip"
        frames.mkdir()
        for index, picture in enumerate(made.rgb):
            cv2.imwrite(str(frames / f"{index:03}.png"), picture[..., ::-1])
        before = composite(frames, folder, fps=25)
        after = composite(frames, folder, fps=25, subject=vidmatte.Point(*CLICK))
    sheet = np.hstack([made.rgb[SHOWN], before, after])
    cv2.imwrite(str(result), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(f"{result}: {result.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

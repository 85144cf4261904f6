"""Fur over a new background, before and after: the picture in the README.

    python tests/before_after.py examples/before-after.jpg

A drawn furry ball is moved over a painted background and compressed (composites.py). Left
is what the bare network gives: its alpha stretched frame by frame, unfiltered, with the
source's own colours. Right is what vidmatte gives with its defaults. Both are composites
of the same frame, as ``vidmatte --comp`` writes them, cropped alike.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from composites import Scene, furry_ball, painted_background, write_clip

import vidmatte

BARE = {"normalize": "minmax", "smooth": "off", "refine": "off", "foreground": "source"}
FRAMES, SHOWN = 16, 9
WIDTH, HEIGHT = 960, 540
CROP = np.s_[310:530, 110:440]
ENLARGED, GAP = 2, 8
QUALITY = 88


def composite(clip: Path, folder: Path, background: Path, **options: Any) -> np.ndarray:
    """The frame shown of vidmatte's own composite, (H, W, 3) uint8 RGB."""
    comp = folder / "comp.mkv"
    settings = {"model": "isnet", "comp": str(comp), "background": str(background)}
    vidmatte.matte(clip, folder / "cut.mov", overwrite=True, **settings, **options)
    with av.open(str(comp)) as movie:
        frames = [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]
    return frames[SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("picture", type=Path, help="a .jpg or .png file")
    result = parser.parse_args().picture
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip, background = folder / "clip.mp4", folder / "new.png"
        old, new = painted_background(3), painted_background(9, HEIGHT, WIDTH) // 2
        write_clip(Scene("ball", furry_ball(0), old, WIDTH, HEIGHT, 0.8, frames=FRAMES), clip)
        cv2.imwrite(str(background), new[..., ::-1])
        both = [composite(clip, folder, background, **how) for how in (BARE, {})]
    parts = [cv2.resize(each[CROP], None, fx=ENLARGED, fy=ENLARGED) for each in both]
    gap = np.full((len(parts[0]), GAP, 3), 255, np.uint8)
    sheet = np.hstack([parts[0], gap, parts[1]])
    cv2.imwrite(str(result), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(f"{result}: {result.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""The error of the temporal filter's motion estimate in the soft band of the matte.

    python tests/measure_motion.py [--cutouts DIR] [--background FILE ...] [--keep DIR]

The clips are those of measure_matte.py, the alphas isnet's own. For a few frames of each the
motion to the previous frame is compared with the true one where the true alpha is soft. Prints
the mean error, the 90th percentile and the mean trust; lengths are in pixels of the coarse
scale, a quarter of a frame of 1280x720.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from clip_cache import CachedClip
from measure_matte import add_clip_options, standard_clips

from vidmatte.alpha.box import _working_size
from vidmatte.alpha.flow import FlowField
from vidmatte.jobs.smoothing import temporal_filter_for
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.registry import find_model
from vidmatte.settings import Settings

FRAMES = (4, 13, 21)
SOFT_LOW, SOFT_HIGH = 0.03, 0.97


def found_motion(clip: CachedClip, weights: Weights) -> dict[int, FlowField]:
    """The filter's motion estimate to the previous frame, by frame."""
    settings = Settings(smooth="off")
    frames = clip.footage(weights, settings).mattes(weights, settings)
    track = temporal_filter_for(recurrent=False, settings=Settings()).track_stage
    found = {}
    for previous, here in pairwise(frames):
        if here.index in FRAMES:
            previous.new_shot = True
            *_, tracked = track([previous, here])
            found[here.index] = tracked.to_last
    return found


def distances(clip: CachedClip, index: int, field: FlowField) -> tuple[float, float, float]:
    """Mean error, 90th percentile and mean trust where the true alpha is soft."""
    shape = (-(-np.array(clip.rgb.shape[1:3]) // coarse_step(clip))).tolist()[::-1]
    reduced = cv2.resize(np.array(clip.motion[index - 1]), shape, interpolation=cv2.INTER_AREA)
    truth = field.box.crop(cv2.resize(clip.truth(index), shape, interpolation=cv2.INTER_AREA))
    true_motion = field.box.crop(reduced) / np.float32(coarse_step(clip))
    away = np.linalg.norm(field.motion[..., :2] - true_motion, axis=2)
    soft = (truth > SOFT_LOW) & (truth < SOFT_HIGH)
    return (
        float(away[soft].mean()),
        float(np.percentile(away[soft], 90)),
        float(field.trust[soft].mean()),
    )


def coarse_step(clip: CachedClip) -> int:
    """Pixels of the frame per pixel of the coarse scale, along a side."""
    height, width = clip.rgb.shape[1:3]
    return 2 * round(height / _working_size(height, width)[0])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_clip_options(parser)
    options = parser.parse_args(arguments)
    weights = find_model(Settings(), print).weights[0]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for clip in standard_clips(options, options.keep or Path(temporary)):
            found = found_motion(clip, weights).items()
            rows.append(np.mean([distances(clip, *each) for each in found], axis=0))
            print(
                "{:16} mean {:.3f}, worst tenth {:.3f}, trust {:.2f}".format(clip.name, *rows[-1])
            )
    print(
        "{:16} mean {:.3f}, worst tenth {:.3f}, trust {:.2f}".format("all", *np.mean(rows, axis=0))
    )


if __name__ == "__main__":
    main()

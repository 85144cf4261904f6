"""Cut the subject out of a clip, as ProRes 4444 with alpha and the clip's own sound.

python examples/clip_to_prores.py clip.mp4 cut.mov
"""

from __future__ import annotations

import argparse
import sys

import vidmatte


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the subject out of a clip.")
    parser.add_argument("clip")
    parser.add_argument("result", help="a .mov file")
    parser.add_argument("--model", default="isnet", help="a model's name or an .onnx file")
    parser.add_argument("--family", help="how an .onnx file of your own is fed")
    given = parser.parse_args()
    try:
        vidmatte.matte(given.clip, given.result, model=given.model, family=given.family)
    except vidmatte.VidmatteError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{given.result} lies exactly over {given.clip}: put it on the track above")


if __name__ == "__main__":
    main()

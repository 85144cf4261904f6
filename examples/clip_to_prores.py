"""Cut the subject out of a clip: ProRes 4444 with alpha and the clip's own sound.

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
    parser.add_argument("--model", default="isnet", help="model name or .onnx file")
    parser.add_argument("--family", help="model family of your own .onnx file, such as isnet")
    args = parser.parse_args()
    try:
        vidmatte.matte(args.clip, args.result, model=args.model, family=args.family)
    except vidmatte.VidmatteError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"wrote {args.result}: put it on the track above {args.clip}")


if __name__ == "__main__":
    main()

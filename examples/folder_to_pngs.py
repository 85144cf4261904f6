"""Cut the subject out of an image sequence: PNGs with alpha, file names kept.

python examples/folder_to_pngs.py plates/ cut/ --fps 24000/1001
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import vidmatte


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the subject out of an image sequence.")
    parser.add_argument("folder")
    parser.add_argument("result", type=Path, help="folder for the PNGs")
    parser.add_argument("--fps", default="25", help="frame rate, such as 25 or 24000/1001")
    parser.add_argument("--model", default="isnet", help="model name or .onnx file")
    parser.add_argument("--family", help="model family of your own .onnx file, such as isnet")
    args = parser.parse_args()
    # The trailing slash makes it a folder, even if its name has a dot in it.
    folder = f"{args.result}/"
    try:
        vidmatte.matte(
            args.folder,
            folder,
            model=args.model,
            family=args.family,
            fps=args.fps,
            format="png",
        )
    except vidmatte.VidmatteError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{len(list(args.result.glob('*.png')))} images in {args.result}")


if __name__ == "__main__":
    main()

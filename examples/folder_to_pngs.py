"""Cut the subject out of a folder of frames, as PNGs with alpha under the same names.

python examples/folder_to_pngs.py plates/ cut/ --fps 24000/1001
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import vidmatte


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the subject out of a folder of frames.")
    parser.add_argument("folder")
    parser.add_argument("result", type=Path, help="a folder for the PNGs")
    parser.add_argument("--fps", default="25", help="the frames' rate, like 25 or 24000/1001")
    parser.add_argument("--model", default="isnet", help="a model's name or an .onnx file")
    parser.add_argument("--family", help="how an .onnx file of your own is fed")
    given = parser.parse_args()
    # A suffix would name a file; the trailing slash says that a folder is meant.
    folder = f"{given.result}/"
    try:
        vidmatte.matte(
            given.folder,
            folder,
            model=given.model,
            family=given.family,
            fps=given.fps,
            format="png",
        )
    except vidmatte.VidmatteError as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{len(list(given.result.glob('*.png')))} pictures in {given.result}")


if __name__ == "__main__":
    main()

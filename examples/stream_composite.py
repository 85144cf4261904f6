"""Composite a clip's subject over a plain colour, frame by frame, with the streaming API.

python examples/stream_composite.py clip.mp4 green.mp4 --colour 0 177 64

Frames arrive one at a time, so memory does not grow with the clip; leaving the loop
early stops every thread and closes every file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

import vidmatte


def over_colour(
    source: str, colour: tuple[int, int, int], **options: str | None
) -> Iterator[tuple[np.ndarray, int, Fraction]]:
    """Yield (image, pts, time base) per frame; image is (H, W, 3) uint8 R'G'B', full range."""
    background = np.array(colour, np.float32) / 255
    with vidmatte.stream(source, **options) as frames:
        for frame in frames:
            subject = frame.rgb if frame.foreground is None else frame.foreground
            subject = subject.astype(np.float32) / np.iinfo(subject.dtype).max
            alpha = frame.alpha[..., None]
            image = alpha * subject + (1 - alpha) * background
            yield np.round(image * 255).astype(np.uint8), frame.pts, frame.time_base


def write_h264(images: Iterator[tuple[np.ndarray, int, Fraction]], result: str) -> int:
    """Encode images at their own times; return the number of frames written."""
    count = 0
    with av.open(result, "w") as container:
        stream = None
        for image, pts, time_base in images:
            # 4:2:0 needs even dimensions: drop an odd last row or column.
            height, width = (size // 2 * 2 for size in image.shape[:2])
            if stream is None:
                stream = container.add_stream("libx264", options={"crf": "18"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = time_base
                stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]))
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count


def level(text: str) -> int:
    """Parse one colour component, 0 to 255."""
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 255")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Composite a clip's subject over a colour.")
    parser.add_argument("clip")
    parser.add_argument("result", help="an .mp4 file")
    parser.add_argument("--colour", type=level, nargs=3, default=(0, 177, 64), metavar="0..255")
    parser.add_argument("--model", default="rvm", help="model name or .onnx file")
    parser.add_argument("--family", help="model family of your own .onnx file, such as isnet")
    args = parser.parse_args()
    images = over_colour(args.clip, tuple(args.colour), model=args.model, family=args.family)
    try:
        count = write_h264(images, args.result)
    except (vidmatte.VidmatteError, OSError) as error:  # PyAV raises OSError for the result
        sys.exit(f"{parser.prog}: {error}")
    print(f"{count} frames in {args.result}")


if __name__ == "__main__":
    main()

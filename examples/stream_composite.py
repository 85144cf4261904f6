"""Put the subject of a clip before a plain colour, frame by frame, with the streaming API.

python examples/stream_composite.py clip.mp4 green.mp4 --colour 0 177 64

Frames come one at a time, so a clip of any length takes the same memory; leaving the
loop early closes everything.
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
    """(picture, pts, time base) for each frame: (H, W, 3) uint8 R'G'B', full range."""
    ground = np.array(colour, np.float32) / 255
    with vidmatte.stream(source, **options) as frames:
        for frame in frames:
            subject = frame.rgb if frame.foreground is None else frame.foreground
            subject = subject.astype(np.float32) / np.iinfo(subject.dtype).max
            alpha = frame.alpha[..., None]
            picture = alpha * subject + (1 - alpha) * ground
            yield np.round(picture * 255).astype(np.uint8), frame.pts, frame.time_base


def write_h264(pictures: Iterator[tuple[np.ndarray, int, Fraction]], result: str) -> int:
    """Encode pictures at their own times; the number of frames written."""
    count = 0
    with av.open(result, "w") as container:
        stream = None
        for picture, pts, time_base in pictures:
            # 4:2:0 needs even sizes: an odd last row or column is left out.
            height, width = (size // 2 * 2 for size in picture.shape[:2])
            if stream is None:
                stream = container.add_stream("libx264", options={"crf": "18"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = time_base
                stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]))
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return count


def level(text: str) -> int:
    """A level of a colour, 0 to 255."""
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"'{text}' is not a level from 0 to 255")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the subject of a clip before a colour.")
    parser.add_argument("clip")
    parser.add_argument("result", help="an .mp4 file")
    parser.add_argument("--colour", type=level, nargs=3, default=(0, 177, 64), metavar="0..255")
    parser.add_argument("--model", default="rvm", help="a model's name or an .onnx file")
    parser.add_argument("--family", help="how an .onnx file of your own is fed")
    given = parser.parse_args()
    pictures = over_colour(given.clip, tuple(given.colour), model=given.model, family=given.family)
    try:
        count = write_h264(pictures, given.result)
    except (vidmatte.VidmatteError, OSError) as error:  # PyAV's, of the result, are OSErrors
        sys.exit(f"{parser.prog}: {error}")
    print(f"{count} frames in {given.result}")


if __name__ == "__main__":
    main()

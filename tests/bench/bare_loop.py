"""A straightforward Robust Video Matting loop as a baseline: decode, onnxruntime, prores_ks.

    python bare_loop.py WEIGHTS.onnx CLIP OUT.mov [ENCODER_THREADS]

One frame after the other with default settings; PyAV then gives the encoder one thread
per core.
"""

from __future__ import annotations

import sys

import av
import numpy as np
import onnxruntime


def main(weights: str, clip: str, out: str, encoder_threads: str = "0") -> None:
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    state = [np.zeros((1, 1, 1, 1), np.float32)] * 4
    with av.open(clip) as source, av.open(out, "w") as target:
        video = source.streams.video[0]
        stream = target.add_stream("prores_ks", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuva444p10le"
        stream.options = {"profile": "4444", "alpha_bits": "16"}
        stream.codec_context.thread_count = int(encoder_threads)
        ratio = np.array([512 / max(video.width, video.height)], np.float32)
        for frame in source.decode(video):
            rgb = frame.to_ndarray(format="rgb24")
            inputs = {"src": rgb.astype(np.float32).transpose(2, 0, 1)[None] / 255}
            inputs |= {f"r{number}i": value for number, value in enumerate(state, 1)}
            foreground, alpha, *state = session.run(None, inputs | {"downsample_ratio": ratio})
            rgba = np.concatenate([foreground[0], alpha[0]]).transpose(1, 2, 0)
            codes = np.round(rgba * 65535).astype(np.uint16)
            picture = av.VideoFrame.from_ndarray(codes, format="rgba64le")
            target.mux(stream.encode(picture.reformat(format="yuva444p10le")))
        target.mux(stream.encode(None))


if __name__ == "__main__":
    main(*sys.argv[1:])

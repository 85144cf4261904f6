"""The baseline of ``vidmatte bench --compare``: decode, network, encode, one frame after the other.

    python -m vidmatte.tools.plain_loop WEIGHTS.onnx INPUT OUT --family FAMILY

INPUT is a movie, or a folder of 000000.png, 000001.png, ...; OUT is a .mov (ProRes 4444), else a
new folder of such pictures. It is the loop of a short script: PyAV and onnxruntime with their
default settings, the network's own alpha with the source's colours (a recurrent network's own),
no filter. PyAV gives the encoder a thread per core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime

from vidmatte.core.families import FAMILIES, FAMILY_TABLE, Family

#: The name of each picture in a folder.
PICTURES = "%06d.png"

_Matting = Callable[[np.ndarray], np.ndarray]


def _per_frame(session: Any, family: Family) -> _Matting:
    """R'G'B' (H, W, 3) uint8 to R'G'B'A (H, W, 4) uint8, each frame by itself."""
    entry = session.get_inputs()[0]
    mean, std = (np.array(values, np.float32) for values in (family.mean, family.std))

    def mat(rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        fixed = [side for side in entry.shape[2:] if isinstance(side, int)]
        size = family.size.of(width, height) if family.size is not None else (width, height)
        small = cv2.resize(rgb, tuple(fixed[::-1]) or size, interpolation=cv2.INTER_AREA)
        normal = (small.astype(np.float32) / 255 - mean) / std
        alpha = session.run(None, {entry.name: normal.transpose(2, 0, 1)[None]})[0][0, 0]
        if family.logits:
            alpha = 1 / (1 + np.exp(-alpha))
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
        codes = np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
        return np.dstack([rgb, codes])

    return mat


def _recurrent(session: Any, family: Family, downsample: float, kind: type) -> _Matting:
    """R'G'B' (H, W, 3) uint8 to R'G'B'A (H, W, 4) of ``kind``, in order; the state is carried."""
    names = family.recurrence
    assert names is not None
    state: dict[str, np.ndarray] = {}
    top = np.iinfo(kind).max

    def mat(rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        inputs = {names.picture: rgb.astype(np.float32).transpose(2, 0, 1)[None] / 255}
        for one in names.states:
            fed = state.get(one.output)
            inputs[one.input] = (
                np.zeros(one.first_shape(width, height), np.float32) if fed is None else fed
            )
        if names.coarse is not None:
            ratio = names.coarse.ratio(width, height, downsample)
            inputs[names.coarse.input] = np.array([ratio], np.float32)
        wanted = [*names.results, *names.state_outputs]
        found = dict(zip(wanted, session.run(wanted, inputs), strict=True))
        state.update((name, found[name]) for name in names.state_outputs)
        colours = inputs[names.picture] if names.foreground is None else found[names.foreground]
        rgba = np.concatenate([colours[0], found[names.alpha][0]]).transpose(1, 2, 0)
        return np.asarray(np.rint(np.clip(rgba, 0, 1) * top).astype(kind))

    return mat


@contextmanager
def _opened(out: Path, video: av.VideoStream) -> Iterator[Callable[[av.VideoFrame | None], None]]:
    """A function that encodes a frame into ``out``, and with None what the encoder holds."""
    if is_movie := out.suffix == ".mov":
        target = av.open(str(out), "w")
    else:
        out.mkdir()
        target = av.open(str(out / PICTURES), "w", format="image2", options={"start_number": "0"})
    with target:
        stream = target.add_stream("prores_ks" if is_movie else "png", rate=video.average_rate)
        stream.width, stream.height = video.width, video.height
        stream.pix_fmt = "yuva444p10le" if is_movie else "rgba"
        if is_movie:
            stream.options = {"profile": "4444", "alpha_bits": "16"}

        def encode(picture: av.VideoFrame | None) -> None:
            fitting = None if picture is None else picture.reformat(format=stream.pix_fmt)
            target.mux(stream.encode(fitting))

        yield encode


def _session(weights: str, device: str, threads: int) -> Any:
    """The network in onnxruntime, with its default settings but for what is asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider"]
    return onnxruntime.InferenceSession(weights, options, providers=providers)


def main(words: list[str] | None = None) -> None:
    """Run the loop over frames ``--first`` to ``--first`` + ``--frames`` of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("input", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--first", type=int, default=0, help="frames to decode and leave out")
    parser.add_argument("--frames", type=int, help="how many (default: all)")
    parser.add_argument("--downsample", type=float, default=0.0, help="of a coarse pass")
    parser.add_argument("--threads", type=int, default=0, help="of the network (0: one per core)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args(words)
    family, session = (
        FAMILY_TABLE[asked.family],
        _session(asked.weights, asked.device, asked.threads),
    )
    kind = np.uint16 if asked.out.suffix == ".mov" else np.uint8
    mat = (
        _per_frame(session, family)
        if family.recurrence is None
        else _recurrent(session, family, asked.downsample, kind)
    )
    name = asked.input / PICTURES if asked.input.is_dir() else asked.input
    with av.open(str(name)) as source:
        video = source.streams.video[0]
        last = None if asked.frames is None else asked.first + asked.frames
        with _opened(asked.out, video) as encode:
            for frame in islice(source.decode(video), asked.first, last):
                rgba = mat(frame.to_ndarray(format="rgb24"))
                form = "rgba64le" if rgba.dtype == np.uint16 else "rgba"
                encode(av.VideoFrame.from_ndarray(rgba, format=form))
            encode(None)


if __name__ == "__main__":
    main()

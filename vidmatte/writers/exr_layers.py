"""Pictures of one subject each, joined to OpenEXR with a layer and an id for every subject.

The ids are a Cryptomatte: ranked pairs of an id and its coverage in the channels
``CryptoObject00.r``, ``.g``, ``.b``, ``.a`` and so on, and a manifest of names in the header.
https://github.com/Psyop/Cryptomatte/tree/master/specification (version 1.2)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vidmatte.media.demux import open_media
from vidmatte.media.exr import exr_time
from vidmatte.media.exr_writer import FLOAT, HALF, ExrWriter
from vidmatte.pixels import planes
from vidmatte.writers.base import as_output_error, worker_count
from vidmatte.writers.format_spec import output_colour
from vidmatte.writers.images import verify_image
from vidmatte.writers.output import OutputSpec

_TYPE = "CryptoObject"  # what the set of ids is called
_MOST_RANKS = 6  # pairs of an id and its coverage, as the specification suggests
_WORD = 0xFFFFFFFF
_TINY = np.float32(1e-6)


def _murmur3(text: str) -> int:
    """MurmurHash3_x86_32 of a text's UTF-8 bytes with seed 0, an unsigned word.

    https://github.com/aappleby/smhasher/wiki/MurmurHash3
    """
    data = text.encode()
    padded = data + bytes(-len(data) % 4)
    words = [word for (word,) in struct.iter_unpack("<I", padded)]
    value = 0
    for place, word in enumerate(words):
        mixed = _rotated(word * 0xCC9E2D51, 15) * 0x1B873593 & _WORD
        value ^= mixed
        if 4 * place + 4 <= len(data):  # a last, shorter word is only mixed in
            value = (_rotated(value, 13) * 5 + 0xE6546B64) & _WORD
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & _WORD
    value = (value ^ value >> 13) * 0xC2B2AE35 & _WORD
    return value ^ value >> 16


def _rotated(word: int, by: int) -> int:
    """The low 32 bits of a number, rotated to the left."""
    word &= _WORD
    return (word << by | word >> 32 - by) & _WORD


def _id_bits(name: str) -> int:
    """The bits of a name's id as a 32-bit float: its hash, with an exponent that is neither that
    of denormals nor that of infinities."""
    bits = _murmur3(name)
    return bits ^ 1 << 23 if bits >> 23 & 0xFF in (0, 0xFF) else bits


def _header_strings(names: Sequence[str]) -> dict[str, str]:
    """The attributes of the header that describe the ids of these names."""
    key = f"cryptomatte/{_murmur3(_TYPE):08x}"[:-1]  # seven digits
    manifest = {name: f"{_id_bits(name):08x}" for name in names}
    return {
        f"{key}/name": _TYPE,
        f"{key}/hash": "MurmurHash3_32",
        f"{key}/conversion": "uint32_to_float32",
        f"{key}/manifest": json.dumps(manifest, separators=(",", ":")),
    }


def _rank_channels(count: int) -> list[tuple[str, str]]:
    """The channels of id and coverage of each rank, for ``count`` names: an even number, the
    same for all frames."""
    pairs = range(-(-min(count, _MOST_RANKS) // 2))
    return [
        (f"{_TYPE}{pair:02}.{letters[0]}", f"{_TYPE}{pair:02}.{letters[1]}")
        for pair in pairs
        for letters in ("rg", "ba")
    ]


def _ranked(alphas: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The ranked ids and coverages of alphas (N, H, W) float32, one for each name, by channel."""
    ids = np.array([_id_bits(name) for name in names], "<u4").view("<f4")
    order = np.argsort(-alphas, axis=0, kind="stable")
    channels: dict[str, np.ndarray] = {}
    for rank, (of_id, of_coverage) in enumerate(_rank_channels(len(names))):
        if rank >= len(names):
            nothing = np.zeros(alphas.shape[1:], np.float32)
            channels |= {of_id: nothing, of_coverage: nothing}
            continue
        coverage = np.take_along_axis(alphas, order[rank][None], axis=0)[0]
        channels[of_id] = np.where(coverage > 0, ids[order[rank]], np.float32(0))
        channels[of_coverage] = coverage
    return channels


class _LayerJoiner:
    """Joins the pictures of one frame, each of one subject, to an OpenEXR file with layers.

    The channels of a layer are ``NAME.R``, ``.G``, ``.B`` and ``.A``. R, G, B and A are all
    subjects together. Where the alphas of a pixel add up to more than 1 they are scaled to 1.
    """

    def __init__(self, spec: OutputSpec, names: Sequence[str]) -> None:
        self._names, self._premultiplied = list(names), spec.premultiplied
        kind = HALF if spec.row.decoded_format == "gbrapf16le" else FLOAT
        self._writer = ExrWriter(
            spec.clip,
            kind,
            output_colour(spec.clip, spec.row),
            "premultiplied" if spec.premultiplied else "straight",
            spec.row.options.get("compression", "zip"),
            further={
                **{f"{name}.{letter}": kind for name in names for letter in "RGBA"},
                **{channel: FLOAT for pair in _rank_channels(len(names)) for channel in pair},
            },
            attributes=_header_strings(names),
        )

    def join(self, files: Sequence[Path]) -> bytes:
        """The file with the layers of ``files``, one for each name, in their order."""
        layers = np.stack([_read(file) for file in files])  # [N, 4, H, W]
        total = layers[:, 3].sum(axis=0)
        scale = 1 / np.maximum(total, 1)
        layers[:, 3] *= scale
        if self._premultiplied:
            layers[:, :3] *= scale
        channels = {
            f"{name}.{letter}": plane
            for name, layer in zip(self._names, layers, strict=True)
            for letter, plane in zip("RGBA", layer, strict=True)
        }
        channels |= zip("RGBA", self._together(layers), strict=True)
        channels |= _ranked(layers[:, 3], self._names)
        return self._writer.pack(channels, exr_time(files[0])[1])

    def _together(self, layers: np.ndarray) -> np.ndarray:
        """All layers (N, 4, H, W) as one (4, H, W)."""
        if self._premultiplied:
            return np.asarray(layers.sum(axis=0))
        weights = layers[:, 3:] + _TINY  # outside all of them the mean of their colours
        colours = (layers[:, :3] * weights).sum(axis=0) / weights.sum(axis=0)
        return np.concatenate([colours, layers[:, 3:].sum(axis=0)])


def _read(file: Path) -> np.ndarray:
    """The channels R, G, B, A of a file of ours, (4, H, W) float32."""
    with open_media(file, None) as container:
        picture = next(container.decode(video=0))
    views = planes.plane_views(picture)
    if picture.format.name == "gbrapf16le":
        views = [view.view(np.float16) for view in views]
    green, blue, red, alpha = views
    return np.stack([red, green, blue, alpha]).astype(np.float32)


def join_folders(
    spec: OutputSpec, parts: Mapping[str, Path], target: Path, memory: int, *, keep: bool
) -> Iterator[int]:
    """Join the pictures that have the same name in every folder, and remove them unless ``keep``.

    parts: the folder of each subject's pictures, by name. target: the folder to write into, or
    the only file. memory: bytes that may be used. Yields the size of each file, in the order of
    names; then the first and the last are read back. Raises OutputError, VerificationError.
    """
    joiner, first = _LayerJoiner(spec, list(parts)), next(iter(parts.values()))
    names = sorted(file.relative_to(first) for file in first.rglob(f"*{spec.row.suffixes[0]}"))

    def place(name: Path) -> Path:
        return target if spec.is_single else target / name

    def join(name: Path) -> int:
        files, path = [folder / name for folder in parts.values()], place(name)
        try:
            data = joiner.join(files)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            for file in () if keep else files:
                file.unlink()
        except OSError as error:
            raise as_output_error(error, path) from error
        return len(data)

    count = worker_count(spec.clip.width, spec.clip.height, memory // (len(parts) + 1))
    pool = ThreadPoolExecutor(count, thread_name_prefix="vidmatte-layers")
    try:
        yield from pool.map(join, names)
    finally:
        pool.shutdown(cancel_futures=True)
    for name in names[:1] + names[-1:]:
        verify_image(place(name), spec.clip, spec.row)

"""Small frames, flows and fields on disk, as records of one size, for the backward passes.

A file's length gives the number of complete records, so a killed run continues from there.
Only the requested record is in memory.
"""

from __future__ import annotations

import json
import re
import tempfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import AfterValidator, Field

from vidmatte.alpha.guidance.coarse import CoarseFrame
from vidmatte.core.stored import StoredModel, checked, read_stored

_Array = Annotated[list[Any], Field(min_length=1), AfterValidator(lambda value: _as_array(value))]
_FIELD_LEVELS = np.float32(255)


def _as_array(value: Any) -> Any:
    """A dtype and a shape as a header holds them: numbers of a fixed size."""
    kind, *shape = value
    if not isinstance(kind, str) or not re.fullmatch(r"[<>|]?[fiub][1248]", kind):
        raise ValueError("expected a dtype")
    if not all(isinstance(side, int) and 0 < side < 1 << 16 for side in shape):
        raise ValueError("expected a shape")
    return value


class _Shapes(StoredModel):
    """The header: the dtype and the shape of each array of a frame."""

    picture: _Array
    grey: _Array
    alpha: _Array
    __pydantic_extra__: dict[str, _Array]


class FrameSource(Protocol):
    """Coarse frames by number; a list is one, a CoarseStore is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> CoarseFrame: ...


class FieldSink(Protocol):
    """Where fields go, by frame number; read again in the backward pass."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...

    def __setitem__(self, index: int, field: np.ndarray, /) -> None: ...


class CoarseStore:
    """Coarse frames of one clip in FOLDER/coarse.bin, in order; about 0.9 MB each."""

    def __init__(self, folder: Path) -> None:
        """Open what is there, or begin anew. Raises OSError, ValueError on a damaged header."""
        folder.mkdir(parents=True, exist_ok=True)
        self._data, self._header = folder / "coarse.bin", folder / "coarse.json"
        self._record: np.dtype[Any] | None = None
        if self._header.exists():
            self._record = _frame_record(checked(_Shapes, read_stored(self._header)).model_dump())

    def __len__(self) -> int:
        if self._record is None or not self._data.exists():
            return 0
        return self._data.stat().st_size // self._record.itemsize

    def append(self, frame: CoarseFrame) -> None:
        """Write the next frame. All frames have the first one's shapes. Raises OSError."""
        parts = _parts(frame)
        if self._record is None:
            shapes = {name: [part.dtype.str, *part.shape] for name, part in parts.items()}
            self._record = _frame_record(shapes)
            self._header.write_text(json.dumps(shapes), "utf-8")
        record = np.zeros((), self._record)
        for name, part in parts.items():
            record[name] = part
        end = len(self) * self._record.itemsize  # what a killed run left unfinished goes
        with self._data.open("r+b" if self._data.exists() else "w+b") as file:
            file.truncate(end)
            file.seek(end)
            file.write(record.tobytes())

    def __getitem__(self, index: int, /) -> CoarseFrame:
        if self._record is None or not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        size = self._record.itemsize
        record = np.fromfile(self._data, self._record, count=1, offset=index * size)[0]
        names = sorted(n for n in self._record.names or () if n.startswith("tensor"))
        detail = record["detail"] if "detail" in (self._record.names or ()) else None
        tensors = tuple(record[name] for name in names)
        small = record["picture"], record["grey"], record["alpha"]
        return CoarseFrame(*small, tensors, detail, index)


def _parts(frame: CoarseFrame) -> dict[str, np.ndarray]:
    parts = {"picture": frame.picture, "grey": frame.grey, "alpha": frame.alpha_codes}
    if frame.detail is not None:
        parts["detail"] = frame.detail
    return parts | {f"tensor{place}": tensor for place, tensor in enumerate(frame.tensors)}


def _frame_record(shapes: dict[str, list[Any]]) -> np.dtype[Any]:
    return np.dtype([(name, code, tuple(shape)) for name, (code, *shape) in shapes.items()])


class FlowStore:
    """Flows between neighbours of one clip in FOLDER/flows.bin, in any order; 0.5 MB a pair.

    They are the same for every pass over a span, for every subject and after a correction.
    """

    def __init__(self, folder: Path) -> None:
        """Its file is made by the first ``put``."""
        self._path = folder / "flows.bin"

    def get(self, one: int, other: int, shape: tuple[int, int]) -> np.ndarray | None:
        """The codes of the flows from frame ``one`` to its neighbour and back, (2, h, w, 2) int16.

        shape: (h, w). None where they are not known, or damaged.
        """
        record = self._record(*shape)
        if not self._path.exists():
            return None
        offset = min(one, other) * record.itemsize
        found = np.fromfile(self._path, record, count=1, offset=offset)
        if not len(found) or zlib.crc32(found[0]["codes"].tobytes()) != found[0]["checksum"]:
            return None
        return np.asarray(found[0]["codes"][:: 1 if one < other else -1])

    def put(self, one: int, other: int, codes: np.ndarray) -> None:
        """Remember them. Raises OSError."""
        forwards = np.ascontiguousarray(codes[:: 1 if one < other else -1])
        record = np.zeros((), self._record(*codes.shape[1:3]))
        record["codes"], record["checksum"] = forwards, zlib.crc32(forwards.tobytes())
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek(min(one, other) * record.itemsize)
            file.write(record.tobytes())

    @staticmethod
    def _record(height: int, width: int) -> np.dtype[Any]:
        return np.dtype([("checksum", np.uint32), ("codes", np.int16, (2, height, width, 2))])


class FieldStore:
    """Fields of one subject in one file, (h, w) uint8 each; any order of writing."""

    def __init__(self, path: Path, count: int, height: int, width: int) -> None:
        """Open the file or make it, all fields empty. Raises OSError."""
        self._shape, self._count = (count, height, width), count
        self._path = path
        size = count * height * width
        if not path.exists() or path.stat().st_size != size:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(size)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> np.ndarray:
        """The field of a frame, (h, w) float32 0..1."""
        _, height, width = self._shape
        size = height * width
        codes = np.fromfile(self._path, np.uint8, count=size, offset=self._offset(index))
        return np.asarray(codes.reshape(height, width) / _FIELD_LEVELS, np.float32)

    def __setitem__(self, index: int, field: np.ndarray) -> None:
        codes = np.rint(np.clip(field, 0, 1) * _FIELD_LEVELS).astype(np.uint8)
        if codes.shape != self._shape[1:]:
            raise ValueError(f"a field of {codes.shape} for a store of {self._shape[1:]}")
        with self._path.open("r+b") as file:
            file.seek(self._offset(index))
            file.write(codes.tobytes())

    def _offset(self, index: int) -> int:
        if not 0 <= index < self._count:
            raise IndexError(f"field {index} of {self._count}")
        return index * self._shape[1] * self._shape[2]


class SpilledMaps:
    """Packed maps by frame number in a temporary file: a span's are many."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._places: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> SpilledMaps:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __setitem__(self, index: int, data: bytes | None) -> None:
        if data is not None:
            self._places[index] = self._file.seek(0, 2), len(data)
            self._file.write(data)

    def get(self, index: int) -> bytes | None:
        """The map of a frame, None where there is none."""
        if index not in self._places:
            return None
        offset, size = self._places[index]
        self._file.seek(offset)
        return self._file.read(size)

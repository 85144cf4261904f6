"""Picture outputs: a folder of files, or one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from vidmatte.core.frame import Clip, Frame, TimeSpan
from vidmatte.core.names import FRAME_NUMBER, absolute_path, pattern_regex
from vidmatte.errors import OutputError, UsageError, VerificationError
from vidmatte.readers.images import read_picture
from vidmatte.writers.base import WriteResult
from vidmatte.writers.encoded_frame import EncodedFrame, ImageFile
from vidmatte.writers.encoders import frame_encoder
from vidmatte.writers.format_spec import (
    EncoderSpec,
    FrameEncoder,
    OutputFormat,
    output_colour,
    profile_for,
)
from vidmatte.writers.formats import is_pattern
from vidmatte.writers.output import Output, OutputSpec, partial_of
from vidmatte.writers.output_paths import check_picture_lengths
from vidmatte.writers.render.cutout import alpha_notes, check_fit, colour_notes

#: Digits of a frame number in a name: enough to sort 16 minutes at 1000 frames per second.
DIGITS = 6
_MOST_PIXELS = 1 << 30  # of a picture that is read back: more than FFmpeg decodes


class ImageOutput(Output):
    """A folder of pictures with the source's names, or one picture file.

    Pictures from a movie are named by the frame's number, from 000000 on; a pattern
    like ``shot_%06d.png`` numbers all of them from the start number on. They are written
    to a hidden folder and moved to their final place once the last one is verified.
    """

    def __init__(self, spec: OutputSpec) -> None:
        super().__init__(spec)
        self._clip, self._row = spec.clip, spec.row
        self._single = spec.is_single
        self._profile = profile_for(spec.clip, spec.row) if spec.layer.in_colour else None
        self._numbered = is_pattern(spec.out)
        self._written: list[Path] = []
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._duration = 0
        self._unlisted = 0

    @staticmethod
    def check(spec: OutputSpec) -> None:
        """Raise UsageError, OutputError for what this kind of output cannot hold."""
        out = spec.out
        check_fit(spec.clip, spec.row)
        single = spec.is_single
        if single and spec.clip.kind != "picture" and absolute_path(out).parent.is_dir():
            raise UsageError(
                f"{out.name}: many frames need a folder: write -o {out.with_suffix('').name}/"
            )
        if not single and not is_pattern(out) and out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file, not a folder of pictures: rename one")
        folder = out.parent if is_pattern(out) else out
        if not single and folder.is_symlink() and not folder.exists():
            raise OutputError(
                f"{folder}: a link to {folder.readlink()}, which does not exist: create that"
                " folder, or remove the link"
            )
        partial_of(spec).check()
        if is_pattern(out):
            last = spec.start_number + max(0, (spec.clip.frame_count or 1) - 1)
            check_picture_lengths(folder, [_numbered(out.name, last)])
        elif not single:
            suffix = spec.row.suffixes[0]
            check_picture_lengths(out, [name + suffix for name in spec.clip.output_names])

    @property
    def file_sizes(self) -> dict[str, int]:
        """See ``Output.file_sizes``."""
        return self._sizes

    def open(self) -> None:
        """See ``Output.open``."""
        self._folder = (
            self.partial.begin_file().parent if self._single else self.partial.begin_folder()
        )

    def encoder(self) -> FrameEncoder:
        """See ``Output.encoder``."""
        colour = output_colour(self._clip, self._row)
        return frame_encoder(
            EncoderSpec(self._row, self._clip, colour, self.spec.premultiplied, self._profile)
        )

    def encode(self, encoder: FrameEncoder, picture: av.VideoFrame, frame: Frame) -> EncodedFrame:
        """Encode a picture to its file, in the output's partial folder."""
        path = self._path_of(frame)
        data = b"".join(bytes(packet) for packet in encoder.encode(picture))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed only when complete, so that there is no truncated picture after a killed run.
        unfinished = path if self._single else path.with_name(path.name + ".part")
        unfinished.write_bytes(data)
        unfinished.replace(path)
        name = path.relative_to(self._folder).as_posix()
        return EncodedFrame(ImageFile(self._folder, name, len(data)))

    def add(self, encoded: EncodedFrame, time: TimeSpan) -> None:
        """Count the picture; one in another folder is moved to this output's."""
        file = encoded.payload
        assert isinstance(file, ImageFile)
        path = file.path
        if file.folder not in (self._folder, self.partial.final):
            path = self._folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file.path, path)
        self._written.append(path)
        self._bytes += file.size
        self._sizes[file.name] = file.size
        self._duration += time.duration

    def complete(self) -> None:
        """Check that all pictures exist and decode the first and last. Raises VerificationError."""
        found = {path for path in self._written if path.is_file() and path.stat().st_size}
        if len(found) != len(self._written):
            raise VerificationError(
                f"{self.spec.out.name}: {len(found)} pictures exist instead of {len(self._written)}"
            )
        for path in {*self._written[:1], *self._written[-1:]}:
            verify_image(path, self._clip, self._row)
        self._unlisted = self._count_unlisted()

    def result(self) -> WriteResult:
        """See ``Output.result``."""
        return self.spec.result(
            len(self._written),
            self._bytes,
            Fraction(self._duration) * self._clip.time_base,
            notes=tuple(self._notes()),
            files=() if self._single else self._names(),
        )

    def _names(self) -> tuple[str, ...]:
        return tuple(path.name for path in self._written)

    def _count_unlisted(self) -> int:
        """The number of pictures of other runs in the final folder."""
        final, own = self.partial.final, {*self._names()}
        if self._single or not final.is_dir():
            return 0
        names = (path.name for path in final.iterdir())
        if self._numbered:
            numbered = pattern_regex(self.spec.out.name)
            return sum(numbered.fullmatch(name) is not None and name not in own for name in names)
        return sum(name.endswith(self._row.suffixes[0]) and name not in own for name in names)

    def _notes(self) -> Iterator[str]:
        if self._unlisted:
            yield (
                f"{self.spec.out.name}: besides the {len(self._written)} pictures of this run, the"
                f" folder has others of earlier runs: {self._unlisted}"
            )
        if not self._clip.constant_rate:
            yield (
                f"{self._row.name} pictures store no timestamps, and the clip's frame rate varies:"
                " --conform RATE makes it constant"
            )
        yield from alpha_notes(self._row, self.spec.premultiplied)
        if self.spec.layer.in_colour:
            yield from colour_notes(self._clip, self._row)
        if self.spec.layer.background is not None:
            yield from self.spec.layer.background.notes

    def discard(self) -> None:
        """See ``Output.discard``."""
        self.partial.discard()

    def _path_of(self, frame: Frame) -> Path:
        if self._single:
            return self.partial.path
        if self._numbered:
            return self._folder / _numbered(
                self.spec.out.name, self.spec.start_number + frame.index
            )
        name = frame.name if frame.name is not None else f"{frame.index:0{DIGITS}d}"
        return self._folder / (name + self._row.suffixes[0])


def _numbered(pattern: str, number: int) -> str:
    """The name with ``%d`` or ``%06d`` replaced by the number."""
    return FRAME_NUMBER.sub(lambda match: match[0] % number, pattern, count=1)


def verify_image(path: Path, clip: Clip, row: OutputFormat) -> None:
    """Raise VerificationError unless the picture decodes with the expected size and format."""
    try:
        found = (row.read_back or _decoded)(path)
    except (av.FFmpegError, StopIteration, ValueError, OSError) as error:
        raise VerificationError(f"{path.name} cannot be read back: {error}") from error
    expected = (clip.width, clip.height, row.decoded_format or row.pixel_format(clip))
    if found != expected:
        raise VerificationError(f"{path.name}, read back, is {found} instead of {expected}")


def _decoded(path: Path) -> tuple[int, int, str]:
    """Width, height and pixel format of a picture file, by FFmpeg, of any size."""
    picture = read_picture(path, _MOST_PIXELS)
    return picture.width, picture.height, picture.format.name

"""Picture files: a folder of them, or one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from vidmatte.errors import ProofError, SinkError, UsageError
from vidmatte.frame import Clip, Frame
from vidmatte.settings import Settings
from vidmatte.sink.base import Sink, Written, as_sink_error, worker_count
from vidmatte.sink.encode import worker_encoder
from vidmatte.sink.formats import Format
from vidmatte.sink.partial import Partial
from vidmatte.sink.pixels import PictureMaker, check_fit
from vidmatte.sink.pool import OrderedPool

#: Digits of a frame number in a name: a night at 1000 frames a second still sorts.
DIGITS = 6


class Worker:
    """What one encoding thread needs."""

    def __init__(self, clip: Clip, row: Format, settings: Settings) -> None:
        self.maker = PictureMaker(clip, row, settings.foreground)
        self.encoder: VideoCodecContext = worker_encoder(row, clip, self.maker.colour)


class PictureSink(Sink):
    """A folder of pictures under the source's own names, or one picture file.

    Pictures from a movie are named by the frame's number, from 000000 on. The
    pictures are written into a folder beside the final one, which is renamed when
    the last one is proven.
    """

    def __init__(self, out: Path, clip: Clip, settings: Settings, row: Format) -> None:
        self._clip, self._row = clip, row
        self.check(out, clip, settings, row)
        self._single = is_single(out, row)
        self._partial = Partial(out, settings.overwrite)
        self._written: list[Path] = []
        self._bytes = 0
        self._duration = 0
        self._pool = OrderedPool(worker_count(), lambda: Worker(clip, row, settings), self._work)
        self._folder = (
            self._partial.begin_file().parent if self._single else self._partial.begin_folder()
        )

    @staticmethod
    def check(out: Path, clip: Clip, settings: Settings, row: Format) -> None:
        """What ``check_sink`` does for pictures."""
        check_fit(clip, row)
        single = is_single(out, row)
        if single and clip.kind != "picture":
            raise UsageError(
                f"{out.name}: many frames go into a folder: write -o {out.with_suffix('').name}/"
            )
        if not single and out.exists() and not out.is_dir():
            raise SinkError(f"{out} is a file where a folder of pictures is wanted: rename one")
        Partial(out, settings.overwrite).check()

    @property
    def slots_held(self) -> int:
        """Frames in flight in the pool."""
        return self._pool.limit

    def write(self, frame: Frame) -> None:
        """See ``Sink.write``."""
        size = (frame.picture.width, frame.picture.height)
        if size != (self._clip.width, self._clip.height):
            frame.release()
            raise SinkError(
                f"{frame.name or frame.index} is {size[0]}x{size[1]} among pictures of"
                f" {self._clip.width}x{self._clip.height}: put each size into its own folder"
            )
        self._duration += frame.duration
        try:
            for path, count in self._pool.submit(frame):
                self._take(path, count)
        except (OSError, av.FFmpegError) as error:
            raise as_sink_error(error, self._partial.final) from error

    def close(self) -> Written:
        """See ``Sink.close``."""
        try:
            for path, count in self._pool.drain():
                self._take(path, count)
            if not self._written:
                raise SinkError(f"{self._partial.final}: there was no frame to write")
            self._prove()
            self._partial.commit()
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise as_sink_error(error, self._partial.final) from error
        except BaseException:
            self.abort()
            raise
        return Written(
            path=self._partial.final,
            frames=len(self._written),
            width=self._clip.width,
            height=self._clip.height,
            rate=self._clip.rate,
            format=self._row.name,
            pixel_format=self._row.pixel_format(self._clip),
            bytes=self._bytes,
            seconds=Fraction(self._duration) * self._clip.time_base,
        )

    def abort(self) -> None:
        """See ``Sink.abort``."""
        self._pool.abort()
        self._partial.discard()

    def _take(self, path: Path, count: int) -> None:
        self._written.append(path)
        self._bytes += count

    def _path_of(self, frame: Frame) -> Path:
        if self._single:
            return self._partial.path
        name = frame.name if frame.name is not None else f"{frame.index:0{DIGITS}d}"
        return self._folder / (name + self._row.suffixes[0])

    def _work(self, worker: Worker, frame: Frame) -> tuple[Path, int]:
        picture = worker.maker.make(frame)
        path = self._path_of(frame)
        frame.release()
        data = b"".join(bytes(packet) for packet in worker.encoder.encode(picture))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under its own name only when it is whole: a killed run leaves no half picture.
        unfinished = path if self._single else path.with_name(path.name + ".part")
        unfinished.write_bytes(data)
        unfinished.replace(path)
        return path, len(data)

    def _prove(self) -> None:
        """Count the pictures, decode the first and the last. Raises ProofError."""
        found = [path for path in self._written if path.is_file() and path.stat().st_size]
        if len(set(found)) != len(self._written):
            raise ProofError(
                f"{self._partial.final.name}: {len(set(found))} pictures are there instead of"
                f" {len(self._written)}"
            )
        for path in self._written[:1] + self._written[-1:]:
            prove_picture(path, self._clip, self._row)


def is_single(out: Path, row: Format) -> bool:
    """Whether ``out`` names one picture, not a folder of them."""
    return out.suffix.lower() in row.suffixes and not out.is_dir()


def prove_picture(path: Path, clip: Clip, row: Format) -> None:
    """Raise ProofError unless the picture decodes with the size and samples meant."""
    try:
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration) as error:
        raise ProofError(f"{path.name} cannot be read back: {error}") from error
    found = (picture.width, picture.height, picture.format.name)
    meant = (clip.width, clip.height, row.pixel_format(clip))
    if found != meant:
        raise ProofError(f"{path.name}, read back, is {found} instead of {meant}")

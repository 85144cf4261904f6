"""The sink over one or several outputs: one pass over the frames feeds them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av

from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import OutputError
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer, WriteResult, as_output_error, worker_count
from vidmatte.writers.ordered_pool import OrderedPool
from vidmatte.writers.output import Output, RenderContext, Renderer, close_backgrounds
from vidmatte.writers.render.despill import Despill


@dataclass
class PooledFrame:
    """A frame on its way through the pool, with the background for each output."""

    frame: Frame
    behind: list[av.VideoFrame | None]

    def release(self) -> None:
        """Give the frame's slot back; doing it twice is harmless."""
        self.frame.release()


class RenderWorker:
    """What one thread needs: makers and encoders of all outputs."""

    def __init__(self, clip: Clip, settings: Settings, outputs: Sequence[Output]) -> None:
        self.scene = RenderContext(clip, settings.foreground, Despill.of(settings))
        self.makers: list[Renderer] = [
            output.spec.layer.renderer(clip, output.spec.row) for output in outputs
        ]
        self.tools = [output.encoder() for output in outputs]


class MultiWriter(Writer):
    """Frames in, one result a plan out; the first output is the main one."""

    def __init__(self, clip: Clip, settings: Settings, outputs: Sequence[Output]) -> None:
        self._clip = clip
        self._outputs = list(outputs)
        self._frames = 0
        self._pool = OrderedPool(
            worker_count(clip.width, clip.height, settings.memory_bytes),
            lambda: RenderWorker(clip, settings, self._outputs),
            self._work,
        )
        self._at = self._outputs[0]  # the output at hand, for messages
        try:
            self._begin()
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise as_output_error(error, self._at.spec.out) from error
        except BaseException:
            self.abort()
            raise

    @property
    def slots_held(self) -> int:
        """Frames in flight in the pool."""
        return self._pool.limit

    def busy_seconds(self, writing: float) -> float:
        """See ``Sink.busy_seconds``."""
        return self._pool.busy_seconds(writing)

    def write(self, frame: Frame) -> None:
        """See ``Sink.write``. A frame of another size than the clip's is a SinkError."""
        try:
            self._check_size(frame)
            behind = [self._behind(output, frame) for output in self._outputs]
        except BaseException:
            frame.release()
            raise
        try:
            for piece in self._pool.submit(PooledFrame(frame, behind)):
                self._take(*piece)
        except (OSError, av.FFmpegError) as error:
            raise as_output_error(error, self._at.spec.out) from error

    def close(self) -> WriteResult:
        """See ``Sink.close``. All outputs are proven before the first gets its name."""
        try:
            for piece in self._pool.drain():
                self._take(*piece)
            self._finish()
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise as_output_error(error, self._at.spec.out) from error
        except BaseException:
            self.abort()
            raise
        close_backgrounds(self._outputs)
        return self._result()

    def abort(self) -> None:
        """See ``Sink.abort``."""
        self._pool.abort()
        for output in self._outputs:
            output.discard()
        close_backgrounds(self._outputs)

    def _begin(self) -> None:
        for output in self._each():
            output.open()

    def _finish(self) -> None:
        self._check_not_empty()
        for output in self._each():
            output.complete()
        for output in self._each():
            output.partial.commit()

    def _check_not_empty(self) -> None:
        """Raise SinkError where no frame came."""
        if not self._frames:
            raise OutputError(
                f"{self._outputs[0].spec.out}: there was no frame to write, none of those wanted"
                f" decodes: is {self._clip.source.name} whole? copy it again"
            )

    def _result(self) -> WriteResult:
        main, *sides = [output.result() for output in self._outputs]
        return replace(main, extra_outputs=tuple(sides))

    @staticmethod
    def _behind(output: Output, frame: Frame) -> av.VideoFrame | None:
        background = output.spec.layer.background
        return None if background is None else background.at(frame.pts * frame.time_base)

    def _check_size(self, frame: Frame) -> None:
        found = (frame.picture.width, frame.picture.height)
        if found != (self._clip.width, self._clip.height):
            raise OutputError(
                f"{frame.name or f'frame {frame.index}'} is {found[0]}x{found[1]} in a clip of"
                f" {self._clip.width}x{self._clip.height}: one result holds one size"
            )

    def _work(self, worker: RenderWorker, job: PooledFrame) -> tuple[Frame, list[Any]]:
        scene, pictures = worker.scene, []
        scene.begin(job.frame)
        for maker, behind in zip(worker.makers, job.behind, strict=True):
            scene.behind = behind
            pictures.append(maker.render(scene))
        job.release()
        pieces = [
            output.encode(tool, picture, job.frame)
            for output, tool, picture in zip(self._outputs, worker.tools, pictures, strict=True)
        ]
        return job.frame, pieces

    def _take(self, frame: Frame, pieces: list[Any]) -> None:
        self._frames += 1
        for output, piece in zip(self._each(), pieces, strict=True):
            output.add(piece, frame)

    def _each(self) -> Iterator[Output]:
        """The outputs, each remembered as the one at hand."""
        for output in self._outputs:
            self._at = output
            yield output

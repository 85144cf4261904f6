"""The writer of one or more outputs, all fed from one pass over the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import av

from vidmatte.core.frame import Clip, Frame
from vidmatte.errors import OutputError
from vidmatte.settings import Settings
from vidmatte.writers.base import Writer, WriteResult, as_output_error, worker_count
from vidmatte.writers.encoded_frame import EncodedFrame
from vidmatte.writers.ordered_pool import OrderedPool
from vidmatte.writers.output import Output, RenderContext, Renderer, close_backgrounds
from vidmatte.writers.render.despill import Despill
from vidmatte.writers.spool import Spool, SpooledFrame, join


@dataclass
class _PooledFrame:
    """A frame in the pool, with the background picture for each output."""

    frame: Frame
    backgrounds: list[av.VideoFrame | None]

    def release(self) -> None:
        """Release the frame's slot; safe to call twice."""
        self.frame.release()


class _RenderWorker:
    """What one worker thread needs: the renderers and encoders of all outputs."""

    def __init__(self, clip: Clip, settings: Settings, outputs: Sequence[Output]) -> None:
        self.context = RenderContext(clip, settings.foreground, Despill.of(settings))
        self.renderers: list[Renderer] = [
            output.spec.layer.renderer(clip, output.spec.row) for output in outputs
        ]
        self.encoders = [output.encoder() for output in outputs]


class MultiWriter(Writer):
    """Frames in, one result for each output; the first output is the main one.

    spool: stores encoded frames until the last one is encoded; without it they are muxed as
    they come. It is closed with the writer, and its content survives ``abort``.
    """

    def __init__(
        self,
        clip: Clip,
        settings: Settings,
        outputs: Sequence[Output],
        spool: Spool | None = None,
    ) -> None:
        self._clip = clip
        self._outputs = list(outputs)
        self.spool = spool
        self._frames = 0
        self._pool = OrderedPool(
            worker_count(clip.width, clip.height, settings.memory_bytes),
            lambda: _RenderWorker(clip, settings, self._outputs),
            self._work,
        )
        self._current = self._outputs[0]  # the output at work, for messages
        with self._aborting():
            self._begin()

    @property
    def slots_held(self) -> int:
        """Frames in flight in the pool."""
        return self._pool.limit

    @property
    def stores_state(self) -> bool:
        """See ``Writer.stores_state``."""
        return self.spool is not None and self.spool.stores_state

    def busy_seconds(self, writing: float) -> float:
        """See ``Writer.busy_seconds``."""
        return self._pool.busy_seconds(writing)

    def watch(self, fail: Callable[[BaseException], None]) -> None:
        """See ``Writer.watch``."""
        for output in self._outputs:
            output.watch(fail)

    def cancel(self) -> None:
        """See ``Writer.cancel``."""
        for output in self._outputs:
            output.cancel()

    def write(self, frame: Frame) -> None:
        """See ``Writer.write``. Raises OutputError for a frame of another size than the clip's."""
        try:
            self._check_size(frame)
            backgrounds = [self._background_at(output, frame) for output in self._outputs]
        except BaseException:
            frame.release()
            raise
        try:
            for done in self._pool.submit(_PooledFrame(frame, backgrounds)):
                self._take(*done)
        except (OSError, av.FFmpegError) as error:
            raise as_output_error(error, self._current.spec.out) from error

    def finish_spool(self) -> None:
        """Encode the frames in flight and finish the spool, without a result: ``join`` writes
        the outputs elsewhere. Raises OutputError, or the error of the worker that failed."""
        assert self.spool is not None
        try:
            self._drain()
            self.spool.finish()
        except (OSError, av.FFmpegError) as error:
            raise as_output_error(error, self._current.spec.out) from error
        finally:
            self.abort()

    def close(self) -> WriteResult:
        """See ``Writer.close``. All outputs are verified before the first is renamed."""
        with self._aborting():
            self._drain()
            self._finish()
        close_backgrounds(self._outputs)
        return self._result()

    @contextmanager
    def _aborting(self) -> Iterator[None]:
        """Abort where the block fails. Raises OutputError for what the system or FFmpeg raised."""
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            self.abort()
            raise as_output_error(error, self._current.spec.out) from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """See ``Writer.abort``."""
        self._pool.abort()
        for output in self._outputs:
            output.discard()
        close_backgrounds(self._outputs)
        if self.spool is not None:
            self.spool.close()

    def __enter__(self) -> MultiWriter:
        return self

    def _begin(self) -> None:
        if self.spool is not None:
            self.spool.open(self._outputs)
            return
        for output in self._each():
            output.open()

    def _drain(self) -> None:
        for done in self._pool.drain():
            self._take(*done)

    def _finish(self) -> None:
        self._check_not_empty()
        if self.spool is not None:
            self._join(self.spool)
        for output in self._each():
            output.complete()
        if self.spool is not None:
            self.spool.seal(self._result())
        for output in self._each():
            output.partial.commit()
        if self.spool is not None:
            self.spool.clear()

    def _join(self, spool: Spool) -> None:
        """Write every output from the spool; sequences are already open."""
        spool.finish()
        for output in self._each():
            if not output.is_sequence:
                output.open()
        join([spool], self._outputs, spool.first)

    def _check_not_empty(self) -> None:
        """Raise OutputError if no frame was written."""
        if not (self._frames or (self.spool is not None and self.spool.count)):
            raise OutputError(
                f"{self._outputs[0].spec.out}: no frame to write, none of the selected frames"
                f" decodes: is {self._clip.source.name} complete? copy it again"
            )

    def _result(self) -> WriteResult:
        main, *extra = [output.result() for output in self._outputs]
        return replace(main, extra_outputs=tuple(extra))

    @staticmethod
    def _background_at(output: Output, frame: Frame) -> av.VideoFrame | None:
        background = output.spec.layer.background
        return None if background is None else background.at(frame.pts * frame.time_base)

    def _check_size(self, frame: Frame) -> None:
        found = (frame.picture.width, frame.picture.height)
        if found != (self._clip.width, self._clip.height):
            raise OutputError(
                f"{frame.name or f'frame {frame.index}'} is {found[0]}x{found[1]} in a clip of"
                f" {self._clip.width}x{self._clip.height}: all frames of one output need one size"
            )

    def _work(
        self, worker: _RenderWorker, job: _PooledFrame
    ) -> tuple[Frame, list[EncodedFrame] | SpooledFrame]:
        context, pictures = worker.context, []
        context.begin(job.frame)
        for renderer, background in zip(worker.renderers, job.backgrounds, strict=True):
            context.background = background
            pictures.append(renderer.render(context))
        job.release()
        encoded = [
            output.encode(encoder, picture, job.frame)
            for output, encoder, picture in zip(
                self._outputs, worker.encoders, pictures, strict=True
            )
        ]
        if self.spool is None:
            return job.frame, encoded
        stored = [one.to_bytes(inline=False) for one in encoded]
        return job.frame, SpooledFrame.of(job.frame, stored)

    def _take(self, frame: Frame, done: list[EncodedFrame] | SpooledFrame) -> None:
        self._frames += 1
        if isinstance(done, SpooledFrame):
            assert self.spool is not None
            self.spool.put(done)
            return
        for output, encoded in zip(self._each(), done, strict=True):
            output.add(encoded, frame)

    def _each(self) -> Iterator[Output]:
        """The outputs, each marked as the current one for messages."""
        for output in self._outputs:
            self._current = output
            yield output

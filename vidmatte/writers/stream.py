"""Results on standard output: movies through FFmpeg's muxers, or pictures one after the other.

What goes through a pipe cannot be read back: it is not verified.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import av

from vidmatte.core.frame import Frame, TimeSpan
from vidmatte.errors import OutputError, UsageError
from vidmatte.media.pipe import PipeWriter, wait_abandoned
from vidmatte.writers.base import WriteResult, as_output_error
from vidmatte.writers.encoded_frame import EncodedFrame
from vidmatte.writers.encoders import frame_encoder
from vidmatte.writers.format_spec import (
    EncoderSpec,
    Expected,
    FrameEncoder,
    output_colour,
    profile_for,
)
from vidmatte.writers.movie import MovieOutput, check_movie
from vidmatte.writers.output import Output, OutputSpec
from vidmatte.writers.output_paths import output_paths
from vidmatte.writers.partial import Partial
from vidmatte.writers.render.cutout import alpha_notes, check_fit, colour_notes

_BUFFER = 1 << 20  # bytes that FFmpeg collects before it writes
_STDOUT, _STDERR = 1, 2


class _Nothing(Partial):
    """In place of a partial file: there is none, and nothing to rename."""

    def check(self) -> None:
        """See ``Partial.check``."""

    def commit(self) -> None:
        """See ``Partial.commit``."""

    def discard(self) -> None:
        """See ``Partial.discard``."""


class _Stdout:
    """Standard output as the place of a result. Until it is closed, what else is printed goes to
    standard error."""

    def __init__(self) -> None:
        self.writer: PipeWriter | None = None
        self._saved: int | None = None
        self._is_over = threading.Event()

    def open(self) -> PipeWriter:
        """Take standard output."""
        if sys.stdout is not None:
            sys.stdout.flush()
        self.writer = PipeWriter(_STDOUT)
        self._saved = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
        return self.writer

    def watch(self, fail: Callable[[BaseException], None]) -> None:
        """Call ``fail`` once the program that reads it has closed its end."""
        threading.Thread(
            target=self._wait, args=(fail,), name="vidmatte-stdout", daemon=True
        ).start()

    def _wait(self, fail: Callable[[BaseException], None]) -> None:
        if wait_abandoned(self._is_abandoned, self._is_over):
            fail(as_output_error(BrokenPipeError(), Path("-")))

    def _is_abandoned(self) -> bool:
        return self.writer is not None and self.writer.is_abandoned()

    def cancel(self) -> None:
        """End a wait for its reader."""
        if self.writer is not None:
            self.writer.cancel()

    def close(self) -> None:
        """Give standard output back; safe to call twice."""
        self._is_over.set()
        if self.writer is not None:
            self.writer.close()
        if self._saved is not None:
            os.dup2(self._saved, _STDOUT)
            os.close(self._saved)
            self._saved = None


def _check_stdout() -> None:
    """Raise OutputError where standard output cannot take a result."""
    if sys.stdout is None or sys.stdout.isatty():
        raise OutputError("-o -: stdout is no pipe: pipe it into a program, or name a file")


class StreamOutput(MovieOutput):
    """A movie on standard output."""

    def __init__(self, spec: OutputSpec) -> None:
        super().__init__(spec)
        self.partial = _nothing(spec)
        self._stdout = _Stdout()

    @staticmethod
    def check(spec: OutputSpec) -> None:
        """See ``Output.check``."""
        _check_stdout()
        check_movie(spec)

    def watch(self, fail: Callable[[BaseException], None]) -> None:
        """See ``Output.watch``."""
        self._stdout.watch(fail)

    def cancel(self) -> None:
        """See ``Output.cancel``."""
        self._stdout.cancel()

    def discard(self) -> None:
        """See ``Output.discard``."""
        self._stdout.cancel()
        super().discard()
        self._stdout.close()

    def _opened(self, muxer: str, options: dict[str, str]) -> av.container.OutputContainer:
        writer = self._stdout.open()
        return av.open(writer, "w", format=muxer, container_options=options, buffer_size=_BUFFER)

    def _finished(self, expected: Expected) -> int:  # noqa: ARG002 (there is no file to compare)
        assert self._stdout.writer is not None
        size = self._stdout.writer.position
        self._stdout.close()
        return size


class PictureStreamOutput(Output):
    """Pictures on standard output, one file after the other, as FFmpeg's image2pipe reads them."""

    def __init__(self, spec: OutputSpec) -> None:
        super().__init__(spec)
        self.partial = _nothing(spec)
        self._stdout = _Stdout()
        self._frames = self._duration = 0

    @staticmethod
    def check(spec: OutputSpec) -> None:
        """See ``Output.check``."""
        _check_stdout()
        check_fit(spec.clip, spec.row)
        if (reason := spec.row.missing()) is not None:
            raise UsageError(f"--format {spec.row.name}: {reason}")

    @property
    def is_sequence(self) -> bool:
        """See ``Output.is_sequence``: not files."""
        return False

    def watch(self, fail: Callable[[BaseException], None]) -> None:
        """See ``Output.watch``."""
        self._stdout.watch(fail)

    def cancel(self) -> None:
        """See ``Output.cancel``."""
        self._stdout.cancel()

    def open(self) -> None:
        """See ``Output.open``."""
        self._stdout.open()

    def encoder(self) -> FrameEncoder:
        """See ``Output.encoder``."""
        clip, row = self.spec.clip, self.spec.row
        profile = profile_for(clip, row) if self.spec.layer.in_colour else None
        spec = EncoderSpec(row, clip, output_colour(clip, row), self.spec.premultiplied, profile)
        return frame_encoder(spec)

    def encode(self, encoder: FrameEncoder, picture: av.VideoFrame, frame: Frame) -> EncodedFrame:  # noqa: ARG002
        """See ``Output.encode``."""
        return EncodedFrame(av.Packet(b"".join(bytes(part) for part in encoder.encode(picture))))

    def add(self, encoded: EncodedFrame, time: TimeSpan) -> None:
        """See ``Output.add``."""
        assert isinstance(encoded.payload, av.Packet)
        assert self._stdout.writer is not None
        self._stdout.writer.write(bytes(encoded.payload))
        self._frames, self._duration = self._frames + 1, self._duration + time.duration

    def complete(self) -> None:
        """See ``Output.complete``."""
        self._stdout.close()

    def result(self) -> WriteResult:
        """See ``Output.result``."""
        clip, row = self.spec.clip, self.spec.row
        notes = [*alpha_notes(row, self.spec.premultiplied)]
        if self.spec.layer.in_colour:
            notes += colour_notes(clip, row)
        if self.spec.layer.background is not None:
            notes += self.spec.layer.background.notes
        assert self._stdout.writer is not None
        size, seconds = self._stdout.writer.position, self._duration * clip.time_base
        return self.spec.result(self._frames, size, seconds, notes=tuple(notes))

    def discard(self) -> None:
        """See ``Output.discard``."""
        self._stdout.cancel()
        self._stdout.close()


def _nothing(spec: OutputSpec) -> Partial:
    return _Nothing(spec.out, output_paths(spec.out), spec.overwrite)

"""The frames of a clip with their alpha, one by one, for a caller's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock, RLock, current_thread

import numpy as np

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Frame
from vidmatte.core.memory import oom_errors
from vidmatte.errors import OutputError
from vidmatte.jobs.pipeline import MattingPipeline, build_pipeline
from vidmatte.jobs.report import Reporter
from vidmatte.jobs.stages import is_stage_thread
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.settings import Settings


@dataclass(frozen=True, eq=False)  # arrays compare element by element, and have no hash
class StreamedFrame:
    """A frame with its alpha; the arrays belong to the caller.

    rgb: (H, W, 3), full range RGB of the source, uint8, or uint16 (0..65535) for sources of
    more than 8 bits; with ``despill`` its spill is removed where alpha is above 0, and from
    the foreground. alpha: (H, W) float32 in 0..1, straight.
    foreground: (H, W, 3) full range RGB, the subject's own colours, by the option
    ``foreground``: 'auto' and 'model' give the model's, uint8, or None where it has none ('model'
    is then refused); 'estimate' gives the source's without the old background where alpha is
    soft, in rgb's type; 'source' gives None, as it equals rgb. index counts frames, pts counts
    ``time_base`` (seconds), both from the in point, if any, else from the clip's start.
    """

    index: int
    pts: int
    time_base: Fraction
    rgb: np.ndarray
    alpha: np.ndarray
    foreground: np.ndarray | None = None


class Stream:
    """Frames with their alpha, one after the other; see ``vidmatte.stream``.

    Several threads may iterate over one: each frame goes to one of them.
    ``warnings`` and ``quality`` cover the frames read so far, as those of a ``Result`` cover all.
    """

    def __init__(self, source: Reader, model: Model, settings: Settings) -> None:
        self.clip = source.clip
        self._source = source
        self._model = model
        self._settings = settings
        self._pipeline: MattingPipeline | None = None
        self._frames: Iterator[Frame] = iter(())
        self._next_lock = Lock()
        self._close_lock = RLock()
        self._closed = False
        self._stack = ExitStack()  # the fields of the chosen subject

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the source that did not end the run."""
        return tuple(self._source.warnings)

    @property
    def quality(self) -> Quality:
        """The suspicious frames of the mattes."""
        return Quality() if self._pipeline is None else self._pipeline.quality

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> StreamedFrame:
        with self._next_lock:
            if self._closed:
                raise StopIteration
            try:
                with oom_errors(self.clip.source, self._settings.memory):
                    frame = next(self._started())
            except BaseException as error:
                # After a close by another thread, an aborted stage may raise any error.
                if self._close(wait=True) and isinstance(error, Exception):
                    raise StopIteration from None
                raise
        try:
            return _copied_frame(frame, self._settings)
        finally:
            frame.release()

    def close(self) -> None:
        """Stop the stages and close the source; harmless when done twice.

        A thread that is waiting for a frame gets StopIteration.
        """
        self._close(wait=True)

    def _started(self) -> Iterator[Frame]:
        """The iterator over the pipeline's frames; the first call starts the pipeline."""
        if self._pipeline is None:
            subject = None
            if self._settings.has_subject:
                from vidmatte.jobs.subjects import subject_fields

                subject = self._stack.enter_context(
                    subject_fields(self._source, self._model, self._settings, Reporter())
                )
            pipeline = build_pipeline(
                self._source, self._model, self._settings, None, subject=subject
            )
            with self._close_lock:
                if self._closed:  # meanwhile, by another thread
                    return iter(())
                self._pipeline, self._frames = pipeline, iter(pipeline.pipeline)
        return self._frames

    def _close(self, *, wait: bool) -> bool:
        """Close the stream; return whether it was closed before."""
        with self._close_lock:
            before, self._closed = self._closed, True
            pipeline = self._pipeline
        if pipeline is not None:
            pipeline.close(wait=wait)
        self._source.close()
        self._stack.close()
        return before

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            # Garbage collection runs in any thread: a stage thread would wait for itself.
            self._close(wait=not is_stage_thread(current_thread()))


def _copied_frame(frame: Frame, settings: Settings) -> StreamedFrame:
    """A copy of a frame that is independent of its slot, despilled if the settings ask for it."""
    from vidmatte.alpha.adjustments import despill
    from vidmatte.pixels.network_rgb import full_range_rgb

    if frame.alpha is None:
        raise OutputError(f"frame {frame.index} has no alpha")
    rgb = full_range_rgb(frame.picture)
    foreground = _foreground_of(frame, frame.alpha, rgb, settings.foreground)
    if settings.despill is not None:
        clean = despill(rgb, settings.despill, settings.despill_strength)
        np.copyto(rgb, clean, where=(frame.alpha > 0)[..., None])
        if foreground is not None:
            foreground = despill(foreground, settings.despill, settings.despill_strength)
    return StreamedFrame(
        index=frame.index,
        pts=frame.pts,
        time_base=frame.time_base,
        rgb=rgb,
        alpha=frame.alpha.copy(),
        foreground=foreground,
    )


def _foreground_of(
    frame: Frame, alpha: np.ndarray, rgb: np.ndarray, policy: str
) -> np.ndarray | None:
    """The foreground of a ``StreamedFrame``; see there. rgb: its colours, not modified."""
    from vidmatte.alpha.foreground import estimate

    if policy == "source":
        return None
    if policy != "estimate":
        return frame.foreground
    found = estimate(rgb, alpha)
    return found.copy() if found is rgb else found

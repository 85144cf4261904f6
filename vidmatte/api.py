"""The Python API: matte a file; see ``streaming`` for its frames one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock, RLock, current_thread
from typing import Unpack

import numpy as np

from vidmatte.alpha.quality import Quality
from vidmatte.core.frame import Frame
from vidmatte.core.memory import oom_errors
from vidmatte.errors import InterruptedRunError, OutputError, UsageError
from vidmatte.jobs.check import check_job, check_matting, make_job
from vidmatte.jobs.pipeline import MattingPipeline, build_pipeline
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.resume import remove_checkpoint
from vidmatte.jobs.run import Result, run
from vidmatte.jobs.stages import is_stage_thread
from vidmatte.keywords import Options, StreamOptions
from vidmatte.models.registry import Model
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import OutputOptions, Settings, make_settings, options_of

__all__ = ["Progress", "Result", "Stream", "StreamedFrame", "matte", "stream"]


class _CallbackReporter(Reporter):
    """Gives a caller's function every frame's progress."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell

    def advance(self, progress: Progress) -> None:
        self._tell(progress)


def matte(
    source: str | Path,
    output: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[Options],
) -> Result:
    """Cut the subject out of ``source`` and write it to ``output``.

    source: a movie, a folder of pictures or one picture. output: a file, its format
    by its suffix, or a folder for pictures. progress: called in the caller's thread after each
    frame, with one object that goes on changing; what it raises stops the run, leaves no
    output and comes out of here. options: those of ``Settings``, by name.
    Raises the errors of vidmatte.errors; an existing output needs ``overwrite=True``. Ctrl+C
    is an InterruptedRunError, which is a KeyboardInterrupt and no Exception.
    """
    job = make_job(source, output, make_settings(**options))
    if progress is not None and not callable(progress):
        raise UsageError(f"progress {progress!r}: a function of one argument is wanted")
    reporter = Reporter() if progress is None else _CallbackReporter(progress)
    said = ("vidmatte.matte", str(source), str(output))
    try:
        with oom_errors(source, job.settings.memory), open_reader(source, job.settings) as opened:
            model = check_job(job, opened).model.fetch(lambda _: None)
            result = run(
                opened, job.output, model, job.settings, reporter, said, is_folder=job.is_folder
            )
        if job.settings.resume:
            remove_checkpoint(job.output)
    except InterruptedRunError:
        raise
    except KeyboardInterrupt:
        # While weights were fetched, for one.
        raise InterruptedRunError(
            f"stopped before the first frame of {output}, or after the last"
        ) from None
    return result


@dataclass(frozen=True, eq=False)  # arrays have no one truth to compare by, and no hash
class StreamedFrame:
    """A frame with its alpha; the arrays are the caller's to keep.

    rgb: (H, W, 3), full range RGB as the source has it, uint8, or uint16 (0..65535)
    for sources of more than 8 bits; with ``despill``, without that screen's light
    where alpha is above 0, and so the foreground. alpha: (H, W) float32 in 0..1, straight.
    foreground: (H, W, 3) full range RGB, the subject's own colours. By the option of that
    name: 'auto' and 'model' give the model's, uint8, None where it has none ('model' is refused
    then); 'estimate' the source's without the old background where alpha is soft, of rgb's type;
    'source' None, for rgb is it. index counts frames, pts ``time_base`` (seconds), both from the in
    point where there is one, else from the clip's start.
    """

    index: int
    pts: int
    time_base: Fraction
    rgb: np.ndarray
    alpha: np.ndarray
    foreground: np.ndarray | None = None


class Stream:
    """Frames with their alpha, one after the other; see ``stream``.

    Several threads may share one: each frame goes to one of them.
    ``warnings`` and ``quality`` tell of the frames read so far what a ``Result`` tells of all.
    """

    def __init__(self, source: Reader, model: Model, settings: Settings) -> None:
        self.clip = source.clip
        self._source = source
        self._model = model
        self._settings = settings
        self._path: MattingPipeline | None = None
        self._frames: Iterator[Frame] = iter(())
        self._turn = Lock()
        self._ending = RLock()
        self._closed = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong on the way without ending the run."""
        return tuple(self._source.warnings)

    @property
    def quality(self) -> Quality:
        """What looks wrong in the mattes."""
        return Quality() if self._path is None else self._path.quality

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> StreamedFrame:
        with self._turn:
            if self._closed:
                raise StopIteration
            try:
                with oom_errors(self.clip.source, self._settings.memory):
                    frame = next(self._begun())
            except BaseException as error:
                # Where another thread has closed it, a stage that was cut short says anything.
                if self._close(wait=True) and isinstance(error, Exception):
                    raise StopIteration from None
                raise
        try:
            return _copied_frame(frame, self._settings)
        finally:
            frame.release()

    def close(self) -> None:
        """Stop the stages and close the source; harmless when done twice.

        A thread that waits for a frame meanwhile finds the stream at its end.
        """
        self._close(wait=True)

    def _begun(self) -> Iterator[Frame]:
        """The frames as the stages give them; the first call starts these."""
        if self._path is None:
            path = build_pipeline(self._source, self._model, self._settings, None)
            with self._ending:
                if self._closed:  # meanwhile, by another thread
                    return iter(())
                self._path, self._frames = path, iter(path.pipeline)
        return self._frames

    def _close(self, *, wait: bool) -> bool:
        """Whether it was closed before."""
        with self._ending:
            before, self._closed = self._closed, True
            path = self._path
        if path is not None:
            path.close(wait=wait)
        self._source.close()
        return before

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            # Garbage is collected in any thread: one of ours would wait for itself.
            self._close(wait=not is_stage_thread(current_thread()))


def stream(source: str | Path, **options: Unpack[StreamOptions]) -> Stream:
    """Iterate over ``source``: each frame with its pixels, alpha and time.

    Memory is bounded whatever the clip's length; leaving the loop early (and letting
    go of the iterator, or closing it) ends every thread and closes every file.
    options: those of ``Settings``, by name, but for ``OutputOptions``. Raises the
    errors of vidmatte.errors.
    """
    settings = make_settings(**options)
    for name, option in options_of(OutputOptions).items():
        if (value := getattr(settings, name)) != option.default:
            raise UsageError(f"{name}={value!r} is for files: a stream has none; use matte()")
    opened = open_reader(source, settings)
    try:
        model = check_matting(opened.clip, settings).fetch(lambda _: None)
        return Stream(opened, model, settings)
    except BaseException:
        opened.close()
        raise


def _copied_frame(frame: Frame, settings: Settings) -> StreamedFrame:
    """A copy of a frame that outlives its slot, without spill where the settings say so."""
    from vidmatte.alpha.adjustments import despill
    from vidmatte.pixels.network_rgb import full_range_rgb

    if frame.alpha is None:
        raise OutputError(f"frame {frame.index} has no alpha")
    rgb = full_range_rgb(frame.picture)
    foreground = _foreground_of(frame, frame.alpha, rgb, settings.foreground)
    if settings.despill is not None:
        held = despill(rgb, settings.despill, settings.despill_strength)
        np.copyto(rgb, held, where=(frame.alpha > 0)[..., None])
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
    """The foreground of a ``StreamedFrame``; see there. rgb: its colours, only read."""
    from vidmatte.alpha.foreground import estimate

    if policy == "source":
        return None
    if policy != "estimate":
        return frame.foreground
    found = estimate(rgb, alpha)
    return found.copy() if found is rgb else found

"""From ``--subject`` to the fields of a clip: a first pass, key masks, and following them.

The first pass gives every frame its raw alpha, which is cached for the second pass, and keeps a
small copy of the frame on disk. Then each subject is followed from its key frames, in both
directions, over the small copies. In ``--cache`` all of it stays for the next run, which follows
only the spans between key frames that have changed.
"""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vidmatte.alpha.guidance.coarse import (
    CoarseFrame,
    CoarseFrameMaker,
    work_size,
)
from vidmatte.alpha.guidance.key_masks import check_keys, key_mask
from vidmatte.alpha.guidance.passes import FrameReport, changed_spans, solve
from vidmatte.alpha.guidance.second_look import LookStore
from vidmatte.alpha.guidance.store import CoarseStore, FieldStore
from vidmatte.alpha.guidance.subject_fields import SubjectFields
from vidmatte.alpha.guidance.subjects_file import mask_files, read_subjects
from vidmatte.core.concurrency import locked
from vidmatte.core.frame import Clip
from vidmatte.core.prompts import FORMS, Box, Mask, Point, Prompt, parse_prompt
from vidmatte.errors import InterruptedRunError, SourceError, UsageError
from vidmatte.jobs.follow import Follower, choose_follower
from vidmatte.jobs.key_looks import KeyLooker, KeyPictures
from vidmatte.jobs.pipeline import build_raw_pipeline
from vidmatte.jobs.report import Progress, Reporter
from vidmatte.jobs.second_look import look_again
from vidmatte.models.registry import Model
from vidmatte.models.runtimes.device import Device
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings

#: Prompts by the number of their frame in the source, for each subject by name.
Prompts = dict[str, dict[int, list[Prompt]]]
_Keys = dict[int, np.ndarray]
_Kind = TypeVar("_Kind")
_NUMBERS, _REPORTS = TypeAdapter(list[int]), TypeAdapter(list[FrameReport])


def prompts_of(source: Reader, settings: Settings) -> Prompts:
    """The prompts of a run, checked as far as that is possible without its frames.

    Raises UsageError.
    """
    clip = source.clip
    given = [parse_prompt(text) for text in settings.subject]
    if settings.subjects is not None:
        given += read_subjects(Path(settings.subjects), clip)
    missing = next(
        (file for file in mask_files(settings.subject, settings.subjects) if not file.is_file()),
        None,
    )
    if missing is not None:
        raise UsageError(
            f"--subject {missing}: neither a prompt nor a picture that exists: {FORMS}"
        )
    if not given:
        raise UsageError(f"--subjects {settings.subjects}: 'prompts' is empty: add one")
    prompts: Prompts = {}
    for prompt in given:
        if isinstance(prompt, Point | Box):
            prompt.check(clip.width, clip.height)
        frames = prompts.setdefault(prompt.subject, {})
        point = prompt.at.point(clip.time_base)
        number = clip.first_frame if point is None else frame_number(source, "--subject", point)
        frames.setdefault(number, []).append(prompt)
    if settings.only is not None and settings.only not in prompts:
        raise UsageError(
            f"--only {settings.only}: the subjects are {', '.join(sorted(prompts))}: choose one of"
            " them, or put NAME: before a prompt"
        )
    return prompts


def frame_number(source: Reader, flag: str, point: str) -> int:
    """The number in the source of a frame that is read, by its point as --in writes it. Raises
    UsageError, which names the option ``flag``, for any other frame."""
    clip = source.clip
    if source.points is None:
        raise UsageError(f"{flag} {point}: this source has only its first frame: omit it")
    number = source.points.number(flag, point)
    count = clip.frame_count if clip.source_frame_count is None else clip.source_frame_count
    end = None if count is None else clip.first_frame + count
    if number < clip.first_frame or (end is not None and number >= end):
        last = "" if end is None else f" to f{end - 1}"
        raise UsageError(
            f"{flag} {point}: frame {number} is not read: choose f{clip.first_frame}{last}"
        )
    return number


def check_subjects(source: Reader, settings: Settings) -> None:
    """Raise UsageError where the chosen subject cannot be followed in this source."""
    if not settings.has_subject:
        return
    if source.clip.source.path is None:
        raise UsageError("--subject needs a source that can be read twice: save it to a file")
    _check_masks(prompts_of(source, settings), source.clip)
    choose_follower(settings, Device())


def _check_masks(prompts: Prompts, clip: Clip) -> None:
    """Raise UsageError for a mask picture that cannot be read or does not fit the frame, and for a
    subject with black ones alone, before all frames go through the network."""
    width, height = work_size(clip.width, clip.height)
    empty = np.zeros((height, width), np.uint8)
    blank = CoarseFrame(np.zeros((height, width, 3), np.uint8), empty, empty)
    for name, frames in prompts.items():
        given = [prompt for one in frames.values() for prompt in one]
        masks = [replace(prompt, wanted=True) for prompt in given if isinstance(prompt, Mask)]
        keys = [key_mask(blank, [mask], clip.width, clip.height) for mask in masks]
        if all(isinstance(prompt, Mask) and prompt.wanted for prompt in given):
            check_keys(keys, name)


@contextmanager
def subject_fields(
    source: Reader,
    model: Model,
    settings: Settings,
    reporter: Reporter,
    folder: Path | None = None,
    *,
    second_look: bool = True,
) -> Iterator[SubjectFields | None]:
    """The fields of the chosen subjects, for the block; None where no subject is chosen.

    Their files are in ``--cache``, or else in ``folder``, or in a temporary one: about 1.5 MB
    a frame, and the frame's alpha. second_look: show the network again what it ignores, for the
    alphas. Raises UsageError, SourceError, OutputError, InterruptedRunError.
    """
    if not settings.has_subject:
        yield None
        return
    cache = folder if settings.cache is None else Path(settings.cache).expanduser()
    kept = nullcontext(str(cache)) if cache else tempfile.TemporaryDirectory(prefix="vidmatte-")
    with kept as name:
        follower = choose_follower(settings, model.device, reporter.note)
        folder = Path(name) / f"{model.cache_key(source.clip)}{follower.label}.subject"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".subject.lock"), waits=not settings.resume):
            try:
                solver = _Solver(source, model, settings, reporter, Path(name), folder, follower)
                fields = solver.solved()
                if second_look:
                    frames = CoarseStore(folder)
                    look_again(source.clip, model, settings, reporter, frames, fields)
            except KeyboardInterrupt:
                hint = "; --resume continues" if settings.resume else ""
                raise InterruptedRunError(
                    f"stopped while the subject was tracked: no result was written{hint}"
                ) from None
            yield fields


class _Solver:
    """The steps from prompts to fields, for one clip."""

    def __init__(
        self,
        source: Reader,
        model: Model,
        settings: Settings,
        reporter: Reporter,
        cache: Path,
        folder: Path,
        follower: Follower,
    ) -> None:
        self._source, self._model, self._settings = source, model, settings
        self._reporter, self._cache, self._folder = reporter, cache, folder
        self._prompts, self._follower = prompts_of(source, settings), follower
        self._looker = KeyLooker(model, settings, reporter.note, close_ups=follower.sam is None)

    def solved(self) -> SubjectFields:
        """All fields, with what is known about them."""
        numbers = _read_json(self._folder / "frames.json", _NUMBERS)
        if numbers is None:
            numbers = self._first_pass()
        frames = CoarseStore(self._folder)
        if len(frames) != len(numbers):
            raise SourceError(f"{self._folder}: {len(frames)} of {len(numbers)} frames: remove it")
        found = {name: self._followed(name, frames, numbers) for name in self._prompts}
        only = self._settings.only
        wanted = list(found) if only is None else [only]
        return SubjectFields(
            stores={name: store for name, (store, _) in found.items()},
            wanted=wanted,
            reports={name: found[name][1] for name in wanted},
            numbers=numbers,
            cache=self._cache,
            looks=LookStore(self._folder, f"look-{only or '+all'}"),
        )

    def _first_pass(self) -> list[int]:
        """Store the small copies of all frames; their numbers in the source."""
        for file in self._folder.iterdir():
            file.unlink()
        path = self._source.clip.source.path
        assert path is not None  # as ``check_subjects`` has found
        report = self._reporter
        features = self._follower.features(self._model, report.note, quiet=report.is_quiet)
        clip = self._source.clip
        maker = CoarseFrameMaker(self._follower.detail_size(clip.width, clip.height))
        store, numbers = CoarseStore(self._folder), list[int]()
        with open_reader(path, self._settings) as source:
            pipeline = build_raw_pipeline(source, self._model, self._settings, self._cache)
            progress = self._progress(source.clip, "subject")
            with self._reported(progress), closing(pipeline):
                for frame in pipeline.pipeline:
                    assert frame.alpha is not None
                    store.append(maker.make(frame.rgb, frame.alpha, features(frame.rgb)))
                    numbers.append(source.clip.first_frame + frame.place)
                    frame.release()
                    self._advance(progress)
        (self._folder / "frames.json").write_text(json.dumps(numbers), "utf-8")
        return numbers

    def _followed(
        self, name: str, frames: CoarseStore, numbers: list[int]
    ) -> tuple[FieldStore, list[FrameReport]]:
        """The fields and reports of a subject; of a known one only the changed spans are new."""
        keys = self._keys(name, frames, numbers)
        height, width = next(iter(keys.values())).shape
        path = self._folder / f"{name}.fields"
        stored = self._stored(name) if path.is_file() else None
        store = FieldStore(path, len(frames), height, width)
        before, reports = stored or ({}, {})
        spans = changed_spans(before, keys, len(frames)) if before else None
        (self._folder / f"{name}.json").unlink(missing_ok=True)  # it describes finished fields
        progress = self._progress(self._source.clip, f"following {name}")
        progress.total = None if spans is None else sum(one.last + 1 - one.first for one in spans)
        with self._reported(progress):
            carriers = self._follower.propagator(self._folder)
            for report in solve(frames, keys, store, only=spans, propagator=carriers):
                reports[report.index] = report
                self._advance(progress)
        known = [reports[index] for index in sorted(reports)]
        np.savez(self._folder / f"{name}.keys.npz", **{str(at): keys[at] for at in keys})  # type: ignore[arg-type]
        text = json.dumps([asdict(one) for one in known])
        (self._folder / f"{name}.json").write_text(text, "utf-8")
        return store, known

    def _stored(self, name: str) -> tuple[_Keys, dict[int, FrameReport]] | None:
        """The keys and reports of an earlier run; None where they are missing or damaged."""
        reports = _read_json(self._folder / f"{name}.json", _REPORTS)
        if reports is None:
            return None
        with np.load(self._folder / f"{name}.keys.npz") as arrays:
            keys = {int(at): arrays[at] for at in arrays.files}
        return keys, {one.index: replace(one, is_key=False) for one in reports}

    def _keys(self, name: str, frames: CoarseStore, numbers: list[int]) -> _Keys:
        """The masks of a subject's key frames, by frame number of the run. Raises UsageError."""
        clip, keys = self._source.clip, _Keys()
        path = clip.source.path
        assert path is not None
        for number, prompts in self._prompts[name].items():
            index = min(bisect_left(numbers, number), len(numbers) - 1)
            frame = frames[index]
            seen = KeyPictures(path, number, self._settings)
            looks = self._looker.looks(number, frame, prompts, seen.rgb, seen.nearby)
            size = clip.width, clip.height
            with naming_key(name, number):
                keys[index] = key_mask(frame, prompts, *size, looks, self._follower.masks)
        check_keys(list(keys.values()), name)
        return keys

    def _progress(self, clip: Clip, phase: str) -> Progress:
        return Progress(clip.source.name, clip.frame_count, phase=phase)

    @contextmanager
    def _reported(self, progress: Progress) -> Iterator[None]:
        self._reporter.start(progress)
        try:
            yield
        finally:
            self._reporter.finish()

    def _advance(self, progress: Progress) -> None:
        progress.done += 1
        self._reporter.advance(progress)


@contextmanager
def naming_key(name: str, number: int) -> Iterator[None]:
    """Put a subject's name and the number of its key frame before what is wrong there."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"--subject: {name} at f{number}: {error}") from None


def _read_json(path: Path, kind: TypeAdapter[_Kind]) -> _Kind | None:
    """A file of ours; None where it is missing or damaged."""
    try:
        return kind.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None

"""The files of an edit: found by path, name, reel and timecode, and never guessed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PureWindowsPath

from vidmatte.core.frame import Clip
from vidmatte.core.timecode import number_of
from vidmatte.errors import SourceError, VidmatteError
from vidmatte.readers.image_folder import SUFFIXES
from vidmatte.timeline.edl import reel_name
from vidmatte.timeline.model import Event, Medium, base_name

_MOVIES = frozenset(
    {".mov", ".mp4", ".m4v", ".mxf", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg"}
    | {".mpeg", ".wmv", ".ogv", ".dv", ".3gp", ".qt"}
)
#: More files under --media-dir are not searched.
_MOST_FILES = 200_000


@dataclass(frozen=True)
class Found:
    """A file and its clip. start: the frame number of its first frame by its timecode, 0 without
    one. how: by what it was found. is_relative: the edit counts its frames from its first."""

    path: Path
    clip: Clip
    start: int
    how: str
    is_relative: bool = False

    def index(self, event: Event) -> int:
        """The number in the file of an event's first frame; may be outside the file."""
        return event.start - (event.medium.start if self.is_relative else self.start)


class MediaFinder:
    """Finds media in a folder and at the paths of a timeline.

    timeline: its file, to which its relative paths are relative. folder: that of --media-dir,
    searched with what is in it. describe: the clip of a file; raises VidmatteError.
    """

    def __init__(
        self, timeline: Path, folder: Path | None, describe: Callable[[Path], Clip]
    ) -> None:
        self._beside, self._folder, self._describe = timeline.parent, folder, describe
        self._clips: dict[Path, Clip | VidmatteError] = {}

    @cached_property
    def _files(self) -> list[Path]:
        """The movies of the folder, and the folders of pictures in it, in order. Raises
        SourceError."""
        if self._folder is None:
            return []
        if not self._folder.is_dir():
            raise SourceError(f"--media-dir {self._folder}: there is no such folder")
        found: list[Path] = []
        for place, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [
                Path(place, name)
                for name in sorted(names)
                if Path(name).suffix.lower() in _MOVIES and not name.startswith(".")
            ]
            if any(Path(name).suffix.lower() in SUFFIXES for name in names):
                found.append(Path(place))
            if len(found) > _MOST_FILES:
                raise SourceError(
                    f"--media-dir {self._folder}: more than {_MOST_FILES} movies: name a smaller"
                    " folder"
                )
        return found

    def clip(self, path: Path) -> Clip:
        """The clip of a file, opened once. Raises VidmatteError."""
        if path not in self._clips:
            try:
                self._clips[path] = self._describe(path)
            except VidmatteError as error:
                self._clips[path] = error
        found = self._clips[path]
        if isinstance(found, VidmatteError):
            raise found
        return found

    def rate_of(self, medium: Medium) -> Fraction | None:
        """The rate of the files that a medium may be, None where there is none, or two rates."""
        for _, paths in self._candidates(medium, medium.name):
            clips = [clip for path in paths if (clip := self._readable(path))]
            rates = {clip.rate for clip in clips if clip.kind == "movie"}
            if rates:
                return rates.pop() if len(rates) == 1 else None
        return None

    def _readable(self, path: Path) -> Clip | None:
        try:
            return self.clip(path)
        except VidmatteError:
            return None

    def _reel(self, path: Path) -> str:
        """The reel that a movie states, as an EDL writes it; '' without one."""
        clip = self._readable(path) if path.suffix.lower() in _MOVIES else None
        return "" if clip is None or clip.reel is None else reel_name(clip.reel)

    def find(self, event: Event) -> Found | str:
        """The file of an event, or why there is none, as a sentence's end."""
        reason = "no file of its path, name or reel was found"
        for how, paths in self._candidates(event.medium, event.name):
            fitting = []
            for path in paths:
                try:
                    fitting.append(_placed(path, self.clip(path), event, how))
                except VidmatteError as error:
                    reason = str(error)
            found = [one for one in fitting if isinstance(one, Found)]
            if len(found) > 1:
                found = _nearest_by_path(found, event.medium.path)
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(str(one.path) for one in found[:3])
                return f"{len(found)} files fit it ({names}): name a smaller folder"
            reason = next((one for one in fitting if isinstance(one, str)), reason)
        return reason

    def _candidates(self, medium: Medium, name: str) -> Iterable[tuple[str, Sequence[Path]]]:
        """How files can be found, the surest way first, and those that are found so."""
        if medium.path:
            path = self._beside / medium.path
            if os.path.exists(path):  # noqa: PTH110 (a name too long is not there)
                yield "its path", [path]
        given = [base_name(one) for one in (medium.path, medium.name, name) if one]
        names = {one.casefold() for one in given}
        yield "its name", [path for path in self._files if path.name.casefold() in names]
        stems = {PureWindowsPath(one).stem.casefold() for one in given} | names
        yield "its name", [path for path in self._files if path.stem.casefold() in stems]
        if medium.reel:
            reel = reel_name(medium.reel).casefold()
            same = [path for path in self._files if reel_name(path.stem).casefold() == reel]
            yield "its reel and timecode", same
            reels = {path: self._reel(path) for path in self._files}
            tagged = [path for path, own in reels.items() if own.casefold() == reel]
            yield "its reel and timecode", tagged


def _placed(path: Path, clip: Clip, event: Event, how: str) -> Found | str:
    """A file with the frames of an event, or why it does not have them."""
    medium = event.medium
    if clip.kind == "picture":
        return f"{path.name} is a still picture"
    if clip.kind == "movie" and clip.rate != medium.rate:
        return f"{path.name} has {clip.rate} frames a second, the edit says {medium.rate}"
    if not clip.constant_rate:
        return f"{path.name} has a variable frame rate: conform it to a constant one first"
    start = number_of(clip.timecode, clip.rate) if clip.timecode else 0
    frames = clip.frame_count
    first, last = event.start - start, event.start + event.frames - start
    if last > 0 and (frames is None or first < frames):
        return Found(path, clip, start, how)
    # Where the timeline describes the medium, and either knows no timecodes or the file has none.
    first = event.start - medium.start
    counts_from_it = medium.frames is not None and (medium.start == 0 or clip.timecode is None)
    if counts_from_it and (frames is None or first < frames):
        return Found(path, clip, start, how, is_relative=True)
    begins = f"begins at {clip.timecode}" if clip.timecode else "has no timecode"
    return f"{path.name} {begins} and does not have these frames"


def _nearest_by_path(found: list[Found], path: str | None) -> list[Found]:
    """Of several files those that share most of the last folders of the timeline's path."""
    if path is None:
        return found
    wanted = [part.casefold() for part in PureWindowsPath(path).parts[::-1]]

    def shared(one: Found) -> int:
        parts = [part.casefold() for part in one.path.parts[::-1]]
        same = [left == right for left, right in zip(wanted, parts, strict=False)]
        return [*same, False].index(False)

    most = max(shared(one) for one in found)
    return [one for one in found if shared(one) == most]

"""Sound from a file of its own (``--audio-from``), such as a take beside a folder of pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from vidmatte.core.frame import Clip
from vidmatte.errors import SourceError, SourceMissingError
from vidmatte.readers.base import FileSource, Reader
from vidmatte.readers.movie.container import open_container, read_errors_as
from vidmatte.readers.movie.sound_tracks import choose_tracks
from vidmatte.settings import Settings
from vidmatte.settings.values import parse_numbers


def take_sound_from(reader: Reader, path: Path, settings: Settings) -> None:
    """Give a reader's clip the sound of ``path`` instead of its own.

    The sound begins with the first frame of the source, before any in point, and ends with the
    last one. Raises SourceError, UsageError.
    """
    if not path.is_file():
        raise SourceMissingError(f"--audio-from {path}: there is no such file")
    wanted = parse_numbers(settings.audio_tracks) if settings.audio_tracks else ()
    try:
        container = open_container(path)
    except SourceError as error:
        raise SourceError(
            f"--audio-from {path}: not a readable sound file: save it as WAV"
        ) from error
    with container, read_errors_as(path):
        sound = choose_tracks(path.name, container, wanted)
        length = Fraction(container.duration or 0, av.time_base)
    if not sound.tracks:
        reason = "; ".join(sound.notes).removeprefix(f"{path.name}: ") or "it has no sound track"
        raise SourceError(f"--audio-from {path}: {reason}")
    clip, source = reader.clip, reader.clip.source
    assert isinstance(source, FileSource)
    skipped = clip.first_frame / clip.rate if reader.skipped is None else reader.skipped
    reader.clip = replace(
        clip,
        source=source.with_sound(path),
        audio=sound.tracks,
        sound_offset=clip.origin - skipped,
        end=_end_of(clip) if clip.end is None else clip.end,
    )
    reader.warnings.extend(sound.notes)
    reader.warnings.extend(_length_notes(reader.clip, path, length))


def _end_of(clip: Clip) -> Fraction | None:
    """Where the last frame ends, on the clip's own timeline; None where it is unknown."""
    return None if clip.frame_count is None else clip.origin + clip.frame_count / clip.rate


def _length_notes(clip: Clip, path: Path, length: Fraction) -> list[str]:
    """A line where sound and pictures differ in length by more than a frame."""
    if not length or clip.end is None:
        return []
    pictures, left = clip.end - clip.origin, length - (clip.origin - clip.sound_offset)
    if abs(left - pictures) <= 1 / clip.rate:
        return []
    what = "the rest is cut off" if left > pictures else "silent after it"
    lengths = f"{max(float(left), 0):.2f} s of sound for {float(pictures):.2f} s of pictures"
    return [f"{path.name}: {lengths}: {what}"]

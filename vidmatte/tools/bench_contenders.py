"""Who takes part in ``vidmatte bench --compare``, and what each of them reads and writes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from vidmatte._version import __version__
from vidmatte.core.concurrency import usable_cores
from vidmatte.errors import UsageError
from vidmatte.models.registry import Model, find_model
from vidmatte.models.weights.catalogue import lookup
from vidmatte.readers.base import Reader
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.settings.option import options_of
from vidmatte.tools.bench import cpu_name, measure
from vidmatte.tools.bench_compare import FEW, FILTERED, NEAR, Contender
from vidmatte.tools.plain_loop import PICTURES

INSTALL = (
    "python -m venv peer && peer/bin/pip install 'rembg[cpu,cli]', then --rembg peer/bin/rembg"
)
_OFF = {"smooth": "off", "refine": "off", "foreground": "source"}
#: rembg's own name for a file of the user's, by family.
_CUSTOM = {"isnet": "dis_custom", "u2net": "u2net_custom"}
_LEAST = 8  # frames
_RATE = "25"  # of PNG files, which state none
_VIDMATTE, _UNFILTERED = "vidmatte", "vidmatte, filters off"


@dataclass(frozen=True)
class Match:
    """What every contender works on: the same frames, the same weights.

    settings: of vidmatte, their format png or prores. first: the number in the movie of the first
    frame. inputs: the movie, or a folder of PNG files, by how many frames are to be read.
    folder: for all that is temporary.
    """

    model: Model
    settings: Settings
    frames: int
    size: tuple[int, int]
    first: int
    inputs: dict[int, Path]
    folder: Path

    @classmethod
    def of(cls, clip: Path, folder: Path, settings: Settings, model: Model, frames: int) -> Match:
        """For the first ``frames`` frames of a clip, or as many as it has; its frames are written
        as PNG files where the format is png.

        Raises UsageError for a clip that is too short, or that a plain loop does not read.
        """
        with open_reader(clip, settings) as source:
            facts = source.clip
            frames = min(frames, facts.frame_count or frames)
            if frames < _LEAST:
                raise UsageError(f"{clip}: it has only {frames} frames, --compare needs {_LEAST}")
            size, first = (facts.width, facts.height), facts.first_frame
            inputs = dict.fromkeys((FEW, frames), clip.absolute())
            if settings.format == "png":
                inputs = {count: folder / f"in{count}" for count in inputs}
                _write_pictures(source, inputs)
                settings = settings.changed(in_point=None, out_point=None, fps=_RATE)
            elif clip.is_dir():
                raise UsageError(f"{clip}: a plain loop reads it as --format png only")
        return cls(model, settings, frames, size, first, inputs, folder)

    @property
    def is_movie(self) -> bool:
        """Whether a movie becomes a movie, rather than PNG files PNG files."""
        return self.settings.format != "png"

    @property
    def suffix(self) -> str:
        """Of the results: '' for a folder."""
        return ".mov" if self.is_movie else ""

    @property
    def variants(self) -> dict[str, Settings]:
        """vidmatte's settings by the name of the row; one for a recurrent network, which takes
        no filter by default."""
        if self.model.weights[0].fed_as.recurrence is not None:
            return {_VIDMATTE: self.settings}
        return {_UNFILTERED: self.settings.changed(**_OFF), _VIDMATTE: self.settings}

    def _settings_for(self, settings: Settings, count: int) -> Settings:
        """With the out point after so many frames."""
        if not self.is_movie:
            return settings
        return settings.changed(out_point=f"f{self.first + count}")

    def contenders(self, rembg: Path | None) -> list[Contender]:
        """Everyone who takes part, peers first."""
        own = [self._vidmatte(name, settings) for name, settings in self.variants.items()]
        peers = [self._plain_loop()] if rembg is None else [self._rembg(rembg), self._plain_loop()]
        return [*peers, *own]

    def _vidmatte(self, name: str, settings: Settings) -> Contender:
        def command(count: int, out: Path) -> list[str]:
            target = str(out) if self.is_movie else f"{out}{os.sep}"
            words = [str(self.inputs[count]), "-o", target, "-q"]
            options = _words_of(self._settings_for(settings, count))
            return [sys.executable, "-m", "vidmatte", *words, *options]

        return Contender(name, command, NEAR if name == _UNFILTERED else FILTERED, is_peer=False)

    def _plain_loop(self) -> Contender:
        weights, settings = self.model.weights[0], self.settings

        def command(count: int, out: Path) -> list[str]:
            words = [str(weights.path), str(self.inputs[count]), str(out)]
            words += ["--family", weights.family, "--frames", str(count)]
            words += ["--first", str(self.first), "--threads", str(settings.threads or 0)]
            words += ["--downsample", str(settings.downsample)]
            words += ["--device", "cpu" if self.model.device.name == "cpu" else "cuda"]
            return [sys.executable, "-m", "vidmatte.tools.plain_loop", *words]

        return Contender("plain loop", command)

    def _rembg(self, program: Path) -> Contender:
        """rembg's folder command, with the same weights: it finds them in a home of its own."""
        part, home = self.model.weights[0], self.folder / "home"
        assert part.path is not None
        home.mkdir()
        if part.record is None:
            name, linked = _CUSTOM[part.family], home / part.path.name
            more = ["-x", json.dumps({"model_path": str(linked)})]
        else:
            entry = lookup(part.name)
            name, more = (entry.aliases or (entry.name,))[0], []
            linked = home / f"{name}.onnx"
        linked.symlink_to(part.path.absolute())
        environment = {"U2NET_HOME": str(home), "MODEL_CHECKSUM_DISABLED": "1"}
        if self.settings.threads:
            environment["OMP_NUM_THREADS"] = str(self.settings.threads)

        def command(count: int, out: Path) -> list[str]:
            return [str(program), "p", "-m", name, *more, str(self.inputs[count]), str(out)]

        return Contender("rembg p", command, environment=environment)

    def stages(self, rounds: int, report: Callable[[str], None]) -> dict[str, dict[str, float]]:
        """Core milliseconds a frame of each stage alone, by the name of vidmatte's row."""
        found = {}
        for name, settings in self.variants.items():
            adapted = self._settings_for(settings, self.frames)
            model = find_model(adapted, report)
            out = self.folder / f"stages{self.suffix}"
            measured = measure(self.inputs[self.frames], out, model, adapted, rounds, report)
            model.unload()
            found[name] = {stage: cost.core_ms for stage, cost in measured.stages.items()}
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """What was compared, on what, for JSON."""
        return {
            "vidmatte": __version__,
            "model": self.model.name,
            "job": "movie to ProRes 4444" if self.is_movie else "PNG to PNG",
            "width": self.size[0],
            "height": self.size[1],
            "frames": self.frames,
            "device": self.model.device.name,
            "cpu": cpu_name(),
            "cores": usable_cores(),
        }


def _words_of(settings: Settings) -> list[str]:
    """The settings as options of the command line."""
    words = []
    for name, option in options_of(Settings).items():
        value = getattr(settings, name)
        if value == option.default:
            continue
        if option.kind is bool:
            words.append(option.flag if value else option.negative or f"--no{option.flag[1:]}")
        else:
            values = value if option.kind is tuple else [value]
            words += [f"{option.flag}={one}" for one in values]
    return words


def _write_pictures(source: Reader, folders: dict[int, Path]) -> None:
    """The first frames of a clip as PNG files, in a folder for each count."""
    for folder in folders.values():
        folder.mkdir()
    for index, picture in zip(range(max(folders)), source.pictures(), strict=False):
        bgr = picture.pixels.to_ndarray(format="bgr24")
        for count, folder in folders.items():
            if index < count:
                cv2.imwrite(str(folder / (PICTURES % index)), bgr)


def find_rembg(match: Match, given: Path | None) -> tuple[Path | None, str]:
    """rembg's command where it can take part; else why not, in one line."""
    part = match.model.weights[0]
    if match.is_movie:
        reason = "it writes no movies"
    elif part.fed_as.recurrence is not None or (part.record is None and part.family not in _CUSTOM):
        reason = f"it does not run {match.model.name}"
    elif (found := shutil.which(given or "rembg")) is None:
        reason = f"it is not on the PATH: {INSTALL}"
    else:
        return Path(found), ""
    return None, f"rembg is left out: {reason}"

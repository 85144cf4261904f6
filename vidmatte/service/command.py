"""The command line of a job: its settings and outputs as the words of ``vidmatte``.

A client names files of the server by the id of a clip, ``clip:ID``, and by nothing else: every
other text for an option that names a path is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidmatte.errors import UsageError
from vidmatte.service.context import RequestError
from vidmatte.settings import Option, Settings, options_of
from vidmatte.settings.points import SourcePoints, make_trim
from vidmatte.settings.values import parse_point

#: Each format's suffix, and whether it is a movie; the first of a suffix is its default.
#: The writers' own table loads the libraries that encode, which the server does without.
FORMATS = {
    "prores": (".mov", True), "prores-xq": (".mov", True), "cineform": (".mov", True),
    "ffv1": (".mkv", True), "webm": (".webm", True), "png": (".png", False),
    "png16": (".png", False), "tiff16": (".tif", False), "exr": (".exr", False),
    "exr32": (".exr", False), "exr-coded": (".exr", False), "webp": (".webp", True),
    "apng": (".apng", True), "gif": (".gif", True), "jpeg": (".jpg", False),
    "avif": (".avif", False),
}  # fmt: skip
CLIP_ID = r"[0-9a-f]{16}"
_CLIP = re.compile(rf"clip:({CLIP_ID})")
_MASK = re.compile(rf"(?<![\w-])clip:({CLIP_ID})(?=$|@)")
_COLOUR = re.compile(r"#?[0-9A-Fa-f]{6}|blur:.*|[a-z]{3,20}")
_MODEL = re.compile(r"[A-Za-z0-9][\w.-]*(\+[A-Za-z0-9][\w.-]*)?")
#: Options whose value the server chooses; the outputs are named by ``JobOutput``.
_OF_THE_SERVER = ("overwrite", "resume", "cache", "models_dir", "matte", "foreground_file", "comp",
                  "timeline", "subjects", "start_number", "family", "exr_layers")  # fmt: skip


class JobOutput(BaseModel):
    """What a job writes."""

    model_config = ConfigDict(extra="forbid")

    format: str | None = Field(
        default=None,
        description="a name of GET /api/formats; by default prores for a clip, png for a picture",
        max_length=20,
    )
    extras: list[Literal["matte", "foreground", "comp"]] = Field(
        default=[],
        description="further files: alpha as grey, colours alone, a composite",
        max_length=3,
    )
    background: str | None = Field(
        default=None,
        description="behind the subject in a composite or in a result without alpha: a colour"
        " (RRGGBB or a name), checker, blur:20 or clip:ID",
        max_length=100,
    )
    timeline: Literal["fcpxml", "xml", "otio", "edl"] | None = Field(
        default=None, description="also a timeline of that kind: the original, over it the result"
    )


#: The words that a file is named by: its clip's id -> its path or name.
_FileNames = Callable[[str], str]


def _is_server_option(name: str) -> bool:
    """Whether the server alone decides an option, so that a job's settings may not name it."""
    return name in _OF_THE_SERVER


def job_words(
    clip: Mapping[str, Any],
    settings: Mapping[str, Any],
    output: JobOutput,
    name_of: _FileNames,
    folder: str = "",
) -> list[str]:
    """The words after ``vidmatte`` for a clip (as ``GET /api/clips/{id}`` shows it).

    name_of: gives the path of a clip for its id. folder: of the results, with a slash at its end;
    '' for the current one. Raises RequestError (422) for what the command line refuses, as far
    as that can be said without opening the clip.
    """
    values = {name: value for name, value in settings.items() if value is not None}
    _check_texts([values, output.model_dump()])
    row = _chosen_format(values, output, is_still=clip["kind"] == "picture")
    if output.background is not None:
        if "background" in values or values.get("checker"):
            raise _invalid("background: it is in both settings and output: use one of them")
        values["background"] = output.background
    given = {name: _with_files(name, value, name_of) for name, value in values.items()}
    try:
        checked = Settings(**given)
    except UsageError as error:
        raise _invalid(str(error)) from None
    if checked.foreground_file is not None:
        raise _invalid("foreground: a path is not allowed; add foreground to output.extras")
    _check_for(clip, row, checked, output)
    source = name_of(str(clip["id"]))
    return [
        _as_path(source),
        *_output_words(clip, row, output, folder),
        *_option_words(checked, given),
    ]


def shell_text(words: list[str]) -> str:
    """A command as one line for a shell."""
    return shlex.join(["vidmatte", *words])


def _invalid(message: str) -> RequestError:
    return RequestError(422, "invalid", message)


def _check_texts(value: Any) -> None:
    """Raise RequestError for a text that no command line can hold."""
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in value):
            raise _invalid(f"{value!r}: remove the NUL character or the unpaired surrogate")
    elif isinstance(value, dict):
        _check_texts([*value, *value.values()])
    elif isinstance(value, list):
        for one in value:
            _check_texts(one)


def _chosen_format(values: dict[str, Any], output: JobOutput, *, is_still: bool) -> str:
    """The name of the format; those in ``values`` are taken out. Raises RequestError."""
    given = (output.format, values.pop("format", None), values.pop("codec", None))
    named = sorted({str(name) for name in given if name is not None})
    if len(named) > 1:
        raise _invalid(f"format: {' and '.join(named)}: use one of them")
    name = named[0] if named else "png" if is_still else "prores"
    if name not in FORMATS:
        raise _invalid(f"format {name}: choose from {', '.join(FORMATS)}")
    return name


def _with_files(name: str, value: Any, name_of: _FileNames) -> Any:
    """An option's value with the path of each clip that it names. Raises RequestError for an
    option of the server, and for any other path."""
    option = options_of(Settings).get(name)
    if option is None:  # which Settings refuses
        return value
    if _is_server_option(name):
        raise _invalid(f"{name}: only the server sets it; leave it out")
    if name == "subject":
        return [_with_mask(one, name_of) for one in (value if isinstance(value, list) else [value])]
    if name == "model" and not (isinstance(value, str) and _MODEL.fullmatch(value)):
        raise _invalid(f"model {value}: name one of GET /api/models, or two joined by +")
    if not _names_path(option):
        return value
    if isinstance(value, str) and (match := _CLIP.fullmatch(value)):
        return name_of(match[1])
    if name == "background" and isinstance(value, str) and _COLOUR.fullmatch(value):
        return f"#{value}" if re.fullmatch(r"[0-9A-Fa-f]{6}", value) else value
    colour = "a colour, checker, blur:20 or " if name == "background" else ""
    raise _invalid(f"{name} {value}: write {colour}clip:ID, the id of an uploaded file")


def _names_path(option: Option) -> bool:
    """Whether an option's value is, or may be, the path of a file or folder."""
    return option.reads or option.metavar in ("FILE", "PATH", "DIR")


def _with_mask(text: Any, name_of: _FileNames) -> Any:
    """A prompt with the path of the mask that it names as ``clip:ID``. Raises RequestError."""
    from vidmatte.core.prompts import Mask, parse_prompt

    if not isinstance(text, str):
        raise _invalid(f"subject {text!r}: expected a text like 640,300@f12")
    named, count = _MASK.subn(lambda match: name_of(match[1]), text)
    if not count:
        try:
            is_mask = isinstance(parse_prompt(text), Mask)
        except UsageError as error:
            raise _invalid(str(error)) from None
        if is_mask:
            raise _invalid(
                f"subject {text}: not a point, box, number or rule; for a mask upload a picture"
                " and write clip:ID"
            )
    return named


def _check_for(clip: Mapping[str, Any], row: str, settings: Settings, output: JobOutput) -> None:
    """Raise RequestError for options that do not fit the clip or the outputs."""
    if clip["kind"] != "picture":
        for name in ("size", "crop"):
            if (value := getattr(settings, name)) is not None:
                raise _invalid(f"{name} {value}: only for pictures, and {clip['name']} is a clip")
        _check_points(clip, settings)
        if output.timeline and not FORMATS[row][1]:
            raise _invalid(f"timeline {output.timeline}: a timeline cannot show pictures ({row})")
    elif output.timeline:
        raise _invalid(
            f"timeline {output.timeline}: only for clips, and {clip['name']} is a picture"
        )
    has_background = row == "jpeg" or "comp" in output.extras or settings.background is not None
    if settings.shadow is not None and not has_background:
        raise _invalid(f"shadow {settings.shadow}: it needs a background, or comp in output.extras")
    if settings.exr_compression is not None and not row.startswith("exr"):
        raise _invalid(f"exr_compression {settings.exr_compression}: {row} is not OpenEXR")


def _check_points(clip: Mapping[str, Any], settings: Settings) -> None:
    """Raise RequestError for a range without frames, or beyond the clip's."""
    texts = [one for one in (settings.in_point, settings.out_point) if one is not None]
    timed = [one for one in texts if isinstance(parse_point(one), Fraction)]
    if not texts or clip["rate"] is None or (timed and not clip["info"]["constant_rate"]):
        return  # which frame is at a time of a variable rate, the run finds out
    points = SourcePoints(Fraction(clip["rate"]), clip["timecode"], clip["frames"])
    try:
        make_trim(points, settings.in_point, settings.out_point, settings.handles)
    except UsageError as error:
        raise _invalid(str(error)) from None


def result_stem(clip_name: str) -> str:
    """What the names of a clip's results begin with. A % would number pictures."""
    return PurePosixPath(clip_name).stem.replace("%", "_")


def _output_words(
    clip: Mapping[str, Any], row: str, output: JobOutput, folder: str
) -> Iterator[str]:
    """The words that name what is written."""
    suffix, is_movie = FORMATS[row]
    is_folder = not is_movie and clip["kind"] != "picture"
    stem = folder + result_stem(clip["name"])
    yield from ("-o", _as_path(f"{stem}_matte{'/' if is_folder else suffix}"))
    first = next(name for name, (its, _) in FORMATS.items() if its == suffix)
    if row != ("png" if is_folder else first):
        yield from ("--format", row)
    for extra in dict.fromkeys(output.extras):
        flag, name = {
            "matte": ("--matte", "alpha"),
            "foreground": ("--foreground-file", "foreground"),
            "comp": ("--comp", "comp"),
        }[extra]
        yield from (flag, _as_path(f"{stem}_{name}{_extra_suffix(extra, clip, row)}"))
    if output.timeline:
        yield from ("--timeline", _as_path(f"{stem}_matte.{output.timeline}"))


def _extra_suffix(extra: str, clip: Mapping[str, Any], row: str) -> str:
    """The suffix of a further file, '/' for a folder of pictures."""
    suffix, is_movie = FORMATS[row]
    if clip["kind"] == "picture":
        return ".png"
    # H.264 in .mp4 has no odd sizes.
    is_even = not ((clip["width"] or 1) % 2 or (clip["height"] or 1) % 2)
    shared = ".mp4" if is_even else ".mov"
    if extra == "comp":
        return shared
    if not is_movie:
        return "/"
    if suffix in (".mov", ".mkv"):
        return suffix
    return shared if extra == "matte" else ".mov"


def _option_words(settings: Settings, given: Mapping[str, Any]) -> Iterator[str]:
    """The options that were given and differ from their defaults."""
    for name, option in options_of(Settings).items():
        value = getattr(settings, name)
        if name not in given or value == option.default:
            continue
        if isinstance(value, bool):
            yield option.flag if value else str(option.negative)
            continue
        for one in value if isinstance(value, tuple) else (value,):
            text = f"{one:.15g}" if isinstance(one, float) else str(one)
            if text.startswith("-"):  # else it would be taken for an option
                yield f"{option.flag}={text}"
            else:
                yield from (option.flag, text)


def _as_path(name: str) -> str:
    """A name that is taken neither for an option nor for a subcommand."""
    is_odd = name.startswith("-") or not ("." in name or "/" in name)
    return f"./{name}" if is_odd else name

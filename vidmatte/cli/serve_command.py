"""The command ``serve``, as the command line takes it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidmatte.cli.farm_commands import counted_workers
from vidmatte.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_DAYS = 3650


def add_to(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("serve", context_settings={"max_content_width": 80})(_serve_command)


_TOKEN_HELP = "the secret that clients must send (default: VIDMATTE_TOKEN)"
_DATA_HELP = "folder of all that is stored (default: the user's data folder)"
_Size = partial(typer.Option, metavar="SIZE")
_Time = partial(typer.Option, metavar="TIME")
_Count = partial(typer.Option, metavar="N", min=1, max=64)
_Host = Annotated[
    str, typer.Option("--host", help="address to listen on; any but a local one needs --token")
]
_Port = Annotated[
    int,
    typer.Option("--port", metavar="N", min=0, max=65535, help="port to listen on; 0: a free one"),
]
_Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help=_DATA_HELP)]
_Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TEXT", envvar="VIDMATTE_TOKEN", show_envvar=False, help=_TOKEN_HELP
    ),
]
_Jobs = Annotated[int, _Count("--jobs", help="how many jobs run at once")]
_Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N",
        help="processes that share a job; ray or ray://HOST:PORT: a Ray cluster",
    ),
]
_Keep = Annotated[str, _Time("--keep", help="how long clips and results stay: 90m, 12h, 7d")]
_MaxUpload = Annotated[str, _Size("--max-upload", help="largest file that is taken")]
_MaxDisk = Annotated[str, _Size("--max-disk", help="most that is stored")]
_MinFree = Annotated[str, _Size("--min-free", help="disk space that stays free")]
_MaxPixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        metavar="X",
        min=0.01,
        max=2000,
        help="largest frame, in millions of pixels",
    ),
]
_JobMemory = Annotated[
    str | None, _Size("--job-memory", help="most memory of a job (default: no limit)")
]
_JobSilence = Annotated[
    str, _Time("--job-silence", help="time without progress after which a job is stopped")
]
_AllowedHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host",
        metavar="NAME",
        help="a host name of the service, as behind a proxy; can be repeated",
    ),
]
_ModelsDir = Annotated[
    str | None, typer.Option("--models-dir", metavar="DIR", help="where weights are stored")
]


def _serve_command(
    host: _Host = "127.0.0.1",
    port: _Port = 8765,
    data: _Data = None,
    token: _Token = None,
    jobs: _Jobs = 1,
    workers: _Workers = "1",
    keep: _Keep = "7d",
    max_upload: _MaxUpload = "20G",
    max_disk: _MaxDisk = "100G",
    min_free: _MinFree = "1G",
    max_megapixels: _MaxPixels = 200.0,
    job_memory: _JobMemory = None,
    job_silence: _JobSilence = "10m",
    allowed_host: _AllowedHost = None,
    models_dir: _ModelsDir = None,
) -> None:
    """Start the service: a page in the browser, and an HTTP API."""
    counted_workers(workers)
    _run(
        data=(data or _default_data()).absolute(),
        host=host,
        port=port,
        token=_checked_token(token),
        jobs=jobs,
        workers=workers,
        keep=_seconds("--keep", keep),
        max_upload=_bytes("--max-upload", max_upload),
        max_disk=_bytes("--max-disk", max_disk),
        min_free=_bytes("--min-free", min_free),
        max_megapixels=max_megapixels,
        job_memory=None if job_memory is None else _bytes("--job-memory", job_memory),
        job_silence=_seconds("--job-silence", job_silence),
        allowed_hosts=tuple(allowed_host or ()),
        models_dir=models_dir,
    )


def _run(**options: Any) -> None:
    """Run the service. Raises UsageError where a package is missing."""
    try:
        from vidmatte.service.config import ServiceConfig
        from vidmatte.service.start import serve
    except ModuleNotFoundError as error:
        if (error.name or "vidmatte").startswith("vidmatte"):
            raise
        raise UsageError(
            f"serve needs the package {error.name}: pip install '.[serve]' in vidmatte's folder"
        ) from None
    serve(ServiceConfig(**options))


def _default_data() -> Path:
    from platformdirs import user_data_path

    return user_data_path("vidmatte", appauthor=False) / "service"


def _checked_token(token: str | None) -> str | None:
    """The token. Raises UsageError for one that could be guessed or not be sent."""
    if not token:
        return None
    if not re.fullmatch(r"[!-~]{16,200}", token):
        raise UsageError(
            "--token: write 16 to 200 letters, digits and signs without spaces, as"
            " 'openssl rand -hex 16' gives them"
        )
    return token


def _seconds(flag: str, text: str) -> float:
    """'90m', '12h', '7d' or '30s' in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST_DAYS * _UNITS["d"]:
        raise UsageError(
            f"{flag} {text}: write a number and s, m, h or d, as in 12h; {_LONGEST_DAYS} d at most"
        )
    return seconds


def _bytes(flag: str, text: str) -> int:
    """'20G', '512M' in bytes. Raises UsageError."""
    from vidmatte.settings.values import parse_bytes

    try:
        return parse_bytes(text)
    except UsageError:
        raise UsageError(f"{flag} {text}: write a size like 512M or 20G") from None

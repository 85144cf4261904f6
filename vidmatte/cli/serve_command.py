"""The command ``serve``, as the command line takes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from vidmatte.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = "SIZE"
_LONGEST_DAYS = 3650


def add_to(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("serve", context_settings={"max_content_width": 80})(_serve_command)


def _serve_command(
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; others than this need --token")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes any free one")
    ] = 8765,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="all that is stored (default: the user's data folder)"
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TEXT", envvar="VIDMATTE_TOKEN", show_envvar=False,
            help="what clients have to know (default: VIDMATTE_TOKEN)",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, max=64, help="jobs that run at once")
    ] = 1,
    workers: Annotated[
        int,
        typer.Option("--workers", metavar="N", min=1, max=64, help="processes that share a job"),
    ] = 1,
    keep: Annotated[
        str,
        typer.Option("--keep", metavar="TIME", help="of clips and results: 90m, 12h or 7d"),
    ] = "7d",
    max_upload: Annotated[
        str, typer.Option("--max-upload", metavar=_SIZE, help="of one file")
    ] = "20G",
    max_disk: Annotated[
        str, typer.Option("--max-disk", metavar=_SIZE, help="of all that is stored")
    ] = "100G",
    min_free: Annotated[
        str, typer.Option("--min-free", metavar=_SIZE, help="of the disk, that stays free")
    ] = "1G",
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", metavar="X", min=0.01, max=2000,
                            help="of a picture or frame")
    ] = 200.0,
    job_memory: Annotated[
        str | None,
        typer.Option("--job-memory", metavar=_SIZE, help="at which a job is ended (default: none)"),
    ] = None,
    job_silence: Annotated[
        str,
        typer.Option("--job-silence", metavar="TIME", help="without progress, ends a job"),
    ] = "10m",
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", metavar="NAME", help="further name, as behind a proxy;"
                     " can be repeated"),
    ] = None,
    models_dir: Annotated[
        str | None,
        typer.Option("--models-dir", metavar="DIR", help="where weights are stored"),
    ] = None,
) -> None:  # fmt: skip
    """Start the service: a page in the browser, and an HTTP API."""
    try:
        from vidmatte.service.config import ServiceConfig
        from vidmatte.service.start import serve
    except ModuleNotFoundError as error:
        if (error.name or "vidmatte").startswith("vidmatte"):
            raise
        raise UsageError(
            f"serve needs the package {error.name}: pip install '.[serve]' in vidmatte's folder"
        ) from None
    config = ServiceConfig(
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
    serve(config)


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

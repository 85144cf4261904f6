"""The command ``serve``, as the command line takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidmatte.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("serve", context_settings={"max_content_width": 80})(_serve_command)


def _serve_command(
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="port; 0 takes any free one")
    ] = 8765,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="folder of all that is stored")
    ] = None,
) -> None:
    """Start the service: an HTTP API and its page."""
    try:
        from vidmatte.service.config import ServiceConfig
        from vidmatte.service.start import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"serve needs the package {error.name}: pip install '.[serve]' in vidmatte's folder"
        ) from None
    serve(ServiceConfig(data or _default_data(), host, port))


def _default_data() -> Path:
    from platformdirs import user_data_path

    return user_data_path("vidmatte", appauthor=False) / "service"

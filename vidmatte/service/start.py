"""``vidmatte serve``: the options checked, the socket opened, the server run."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import sqlite3
import sys
import threading
from dataclasses import replace
from types import FrameType

import uvicorn
from fastapi import FastAPI

from vidmatte.errors import OutputError, UsageError
from vidmatte.service.app import create_app
from vidmatte.service.config import ServiceConfig
from vidmatte.service.runner import lock_data

_HEADER_BYTES = 64 << 10  # with the first line; the guard allows less, and answers in JSON
_CLOSING_SECONDS = 1


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(config: ServiceConfig) -> None:
    """Run the service until a signal ends it. Raises UsageError, OutputError."""
    if not _is_loopback(config.host) and not config.token:
        raise UsageError(
            f"--host {config.host}: other machines can reach it, so it needs a --token TEXT"
        )
    opened = _listen(config)
    config = replace(config, port=opened.getsockname()[1])
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock_data(config))  # until the last job has ended
            app = create_app(config)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"--data {config.data}: cannot be used ({reason})") from error
        _run(config, app, opened)


def _run(config: ServiceConfig, app: FastAPI, opened: socket.socket) -> None:
    """Run the application on a socket that listens until a signal ends it."""
    logging.basicConfig(level=logging.WARNING, format="vidmatte: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").addFilter(_is_no_end)
    server = _Server(
        app.state.context.stopping,
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http="h11",
            ws="none",
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        ),
    )
    shown = f"[{config.host}]" if ":" in config.host else config.host
    sys.stderr.write(f"vidmatte serve: http://{shown}:{config.port}/ with data in {config.data}\n")
    try:
        server.run([opened])
    except KeyboardInterrupt:  # uvicorn raises the signal again after it has ended
        sys.stderr.write("vidmatte serve: stopped\n")


def _is_no_end(record: logging.LogRecord) -> bool:
    """False for the report of a request that was cut off because the server ends."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)


class _Server(uvicorn.Server):
    """A server that tells open streams to end as soon as a signal comes."""

    def __init__(self, stopping: threading.Event, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See ``uvicorn.Server.handle_exit``."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def _listen(config: ServiceConfig) -> socket.socket:
    """The socket that the server accepts connections on. Raises OutputError."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((config.host, config.port))
        opened.listen()  # from here on clients wait until the server is ready
    except OSError as error:
        opened.close()
        raise OutputError(
            f"--host {config.host} --port {config.port}: {error.strerror or error}; try another"
            " --port, or 0 for any free one"
        ) from error
    return opened

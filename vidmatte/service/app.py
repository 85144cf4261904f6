"""The HTTP application: all routes of the service, and the form of its errors."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from vidmatte._version import __version__
from vidmatte.service import (
    clips,
    events,
    job_routes,
    jobs,
    models,
    openapi,
    options,
    page_routes,
    remove,
    results,
    runner,
    security,
    status,
    upload_routes,
    views,
)
from vidmatte.service.command_line import CommandLine
from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import Context, RequestError
from vidmatte.service.database import Database
from vidmatte.service.disk import Disk

_LOG = logging.getLogger("vidmatte.service")
_RETRY_SECONDS, _FULL_RETRY_SECONDS = 5, 60
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NAMES = {404: "missing", 405: "method_not_allowed", 422: "invalid"}


def create_app(config: ServiceConfig) -> FastAPI:
    """The application for a configuration; its folders and its database are created."""
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(config.temporary, ignore_errors=True)
    for folder in (config.clips, config.uploads, config.results, config.views, config.temporary):
        folder.mkdir(parents=True, exist_ok=True)
    context = Context(config, Database(config.database))
    app = FastAPI(
        title="vidmatte",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,  # as the pages: see openapi.py
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.context = context
    _make_parts(context)
    # Each module that has routes adds itself here. Uploads that a killed server had received have
    # to become clips before clips without a file are removed.
    for module in (
        upload_routes, clips, events, job_routes, results, models, options, remove, status,
        page_routes, views, security,
    ):  # fmt: skip
        app.include_router(module.router(context))
    app.include_router(openapi.router(app))
    _add_error_handlers(app)
    app.add_middleware(security.Guard, config=config, answered=context.metrics.answered)
    return app


def _make_parts(context: Context) -> None:
    """What the routes share, in the order in which it starts."""
    context.metrics = status.Metrics(context)
    context.disk = Disk(context)
    context.command_line = CommandLine(context)
    context.models = models.Models(context, context.command_line)
    context.events = events.Events(context)
    context.clips = clips.Clips(context)
    context.jobs = jobs.Jobs(context)
    context.expiring.append(context.jobs.expire)
    runner.Runner(context)
    status.Expiry(context)


_DESCRIPTION = """Cuts the subject out of clips and pictures.

Errors are JSON: `{"error": NAME, "message": LINE}`; 429, 503 and 507 carry `Retry-After`."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the parts that run beside the routes, and end them with the server."""
    context: Context = app.state.context
    try:
        for start in context.starting:
            await run_in_threadpool(start)
        yield
    finally:
        context.stopping.set()
        for end in reversed(context.ending):
            await run_in_threadpool(end)
        context.database.close()


def _error_answer(
    status: int, error: str, message: str, retry_after: int | None = None
) -> JSONResponse:
    """An error as every route answers it."""
    if retry_after is None and status in (429, 503, 507):
        retry_after = _RETRY_SECONDS
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": error, "message": message}, status, headers)


def _add_error_handlers(app: FastAPI) -> None:
    """Answer every error in the same form."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return _error_answer(error.status, error.error, error.message, error.retry_after)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"][1:]) or fault["loc"][0]
        return _error_answer(422, "invalid", f"{place}: {fault['msg']}")

    @app.exception_handler(HTTPException)
    async def refused_by_framework(_: Request, error: HTTPException) -> JSONResponse:
        name = _NAMES.get(error.status_code, "refused")
        answer = _error_answer(error.status_code, name, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(OSError)
    @app.exception_handler(sqlite3.OperationalError)
    async def no_disk(request: Request, error: Exception) -> JSONResponse:
        if getattr(error, "errno", None) in _FULL or "full" in str(error):
            return _error_answer(507, "disk_full", "the disk is full", _FULL_RETRY_SECONDS)
        _LOG.error("the request that failed:", exc_info=error)
        return await failed(request, error)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s: %r", request.method, request.url.path, error)
        message = f"{type(error).__name__}: an internal error of vidmatte; its log says more"
        return _error_answer(500, "internal", message)

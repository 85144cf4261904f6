"""The networks: which there are, which are fetched, and the fetching."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from vidmatte.core.families import AUTO, WEIGHTLESS
from vidmatte.service.command_line import CommandLine
from vidmatte.service.context import Context, RequestError

_FRESH_SECONDS = 5.0
_FETCH_SECONDS = 5 * 3600.0
_LOOK_SECONDS = 0.5
_MOST_AT_ONCE = 2


class Models:
    """The catalogue as ``vidmatte models --json`` gives it, and the fetches that run."""

    def __init__(self, context: Context, command_line: CommandLine) -> None:
        self._context, self._command_line = context, command_line
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._read = -1e9
        self._names = {*WEIGHTLESS, AUTO}
        self._fetching: dict[str, threading.Thread] = {}
        context.ending.append(self._end)

    def rows(self) -> list[dict[str, Any]]:
        """The catalogue's rows. Raises RequestError where it cannot be read."""
        with self._lock:
            if time.monotonic() - self._read > _FRESH_SECONDS:
                self._rows = self._command_line.rows("models", failed="models_folder")
                self._read = time.monotonic()
                self._names.update(*([row["name"], *row["aliases"]] for row in self._rows))
            return self._rows

    def row(self, name: str) -> dict[str, Any]:
        """The row of a name or alias. Raises RequestError."""
        rows = self.rows()
        for row in rows:
            if name in (row["name"], *row["aliases"]):
                return row
        names = ", ".join(row["name"] for row in rows)
        raise RequestError(404, "missing", f"model {name[:100]}: choose from {names}")

    def check(self, model: str | None) -> None:
        """Raise RequestError (422) for a ``--model`` that names no model. None is the default."""
        for name in model.split("+") if model else ():
            if name in self._names:  # which no reading of the catalogue can change
                continue
            try:
                self.row(name)
            except RequestError as error:
                if error.status != 404:
                    raise
                raise RequestError(422, "invalid", str(error)) from None

    def listed(self) -> list[dict[str, Any]]:
        """All models as the API shows them."""
        return [_shown(row, row["name"] in self._fetching) for row in self.rows()]

    def fetch(self, name: str, accepted: str | None) -> dict[str, Any]:
        """Begin to fetch the weights of a model; events say how far it is. Raises RequestError."""
        row = self.row(name)
        name = row["name"]
        words = ["models", "pull", "--quiet", name]
        if row.get("needs_acceptance") and row["state"] != "fetched":
            if accepted not in (name, *row["aliases"]):
                line = f"{name}: its licence must be accepted first: {row['commercial']}"
                raise RequestError(403, "licence", line)
            words += ["--accept-licence", name]
        if row["state"] != "fetched":
            self._context.disk.check()
            with self._lock:
                if name not in self._fetching:
                    if len(self._fetching) >= _MOST_AT_ONCE:
                        line = f"{_MOST_AT_ONCE} models are being fetched already: wait for one"
                        raise RequestError(429, "busy", line, 30)
                    thread = threading.Thread(
                        target=self._fetch, args=(row, words), name=f"vidmatte-fetch-{name}"
                    )
                    self._fetching[name] = thread
                    thread.start()
        return _shown(row, name in self._fetching)

    def _fetch(self, row: dict[str, Any], words: list[str]) -> None:
        """Fetch, and say how far it is until that ends."""
        name, size = row["name"], int(row["size_bytes"])
        ended = threading.Event()

        def watch() -> None:
            seen = -1
            while not ended.wait(_LOOK_SECONDS):
                done = min(size, _bytes_so_far(Path(row["path"])))
                if done != seen:
                    seen = done
                    self._announce(name, "fetching", done, size)

        watcher = threading.Thread(target=watch, name=f"vidmatte-watch-{name}")
        watcher.start()
        try:
            outcome = self._command_line.call(words, _FETCH_SECONDS)
        finally:
            ended.set()
            watcher.join()
            with self._lock:
                self._fetching.pop(name, None)
                self._read = -1e9
        if self._context.stopping.is_set():
            return
        if outcome.status == 0:
            self._announce(name, "fetched", size, size)
        else:
            self._announce(name, "failed", 0, size, " ".join(outcome.stderr.split()))

    def _announce(
        self, name: str, state: str, done: int, size: int, error: str | None = None
    ) -> None:
        data = {"name": name, "state": state, "done": done, "bytes": size, "error": error}
        self._context.publish("model", data)

    def _end(self) -> None:
        """Wait for the fetches, which end with the command line."""
        for thread in list(self._fetching.values()):
            thread.join()


def _bytes_so_far(file: Path) -> int:
    """What the partial files beside ``file`` hold."""
    total = 0
    for pattern in (f"{file.name}.*.part", f"{file.name}.*.fetch/**/*"):
        for part in file.parent.glob(pattern):
            try:
                total += part.stat().st_size if part.is_file() else 0
            except FileNotFoundError:  # it is complete
                continue
    return total


def _shown(row: dict[str, Any], is_fetching: bool) -> dict[str, Any]:
    """A model as the API shows it. commercial: None where the licence does not say it alone."""
    needs_acceptance = bool(row.get("needs_acceptance"))
    return {
        "name": row["name"],
        "aliases": row["aliases"],
        "family": row["family"],
        "licence": row["licence"],
        "commercial": False if needs_acceptance else None if row["commercial"] else True,
        "note": row["commercial"],
        "needs_acceptance": needs_acceptance,
        "description": row["purpose"],
        "bytes": row["size_bytes"],
        "fetched": row["state"] == "fetched",
        "fetching": is_fetching,
    }


class FetchRequest(BaseModel):
    """What is needed to fetch a model."""

    model_config = ConfigDict(extra="forbid")

    accept_licence: str | None = Field(
        default=None,
        max_length=100,
        description="the model's name, where its licence has to be accepted",
        examples=[None],
    )


def router(context: Context) -> APIRouter:
    """The routes under ``/api/models``."""
    routes = APIRouter(prefix="/api/models", tags=["models"])
    models: Models = context.models

    @routes.get("")
    def all_models() -> Any:
        """All models that are known by name, their licence, and whether they are fetched."""
        return {"models": models.listed()}

    @routes.post("/{name}/fetch", status_code=202)
    def fetch(name: str, body: FetchRequest | None = None) -> Any:
        """Fetch a model's weights; events of the type ``model`` say how far it is."""
        return models.fetch(name, None if body is None else body.accept_licence)

    return routes

"""The error that a request ends with: an HTTP status and one line for the user."""

from __future__ import annotations


class RequestError(Exception):
    """Answered as JSON, ``{"error": error, "message": message}``, with the HTTP ``status``.

    retry_after: whole seconds after which the same request may succeed.
    """

    def __init__(
        self, status: int, error: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message
        self.retry_after = retry_after


def missing(kind: str, name: str) -> RequestError:
    """404: there is no such clip, job, upload, ..."""
    return RequestError(404, "missing", f"{kind} {name}: not found; it may have expired")

"""An S3 server on this machine, which can refuse requests: 'pip install moto[server] s3fs'."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied</Message></Error>"
)


class S3Server:
    """A server that runs in a thread. refuses: which requests it answers with status 403."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.refuses: Callable[[dict[str, Any]], bool] = lambda _: False
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What its clients need in their environment."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def file_system(self) -> Any:
        """An fsspec file system of its own cache, for looking at what is there."""
        import s3fs

        made = self.environment
        return s3fs.S3FileSystem(
            key="key", secret="secret", endpoint_url=made["AWS_ENDPOINT_URL"],
            use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip

    def names(self) -> list[str]:
        """The keys of all objects, with their buckets."""
        system = self.file_system()
        return sorted(one for bucket in system.ls("", detail=False) for one in system.find(bucket))

    @contextmanager
    def refusing(self, refuses: Callable[[dict[str, Any]], bool]) -> Iterator[None]:
        """Refuse requests within the context; takes WSGI's description of one."""
        self.refuses = refuses
        try:
            yield
        finally:
            self.refuses = lambda _: False

    def stop(self) -> None:
        """Stop it; what it has stored stays in the memory of this process."""
        self._server.shutdown()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        if self.refuses(environ):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [_DENIED]
        return self._application(environ, start_response)


def is_put(environ: dict[str, Any]) -> bool:
    """Whether a request stores an object."""
    return environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" not in environ


def is_copy(environ: dict[str, Any]) -> bool:
    """Whether a request copies an object, which is a half of renaming it."""
    return "HTTP_X_AMZ_COPY_SOURCE" in environ

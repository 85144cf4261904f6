"""HTTP with two clocks: a short one to connect, a longer one between bytes.

urllib has one timeout for both, and a host that drops packets would then hold
every fetch up as long as a slow line may pause. Proxies come from the
environment, certificates from Python's defaults.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.request
from typing import Any, cast

from vidmatte import __version__


class _PlainConnection(http.client.HTTPConnection):
    stall_timeout_s = 10.0

    def connect(self) -> None:
        super().connect()
        cast(socket.socket, self.sock).settimeout(self.stall_timeout_s)


class _SecureConnection(http.client.HTTPSConnection):
    stall_timeout_s = 10.0

    def connect(self) -> None:
        super().connect()
        cast(socket.socket, self.sock).settimeout(self.stall_timeout_s)


def _opener(stall_timeout_s: float) -> urllib.request.OpenerDirector:
    clocks = {"stall_timeout_s": stall_timeout_s}
    plain: Any = type("PlainConnection", (_PlainConnection,), clocks)
    secure: Any = type("SecureConnection", (_SecureConnection,), clocks)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(secure, req, context=ssl.create_default_context())

    return urllib.request.build_opener(PlainHandler, SecureHandler)


def open_url(url: str, *, offset: int, connect_timeout_s: float, stall_timeout_s: float) -> Any:
    """The response for ``url`` from byte ``offset`` on (status 206 if the server can).

    Takes http, https and file URLs. Raises OSError (urllib.error.HTTPError for an
    error status), http.client.HTTPException, ValueError for what is not a URL.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"vidmatte/{__version__}"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    return _opener(stall_timeout_s).open(request, timeout=connect_timeout_s)

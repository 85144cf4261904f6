"""Who may use the service: the checks before every request, and the headers of every answer.

A page of another site must not be able to use the service through the user's browser, neither by
a form or script (Origin, Sec-Fetch-Site) nor under a name that it makes point here (Host).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import Context, RequestError

_COOKIE = "vidmatte_token"
_MOST_HEADER_BYTES, _LONGEST_QUERY = 16 << 10, 32 << 10
_LARGEST_BODY = 1 << 20
_OPEN = ("/api/health", "/api/login", "/api/logout")
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self';"
    " script-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'"
)
_ANSWER_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """The middleware with all checks, and the headers of every answer. answered: is given method
    and status of each."""

    def __init__(
        self, app: ASGIApp, config: ServiceConfig, answered: Callable[[str, int], None]
    ) -> None:
        self._app, self._token, self._answered = app, config.token, answered
        self._hosts = {"localhost", config.host.lower(), *(h.lower() for h in config.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(scope["method"], message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in _ANSWER_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except RequestError as refused:
            headers = {"Connection": "close"}  # the body, if any, is not read
            if refused.status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            content = {"error": refused.error, "message": refused.message}
            await JSONResponse(content, refused.status, headers)(scope, receive, send_with_headers)
            return
        if not _may_be_large(scope):
            receive = _limited(receive)
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _MOST_HEADER_BYTES:
            line = f"the headers have over {_MOST_HEADER_BYTES} bytes"
            raise RequestError(431, "headers_too_large", line)
        if len(scope["query_string"]) + len(scope["path"]) > _LONGEST_QUERY:
            raise RequestError(414, "too_long", f"the URL has over {_LONGEST_QUERY} bytes")
        host = self._checked_host(headers.getlist("host"))
        _check_origin(scope, headers, host)
        is_open = scope["path"] in _OPEN or not scope["path"].startswith("/api")
        if self._token and not is_open and not any(map(self._is_token, _tokens(headers))):
            line = "the service needs its token: send Authorization: Bearer TOKEN, or log in"
            raise RequestError(401, "unauthorized", line)

    def _checked_host(self, hosts: list[str]) -> str:
        """The Host of a request. An address is always right: only names can be pointed here."""
        host = hosts[0].lower() if len(hosts) == 1 else ""
        name = _host_name(host)
        if name not in self._hosts and not _is_address(name):
            line = f"Host {host[:100] or 'missing'}: not a name of this service; see --allowed-host"
            raise RequestError(400, "wrong_host", line)
        return host

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())


def _host_name(host: str) -> str:
    """The name or address in a Host header, '' where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is not a number
    except ValueError:
        return ""
    return parts.hostname or "" if parts.netloc == host and "@" not in host else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(scope: Scope, headers: Headers, host: str) -> None:
    """Refuse what the pages of other sites send."""
    origin = headers.get("origin")
    if origin is not None and _without_port(origin.lower()) != _without_port(f"http://{host}"):
        line = f"Origin {origin[:100]}: requests from other sites are refused"
        raise RequestError(403, "wrong_origin", line)
    site = headers.get("sec-fetch-site", "none")
    is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
    is_page = not scope["path"].startswith("/api")
    if site in ("cross-site", "same-site") and not (is_link and is_page):
        raise RequestError(403, "wrong_origin", "requests from other sites are refused")


def _without_port(origin: str) -> str:
    """Host and port of an origin, without the port that its scheme has anyway. A proxy may speak
    https where the service speaks http."""
    scheme, _, host = origin.partition("://")
    if scheme not in ("http", "https"):
        return f"other {origin}"
    return host.removesuffix(":443").removesuffix(":80")


def _tokens(headers: Headers) -> Iterable[str]:
    """The tokens that a request gives."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield token.strip()
    for cookie in headers.get("cookie", "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == _COOKIE:
            yield unquote(value)


def _may_be_large(scope: Scope) -> bool:
    """Whether the body of a request is a file, which its route takes as it comes."""
    where = (scope["method"], scope["path"])
    return where in (("POST", "/api/clips"), ("POST", "/api/remove")) or (
        scope["method"] == "PATCH" and scope["path"].startswith("/api/uploads/")
    )


def _limited(receive: Receive) -> Receive:
    """``receive``, for bodies up to a size that may be held in memory."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _LARGEST_BODY:
            raise HTTPException(413, f"the body has over {_LARGEST_BODY} bytes")
        return message

    return limited


class Login(BaseModel):
    """What a browser logs in with."""

    token: str = Field(max_length=1000, examples=["the text of --token"])


def router(context: Context) -> APIRouter:
    """The routes that log in and out."""
    routes = APIRouter(prefix="/api", tags=["login"])
    expected = context.config.token

    @routes.post("/login", status_code=204)
    def login(request: Request, body: Login) -> Response:
        """Store the token in a cookie that no script can read."""
        answer = Response(status_code=204)
        if expected is None:
            return answer
        if not hmac.compare_digest(body.token.encode(), expected.encode()):
            raise RequestError(401, "unauthorized", "this is not the service's token")
        answer.set_cookie(
            _COOKIE,
            quote(expected, safe=""),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            max_age=30 * 24 * 3600,
        )
        return answer

    @routes.post("/logout", status_code=204)
    def logout() -> Response:
        """Forget the token."""
        answer = Response(status_code=204)
        answer.delete_cookie(_COOKIE, httponly=True, samesite="strict")
        return answer

    return routes

"""How far a fetch is: bytes and rate on a terminal, silence elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, cast

from vidmatte._version import __version__
from vidmatte.core.terminal import progress_bar
from vidmatte.errors import WeightsError
from vidmatte.models.weights.record import Fingerprint


class FetchBar:
    """A bar on stderr for one fetch; silent when ``quiet`` or not on a terminal.

    Sources call ``start`` (again after a retry), then ``advance`` or ``reach``.
    """

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self.label = label
        self.visible = not quiet and sys.stderr.isatty()
        self.total: int | None = None
        self.done = 0
        self._bar: Any = None

    def __enter__(self) -> FetchBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, total: int | None, done: int = 0) -> None:
        """Begin at ``done`` of ``total`` bytes; None where the total is not known."""
        self.close()
        self.total, self.done = total, done
        if self.visible:
            self._bar = progress_bar(
                desc=self.label,
                total=total,
                initial=done,
                unit="B",
                unit_scale=True,
            )

    def advance(self, count: int) -> None:
        """``count`` more bytes have come."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)

    def reach(self, done: int) -> None:
        """``done`` bytes have come in all; never past the total, never back."""
        if self.total is not None:
            done = min(done, self.total)
        if done > self.done:
            self.advance(done - self.done)
        elif self._bar is not None:
            self._bar.refresh()  # keeps the clock going while nothing comes

    def close(self) -> None:
        """End the bar's line on the terminal; calling it twice is harmless."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


_BLOCK_BYTES = 1 << 18
_MAX_ATTEMPTS = 5  # of one download that breaks off, each from where the last one ended


#: Bytes a second over a window, and seconds in all and for the headers, of a download.
LEAST_RATE, RATE_WINDOW_S, LONGEST_S, HEADER_LIMIT_S = 4096, 60.0, 4 * 3600.0, 30.0


class Pace:
    """Watches how fast a download grows. Raises FetchError."""

    def __init__(self, done: int = 0) -> None:
        self._began = self._since = time.monotonic()
        self._done = done

    def check(self, done: int) -> None:
        """``done`` bytes are there."""
        now = time.monotonic()
        if now - self._began > LONGEST_S:
            raise FetchError(f"not complete after {LONGEST_S / 3600:.0f} hours")
        if now - self._since > RATE_WINDOW_S:
            if done - self._done < LEAST_RATE * (now - self._since):
                raise FetchError(f"slower than {LEAST_RATE:,} bytes a second")
            self._since, self._done = now, done


class FetchError(WeightsError):
    """One source did not give the file; the message is the reason in a few words."""


class _BrokenOffError(FetchError):
    """The connection ended early; the partial file stays and the download can continue."""


class WeightsSource(ABC):
    """One place that has the file, and the fingerprints of what it publishes."""

    accepts: tuple[Fingerprint, ...]

    @property
    def key(self) -> str:
        """Eight hex digits that keep this source's partial files apart from another's."""
        return hashlib.sha256(self.describe().encode()).hexdigest()[:8]

    @abstractmethod
    def describe(self) -> str:
        """What the user would call this place, for messages."""

    @abstractmethod
    def fetch(self, destination: Path, progress: FetchBar) -> None:
        """Download the file to ``destination`` (unchecked: the store compares digests).

        The folder exists and nobody else writes to this name. An existing
        ``destination`` is the partial file of an earlier try.
        Raises FetchError when the source fails, OSError when the disk does.
        """


@dataclass(frozen=True)
class ReleaseFile(WeightsSource):
    """A file behind a URL (https, http or file), continued by Range where that works."""

    url: str
    accepts: tuple[Fingerprint, ...]
    connect_timeout_s: float = 3.0
    stall_timeout_s: float = 10.0

    def describe(self) -> str:
        return self.url

    def fetch(self, destination: Path, progress: FetchBar) -> None:
        """See WeightsSource.fetch. A download that breaks off goes on while bytes keep coming."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            before = _size(destination)
            try:
                self._fetch_rest(destination, progress)
                return
            except _BrokenOffError:
                if attempt == _MAX_ATTEMPTS or _size(destination) <= before:
                    raise

    def _fetch_rest(self, destination: Path, progress: FetchBar) -> None:
        sizes = {one.size_bytes for one in self.accepts}
        offset = _size(destination)
        if offset in sizes:
            return  # all of it is there: the digest decides
        if offset > max(sizes):
            destination.unlink()
            offset = 0
        with self._open(destination, offset) as response:
            offset = _resumed_at(response, offset)
            length = response.headers.get("Content-Length")
            if length and not length.isdecimal():
                raise FetchError(f"answered with Content-Length {length!r}, which is no number")
            total = offset + int(length) if length else None
            if total is not None and total not in sizes:
                destination.unlink(missing_ok=True)
                raise FetchError(f"has a file of {total:,} bytes, not {_either(sizes)}")
            progress.start(total, offset)
            pace, done = Pace(offset), offset
            with destination.open("ab" if offset else "wb") as file:
                while block := _read(response):
                    file.write(block)
                    progress.advance(len(block))
                    done += len(block)
                    pace.check(done)
                    if done > max(sizes):
                        break
        if done > max(sizes):
            destination.unlink()
            raise FetchError(f"sends more than the {_either(sizes)} bytes of the file")
        done = _size(destination)
        if total is not None and done < total:
            raise _BrokenOffError(f"the connection ended after {done:,} of {total:,} bytes")

    def _open(self, destination: Path, offset: int) -> Any:
        try:
            return _open_url(
                self.url,
                offset=offset,
                connect_timeout_s=self.connect_timeout_s,
                stall_timeout_s=self.stall_timeout_s,
            )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the partial file is longer than theirs: not its beginning
                destination.unlink(missing_ok=True)
            raise FetchError(f"HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(_reason(error)) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _either(sizes: set[int]) -> str:
    return " or ".join(f"{size:,}" for size in sorted(sizes))


def _resumed_at(response: Any, offset: int) -> int:
    """The byte at which the answer begins: ``offset``, or 0 from a server without Range."""
    if response.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != offset:
        raise FetchError("answered with a different range than requested")
    return offset


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(_BLOCK_BYTES))  # what has come: a slow one can be noticed
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The plain words of a network error, without urllib's wrapping."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        error = inner
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Watched(http.client.HTTPConnection):
    """A connection whose server has to send a byte now and then, and all headers soon."""

    stall_timeout_s = 10.0
    _is_hung_up = False

    def connect(self) -> None:
        super().connect()
        cast(socket.socket, self.sock).settimeout(self.stall_timeout_s)

    def getresponse(self) -> http.client.HTTPResponse:
        clock = Timer(HEADER_LIMIT_S, self._hang_up, [self.sock])
        clock.daemon = True
        clock.start()
        try:
            response = super().getresponse()
        finally:
            clock.cancel()
        if self._is_hung_up:
            raise TimeoutError
        return response

    def _hang_up(self, connected: socket.socket) -> None:
        self._is_hung_up = True
        with contextlib.suppress(OSError):  # it has ended by itself
            connected.shutdown(socket.SHUT_RDWR)


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and to the scheme that the request had."""

    def redirect_request(self, req: Any, *rest: Any) -> urllib.request.Request | None:
        scheme = rest[-1].partition(":")[0].lower()
        if scheme not in ("https", req.type):
            raise ValueError(f"redirects to {scheme}, which is not followed")
        return super().redirect_request(req, *rest)


def _opener(scheme: str, stall_timeout_s: float) -> urllib.request.OpenerDirector:
    """What opens URLs of that scheme: http, https or file."""
    clocks = {"stall_timeout_s": stall_timeout_s}
    plain: Any = type("PlainConnection", (_Watched,), clocks)
    secure: Any = type("SecureConnection", (_Watched, http.client.HTTPSConnection), clocks)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(secure, req, context=ssl.create_default_context())

    opener = urllib.request.OpenerDirector()
    handlers = [urllib.request.ProxyHandler, urllib.request.UnknownHandler, PlainHandler]
    handlers += [SecureHandler, urllib.request.HTTPDefaultErrorHandler, _SameScheme]
    handlers += [urllib.request.HTTPErrorProcessor]
    if scheme == "file":
        handlers = [urllib.request.FileHandler, urllib.request.UnknownHandler]
    for handler in handlers:
        opener.add_handler(handler())
    return opener


def _open_url(url: str, *, offset: int, connect_timeout_s: float, stall_timeout_s: float) -> Any:
    """The response for ``url`` from byte ``offset`` on (status 206 if the server can).

    Takes http, https and file URLs. Raises OSError (urllib.error.HTTPError for an
    error status), http.client.HTTPException, ValueError for what is not a URL.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"vidmatte/{__version__}"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    return _opener(request.type, stall_timeout_s).open(request, timeout=connect_timeout_s)

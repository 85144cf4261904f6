"""Who may use the service: hosts, origins, the token, sizes of requests, and the headers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_support import LocalClient, Server, local_service, server

__all__ = ["server"]
TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClient]:
    folder = tmp_path_factory.mktemp("open")
    with local_service(folder, allowed_hosts=("matte.example.com",)) as client:
        yield client


@pytest.fixture(scope="module")
def closed_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClient]:
    with local_service(tmp_path_factory.mktemp("closed"), token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        ("127.0.0.1:8765", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8765", True),
        ("192.168.1.5:8765", True),  # an address cannot be made to point elsewhere
        ("matte.example.com", True),
        ("evil.example.com", False),
        ("evil.example.com:8765", False),
        ("127.0.0.1.evil.example.com", False),
        ("localhost@evil.example.com", False),
        ("evil.example.com@localhost", False),
        ("localhost:x", False),
        ("localhost/x", False),
        ("", False),
    ],
)
def test_only_known_names_are_hosts(open_service: LocalClient, host: str, is_right: bool) -> None:
    answer = open_service.get("/api/clips", headers={"Host": host})
    assert answer.status_code == (200 if is_right else 400)
    if not is_right:
        assert answer.json()["error"] == "wrong_host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:8765"}, 200),
        ({"Origin": "https://127.0.0.1:8765"}, 200),  # a proxy speaks https
        ({"Origin": "http://matte.example.com:80", "Host": "matte.example.com"}, 200),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "http://127.0.0.1:8765.evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://127.0.0.1:8765"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_sites_are_refused(
    open_service: LocalClient, headers: dict[str, str], status: int, method: str
) -> None:
    where = "/api/clips" if method == "GET" else "/api/logout"
    answer = open_service.request(method, where, headers=headers)
    right = 200 if method == "GET" else 204
    assert answer.status_code == (right if status == 200 else 403)
    assert "access-control-allow-origin" not in answer.headers


def test_a_link_from_elsewhere_opens_the_page_only(open_service: LocalClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert open_service.get("/", headers=link).status_code != 403
    assert open_service.post("/", headers=link).status_code == 403


@pytest.mark.parametrize("path", ["/api/clips", "/api/none", "/api/openapi.json", "/api/metrics"])
def test_the_token_opens_everything_and_nothing_else_does(
    closed_service: LocalClient, path: str
) -> None:
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
             {"Authorization": f"Bearer {TOKEN}é".encode("latin-1")},
             {"Cookie": "vidmatte_token=wrong"}]  # fmt: skip
    for headers in wrong:
        answer = closed_service.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    right = [{"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"a=b; vidmatte_token={TOKEN}"}]
    for headers in right:
        assert closed_service.get(path, headers=headers).status_code in (200, 404)


def test_a_browser_logs_in_and_out(closed_service: LocalClient) -> None:
    assert closed_service.get("/api/health").status_code == 200
    assert closed_service.post("/api/login", json={"token": "wrong"}).status_code == 401
    assert closed_service.post("/api/login", json={"token": 5}).status_code == 422
    answer = closed_service.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    logged_in = {"Cookie": cookie.partition(";")[0]}
    assert closed_service.get("/api/clips", headers=logged_in).status_code == 200
    gone = closed_service.post("/api/logout").headers["set-cookie"]
    assert "Max-Age=0" in gone


@pytest.mark.parametrize("path", ["/api/clips", "/api/none", "/none", "/api/clips/x/file"])
def test_every_answer_has_the_headers(open_service: LocalClient, path: str) -> None:
    headers = open_service.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    refused = open_service.get(path, headers={"Host": "evil.example.com"}).headers
    assert refused["content-security-policy"] == headers["content-security-policy"]


def test_requests_have_limits(open_service: LocalClient) -> None:
    large = open_service.get("/api/clips", headers={"X-Large": "x" * 20_000})
    assert (large.status_code, large.json()["error"]) == (431, "headers_too_large")
    long = open_service.get("/api/clips", params={"x": "y" * 40_000})
    assert (long.status_code, long.json()["error"]) == (414, "too_long")
    body = open_service.post("/api/login", json={"token": "x" * 2_000_000})
    assert body.status_code == 413


def test_errors_have_one_form(open_service: LocalClient) -> None:
    for method, path, status in (
        ("GET", "/api/none", 404),
        ("PUT", "/api/clips", 405),
        ("POST", "/api/login", 422),
        ("GET", "/api/clips/none", 404),
    ):
        answer = open_service.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "message"}
        assert "\n" not in answer.json()["message"]


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_huge_headers_end_with_an_answer(server: Server, size: int) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as opened:
        request = f"GET /api/health HTTP/1.1\r\nHost: {host}\r\nX-Large: {'x' * size}\r\n\r\n"
        try:
            opened.sendall(request.encode())
            answer = opened.recv(100)
        except (BrokenPipeError, ConnectionResetError):  # it has closed before all was sent
            answer = b"HTTP/1.1 400 "
    assert answer.split()[1] in (b"400", b"431")
    with server.client() as client:
        assert client.get("/api/health").status_code == 200


def test_the_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    with local_service(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0

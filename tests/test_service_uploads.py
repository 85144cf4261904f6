"""Uploads that go on: tus, broken connections, and a server that is killed."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_support import LocalClient, Server, local_service, running_server

CONTENT = os.urandom(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHUNK = "application/offset+octet-stream"


def text64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def create(client: httpx.Client | LocalClient, name: str = "a.mp4", **more: Any) -> httpx.Response:
    headers = {"Upload-Length": str(more.pop("length", len(CONTENT))), "Tus-Resumable": "1.0.0"}
    pairs = {"filename": name, **more}
    headers["Upload-Metadata"] = ",".join(f"{key} {text64(one)}" for key, one in pairs.items())
    return client.request("POST", "/api/uploads", headers=headers)


def append(
    client: httpx.Client | LocalClient, place: str, offset: int, content: bytes, **headers: str
) -> httpx.Response:
    given = {"Upload-Offset": str(offset), "Content-Type": CHUNK, "Tus-Resumable": "1.0.0"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("PATCH", place, content=content, headers=given)


def offset_of(client: httpx.Client | LocalClient, place: str) -> int:
    answer = client.request("HEAD", place, headers={"Tus-Resumable": "1.0.0"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["upload-length"] == str(len(CONTENT))
    return int(answer.headers["upload-offset"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClient]:
    with local_service(tmp_path_factory.mktemp("service"), max_upload=8 << 20) as client:
        yield client


def test_an_upload_in_pieces_becomes_a_clip(tmp_path: Path) -> None:
    with local_service(tmp_path) as client:
        created = create(client, sha256=SHA256)
        place = created.headers["location"]
        assert (created.status_code, created.headers["upload-offset"]) == (201, "0")
        assert created.headers["upload-expires"].endswith("GMT")
        for begin in range(0, len(CONTENT), 1 << 20):
            assert offset_of(client, place) == begin
            answer = append(client, place, begin, CONTENT[begin : begin + (1 << 20)])
            assert answer.status_code == 204
        clip = answer.headers["vidmatte-clip"]
        shown = client.get(f"/api/clips/{clip}").json()
        assert [shown[key] for key in ("name", "bytes", "sha256")] == [
            "a.mp4",
            len(CONTENT),
            SHA256,
        ]
        assert client.get(f"/api/clips/{clip}/file").content == CONTENT
        again = append(client, place, len(CONTENT), b"")  # as a client whose answer was lost
        assert (again.status_code, again.headers["vidmatte-clip"]) == (204, clip)
        assert client.get(place).json()["clip"] == clip
    assert list((tmp_path / "uploads").iterdir()) == []


def test_the_options_say_what_is_spoken(service: LocalClient) -> None:
    answer = service.request("OPTIONS", "/api/uploads")
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert answer.headers["tus-max-size"] == str(8 << 20)
    assert "creation" in answer.headers["tus-extension"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "x"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({}, 400),
        ({"Upload-Length": "0"}, 422),
        ({"Upload-Length": str(1 << 40)}, 413),
        ({"Upload-Length": "9", "Upload-Metadata": "filename %%"}, 400),
        ({"Upload-Length": "9"}, 422),
        ({"Upload-Length": "9", "Tus-Resumable": "0.2.0"}, 412),
    ],
)
def test_what_cannot_be_announced(
    service: LocalClient, headers: dict[str, str], status: int
) -> None:
    answer = service.request("POST", "/api/uploads", headers=headers)
    assert (answer.status_code, set(answer.json())) == (status, {"error", "message"})


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Upload_Offset": "5"}, b"x", 409),
        ({"Upload_Offset": ""}, b"x", 400),
        ({"Content_Type": "application/octet-stream"}, b"x", 415),
        ({}, CONTENT + b"x", 413),
        ({"Upload_Checksum": "sha1 " + text64(b"x" * 20)}, b"x", 460),
        ({"Upload_Checksum": "crc32 eA=="}, b"x", 400),
        ({"Upload_Checksum": "sha1 ???"}, b"x", 400),
    ],
)
@pytest.mark.thinned(3)
def test_a_refused_piece_changes_nothing(
    service: LocalClient, headers: dict[str, str], content: bytes, status: int
) -> None:
    place = create(service).headers["location"]
    assert append(service, place, 0, content, **headers).status_code == status
    assert offset_of(service, place) == 0
    right = "sha256 " + text64(hashlib.sha256(b"abc").digest())
    assert append(service, place, 0, b"abc", Upload_Checksum=right).status_code == 204
    assert offset_of(service, place) == 3
    assert service.delete(place).status_code == 204
    assert service.get(place).status_code == 404


def test_a_wrong_sha256_ends_the_upload(service: LocalClient) -> None:
    place = create(service, sha256="0" * 64).headers["location"]
    answer = append(service, place, 0, CONTENT)
    assert (answer.status_code, answer.json()["error"]) == (460, "wrong_checksum")
    assert append(service, place, 0, b"").status_code == 410
    assert "announced" in service.get(place).json()["error"]


def test_announced_uploads_count_for_the_quota(tmp_path: Path) -> None:
    with local_service(tmp_path, max_disk=len(CONTENT) + (2 << 20)) as client:
        first = create(client)
        refused = create(client)
        assert (first.status_code, refused.status_code) == (201, 507)
        assert int(refused.headers["retry-after"]) > 0
        client.delete(first.headers["location"])
        assert create(client).status_code == 201


def test_abandoned_uploads_expire(tmp_path: Path) -> None:
    with local_service(tmp_path) as client:
        place = create(client).headers["location"]
        with client.app.state.context.database.writing() as connection:
            connection.execute("UPDATE uploads SET expires = '2020-01-01T00:00:00.000Z'")
        for step in client.app.state.context.expiring:
            step()
        assert client.get(place).status_code == 404
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("has_clip", [False, True])
def test_what_was_complete_when_the_server_was_killed_becomes_a_clip(
    tmp_path: Path, has_clip: bool
) -> None:
    """Killed before the clip was stored, or between that and the move of its file."""
    with local_service(tmp_path) as client:
        place = create(client).headers["location"]
    upload = place.rpartition("/")[2]
    (tmp_path / "uploads" / f"{upload}.bin").write_bytes(CONTENT)
    if has_clip:
        with sqlite3.connect(tmp_path / "vidmatte.sqlite") as database:
            database.execute("UPDATE uploads SET clip = 'abcdef0123456789'")
            database.execute(
                "INSERT INTO clips (id, name, bytes, sha256, created, expires, state) VALUES"
                " ('abcdef0123456789', 'a.mp4', ?, ?, '2026', '2999', 'probing')",
                (len(CONTENT), SHA256),
            )
        database.close()
    with local_service(tmp_path) as client:
        clip = client.get(place).json()["clip"]
        assert client.get(f"/api/clips/{clip}/file").content == CONTENT
        assert client.get(f"/api/clips/{clip}").json()["sha256"] == SHA256


def half_sent(server: Server, place: str, offset: int, count: int) -> socket.socket:
    """A connection that announces the rest of an upload and sends ``count`` bytes of it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)), timeout=20)
    lines = [f"PATCH {place} HTTP/1.1", f"Host: {host}:{port}", f"Content-Type: {CHUNK}",
             f"Upload-Offset: {offset}", f"Content-Length: {len(CONTENT) - offset}"]  # fmt: skip
    opened.sendall("\r\n".join([*lines, "", ""]).encode() + CONTENT[offset : offset + count])
    return opened


def reaches(client: httpx.Client, place: str, least: int) -> int:
    """The offset once it is at least that."""
    deadline = time.monotonic() + 30
    while (offset := offset_of(client, place)) < least:
        assert time.monotonic() < deadline, offset
        time.sleep(0.02)
    return offset


def test_an_upload_goes_on_after_broken_connections_and_kills(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, server.client() as client:
        place = create(client).headers["location"]
        half_sent(server, place, 0, 1_000_000).close()
        assert reaches(client, place, 1_000_000) == 1_000_000
        hanging = half_sent(server, place, 1_000_000, 500_000)  # its end is never noticed
        time.sleep(0.3)
        assert append(client, place, 1_000_000, b"").status_code in (204, 409)
        offset = reaches(client, place, 1_500_000)
        killed = half_sent(server, place, offset, (1 << 20) + 100)
        reaches(client, place, offset + (1 << 20))
        server.process.kill()
        server.process.wait()
        hanging.close()
        killed.close()
    with running_server(tmp_path) as server, server.client() as client:
        offset = offset_of(client, place)
        assert offset >= 1_500_000 + (1 << 20)
        answer = append(client, place, offset, CONTENT[offset:])
        clip = answer.headers["vidmatte-clip"]
        assert client.get(f"/api/clips/{clip}").json()["sha256"] == SHA256

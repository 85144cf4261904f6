"""Clips of the service: uploads of every kind, names, limits, probing and expiry."""

from __future__ import annotations

import errno
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from service_support import LocalClient, local_service, upload, wait_for_clip

from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import RequestError
from vidmatte.service.probe import Prober
from vidmatte.service.receive import safe_name


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    assert cv2.imwrite(str(path), np.full((24, 32, 3), 90, np.uint8))
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalClient, Path]]:
    """A service for tests that leave nothing that others would see, and its folder."""
    folder = tmp_path_factory.mktemp("service") / "data"
    with local_service(folder) as client:
        yield client, folder


def send(client: LocalClient, name: str, content: bytes = b"x") -> tuple[int, dict[str, object]]:
    answer = client.post("/api/clips", params={"name": name}, content=content)
    return answer.status_code, answer.json()


def test_a_picture_is_uploaded_probed_served_and_deleted(tmp_path: Path, photo: Path) -> None:
    with local_service(tmp_path) as client:
        clip = upload(client, photo, "my photo.png")
        (shown,) = client.get("/api/clips").json()["clips"]
        facts = ("kind", "width", "height", "frames", "rate", "name", "bytes")
        expected = ["picture", 32, 24, 1, None, "my photo.png", photo.stat().st_size]
        assert [shown[name] for name in facts] == expected
        assert client.get(f"/api/clips/{clip}/info").json()["codec"] == "png"
        part = client.get(f"/api/clips/{clip}/file", headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, photo.read_bytes()[2:6])
        assert client.delete(f"/api/clips/{clip}").status_code == 204
        assert client.get(f"/api/clips/{clip}").status_code == 404
        assert list((tmp_path / "clips").iterdir()) == []


def test_a_movie_has_its_facts(tmp_path: Path, source_movie: object) -> None:
    movie = source_movie("drop frame timecode")  # type: ignore[operator]
    with local_service(tmp_path) as client:
        shown = client.get(f"/api/clips/{upload(client, movie.path)}").json()
    facts = [shown[name] for name in ("kind", "frames", "rate", "timecode", "error")]
    assert facts == ["movie", 120, "30000/1001", "01:00:00;00", None]


def test_a_form_brings_several_files(tmp_path: Path, photo: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    files = [("file", (name, photo.read_bytes())) for name in names]
    with local_service(tmp_path) as client:
        answer = client.post("/api/clips", files=files)
        assert answer.status_code == 201
        clips = answer.json()["clips"]
        assert [clip["name"] for clip in clips] == names
        assert {wait_for_clip(client, clip["id"])["state"] for clip in clips} == {"ready"}
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.png", "x.png"),
        ("/etc/cron.d/x.png", "x.png"),
        (".bashrc", "bashrc"),
        ("a\0b\n.png", "a_b_.png"),
        ("é" * 300 + ".png", "é" * 58 + ".png"),
        ("a" * 300, "a" * 120),
        ("x." + "y" * 300, "x." + "y" * 16),
        ("<img src=x>.png", "_img src=x_.png"),
    ],
)
def test_a_name_names_no_folder(name: str, kept: str) -> None:
    assert safe_name(name) == kept


def test_a_file_stays_within_its_folder(service: tuple[LocalClient, Path]) -> None:
    client, folder = service
    before = set(folder.parent.rglob("*"))
    status, clip = send(client, "../../../evil.png")
    assert (status, clip["name"]) == (201, "evil.png")
    wait_for_clip(client, str(clip["id"]))
    home = folder / "clips" / str(clip["id"])
    assert set(folder.parent.rglob("*")) - before == {home, home / "evil.png"}


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/..", "../", "\\"])
def test_a_name_without_letters_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="name: empty;") as refused:
        safe_name(name)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "path",
    ["/api/clips/../x", "/api/clips/%2e%2e", "/api/clips/..%2f..%2fx/file", "/api/clips/%00"],
)
def test_an_id_names_no_path(service: tuple[LocalClient, Path], path: str) -> None:
    assert service[0].get(path).status_code == 404


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "page.xhtml"])
def test_what_a_browser_would_run_is_a_download(
    service: tuple[LocalClient, Path], name: str
) -> None:
    text = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    _, clip = send(service[0], name, text)
    answer = service[0].get(f"/api/clips/{clip['id']}/file")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    wait_for_clip(service[0], str(clip["id"]))


def png(width: int, height: int, rows: int) -> bytes:
    """A PNG that states a size and holds so many black rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * ((3 * width + 1) * rows), 9)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bomb.png", png(30000, 30000, 100), "--max-megapixels"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "list.m3u8"),
        ("cut.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", "cut.ffconcat"),
        ("archive.zip", b"PK\x03\x04" + bytes(100), "archive.zip"),
    ],
)
def test_what_is_no_clip_fails_with_a_reason(
    service: tuple[LocalClient, Path], name: str, content: bytes, reason: str
) -> None:
    client, folder = service
    _, clip = send(client, name, content)
    failed = wait_for_clip(client, str(clip["id"]))
    assert failed["state"] == "failed"
    assert reason in failed["error"]
    assert "/etc" not in failed["error"]
    assert str(folder) not in failed["error"]
    unusable = client.get(f"/api/clips/{clip['id']}/info")
    assert (unusable.status_code, unusable.json()["error"]) == (422, "unusable")


def test_the_prober_has_limits(tmp_path: Path, photo: Path) -> None:
    config = ServiceConfig(tmp_path)
    (starved,) = Prober(config, memory=60 << 20).probe([photo])
    assert "more memory or time" in starved["error"]
    (hurried,) = Prober(config, seconds=0).probe([photo])
    assert "it took over 0 s" in hurried["error"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    first, second = Prober(config).probe([broken, photo])
    assert ("error" in first, second["width"]) == (True, 32)
    stopped = Prober(config)
    stopped.stop()
    assert "stopping" in stopped.probe([photo])[0]["error"]


@pytest.mark.parametrize(
    ("limits", "status", "error"),
    [
        ({"max_upload": 10}, 413, "too_large"),
        ({"max_disk": 10}, 507, "quota"),
        ({"min_free": 1 << 60}, 507, "disk_full"),
        ({"max_clips": 0}, 429, "too_many_clips"),
    ],
)
@pytest.mark.parametrize("is_form", [False, True])
def test_limits_refuse_an_upload(
    tmp_path: Path, limits: dict[str, int], status: int, error: str, is_form: bool
) -> None:
    with local_service(tmp_path, **limits) as client:
        if is_form:
            answer = client.post("/api/clips", files={"file": ("a.png", bytes(100))})
        else:
            answer = client.post("/api/clips?name=a.png", content=bytes(100))
        assert (answer.status_code, answer.json()["error"]) == (status, error)
        assert ("retry-after" in answer.headers) == (status in (429, 507))
        assert client.get("/api/clips").json() == {"clips": []}
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_of_unknown_length_is_stopped_at_the_limit(tmp_path: Path) -> None:
    sent = 0

    async def chunks() -> object:  # no Content-Length
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield bytes(1 << 20)

    with local_service(tmp_path, max_upload=2 << 20) as client:
        answer = client.post("/api/clips?name=a.mp4", content=chunks())
    assert answer.status_code == 413
    assert sent <= 4


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/octet-stream"),
        (b"--x\r\n", "multipart/form-data"),
        (b"no boundary", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nhalf',
         "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Type: image/png\r\n\r\nx\r\n--x--\r\n",
         "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--x--\r\n',
         "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_a_malformed_upload_leaves_nothing(tmp_path: Path, body: bytes, kind: str) -> None:
    with local_service(tmp_path) as client:
        answer = client.post("/api/clips?name=a.png", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert set(answer.json()) == {"error", "message"}
        assert client.get("/api/clips").json() == {"clips": []}
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vidmatte.service.receive.write_all", full)
    with local_service(tmp_path) as client:
        answer = client.post("/api/clips?name=a.png", content=b"x")
    assert (answer.status_code, answer.json()["error"]) == (507, "disk_full")
    assert int(answer.headers["retry-after"]) > 0
    assert list((tmp_path / "uploads").iterdir()) == []


def test_clips_expire(tmp_path: Path, photo: Path) -> None:
    with local_service(tmp_path, keep=0.5) as client:
        clip = upload(client, photo)
        time.sleep(0.6)
        for step in client.app.state.context.expiring:
            step()
        assert client.get(f"/api/clips/{clip}").status_code == 404
    assert list((tmp_path / "clips").iterdir()) == []


def test_what_a_killed_server_left_is_cleared(tmp_path: Path, photo: Path) -> None:
    with local_service(tmp_path) as client:
        kept, lost = upload(client, photo), upload(client, photo)
    (tmp_path / "clips" / lost / "photo.png").unlink()
    (tmp_path / "clips" / "0123456789abcdef").mkdir()
    (tmp_path / "uploads" / "0123456789abcdef.part").write_bytes(b"half")
    with local_service(tmp_path) as client:
        assert [clip["id"] for clip in client.get("/api/clips").json()["clips"]] == [kept]
    assert [path.name for path in (tmp_path / "clips").iterdir()] == [kept]
    assert list((tmp_path / "uploads").iterdir()) == []

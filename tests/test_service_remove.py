"""``POST /api/remove``: what the clients of rembg's server send, and what they get."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from service_support import LocalClient, Server, local_service, server

from vidmatte.cli.main import main
from vidmatte.service.command_line import Ended
from vidmatte.service.context import RequestError
from vidmatte.service.remove import RemoveOptions, _failure, _Turns, _words

__all__ = ["server"]
SIZE = (96, 64)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright disc on a dark ground."""
    picture = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    cv2.circle(picture, (48, 32), 20, (60, 190, 240), -1)
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    assert cv2.imwrite(str(path), picture)
    return path


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, weights: Callable[[str], Path]
) -> Iterator[LocalClient]:
    folder = tmp_path_factory.mktemp("service")
    with local_service(folder, models_dir=str(weights("u2netp").parent)) as client:
        yield client


def decoded(content: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def test_the_cutout_is_the_command_lines(
    service: LocalClient, photo: Path, tmp_path: Path, weights: Callable[[str], Path]
) -> None:
    cutout, mask = tmp_path / "cutout.png", tmp_path / "mask.png"
    words = [str(photo), "-o", str(cutout), "--matte", str(mask), "--model", "u2netp", "--quiet"]
    assert main([*words, "--no-manifest", "--models-dir", str(weights("u2netp").parent)]) == 0
    content = photo.read_bytes()
    form = service.post("/api/remove", files={"file": ("x", content)}, data={"model": "u2netp"})
    assert (form.status_code, form.headers["content-type"]) == (200, "image/png")
    assert form.content == cutout.read_bytes()
    only = service.post("/api/remove?model=u2netp&om=true", content=content)
    assert only.content == mask.read_bytes()
    config = service.app.state.context.config
    assert list(config.temporary.iterdir()) == list(config.uploads.iterdir()) == []


def test_rembgs_curl_line_works(
    server: Server, photo: Path, tmp_path: Path, weights: Callable[[str], Path]
) -> None:
    weights("u2netp")
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    result = tmp_path / "output.png"
    words = ["-s", "-F", f"file=@{photo}", "-F", "model=u2netp", "-F", "bgc=255,0,0,255"]
    subprocess.run(
        [curl, *words, f"{server.url}/api/remove", "-o", str(result)], check=True, timeout=120
    )
    picture = decoded(result.read_bytes())
    assert picture.shape[:2] == (SIZE[1], SIZE[0])
    assert picture[2, 2, :3].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"a": True, "af": 200, "ab": 5, "ae": 3}, ["--refine", "best"]),
        ({"ppm": True}, ["--remove-specks", "64", "--threshold", "0.49,0.51"]),
        ({"bgc": "255, 128, 0, 255"}, ["--background", "#ff8000"]),
        ({"bgc": "(1,2,3)"}, ["--background", "#010203"]),
        ({"bgc": "#ABCDEF"}, ["--background", "#ABCDEF"]),
        ({"bgc": "0,0,0,0"}, []),
    ],
)
def test_options_become_words(options: dict[str, object], words: list[str]) -> None:
    base = ["in.png", "--model", "isnet", "--no-manifest", "--json"]
    found = _words(RemoveOptions(**options), "isnet", Path("in.png"), Path("out"))
    assert found == [*base, *words, "-o", "out/cutout.png"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"url": "http://169.254.169.254/latest/meta-data"}, "fetches nothing from other servers"),
        ({"model": "sam"}, "model sam: choose from isnet, u2netp"),
        ({"model": "../../x.onnx"}, "choose from"),
        ({"model": "--help"}, "choose from"),
        ({"bgc": "red"}, "bgc red: use RRGGBB"),
        ({"bgc": "1,2,3,128"}, "A 255"),
        ({"bgc": "1,2,256"}, "from 0 to 255"),
        ({"a": "perhaps"}, "a: "),
        ({"af": "300"}, "af: "),
        ({"extras": "{}"}, "extras: "),
    ],
)
@pytest.mark.parametrize("is_query", [False, True])
def test_wrong_options_are_refused(
    service: LocalClient, photo: Path, values: dict[str, str], line: str, is_query: bool
) -> None:
    given = {"params": values} if is_query else {"data": values}
    answer = service.post("/api/remove", files={"file": photo.read_bytes()}, **given)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
    assert line in answer.json()["message"]


def test_urls_are_not_fetched(service: LocalClient) -> None:
    answer = service.get("/api/remove", params={"url": "http://example.com/a.png"})
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"<svg/>", b"#EXTM3U\n", b"\x89PNG\r\n\x1a\nbroken", b"\xff\xd8\xff"]
)
def test_what_is_no_picture_is_refused(service: LocalClient, content: bytes) -> None:
    answer = service.post(
        "/api/remove", files={"file": ("x.png", content)}, data={"model": "u2netp"}
    )
    assert answer.status_code == 422
    assert str(service.app.state.context.config.data) not in answer.json()["message"]
    two = service.post("/api/remove", files=[("file", content), ("file", content)])
    assert two.status_code == 422


@pytest.mark.parametrize(
    ("ended", "status", "line"),
    [
        (Ended(None, "", "it took over 5 s"), 503, "photo.png: it took over 5 s"),
        (Ended(-9, "", ""), 503, "photo.png: it ended with status -9"),
        (Ended(1, '{"error": "WeightsError", "message": "no\\nsource"}', ""), 503, "no source"),
        (Ended(1, '{"error": "SourceError", "message": "/d/photo.png: cut"}', ""), 422,
         "photo.png: cut"),
        (Ended(2, "no json", "vidmatte: wrong option\n"), 422, "wrong option"),
    ],
)  # fmt: skip
def test_failures_have_their_status(ended: Ended, status: int, line: str) -> None:
    error = _failure(ended, Path("/d/photo.png"))
    assert (error.status, error.message) == (status, line)


def test_too_many_at_once_are_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidmatte.service.remove._WAIT_SECONDS", 0.05)

    async def run() -> tuple[list[str], RequestError]:
        turns, order = _Turns(1), []
        with pytest.raises(RequestError) as refused:
            async with turns.taken():
                order.append("first")
                async with turns.taken():
                    order.append("second")
        async with turns.taken():
            order.append("third")
            waiting = [asyncio.create_task(turns.taken().__aenter__()) for _ in range(6)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(one, RequestError) for one in ended)
        return order, refused.value

    order, error = asyncio.run(run())
    assert order == ["first", "third"]
    assert (error.status, error.error, error.retry_after) == (503, "busy", 10)

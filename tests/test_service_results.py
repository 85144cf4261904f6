"""Results of the service: ranges, names, types, ZIPs, and the client of the examples."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from service_clips import green_clip, green_picture
from service_jobs import ended, fetch, submit
from service_support import Server, server, upload

__all__ = ["server"]
ROOT = Path(__file__).parent.parent
NAME = 'Zoë "é" 影片.mp4'


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job that is done: a clip with a difficult name, and its matte."""
    movie = green_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")
    with server.client() as client:
        return ended(client, submit(client, upload(client, movie, NAME), extras=["matte"]))


@pytest.fixture(scope="module")
def pictures(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A job that is done: the pictures of a clip."""
    movie = green_clip(tmp_path_factory.mktemp("clips") / "walk.mp4")
    with server.client() as client:
        return ended(client, submit(client, upload(client, movie), format="png"))


def test_a_result_is_an_attachment_under_its_own_name(
    client: httpx.Client, done: dict[str, Any]
) -> None:
    first = done["results"][0]
    answer = client.get(first["url"])
    said = answer.headers["content-disposition"]
    assert said.startswith("attachment; ")
    assert unquote(said.partition("filename*=UTF-8''")[2]) == first["name"]
    assert first["name"].startswith("Zoë")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "video/quicktime"
    assert int(answer.headers["content-length"]) == first["bytes"] == len(answer.content)
    shown = client.get(first["url"], params={"inline": 1})
    assert shown.headers["content-disposition"].startswith("inline; ")
    manifest = next(one for one in done["results"] if one["name"].endswith(".json"))
    answer = client.get(manifest["url"], params={"inline": 1})
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "clips/" not in answer.json()["command"]


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("0-9", 0, 9), ("100-100", 100, 100), ("-7", -7, -1)]
)
def test_ranges(
    client: httpx.Client, done: dict[str, Any], asked: str, first: int, last: int
) -> None:
    complete = fetch(client, done)
    answer = client.get(done["results"][0]["url"], headers={"Range": f"bytes={asked}"})
    start, stop = first % len(complete), last % len(complete) + 1
    assert answer.status_code == 206
    assert answer.content == complete[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(complete)}"


def test_a_range_that_the_file_does_not_have(client: httpx.Client, done: dict[str, Any]) -> None:
    url = done["results"][0]["url"]
    answer = client.get(url, headers={"Range": "bytes=99999999-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{done['results'][0]['bytes']}"
    tag = client.get(url).headers["etag"]
    for condition, status in ((tag, 206), ('"another"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert client.get(url, headers=headers).status_code == status


@pytest.mark.parametrize(
    "name",
    ["", "..", "../events.jsonl", "%2e%2e/events.jsonl", "..%2fevents.jsonl", "%00", ".",
     "/etc/passwd", "nothing.mov", "walk_matte/../../log.txt", "walk_matte/x/000000.png",
     "walk_matte/..", "walk_matte"],
)  # fmt: skip
def test_nothing_else_of_the_server_is_a_result(
    server: Server, pictures: dict[str, Any], name: str
) -> None:
    import http.client

    # Not through a client that would tidy the path.
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("GET", f"/api/jobs/{pictures['id']}/results/{name}")
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 404, text


def test_a_sequence_is_a_zip_and_single_pictures(
    client: httpx.Client, pictures: dict[str, Any]
) -> None:
    entry = pictures["results"][0]
    assert (entry["name"], entry["files"]) == ("walk_matte/", 6)
    answer = client.get(entry["url"])
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        names = zipped.namelist()
        assert names == [f"walk_matte/{number:06}.png" for number in range(6)]
        assert all(one.compress_type == zipfile.ZIP_STORED for one in zipped.infolist())
        single = client.get(f"/api/jobs/{pictures['id']}/results/{names[3]}")
        assert single.headers["content-type"] == "image/png"
        assert single.content == zipped.read(names[3])
        assert sum(one.file_size for one in zipped.infolist()) == entry["bytes"]


def test_a_zip_of_many_jobs_keeps_equal_names_apart(
    client: httpx.Client, done: dict[str, Any], pictures: dict[str, Any], tmp_path: Path
) -> None:
    photo = green_picture(tmp_path / "photo.png")
    others = [ended(client, submit(client, upload(client, photo))) for _ in range(2)]
    jobs = [one["id"] for one in (done, pictures, *others, others[0])]
    answer = client.get("/api/zip", params={"jobs": ",".join(jobs)})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        names = zipped.namelist()
        assert zipped.read("photo_matte (2).png") == fetch(client, others[1])
    assert len(names) == len(set(names)) == 2 + 6 + 2
    assert not any(name.endswith(".json") for name in names)
    assert client.get("/api/zip", params={"jobs": "0" * 16}).status_code == 404
    assert client.get("/api/zip", params={"jobs": ","}).status_code == 422
    only = client.get(f"/api/jobs/{done['id']}/results.zip")
    with zipfile.ZipFile(io.BytesIO(only.content)) as zipped:
        assert sorted(zipped.namelist()) == sorted(
            one["name"] for one in done["results"] if not one["name"].endswith(".json")
        )
    missing = client.get(f"/api/jobs/{done['id']}/results.zip", params={"name": "other/"})
    assert missing.status_code == 404


def test_there_are_no_results_of_a_job_that_failed(client: httpx.Client, tmp_path: Path) -> None:
    photo = green_picture(tmp_path / "photo.png")
    failed = ended(client, submit(client, upload(client, photo), {"model": "rvm", "pace": "2"}))
    assert failed["state"] == "failed"
    assert client.get(f"/api/jobs/{failed['id']}/results.zip").status_code == 409


def test_the_example_client_fetches_what_the_service_makes(
    server: Server, client: httpx.Client, done: dict[str, Any], tmp_path: Path
) -> None:
    script = ROOT / "examples" / "service_client.py"
    assert len(script.read_text().splitlines()) < 150
    movie, cuts = green_clip(tmp_path / "clip.mp4"), tmp_path / "cuts"
    words = [sys.executable, str(script), server.url, str(movie), "-o", str(cuts)]
    words += ["--settings", '{"model": "chroma"}']
    found = subprocess.run(words, capture_output=True, text=True, timeout=90)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "clip.mp4: done \n"
    assert re.search(r"clip.mp4: \d of 6", found.stderr)
    assert (cuts / "clip_matte.mov").read_bytes() == fetch(client, done)
    found = subprocess.run([*words, "--settings", '{"erode": [1]}'], capture_output=True, text=True)
    assert found.returncode == 1
    assert "--erode" in found.stderr
    assert "Traceback" not in found.stderr

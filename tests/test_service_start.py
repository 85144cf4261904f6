"""``vidmatte serve``: its options, how it starts and ends, what it needs, and its state."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from service_support import (
    LocalClient,
    Server,
    local_service,
    running_server,
    server,
    upload,
    wait_for_clip,
)

from vidmatte.cli.main import main

__all__ = ["server"]
TOKEN = "0123456789abcdef"
IDLE_MB = 150


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--host", "0.0.0.0"], "needs a --token"),
        (["--host", "::"], "needs a --token"),
        (["--host", "127.0.0.1.example.com"], "needs a --token"),
        (["--token", "short"], "16 to 200 letters"),
        (["--token", "with spaces in it all over"], "16 to 200 letters"),
        (["--keep", "5"], "--keep 5: write a number and s, m, h or d"),
        (["--keep", "99999d"], "3650 d at most"),
        (["--max-upload", "much"], "--max-upload much: write a size"),
        (["--max-disk", "0"], "--max-disk 0: write a size"),
        (["--jobs", "0"], "--jobs 0: allowed is 1 or more"),
        (["--workers", "0"], "a number from 1 to 64, 'ray', or ray://HOST:PORT"),
        (["--workers", "ray://nowhere"], "write ray://HOST:PORT"),
        (["--port", "70000"], "65535"),
    ],
)
def test_wrong_options_end_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    assert main(["serve", "--data", str(tmp_path / "data"), *options]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--data", str(tmp_path / "data"), "--port", port]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert f"--port {port}" in told
    assert "in use" in told


def test_a_folder_that_is_a_file_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["serve", "--data", str(tmp_path / "file"), "--port", "0"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in told


def test_a_missing_package_ends_with_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; from vidmatte.cli.main import main;"
        f" sys.exit(main(['serve', '--data', {str(tmp_path / 'data')!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    line = (
        "vidmatte: serve needs the package uvicorn: pip install '.[serve]' in vidmatte's folder\n"
    )
    assert (ended.returncode, ended.stderr) == (2, line)


def test_ctrl_c_ends_it_within_two_seconds(tmp_path: Path) -> None:
    """With an open stream and half an upload; on a loaded machine within the time of a start."""
    starting = time.monotonic()
    with running_server(tmp_path) as started, started.client() as client:
        assert client.get("/api/health").status_code == 200
        limit = max(2.0, time.monotonic() - starting)
        host, _, port = started.url.removeprefix("http://").partition(":")
        stream = client.stream("GET", "/api/events")
        with stream, socket.create_connection((host, port)) as half:
            head = (
                f"POST /api/clips?name=a.mp4 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n"
            )
            half.sendall(head.encode() + b"half")
            time.sleep(0.2)
            begun = time.monotonic()
            started.process.send_signal(signal.SIGINT)
            assert started.process.wait(10) == 0
            assert time.monotonic() - begun < limit
    assert started.lines[-1] == "vidmatte serve: stopped\n"
    assert not any("Traceback" in line for line in started.lines)


def test_two_servers_do_not_share_a_folder(server: Server) -> None:
    words = [sys.executable, "-m", "vidmatte", "serve", "--port", "0", "--data", str(server.data)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "another vidmatte serve uses it" in ended.stderr


def test_the_idle_server_is_small(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    assert cv2.imwrite(str(picture), np.full((24, 32, 3), 90, np.uint8))
    with server.client() as client:
        upload(client, picture)
        for path in ("settings", "formats", "presets", "models", "openapi.json", "metrics"):
            assert client.get(f"/api/{path}").status_code == 200
        for _ in range(2):
            large = client.post("/api/clips?name=large.mp4", content=bytes(64 << 20))
            wait_for_clip(client, large.json()["id"])
            client.delete(f"/api/clips/{large.json()['id']}")
    assert psutil.Process(server.process.pid).memory_info().rss < IDLE_MB * 1e6
    loaded = {Path(one.path).name.partition(".")[0] for one in
              psutil.Process(server.process.pid).memory_maps()}  # fmt: skip
    assert not {"cv2", "libavcodec", "onnxruntime_pybind11_state", "_multiarray_umath"} & loaded


def test_nothing_is_written_outside_the_data_folder(tmp_path: Path, weights: object) -> None:
    weights("u2netp")  # type: ignore[operator]
    places = {"HOME": "home", "TMPDIR": "temporary", "XDG_DATA_HOME": "share",
              "XDG_CACHE_HOME": "cache"}  # fmt: skip
    for name in places.values():
        (tmp_path / name).mkdir(exist_ok=True)
    environment = {name: str(tmp_path / place) for name, place in places.items()}
    picture = tmp_path / "photo.png"
    assert cv2.imwrite(str(picture), np.full((24, 32, 3), 90, np.uint8))
    server = running_server(tmp_path / "data", environment=environment)
    with server as started, started.client() as client:
        upload(client, picture)
        photo = {"file": ("photo.png", picture.read_bytes())}
        answer = client.post("/api/remove", files=photo, data={"model": "u2netp"})
        assert answer.status_code == 200
    assert [list((tmp_path / name).rglob("*")) for name in places.values()] == [[]] * 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClient]:
    with local_service(tmp_path_factory.mktemp("service")) as client:
        yield client


def test_health_and_metrics(service: LocalClient) -> None:
    health = service.get("/api/health").json()
    assert [health[name] for name in ("status", "queued", "running")] == ["ok", 0, 0]
    assert health["free_bytes"] > 0
    service.get("/api/none")
    text = service.get("/api/metrics").text
    assert 'vidmatte_requests_total{method="GET",status="404"} 1.0' in text
    assert "vidmatte_clips 0.0" in text
    assert "vidmatte_resident_bytes" in text


def test_a_full_disk_shows_in_the_health(tmp_path: Path) -> None:
    with local_service(tmp_path, min_free=1 << 60) as client:
        assert client.get("/api/health").json()["status"] == "disk_full"


def test_a_failure_to_expire_is_logged_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from vidmatte.service.config import ServiceConfig
    from vidmatte.service.context import Context
    from vidmatte.service.database import Database
    from vidmatte.service.status import Expiry

    def fails() -> None:
        raise OSError("no disk")

    steps: list[str] = []
    context = Context(ServiceConfig(tmp_path), Database(tmp_path / "x.sqlite"))
    context.expiring += [fails, lambda: steps.append("done")]
    Expiry(context).run_once()
    context.database.close()
    assert (steps, [one.getMessage() for one in caplog.records]) == (
        ["done"],
        ["removing what has expired: OSError('no disk')"],
    )
    caplog.clear()


def test_the_settings_name_no_files(service: LocalClient) -> None:
    options = {one["name"]: one for one in service.get("/api/settings").json()["options"]}
    assert options["feather"] | {"help": ""} == {
        "name": "feather", "kind": "float", "default": 0.0, "choices": [], "low": 0.0,
        "high": 500.0, "help": "", "group": "Controls, in this order", "flag": "--feather",
    }  # fmt: skip
    assert options["smooth"]["choices"] == ["auto", "on", "live", "strong", "off"]
    assert options["subject"]["kind"] == "list"
    named = {"matte", "comp", "cache", "models_dir", "overwrite", "garbage_matte", "timeline"}
    assert not named & set(options)


def test_formats_and_presets_fit_each_other(service: LocalClient) -> None:
    from vidmatte.settings import make_settings

    formats = {one["name"]: one for one in service.get("/api/formats").json()["formats"]}
    assert (formats["prores"]["kind"], formats["png"]["kind"]) == ("movie", "sequence")
    assert (formats["jpeg"]["kind"], formats["jpeg"]["alpha"]) == ("still", None)
    presets = service.get("/api/presets").json()["presets"]
    assert len({one["name"] for one in presets}) == len(presets) == 9
    for preset in presets:
        make_settings(**preset["settings"])  # raises where one is wrong
        assert preset["output"]["format"] in {None, *formats}
        assert preset["title"]["en"] and preset["title"]["zh"]


def test_models_are_listed_and_fetched(tmp_path: Path) -> None:
    from conftest import MODELS_FOLDER

    with local_service(tmp_path, models_dir=str(MODELS_FOLDER)) as client:
        models = {one["name"]: one for one in client.get("/api/models").json()["models"]}
        assert models["u2netp"]["licence"] == "Apache-2.0"
        assert models["u2netp"]["commercial"] is True
        assert models["isnet"]["note"]
        missing = client.post("/api/models/none/fetch")
        assert (missing.status_code, missing.json()["error"]) == (404, "missing")


def test_a_fetch_says_how_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: object
) -> None:
    """From a mirror that has the file of one model, and no other."""
    file = weights("u2netp")  # type: ignore[operator]
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("VIDMATTE_MODELS_URL", str(mirror))
    with local_service(tmp_path / "data", models_dir=str(tmp_path / "models")) as client:
        answer = client.post("/api/models/u2netp/fetch", json={"accept_licence": None})
        assert (answer.status_code, answer.json()["fetched"]) == (202, False)
        ended = last_event(client, "model", ("fetched", "failed"))
        size = file.stat().st_size
        assert ended == {"name": "u2netp", "state": "fetched", "done": size, "bytes": size,
                         "error": None}  # fmt: skip
        again = client.post("/api/models/u2netp/fetch").json()
        assert (again["fetched"], again["fetching"]) == (True, False)
        monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
        client.post("/api/models/silueta/fetch")
        failed = last_event(client, "model", ("failed",))
        assert (failed["name"], failed["state"]) == ("silueta", "failed")
        assert "could not be fetched" in failed["error"]


def last_event(client: LocalClient, kind: str, states: tuple[str, ...]) -> dict[str, object]:
    """The first event of a kind with one of these states, waited for."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in client.get("/api/events?after=0").json()["events"]:
            data = event["data"] if isinstance(event["data"], dict) else json.loads(event["data"])
            if event["type"] == kind and data["state"] in states:
                return data
        time.sleep(0.05)
    raise AssertionError(f"no event {kind} {states}")


_FACTS = {"kind": "movie", "width": 64, "height": 48, "frames": 9, "rate": "25", "audio": []}


def test_every_preset_is_a_command(service: LocalClient) -> None:
    """For the kind of clip that it is for; its command line is what ``vidmatte`` takes."""
    insert = (
        "INSERT INTO clips (id, name, bytes, sha256, created, expires, state, info)"
        " VALUES (?, ?, 1, '', '2026', '2999', 'ready', ?)"
    )
    clips = {"movie": "0" * 16, "picture": "1" * 16}
    with service.app.state.context.database.writing() as connection:
        for kind, clip in clips.items():
            name, facts = ("a.mp4", _FACTS) if kind == "movie" else ("a.jpg", {"kind": kind})
            connection.execute(insert, (clip, name, json.dumps({**_FACTS, **facts})))
    for preset in service.get("/api/presets").json()["presets"]:
        for kind in ("movie", "picture") if preset["for"] == "both" else (preset["for"],):
            body = {"clips": [clips[kind]], "preset": preset["name"]}
            answer = service.post("/api/command", json=body)
            assert answer.status_code == 200, (preset["name"], answer.text)
    with service.app.state.context.database.writing() as connection:
        connection.execute("DELETE FROM clips")

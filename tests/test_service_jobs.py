"""Jobs of the service: the same files as the command line's, and an end for every job."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from service_clips import green_clip, green_picture
from service_jobs import (
    ended,
    fetch,
    held_at,
    job_of,
    matting,
    process_of,
    submit,
    wait_until,
)
from service_support import Server, local_service, running_server, server, upload

from vidmatte.cli.main import main
from vidmatte.service.command import FORMATS
from vidmatte.service.disk import Disk
from vidmatte.settings import Settings, options_of

__all__ = ["server"]
LONG = 250  # frames: some seconds


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return green_clip(tmp_path_factory.mktemp("clips") / "my clip.mp4")


@pytest.fixture(scope="module")
def long_movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return green_clip(tmp_path_factory.mktemp("clips") / "long.mp4", LONG)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return green_picture(tmp_path_factory.mktemp("pictures") / "photo.png")


@pytest.fixture(scope="module")
def uploaded(server: Server, movie: Path) -> str:
    """The clip of ``movie`` on the server."""
    with server.client() as opened:
        return upload(opened, movie)


@pytest.fixture(scope="module")
def uploaded_long(server: Server, long_movie: Path) -> str:
    """The clip of ``long_movie``."""
    with server.client() as opened:
        return upload(opened, long_movie)


@pytest.fixture(scope="module")
def uploaded_picture(server: Server, picture: Path) -> str:
    """The clip of ``picture``."""
    with server.client() as opened:
        return upload(opened, picture)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def test_the_formats_are_those_of_the_writers() -> None:
    from vidmatte.writers.formats import FORMATS as ROWS

    found = {row.name: (row.suffixes[0], row.container is not None) for row in ROWS}
    assert found == FORMATS
    assert list(found) == list(FORMATS)  # the first of a suffix is its default


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"erode": 1.5, "audio": False}, {"extras": ["matte", "comp"], "background": "20a040"}),
        ({"despill": "green"}, {"format": "png16"}),
    ],
)
def test_a_result_is_the_same_as_that_of_the_command_that_is_shown(
    client: httpx.Client,
    movie: Path,
    uploaded: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    output: dict[str, Any],
) -> None:
    job = submit(client, uploaded, settings, **output)
    done = ended(client, job)
    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / movie.name).write_bytes(movie.read_bytes())
    monkeypatch.chdir(folder)
    words = shlex.split(done["command"])
    assert words[0] == "vidmatte"
    assert main([*words[1:], "--quiet"]) == 0
    made = [path for path in folder.iterdir() if path.name != movie.name]
    assert {one["name"].rstrip("/") for one in done["results"]} == {path.name for path in made}
    for one in done["results"]:
        if one["name"].endswith(".json"):
            continue
        by_hand = folder / one["name"]
        for file in sorted(by_hand.iterdir()) if by_hand.is_dir() else [by_hand]:
            name = file.relative_to(folder).as_posix()
            answer = client.get(f"/api/jobs/{job}/results/{name}")
            assert answer.content == file.read_bytes(), name
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.mark.parametrize(
    ("settings", "output", "said"),
    [
        ({"erode": 1000}, {}, "--erode 1000"),
        ({"erode": "1"}, {}, "--erode"),
        ({"nonsense": 1}, {}, "unknown option nonsense"),
        ({"model": "/etc/model.onnx"}, {}, "model /etc/model.onnx"),
        ({"model": ["isnet"]}, {}, "model"),
        ({"model": "isnet+rmv"}, {}, "model rmv: choose from isnet"),
        ({"in_point": "f900"}, {}, "outside the clip"),
        ({"in_point": "00:00:01:00"}, {}, "outside the clip"),
        ({"in_point": "f3", "out_point": "f3"}, {}, "no frame is left"),
        ({"overwrite": False}, {}, "only the server sets it"),
        ({"cache": "x"}, {}, "only the server sets it"),
        ({"matte": "/tmp/x.mov"}, {}, "only the server sets it"),
        ({"foreground": "/tmp/x.mov"}, {}, "foreground"),
        ({"garbage_matte": "/etc/passwd"}, {}, "clip:ID"),
        ({"audio_from": "../x"}, {}, "clip:ID"),
        ({"holdout": "clip:0123456789abcdef"}, {}, "not found"),
        ({"subject": ["/etc/passwd@f0"]}, {}, "clip:ID"),
        ({"subject": [7]}, {}, "subject"),
        ({"subject": ["1,2,3"]}, {}, "3 numbers"),
        ({"background": "/etc/passwd"}, {}, "clip:ID"),
        ({"background": "white"}, {"background": "black"}, "use one of them"),
        ({"format": "png"}, {"format": "exr"}, "use one of them"),
        ({"format": ["png"]}, {}, "choose from prores"),
        ({"like": {"a": 1}}, {}, "--like"),
        ({"threshold": [1, [2]]}, {}, "--threshold"),
        ({"size": "600x800"}, {}, "only for pictures"),
        ({"shadow": "1,2,3"}, {}, "needs a background"),
        ({"only": "a\ud800"}, {}, "surrogate"),
        ({"max_megapixels": 1000}, {}, "at most 200"),
        ({}, {"format": "divx"}, "choose from prores"),
        ({}, {"format": "png", "timeline": "edl"}, "a timeline cannot show"),
        ({}, {"extras": ["all"]}, "extras"),
        ({}, {"path": "/tmp"}, "path"),
    ],
)
@pytest.mark.thinned(3)
def test_what_the_command_line_refuses_is_refused_at_once(
    client: httpx.Client, uploaded: str, settings: dict[str, Any], output: Any, said: str
) -> None:
    before = len(client.get("/api/jobs").json()["jobs"])
    body = json.dumps({"clips": [uploaded], "settings": settings, "output": output})
    for path in ("/api/jobs", "/api/command"):
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == (404 if "not found" in said else 422), answer.text
        assert said in answer.json()["message"]
        assert "\n" not in answer.json()["message"]
    assert len(client.get("/api/jobs").json()["jobs"]) == before


def test_every_option_of_a_path_is_refused_or_a_clip(client: httpx.Client, uploaded: str) -> None:
    for name, option in options_of(Settings).items():
        if option.reads or option.metavar in ("FILE", "PATH", "DIR"):
            body = {"clips": [uploaded], "settings": {name: "/etc/hostname"}}
            assert client.post("/api/command", json=body).status_code == 422, name


def test_files_are_named_by_clips(client: httpx.Client, uploaded: str, picture: Path) -> None:
    clip, mask = uploaded, upload(client, picture, "my mask.png")
    settings = {"garbage_matte": f"clip:{mask}", "subject": [f"actor:!clip:{mask}@f2", "!5,6@f1"]}
    output = {"extras": ["comp"], "background": f"clip:{mask}"}
    body = {"clips": [clip], "settings": settings, "output": output}
    words = client.post("/api/command", json=body).json()["words"]
    assert words[words.index("--garbage-matte") + 1] == "my mask.png"
    assert words[words.index("--background") + 1] == "my mask.png"
    assert "actor:!my mask.png@f2" in words
    assert client.post("/api/command", json={**body, "clips": ["0" * 16]}).status_code == 404


def test_odd_names_are_neither_options_nor_commands(client: httpx.Client, movie: Path) -> None:
    clip = upload(client, movie, "-o 100%d $(id).mp4")
    body = {"clips": [clip], "settings": {"model": "chroma"}, "output": {"format": "png"}}
    answer = client.post("/api/command", json=body).json()
    assert shlex.split(answer["command"]) == answer["words"]
    assert answer["words"][1:4] == ["./-o 100%d $(id).mp4", "-o", "./-o 100_d $(id)_matte/"]
    done = ended(client, submit(client, clip, format="png"))
    assert done["results"][0]["files"] == 6, done


def test_a_picture_becomes_a_jpeg_on_white(client: httpx.Client, uploaded_picture: str) -> None:
    job = submit(client, uploaded_picture, format="jpeg", background="FFFFFF")
    done = ended(client, job)
    assert done["results"][0]["name"] == "photo_matte.jpg"
    assert fetch(client, done)[:3] == b"\xff\xd8\xff"
    assert done["expires"] > done["ended"] > done["started"] >= done["created"]


def test_a_preset_is_a_start_that_a_job_changes(
    client: httpx.Client, uploaded_picture: str
) -> None:
    body = {"clips": [uploaded_picture], "preset": "id-photo", "output": {"background": "blue"}}
    command = client.post("/api/command", json={**body, "settings": {"quality": 80}}).json()
    assert command["words"][1:] == [
        "photo.png", "-o", "photo_matte.jpg", "--background", "blue", "--size", "35x45mm@300",
        "--quality", "80",
    ]  # fmt: skip
    body["settings"] = {"size": None}
    assert "--size" not in client.post("/api/command", json=body).json()["words"]
    refused = client.post("/api/command", json={**body, "preset": "passport"})
    assert "choose from prores" in refused.json()["message"]


def test_a_failure_is_said_in_the_words_of_the_command_line(
    client: httpx.Client, uploaded: str
) -> None:
    failed = ended(client, submit(client, uploaded, {"video_track": 3}))
    assert failed["state"] == "failed"
    assert "my clip.mp4 has 1 video track" in failed["error"]
    assert "/" not in failed["error"]


def test_jobs_run_one_after_the_other_in_their_order(client: httpx.Client, picture: Path) -> None:
    clips = [upload(client, picture, f"{number}.png") for number in range(2)]
    body = {"clips": clips, "settings": {"model": "chroma"}}
    jobs = [one["id"] for one in client.post("/api/jobs", json=body).json()["jobs"]]
    ends = [ended(client, job) for job in jobs]
    assert [one["name"] for one in ends] == ["0.png", "1.png"]
    assert all(a["ended"] <= b["started"] for a, b in pairwise(ends))
    newest = client.get("/api/jobs", params={"limit": 2}).json()["jobs"]
    assert [one["id"] for one in newest] == jobs[::-1]
    older = client.get("/api/jobs", params={"before": jobs[1], "state": "done"}).json()["jobs"]
    assert older[0]["id"] == jobs[0]


def test_cancel_and_retry(client: httpx.Client, uploaded_long: str, uploaded_picture: str) -> None:
    clip = uploaded_long
    first, second = submit(client, clip), submit(client, uploaded_picture)
    assert client.post(f"/api/jobs/{second}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/jobs/{second}/cancel").status_code == 409
    with held_at(client, first, 20):
        assert client.delete(f"/api/clips/{clip}").status_code == 409
        client.post(f"/api/jobs/{first}/cancel")
    stopped = ended(client, first, 15)
    assert stopped["state"] == "cancelled"
    assert stopped["done"] < LONG
    assert not stopped["results"]
    assert client.post(f"/api/jobs/{first}/retry").json()["state"] == "queued"
    done = ended(client, first)
    assert (done["state"], done["tries"], done["frames"]) == ("done", 2, LONG)
    assert client.post(f"/api/jobs/{first}/retry").status_code == 409
    again = ended(client, submit(client, clip))
    assert fetch(client, again) == fetch(client, done)


@pytest.mark.slow
def test_a_job_that_runs_can_be_removed(
    client: httpx.Client, server: Server, long_movie: Path
) -> None:
    job = submit(client, upload(client, long_movie))
    matting(client, job)
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    assert client.get(f"/api/jobs/{job}").status_code == 404
    assert client.delete(f"/api/jobs/{job}").status_code == 404
    deadline = time.monotonic() + 15
    while (server.data / "jobs" / job).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (server.data / "jobs" / job).exists()
    deleted = [one for one in client.get("/api/events?after=0").json()["events"]
               if one["data"] == {"id": job, "deleted": True}]  # fmt: skip
    assert len(deleted) == 1


def _found_process(job: str) -> psutil.Process:
    """The process of a job that is being started; finding it takes a while on a busy machine."""
    while True:
        with contextlib.suppress(ValueError):
            return process_of(job)


def test_a_job_that_is_killed_fails_with_the_reason_and_goes_on_when_retried(
    client: httpx.Client, uploaded_long: str
) -> None:
    job = submit(client, uploaded_long)
    wait_until(client, job, lambda found: found["tries"] == 1)
    process = _found_process(job)
    matting(client, job)
    process.kill()
    failed = ended(client, job, 10)
    assert failed["state"] == "failed"
    assert "SIGKILL" in failed["error"]
    client.post(f"/api/jobs/{job}/retry")
    assert ended(client, job)["state"] == "done"


def test_too_many_jobs_are_refused_with_a_time_to_try_again(tmp_path: Path, picture: Path) -> None:
    with local_service(tmp_path / "data", max_jobs=1) as client:
        clip = upload(client, picture)
        job = submit(client, clip)
        answer = client.post("/api/jobs", json={"clips": [clip]})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        ended(client, job)
        submit(client, clip)


@pytest.mark.slow
def test_a_job_over_its_memory_is_ended(tmp_path: Path, long_movie: Path) -> None:
    with local_service(tmp_path / "data", job_memory=60_000_000) as client:
        failed = ended(client, submit(client, upload(client, long_movie)))
    assert failed["state"] == "failed"
    assert "the limit of a job is 0.06 GB" in failed["error"]


@pytest.mark.slow
def test_a_job_that_hangs_is_ended(tmp_path: Path, long_movie: Path) -> None:
    with local_service(tmp_path / "data", job_silence=6.0) as client:
        job = submit(client, upload(client, long_movie))
        matting(client, job)
        process_of(job).send_signal(signal.SIGSTOP)
        failed = ended(client, job, 20)
        assert "reported nothing for 6 s" in failed["error"]
        assert client.get("/api/jobs").status_code == 200


@pytest.mark.slow
def test_no_job_runs_while_the_disk_is_nearly_full(
    tmp_path: Path, long_movie: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_service(tmp_path / "data") as client:
        clip = upload(client, picture)
        running = submit(client, upload(client, long_movie))
        waiting = submit(client, clip)
        matting(client, running)
        monkeypatch.setattr(Disk, "free_bytes", 1000)
        failed = ended(client, running, 20)
        assert "the disk has less than 1.07 GB free" in failed["error"]
        assert job_of(client, waiting)["state"] == "queued"
        refused = client.post("/api/jobs", json={"clips": [clip]})
        assert refused.status_code == 507
        assert int(refused.headers["Retry-After"]) > 0


def test_results_expire(tmp_path: Path, picture: Path) -> None:
    with local_service(tmp_path / "data", keep=0.0) as client:
        jobs = client.app.state.context.jobs
        job = submit(client, upload(client, picture))
        jobs.expire()  # not what waits or runs
        ended(client, job)
        time.sleep(0.01)
        jobs.expire()
        assert client.get(f"/api/jobs/{job}").status_code == 404
        assert not (tmp_path / "data" / "jobs" / job).exists()


@pytest.mark.slow
def test_a_server_goes_on_with_the_jobs_of_one_that_was_killed(
    tmp_path: Path, long_movie: Path
) -> None:
    data = tmp_path / "data"
    with running_server(data) as first, first.client() as client:
        clip = upload(client, long_movie)
        undisturbed = fetch(client, ended(client, submit(client, clip)))
        jobs = [submit(client, clip) for _ in range(3)]
        matting(client, jobs[0], 20)
        first.process.kill()
    with running_server(data) as second, second.client() as client:
        # The job's own process has survived.
        assert job_of(client, jobs[0])["state"] in ("running", "done")
        done = ended(client, jobs[0])
        assert (done["state"], done["tries"]) == ("done", 1)
        matting(client, jobs[1], 20)
        second.process.kill()
        process_of(jobs[1]).kill()
    with running_server(data) as third, third.client() as client:
        ends = [ended(client, job) for job in jobs]
        assert [one["tries"] for one in ends] == [1, 2, 1]
        for one in ends:
            assert fetch(client, one) == undisturbed


@pytest.mark.slow
def test_a_stopped_server_stops_its_jobs_and_goes_on_with_them(
    tmp_path: Path, long_movie: Path
) -> None:
    data = tmp_path / "data"
    with running_server(data) as first, first.client() as client:
        job = submit(client, upload(client, long_movie))
        matting(client, job, 20)
        process = process_of(job)
        first.process.send_signal(signal.SIGINT)
        first.process.wait(20)
        assert not process.is_running()
    with running_server(data) as second, second.client() as client:
        done = ended(client, job)
        assert (done["state"], done["tries"]) == ("done", 2)


@pytest.mark.slow
def test_two_servers_cannot_use_one_folder(server: Server) -> None:
    words = [sys.executable, "-m", "vidmatte", "serve", "--port", "0", "--data", str(server.data)]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert found.returncode != 0
    assert "another vidmatte serve uses it" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_a_network_runs_as_on_the_command_line(
    client: httpx.Client, tmp_path: Path, weights: Any
) -> None:
    photo, own = green_picture(tmp_path / "photo.png", (320, 240)), tmp_path / "own.png"
    store = weights("u2netp").parent
    done = ended(client, submit(client, upload(client, photo), {"model": "u2netp"}))
    words = [str(photo), "-o", str(own), "--model", "u2netp", "--models-dir", str(store), "-q"]
    assert main(words) == 0
    assert fetch(client, done) == own.read_bytes()


def _events(stream: Iterator[str], count: int) -> list[dict[str, str]]:
    """The first events of a stream: their fields."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in stream:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            found.append(fields)
            fields = {}
            if len(found) == count:
                break
    return found


def test_a_stream_of_events_goes_on_after_the_last_one_seen(
    client: httpx.Client, uploaded_picture: str
) -> None:
    job = submit(client, uploaded_picture)
    path = f"/api/jobs/{job}/events"
    with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        seen = _events(answer.iter_lines(), 2)
    assert [json.loads(one["data"])["state"] for one in seen] == ["queued", "running"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": seen[-1]["id"]}
    with client.stream("GET", path, headers=headers) as answer:
        rest = _events(answer.iter_lines(), 99)  # it ends with the job
    assert json.loads(rest[-1]["data"])["state"] == "done"
    assert int(rest[0]["id"]) > int(seen[-1]["id"])
    polled = client.get(path, params={"after": seen[-1]["id"]}).json()
    # Progress is replaced by later progress, all else stays.
    assert {str(one["id"]) for one in polled["events"]} <= {one["id"] for one in rest}
    assert polled["last"] == int(rest[-1]["id"])
    headers["Last-Event-ID"] = rest[-1]["id"]
    assert client.get(path, headers=headers).status_code == 204  # do not connect again
    with client.stream("GET", "/api/events", headers={"Last-Event-ID": seen[0]["id"]}) as answer:
        assert _events(answer.iter_lines(), 1)[0]["id"] == seen[1]["id"]


def test_an_open_stream_does_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data") as started,
        started.client() as client,
        client.stream("GET", "/api/events") as answer,
    ):
        assert answer.status_code == 200
        begun = time.monotonic()
        started.process.terminate()
        started.process.wait(20)
        assert time.monotonic() - begun < 5

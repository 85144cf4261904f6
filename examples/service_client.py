"""Have a running `vidmatte serve` matte clips: upload, submit, follow, download.

python examples/service_client.py http://127.0.0.1:8765 clip.mp4 --settings '{"model": "rvm"}'

Needs only Python. Uploads and downloads go on after a broken connection.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

PIECE = 8 << 20  # bytes of one request of an upload
PAUSES = (0.25, 0.5, 1, 2, 4, 8, 16, 32)  # seconds between tries
BROKEN = (OSError, HTTPException)
TUS_TYPE = "application/offset+octet-stream"


class RefusedError(Exception):
    """An answer that says no, in one line."""


class Client:
    """The service at ``url``. token: what it was started with, if it was."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        """An answer; waits and tries again where the service is busy or cannot be reached."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, given | self.headers, method=method)
        for pause in PAUSES:
            try:
                return urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as error:
                problem = f"{path}: {error.code} {error.read().decode('utf-8', 'replace')}"
                if "Retry-After" not in error.headers:
                    break
                time.sleep(float(error.headers["Retry-After"]))
            except BROKEN as error:
                problem = f"{self.url}: {error}"
                time.sleep(pause)
        raise RefusedError(problem)

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """An answer in JSON."""
        data = body and json.dumps(body).encode()
        with self.open(method, path, data, Content_Type="application/json") as answer:
            return json.load(answer)

    def upload(self, file: Path) -> str:
        """Upload a file by the tus protocol, and wait until it was read; the id of its clip."""
        name = f"filename {base64.b64encode(file.name.encode()).decode()}"
        facts = {"Upload_Length": str(file.stat().st_size), "Upload_Metadata": name}
        with self.open("POST", "/api/uploads", b"", **facts) as answer:
            path = answer.headers["Location"]
        while True:
            with self.open("HEAD", path) as answer:
                offset, clip = answer.headers["Upload-Offset"], answer.headers["Vidmatte-Clip"]
            if clip is not None:
                break
            with file.open("rb") as opened:
                opened.seek(int(offset))
                piece = opened.read(PIECE)
            try:
                facts = {"Content_Type": TUS_TYPE, "Upload_Offset": offset}
                self.open("PATCH", path, piece, **facts).close()
            except RefusedError as error:  # 409: it had come, and its answer was lost
                if " 409 " not in str(error):
                    raise
        while (state := self.json("GET", f"/api/clips/{clip}"))["state"] == "probing":
            time.sleep(0.2)
        if state["state"] == "failed":
            raise RefusedError(f"{file.name}: {state['error']}")
        return str(clip)

    def events(self, job: str) -> Iterator[tuple[str, Any]]:
        """(type, data) of a job's events until it has ended; goes on after the last one seen."""
        path, fields = f"/api/jobs/{job}/events", {"id": "0"}
        while True:
            with self.open("GET", path, Accept="text/event-stream",
                           Last_Event_ID=fields["id"]) as answer:  # fmt: skip
                if answer.status == 204:
                    return
                try:
                    for line in answer:
                        name, _, value = line.decode().rstrip("\n").partition(": ")
                        fields[name] = value
                        if not name and fields.get("data"):
                            yield fields["event"], json.loads(fields.pop("data"))
                except BROKEN:  # the service was started anew
                    time.sleep(0.5)

    def download(self, url: str, file: Path, size: int) -> None:
        """Fetch a result of ``size`` bytes; 0 where it is not known."""
        file.write_bytes(b"")
        while (have := file.stat().st_size) < size or not have:
            answer = self.open("GET", url, **({"Range": f"bytes={have}-"} if have else {}))
            try:
                with answer, file.open("ab" if answer.status == 206 else "wb") as opened:
                    shutil.copyfileobj(answer, opened)
            except BROKEN:
                time.sleep(0.5)


def run(client: Client, args: argparse.Namespace) -> int:
    """Matte the files; how many failed."""
    clips, failed = [client.upload(file) for file in args.files], 0
    body = {"clips": clips, "settings": args.settings, "output": {"format": args.format}}
    for job in client.json("POST", "/api/jobs", body)["jobs"]:
        for kind, data in client.events(job["id"]):
            if kind == "progress":
                print(f"{job['name']}: {data['done']} of {data['frames']}", file=sys.stderr)
        end = client.json("GET", f"/api/jobs/{job['id']}")
        print(f"{job['name']}: {end['state']} {end['error'] or ''}")
        for result in end["results"]:
            is_zip = result["name"].endswith("/")  # of pictures
            name = Path(result["name"]).name + (".zip" if is_zip else "")
            client.download(result["url"], args.output / name, 0 if is_zip else result["bytes"])
        failed += end["state"] != "done"
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have a vidmatte service matte clips.")
    parser.add_argument("url")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--format", help="such as prores, webm, png")
    parser.add_argument("--settings", type=json.loads, default={}, metavar="JSON")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        sys.exit(run(Client(given.url, os.environ.get("VIDMATTE_TOKEN")), given))
    except RefusedError as error:
        sys.exit(f"service_client: {error}")

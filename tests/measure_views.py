"""How soon the service shows a frame: python tests/measure_views.py [--model NAME] [--clip FILE]

A real server on this machine, a clip of 1080 lines, requests over HTTP. Prints the time from the
first request for a view to its picture (the renderer's start and the network's loading are in it),
the median of 50 changes of a slider at 720 lines over HTTP and of the same in this process without
HTTP, steps to the next frame, and smoothing. The load of the machine is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from media import make_movie
from service_support import running_server, upload

from vidmatte.service.render_worker import Renderer

FRAME, CHANGES, STEPS = 20, 50, 10
ADJUSTED = {"threshold": "0.05,0.95", "erode": 1.5, "feather": 2.0, "despill": "green"}


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(what: str, times: list[float]) -> None:
    """A line with the median, the longest, and the machine's load."""
    median, load = statistics.median(times), os.getloadavg()[0]
    print(f"{what:44} {median:7.3f} s, longest {max(times):7.3f} s (load {load:.1f})", flush=True)


def measure_server(clip: Path, model: str) -> None:
    """Everything over HTTP."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder)) as server,
        server.client() as client,
    ):
        frames = f"/api/clips/{upload(client, clip)}/frames"
        own = psutil.Process(server.process.pid)
        print(f"the server, idle: {own.memory_info().rss / 1e6:.0f} MB")

        def show(number: int, **settings: Any) -> None:
            query = {"view": "cutout", "settings": json.dumps({"model": model, **settings})}
            while (answer := _asked(client, f"{frames}/{number}", query)).status_code == 503:
                time.sleep(0.1)
            assert answer.status_code == 200, answer.text

        report("first preview of a new clip", [seconds(lambda: show(FRAME))])
        time.sleep(3)
        gammas = [1 + change / CHANGES for change in range(1, CHANGES + 1)]
        changes = [seconds(lambda g=g: show(FRAME, gamma=g, **ADJUSTED)) for g in gammas]
        report("a slider's change, HTTP", changes)
        for name in ("remove_specks", "fill_holes", "dilate"):
            values = [seconds(lambda n=name, v=v: show(FRAME, **{n: v})) for v in range(20, 70, 5)]
            report(f"{name}, HTTP", values)
        steps = []
        for number in range(FRAME + 1, FRAME + 1 + STEPS):
            time.sleep(1.5)
            steps.append(seconds(lambda n=number: show(n)))
        report("a step to the next frame", steps)
        report("a frame with smoothing, the first", [seconds(lambda: show(FRAME, smooth="on"))])
        strengths = [0.5 + change / 10 for change in range(10)]
        times = [seconds(lambda s=s: show(FRAME, smooth_strength=s)) for s in strengths]
        report("another strength of smoothing", times[1:])
        worker = psutil.Process(server.process.pid).children()
        print(f"the renderer: {sum(one.memory_info().rss for one in worker) / 1e6:.0f} MB")


def _asked(client: httpx.Client, address: str, query: dict[str, str]) -> httpx.Response:
    return client.get(address, params=query)


def measure_render(clip: Path, model: str) -> None:
    """The same changes of a slider without server and process."""
    with tempfile.TemporaryDirectory() as folder:
        renderer = Renderer(Path(folder))

        def show(**settings: Any) -> None:
            how = {"model": model, "smooth": "off", **settings}
            request = {
                "op": "frame", "clip": {"path": str(clip), "sha256": "clip"}, "number": FRAME,
                "view": "cutout", "background": "checker", "height": 720, "crop": None,
                "split": None, "format": "jpeg", "out": f"{folder}/view.jpg", "settings": how,
            }  # fmt: skip
            request["out_free"] = request["out"]
            Path(request["out"]).unlink(missing_ok=True)
            answer = renderer.answer(request)
            assert answer["ok"], answer

        show()
        gammas = [1 + change / CHANGES for change in range(1, CHANGES + 1)]
        changes = [seconds(lambda g=g: show(gamma=g, **ADJUSTED)) for g in gammas]
        report("a slider's change, the bare render", changes)
        renderer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="u2netp")
    parser.add_argument("--clip", type=Path, help="of 40 frames or more; default: one is made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = given.clip or Path(folder) / "clip.mp4"
        if given.clip is None:
            make_movie(clip, size=(1920, 1080), frames=40)
        measure_server(clip, given.model)
        measure_render(clip, given.model)


if __name__ == "__main__":
    main()

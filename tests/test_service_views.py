"""Views of single frames: exact numbers, what a run writes, and the process that renders them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from media import Movie, make_movie, make_pictures
from scene import Picture, draw_ball, read_index, ruler_rows
from service_support import LocalClient, local_service, running_server, upload

import vidmatte
from vidmatte.service import render
from vidmatte.service.config import ServiceConfig
from vidmatte.service.context import RequestError
from vidmatte.service.frame_matte import ShownFrame
from vidmatte.service.picture_store import PictureStore
from vidmatte.service.render_worker import Renderer
from vidmatte.service.viewer import Viewer
from vidmatte.settings import Settings

SIZE = (192, 108)
FRAMES = 14
GREEN = np.array([0.05, 0.7, 0.2], np.float32)
KEY = {"model": "chroma", "screen": "#0db333", "smooth": "off"}
#: In codes of 255: both alphas are rounded to 8 bits, the kept one to 16 bits before that, which
#: can change the code next to a rounding border.
ALPHA_TOLERANCE = 1
#: Besides, the colours of a run are rounded before they are composited here, and after.
COLOUR_TOLERANCE = 2


def draw_on_green(position: float, width: int, height: int, lit: bool = False) -> Picture:
    """The ball and the ruler before a green screen."""
    drawn = draw_ball(position, width, height, lit)
    share = drawn.alpha[..., None]
    rgb = drawn.rgb * share + GREEN * (1 - share)
    return Picture(rgb.astype(np.float32), drawn.alpha)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Movie:
    """A clip with B-frames and two groups of pictures, before a green screen."""
    path = tmp_path_factory.mktemp("views") / "green.mp4"
    options = {"preset": "veryfast", "crf": "12", "bf": "2", "g": "8"}
    return make_movie(
        path, size=SIZE, frames=FRAMES, draw=draw_on_green, options=options, timecode="01:00:00:00"
    )


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A renderer's pictures, (H, W, 3) uint8 RGB, or its error as text."""
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")  # subjects are chosen without a backbone
    renderer = Renderer(tmp_path / "kept")

    def asked(file: Path, number: int, view: str = "source", **more: Any) -> Any:
        settings = more.pop("settings", KEY)
        request = {
            "op": "frame", "clip": {"path": str(file), "sha256": file.name}, "number": number,
            "view": view, "background": "black", "height": 0, "crop": None, "split": 0.5,
            "format": "png", "settings": dict(settings), "out": str(tmp_path / "view.png"),
            "out_free": str(tmp_path / "free.png"), **more,
        }  # fmt: skip
        while (answer := renderer.answer(request)).get("error") == "busy":
            continue  # smoothing on a slow machine: what is done is kept
        if request["op"] == "candidates":
            return answer
        if not answer["ok"]:
            return f"{answer['status']} {answer['error']}: {answer['message']}"
        picture = cv2.imread(answer["file"], cv2.IMREAD_COLOR)[..., ::-1]
        Path(answer["file"]).unlink()
        return picture

    yield asked
    renderer.close()


ORDER = (7, 8, 3, 2, 1, 13, 0, 12, 9)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "variable", "webp"])
def test_frame_has_the_number_that_was_asked_for(kind: str, movie: Movie, ask, tmp_path: Path):
    """In any order, forwards and backwards, and the same pixels as a run from there has."""
    file = movie.path
    if kind == "variable":
        times = [number * 40 + (number % 3) * 7 for number in range(FRAMES)]
        make_movie(file := tmp_path / "v.mkv", size=SIZE, pts=times, time_base=Fraction(1, 1000))
    elif kind != "mp4":
        codec = {"mkv": "ffv1", "webp": "libwebp_anim"}[kind]
        options = {"quality": "95"} if kind == "webp" else {}
        file = tmp_path / f"clip.{kind}"
        make_movie(file, size=SIZE, frames=FRAMES, codec=codec, options=options)
    for number in ORDER:
        shown = ask(file, number, settings={})
        assert read_index(shown) == number
    with vidmatte.stream(file, in_point="f9", **KEY) as run:
        first = next(iter(run)).rgb
    assert (ask(file, 9, settings={}) == first).all()


def test_view_past_the_end_says_how_many_frames_there_are(movie: Movie, ask):
    """The last frame is there, the next is not."""
    assert read_index(ask(movie.path, FRAMES - 1)) == FRAMES - 1
    for view in ("source", "alpha"):
        found = ask(movie.path, FRAMES, view)
        assert found == f"404 no_frame: frame {FRAMES}: the clip has {FRAMES} frames"


ADJUSTED = {"threshold": "0.1,0.9", "gamma": 1.3, "erode": 1.5, "feather": 3.0, "fill_holes": 40,
            "remove_specks": 40, "despill": "green", "despill_strength": 0.7}  # fmt: skip


@pytest.mark.parametrize("more", [{}, ADJUSTED, {"invert": True, "dilate": 2.0}, {"refine": "off"}])
def test_views_show_what_a_run_writes(more: dict[str, Any], movie: Movie, ask, tmp_path: Path):
    """At full size, without smoothing: the alpha and the colours of the PNG that a run writes."""
    settings = KEY | more
    vidmatte.matte(movie.path, tmp_path / "cut/f_%03d.png", manifest="none", **settings)
    for number in (0, 9):
        written = cv2.imread(str(tmp_path / f"cut/f_{number:03d}.png"), cv2.IMREAD_UNCHANGED)
        alpha = ask(movie.path, number, "alpha", settings=settings)[..., 0].astype(int)
        assert np.abs(alpha - written[..., 3]).max() <= ALPHA_TOLERANCE
        over_white = ask(movie.path, number, "cutout", settings=settings, background="ffffff")
        share = written[..., 3:] / 255
        expected = written[..., 2::-1] * share + 255 * (1 - share)
        assert np.abs(over_white - expected).max() <= COLOUR_TOLERANCE


@pytest.mark.parametrize(
    ("number", "more"), [(0, {}), (6, {}), (FRAMES - 1, {}), (6, {"refine": "best"})]
)
def test_smoothed_view_is_that_of_a_run(number: int, more: dict[str, str], movie: Movie, ask):
    """Smoothing takes the frames of the filter's own window, at every place of the clip; another
    strength, from the motion that is known, too."""
    for strength in (1.0, 1.8):
        settings = KEY | {"smooth": "on", "smooth_strength": strength} | more
        with vidmatte.stream(movie.path, **settings) as frames:
            expected = next(frame.alpha for frame in frames if frame.index == number)
        found = ask(movie.path, number, "alpha", settings=settings)[..., 0]
        assert np.abs(found - 255 * expected).max() <= ALPHA_TOLERANCE


def test_reduced_view_looks_as_the_result_reduced(tmp_path: Path, ask):
    """Pixel measures are scaled to the shown height: on average a code or two of difference."""
    clip = make_movie(tmp_path / "large.mp4", size=(640, 360), frames=1, draw=draw_on_green)
    for more in ({"erode": 6.0}, {"dilate": 5.0}, {"feather": 12.0}, {"fill_holes": 900}):
        settings = KEY | more
        full = ask(clip.path, 0, "alpha", settings=settings)
        small = ask(clip.path, 0, "alpha", settings=settings, height=180)
        expected = cv2.resize(full, (320, 180), interpolation=cv2.INTER_AREA)
        unchanged = ask(clip.path, 0, "alpha", height=180)
        error = np.abs(small.astype(int) - expected).mean()
        assert error < 1.5, more
        if "fill_holes" not in more:
            assert error < 0.4 * np.abs(unchanged.astype(int) - expected).mean(), more


def test_views_are_composed_of_source_and_cutout(movie: Movie, ask, tmp_path: Path):
    """Wipe, difference and overlay by their definitions; a crop is a part of the picture."""
    source, cutout = ask(movie.path, 4), ask(movie.path, 4, "cutout")
    alpha = ask(movie.path, 4, "alpha")[..., :1] / 255
    wipe = ask(movie.path, 4, "wipe", split=0.25)
    assert (wipe[:, :48] == source[:, :48]).all()
    assert (wipe[:, 48:] == cutout[:, 48:]).all()
    difference = ask(movie.path, 4, "difference")
    assert (difference == cv2.absdiff(source, cutout)).all()
    overlay = ask(movie.path, 4, "overlay")
    tint = source * (1 - 0.45 * alpha) + np.array([255, 64, 32]) * 0.45 * alpha
    assert np.abs(overlay - tint).max() <= COLOUR_TOLERANCE
    part = ask(movie.path, 4, "cutout", crop=[100, 20, 60, 4000])
    assert (part == cutout[20:, 100:160]).all()
    assert ask(movie.path, 4, crop=[192, 0, 9, 9]).startswith("422 invalid: crop 192,0,9,9")
    pixels = np.full((50, 90, 3), (10, 200, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "behind.png"), pixels)
    behind = {"path": str(tmp_path / "behind.png"), "sha256": "behind"}
    over = ask(movie.path, 4, "cutout", background=behind)
    assert (over[alpha[..., 0] == 0] == (30, 200, 10)).all()


def test_adjustments_work_on_the_subjects_box_as_on_the_frame():
    """Beside the borders too, and with what grows out of the box."""
    rng = np.random.default_rng(5)
    alpha = np.zeros((90, 120), np.float32)
    alpha[30:60, 50:120] = cv2.GaussianBlur(rng.random((30, 70), np.float32), (0, 0), 2)
    shown = ShownFrame(np.zeros((90, 120, 3), np.uint8), alpha, None, 1.0, False)
    for more in (ADJUSTED, {"dilate": 9.0, "feather": 6.0}, {"keep_largest": True, "invert": True}):
        settings = Settings(**more)
        whole = render.apply(alpha, render._scaled_adjustments(settings, 1.0))
        assert np.abs(render.adjusted_alpha(shown, settings) - whole).max() < 1e-3


def test_candidates_are_boxes_of_the_source(movie: Movie, ask):
    """The ball and the ruler, whose places are known."""
    answer = ask(movie.path, 6, op="candidates")
    found = {one["top"]: one for one in answer["candidates"]}
    assert len(found) == 2
    rows = ruler_rows(SIZE[1])
    ruler, ball = found.pop(max(found)), found.popitem()[1]
    assert (ruler["left"], ruler["right"], ruler["bottom"]) == (0, *SIZE)
    assert abs(ruler["top"] - rows.start) <= 2
    truth = np.argwhere(movie.picture(6).alpha[: rows.start] > 0.5)
    top, left, bottom, right = *truth.min(0), *(truth.max(0) + 1)
    for side, expected in (("top", top), ("left", left), ("bottom", bottom), ("right", right)):
        assert abs(ball[side] - expected) <= 2
    assert abs(ball["area"] - len(truth) / (SIZE[0] * SIZE[1])) < 0.02


def test_prompt_gates_its_own_frame(movie: Movie, ask):
    """A click on the ball keeps the ball alone; on another frame nothing is followed yet."""
    ball = np.argwhere(movie.picture(6).alpha[:80] > 0.95).mean(0)
    chosen = KEY | {"subject": [f"{ball[1]:.0f},{ball[0]:.0f}@f6"]}
    before, after = (ask(movie.path, 6, "alpha", settings=how)[..., 0] for how in (KEY, chosen))
    rows = slice(ruler_rows(SIZE[1]).start + 3, None)
    assert before[rows].min() > 200
    assert after[rows].max() == 0
    assert after[int(ball[0]), int(ball[1])] > 250
    shown = ask(movie.path, 6, "subject", settings=chosen).astype(int)
    changed = np.abs(shown - ask(movie.path, 6)).max(-1) > 20
    assert changed[int(ball[0]), int(ball[1])]
    assert not changed[rows].any()
    other = ask(movie.path, 7, "alpha", settings=chosen)[..., 0]
    assert other[rows].min() > 200
    assert ask(movie.path, 7, "subject", settings=chosen) == (
        "422 invalid: frame 7 has no prompt: add one with @f7"
    )
    file = KEY | {"subject": ["/etc/passwd"]}
    assert ask(movie.path, 6, "subject", settings=file).startswith("422 invalid: --subject /etc/")


def test_still_picture_has_views(tmp_path: Path, ask):
    """A picture is a clip of one frame."""
    file = make_pictures(tmp_path / "stills", size=SIZE, frames=1, draw=draw_on_green)[0]
    assert read_index(ask(file, 0)) == 0
    assert ask(file, 0, "alpha", settings=KEY | {"smooth": "auto"})[-3].min() > 200
    assert ask(file, 1).startswith("404 no_frame: ")


# Over HTTP ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClient]:
    """The application in this process; the renderer is a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDMATTE_OFFLINE", "1")
        with local_service(tmp_path_factory.mktemp("service")) as client:
            yield client


@pytest.fixture(scope="module")
def frames(service: LocalClient, movie: Movie) -> str:
    """The address of the clip's frames."""
    address = f"/api/clips/{upload(service, movie.path)}/frames"
    assert service.get(f"{address}/0").status_code == 200  # the renderer has started
    return address


def view(client: Any, address: str, settings: Any = None, headers: Any = None, **query: Any) -> Any:
    """The answer to a request for a view."""
    if settings is not None:
        query["settings"] = settings if isinstance(settings, str) else json.dumps(settings)
    return client.get(address, params=query, headers=headers or {})


def decoded(answer: Any) -> np.ndarray:
    """An answered picture, RGB."""
    assert answer.status_code == 200, answer.text
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    return picture[..., ::-1]


def test_view_is_named_by_what_decides_it(service: LocalClient, frames: str):
    """The same request has the same ETag and is not rendered again; any other has another."""
    first = view(service, f"{frames}/9", view="alpha", settings=KEY, format="png")
    assert read_index(decoded(view(service, f"{frames}/9", format="png"))) == 9
    assert first.headers["content-type"] == "image/png"
    assert first.headers["x-frame-number"] == "9"
    assert first.headers["x-timecode"] == "01:00:00:09"
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    again = view(
        service, f"{frames}/9", view="alpha", settings=KEY, format="png",
        headers={"If-None-Match": f'"other", {tag}'},
    )  # fmt: skip
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    same = view(
        service, f"{frames}/9", view="alpha", settings=KEY | {"gamma": 1.0}, format="png",
        background="white", split=0.1,
    )  # fmt: skip
    assert same.headers["etag"] == tag  # nothing that decides this picture has changed
    others = [
        view(service, f"{frames}/{number}", settings=KEY | more, **query).headers["etag"]
        for number, more, query in (
            (8, {}, {"view": "alpha"}),
            (9, {}, {"view": "alpha"}),
            (9, {"gamma": 1.2}, {"view": "alpha", "format": "png"}),
            (9, {}, {"view": "alpha", "format": "png", "height": 64}),
            (9, {}, {"view": "cutout"}),
            (9, {}, {"view": "cutout", "background": "white"}),
        )
    ]
    assert len({tag, *others}) == 7


@pytest.mark.parametrize(
    ("number", "query", "settings", "status", "line"),
    [
        (FRAMES, {}, None, 404, "frame 14: the clip has frames 0 to 13"),
        (0, {"view": "x-ray"}, None, 422, "view: Input should be"),
        (0, {"height": 10}, None, 422, "height 10: use 64 to 2160"),
        (0, {"height": 0}, None, 422, "crop : with height=0 give X,Y,WIDTH,HEIGHT"),
        (0, {"height": 0, "crop": "1,2,3"}, None, 422, "crop 1,2,3: with height=0 give"),
        (0, {"height": 0, "crop": "500,0,9,9"}, None, 422, "crop 500,0,9,9: outside"),
        (0, {"view": "cutout", "background": "#zz"}, KEY, 422, "background #zz: use checker"),
        (0, {"view": "cutout", "background": "clip:no"}, KEY, 404, "clip no: not found"),
        (0, {}, "{", 422, "settings: not JSON"),
        (0, {}, "[]", 422, "settings: expected a JSON object"),
        (0, {}, '{"model": "\\ud800"}', 422, "settings: not JSON"),
        (0, {}, "[" * 3000, 422, "settings: not JSON"),
        (0, {}, {"gamma": "much"}, 422, "--gamma 'much': expected a number"),
        (0, {}, {"gama": 2}, 422, "unknown option gama"),
        (0, {}, {"holdout": "/etc/passwd"}, 422, "holdout /etc/passwd: write clip:ID"),
        (0, {}, {"cache": "/tmp"}, 422, "settings: cache is a path on the server"),
        (0, {}, {"holdout": "clip:no"}, 404, "clip no: not found"),
        (0, {}, {"foreground": "/tmp/x.mov"}, 422, "settings: a path on the server"),
        (0, {"view": "alpha"}, {"model": "../x.onnx"}, 422, "settings: a path on the server"),
        (0, {"view": "alpha"}, {"model": "none-such"}, 422, "none-such"),
        (0, {"view": "alpha"}, KEY | {"subject": "1,2"}, 422, "subject: expected a list"),
        (0, {"view": "alpha"}, KEY | {"subject": ["9999,2@f0"]}, 422, "9999"),
        (0, {"view": "alpha"}, {"model": "u2netp", "screen": "#00ff00"}, 422, "--screen #00ff00"),
    ],
)
def test_wrong_request_gets_one_line(
    number: int,
    query: Any,
    settings: Any,
    status: int,
    line: str,
    service: LocalClient,
    frames: str,
):
    answer = view(service, f"{frames}/{number}", settings=settings, **query)
    assert answer.status_code == status, answer.text
    fault = answer.json()
    assert line in fault["message"]
    assert "\n" not in fault["message"] + fault["error"]


def test_masks_are_clips(service: LocalClient, frames: str, tmp_path: Path):
    """A garbage matte and a holdout are uploaded pictures; their content decides the ETag."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[:, :60] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    clip = f"clip:{upload(service, tmp_path / 'mask.png')}"
    query = {"view": "alpha", "format": "png"}
    plain, garbage, holdout = (
        view(service, f"{frames}/6", settings=KEY | more, **query)
        for more in ({}, {"garbage_matte": clip}, {"holdout": clip, "gamma": None})
    )
    assert (decoded(garbage)[:, :60] == 0).all()
    assert (decoded(garbage)[:, 60:] == decoded(plain)[:, 60:]).all()
    assert (decoded(holdout)[:, :60] == 255).all()
    assert (decoded(holdout)[:, 60:] == decoded(plain)[:, 60:]).all()
    assert len({answer.headers["etag"] for answer in (plain, garbage, holdout)}) == 3


def test_unfollowed_subject_and_candidates_are_answered(service: LocalClient, frames: str):
    chosen = KEY | {"subject": ["largest@f6"]}
    for _ in range(2):  # rendered, then stored
        on_key = view(service, f"{frames}/6", view="alpha", settings=chosen)
        other = view(service, f"{frames}/5", view="alpha", settings=chosen)
        assert "x-subject" not in on_key.headers
        assert other.headers["x-subject"] == "not followed yet"
    answer = view(service, f"{frames}/6/candidates", settings=KEY)
    assert [one["number"] for one in answer.json()["candidates"]] == [1, 2]


def test_killed_renderer_starts_again(tmp_path: Path, movie: Movie):
    """The next request is answered. One that takes too long is answered with an error and the
    process ended; one that is idle ends by itself."""
    viewer = Viewer(_config(tmp_path), idle_seconds=0.5, request_seconds=0.0)
    viewer.start()
    try:
        with pytest.raises(RequestError, match="took more than 0 s") as caught:
            viewer.submit(_request(movie, tmp_path), "a").answer.result(60)
        assert caught.value.status == 504
        assert viewer.process_id is None
        viewer._request_seconds, viewer._idle_seconds = 60.0, 60.0
        assert viewer.submit(_request(movie, tmp_path), "a").answer.result(60)["ok"]
        os.kill(viewer.process_id, signal.SIGKILL)
        viewer._idle_seconds = 0.5
        assert viewer.submit(_request(movie, tmp_path, 1), "a").answer.result(60)["ok"]
        psutil.Process(viewer.process_id).wait(20)
    finally:
        viewer.end()
    with pytest.raises(RequestError, match="other frames"):
        viewer.submit(_request(movie, tmp_path), "a")


def test_newest_request_of_a_view_goes_first(tmp_path: Path, movie: Movie):
    """Those of another view keep their turn, and one that was dropped is not rendered."""
    viewer, done = Viewer(_config(tmp_path)), list[int]()
    tasks = {}
    for number, group in ((0, "a"), (1, "a"), (2, "b"), (3, "a"), (4, "a")):
        tasks[number] = viewer.submit(_request(movie, tmp_path, number), group)
        tasks[number].answer.add_done_callback(lambda _, number=number: done.append(number))
    tasks[3].answer.cancel()
    viewer.start()
    try:
        for number in (0, 1, 2, 4):
            tasks[number].answer.result(60)
    finally:
        viewer.end()
    assert done == [3, 4, 1, 0, 2]
    assert not (tmp_path / "3.png").exists()


def _config(folder: Path) -> ServiceConfig:
    config = ServiceConfig(folder / "data")
    for each in (config.views, config.temporary):
        each.mkdir(parents=True)
    return config


def _request(movie: Movie, folder: Path, number: int = 0) -> dict[str, Any]:
    return {
        "op": "frame", "clip": {"path": str(movie.path), "sha256": "m"}, "number": number,
        "view": "source", "background": None, "height": 64, "crop": None, "split": None,
        "format": "png", "settings": {}, "out": str(folder / f"{number}.png"),
        "out_free": str(folder / "free.png"),
    }  # fmt: skip


def test_stored_pictures_stay_within_their_limit(tmp_path: Path):
    """The ones used longest ago go, raw alphas too."""
    store = PictureStore(tmp_path, 10_000)
    raw = tmp_path / "kept" / "0.png"
    for number, file in enumerate([raw, *(store.file(f"{n:032}", ".jpg") for n in range(20))]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
        os.utime(file, (number, number))
    assert store.read(store.file(f"{5:032}", ".jpg")) == bytes(1000)  # used just now
    store.remove_oldest()
    left = {int(file.stem) for file in (tmp_path / "pictures").rglob("*.jpg")}
    assert left == {5, *range(12, 20)}
    assert not raw.exists()
    assert store.read(raw) is None


def test_real_server_shows_a_network(weights, tmp_path: Path, movie: Movie):
    """A first preview with u2netp, worker start included, is what the network gives; the server
    itself stays small."""
    folder = str(weights("u2netp").parent)
    settings = {"model": "u2netp"}
    with running_server(tmp_path / "data") as server, server.client() as client:
        frames = f"/api/clips/{upload(client, movie.path)}/frames"
        began = time.perf_counter()
        shown = decoded(view(client, f"{frames}/5", settings=settings, view="alpha", format="png"))
        print(f"first preview after {time.perf_counter() - began:.2f} s")
        cutout = decoded(view(client, f"{frames}/5", settings=settings, view="cutout"))
        ahead = decoded(view(client, f"{frames}/6", settings=settings, view="cutout"))
        assert psutil.Process(server.process.pid).memory_info().rss < 150e6
    assert cutout.shape == ahead.shape == (108, 192, 3)
    with vidmatte.stream(movie.path, smooth="off", models_dir=folder, **settings) as run:
        expected = next(frame.alpha for frame in run if frame.index == 5)
    assert np.abs(shown[..., 0] - 255 * expected).max() <= ALPHA_TOLERANCE

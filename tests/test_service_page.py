"""The page of the service, used as people use it: Chromium, a real server, real weights."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import psutil
import pytest
from browser_support import PHONE, Visit, keys_of_strings, running_browser, visiting
from media import make_movie
from scene import draw_ball, read_index
from service_jobs import held_at, held_job
from service_support import Server, running_server

import vidmatte.service

#: Most of it is spent in networks; a machine that is busy with other things takes its time.
pytestmark = pytest.mark.timeout(900)
PAGE = Path(vidmatte.service.__file__).parent / "page"
FRAMES, LONG = 20, 14
SIZE = (320, 180)
RATE = Fraction(24000, 1001)
VIEWS = ("source", "alpha", "cutout", "overlay", "wipe", "difference")
#: Option and a value that its field takes, which changes the picture of a ball.
MOVES = {
    "low": "0.4", "high": "0.5", "gamma": "3", "erode": "6", "dilate": "6", "feather": "12",
    "remove_specks": "60000", "fill_holes": "60000", "smooth_strength": "2",
}  # fmt: skip
ID_BLUE = (0x43, 0x8E, 0xDB)
SERIOUS = ("serious", "critical")


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """Not for these tests: browser and server keep processes from one test to the next. The
    fixtures that start them check that they end."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def service(
    weights: Callable[[str], Path], browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    weights("u2netp")
    with running_server(tmp_path_factory.mktemp("page"), "--jobs", "2") as server:
        process = psutil.Process(server.process.pid)
        yield server
        children = process.children(recursive=True)
    _, alive = psutil.wait_procs(children, 10)
    assert not alive, "the server left processes behind"


@pytest.fixture
def visit(browser: Any, service: Server) -> Iterator[Visit]:
    """The page with nothing on the server."""
    with service.client() as client:
        empty(client)
    with visiting(browser, service.url) as opened:
        opened.page.select_option("#model", "u2netp")
        yield opened


def empty(client: httpx.Client) -> None:
    """Delete all jobs and clips; a clip stays for as long as a job that was cancelled reads it."""
    deadline = time.monotonic() + 60
    for kind in ("jobs", "clips"):
        while found := client.get(f"/api/{kind}").json()[kind]:
            for one in found:
                client.delete(f"/api/{kind}/{one['id']}")
            assert time.monotonic() < deadline, f"{kind} are left"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furry ball over cloth; each frame shows its number."""
    path = tmp_path_factory.mktemp("clips") / "ball.mov"
    return make_movie(path, size=SIZE, frames=FRAMES, rate=RATE, timecode="01:00:00:00").path


def photos(folder: Path, count: int) -> list[Path]:
    """Pictures of a ball, none like the other."""
    files = []
    for number in range(count):
        rgb = draw_ball(1.7 * number, 240, 320).rgb
        files.append(folder / f"photo {number + 1:02}.png")
        assert cv2.imwrite(str(files[-1]), np.rint(rgb[..., ::-1] * 255).astype(np.uint8))
    return files


def press(visit: Visit, *keys: str) -> None:
    for key in keys:
        visit.page.keyboard.press(key)


def command(visit: Visit, part: str, there: bool = True) -> None:
    """Wait until the command line has a part, or has it no more."""
    visit.wait_for(
        "([part, there]) => document.querySelector('.command-words').textContent.includes(part)"
        " === there",
        arg=[part, there],
    )


def jobs_until(visit: Visit, state: str, count: int = 1) -> None:
    """Wait until so many jobs are in a state."""
    visit.wait_for(
        "([state, n]) => document.querySelectorAll(`.job[data-state=${state}]`).length === n",
        arg=[state, count],
        timeout=240_000,
    )


def test_keys_scrub_to_exact_frames(visit: Visit, clip: Path) -> None:
    visit.upload(clip)
    press(visit, "1", ".", ".", ".")
    assert read_index(visit.picture()) == 3
    press(visit, ",")
    assert read_index(visit.picture()) == 2
    press(visit, "End")
    assert read_index(visit.picture()) == FRAMES - 1
    press(visit, "Home", "Shift+>")
    assert read_index(visit.picture()) == 10
    press(visit, "g")
    visit.page.keyboard.type("17")
    press(visit, "Enter")
    assert read_index(visit.picture()) == 17
    assert visit.page.input_value("[data-field=timecode]") == "01:00:00:17"
    visit.page.fill("[data-field=timecode]", "01:00:00:14")
    press(visit, "Enter", "Escape")
    assert read_index(visit.picture()) == 14
    press(visit, "Home", "l")
    visit.wait_for("() => location.hash.includes('frame=')")
    press(visit, "k")
    stopped = visit.state("frame")
    assert read_index(visit.picture()) == stopped > 0
    press(visit, "j")
    visit.wait_for("() => !location.hash.includes('frame=')")
    assert visit.state("speed") == 0
    box = visit.page.locator(".strip-track").bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] * 12.5 / FRAMES, box["y"] + 10)
    assert read_index(visit.picture()) == 12
    press(visit, "i", "End", ",", "o")
    command(visit, "--in f12 --out f19")
    press(visit, "x")
    command(visit, "--in", there=False)


def test_views_zoom_and_every_slider_change_the_picture(visit: Visit, clip: Path) -> None:
    visit.upload(clip)
    shown = {}
    for key, view in enumerate(VIEWS, 1):
        press(visit, str(key))
        shown[view] = visit.picture().astype(int)
    for first in VIEWS:
        for second in VIEWS:
            apart = np.abs(shown[first] - shown[second]).mean()
            assert first == second or apart > 0.5, f"{first} and {second} look the same"
    half = shown["wipe"].shape[1] // 2
    assert np.array_equal(shown["wipe"][:, : half - 20], shown["source"][:, : half - 20])
    assert np.array_equal(shown["wipe"][:, half + 20 :], shown["cutout"][:, half + 20 :])

    press(visit, "2")
    for name, value in MOVES.items():
        before = visit.picture()
        visit.page.fill(f"[data-number={name}]", value)
        press(visit, "Tab")
        if name not in ("remove_specks", "fill_holes"):  # a ball has neither
            assert not np.array_equal(visit.picture(), before), name
        if name == "remove_specks":  # but it is one itself
            assert visit.picture().mean() < before.mean()
        visit.page.click("text=Reset all")
    command(visit, "--erode", there=False)
    before = visit.picture()
    visit.page.locator("[data-slider=erode]").focus()
    press(visit, *["ArrowRight"] * 100)
    assert visit.picture().mean() < before.mean()
    command(visit, "--erode 5")

    press(visit, "3")
    before = visit.picture()
    visit.page.select_option("#despill", "red")
    assert not np.array_equal(visit.picture(), before)
    press(visit, "b")
    assert visit.picture()[5, 5].max() < 30  # black behind it
    press(visit, "b")
    assert visit.picture()[5, 5].min() > 225
    press(visit, "z")
    visit.settled()
    assert visit.page.text_content(".stage-zoom") == "100 %"


def test_a_subject_is_chosen_by_clicks_boxes_numbers_and_keys(visit: Visit, clip: Path) -> None:
    page = visit.page
    visit.upload(clip)
    press(visit, "4", ".", ".", "s")
    visit.settled()
    before = visit.picture()
    page.mouse.click(*visit.at(160.5, 80.5))
    command(visit, "--subject 160,80@f2")
    assert page.locator(".mark.mark-key").count() == 1
    page.keyboard.down("Shift")
    page.mouse.click(*visit.at(20.5, 20.5))
    page.keyboard.up("Shift")
    command(visit, "'!20,20@f2'")
    page.mouse.move(*visit.at(100.5, 30.5))
    page.mouse.down()
    page.mouse.move(*visit.at(200.5, 90.5), steps=4)
    page.mouse.move(*visit.at(220.5, 140.5))
    page.mouse.up()
    command(visit, "100,30,221,141@f2")
    press(visit, "7")
    assert not np.array_equal(visit.picture(), before)
    press(visit, "Control+z")
    command(visit, "100,30,221,141", there=False)
    press(visit, "Control+Shift+Z")
    command(visit, "100,30,221,141")
    page.click("text=Remove all")
    command(visit, "--subject", there=False)

    page.click("text=Number candidates")
    page.click(".candidate >> nth=0")
    command(visit, "--subject 1@f2")
    page.click(".prompts .icon-button")
    press(visit, ".")
    page.locator(".stage-canvas").focus()
    press(visit, "ArrowRight", "Shift+ArrowDown", "Enter")
    command(visit, "--subject 165,91@f3")
    press(visit, "Home", "]")
    assert visit.state("frame") == 3
    page.fill(".prompt-field", "nonsense")
    press(visit, "Enter")
    assert "nonsense: not a point" in page.text_content("[role=alert]")


#: Note what the row of the job says from now on.
_WATCH = """() => {
  window.seen = [];
  const words = document.querySelector('.job-state');
  const watcher = new MutationObserver(() => window.seen.push(words.textContent));
  watcher.observe(words, { childList: true });
}"""


def test_a_run_is_watched_cancelled_retried_and_read_back(
    service: Server, visit: Visit, tmp_path: Path
) -> None:
    page = visit.page
    clip = make_movie(tmp_path / "ball.mov", size=SIZE, frames=LONG, rate=RATE).path
    visit.upload(clip)
    page.click("[data-preset=prores]")
    command(visit, "ball_matte.mov --model u2netp")
    press(visit, "Control+Enter")
    with held_job(service):
        jobs_until(visit, "running")
        page.click("[data-action=cancel]")
    jobs_until(visit, "cancelled")
    page.evaluate(_WATCH)
    page.click("[data-action=retry]")
    with service.client() as client:
        job = client.get("/api/jobs").json()["jobs"][0]["id"]
        with held_at(client, job, 1):
            visit.wait_for("() => seen.some(words => / of /.test(words))")
    jobs_until(visit, "done")
    words = page.evaluate("seen")
    assert any(re.match(rf"running · .*\d+ of {LONG}", one) for one in words), words
    with page.expect_download() as started:
        page.click(".result >> nth=0")
    result = tmp_path / started.value.suggested_filename
    started.value.save_as(result)
    assert result.name == "ball_matte.mov"
    with av.open(str(result)) as movie:
        stream = movie.streams.video[0]
        assert (stream.codec.name, stream.width, stream.height) == ("prores", *SIZE)
        assert stream.average_rate == RATE
        frames = [frame.to_ndarray(format="rgba") for frame in movie.decode(stream)]
    assert len(frames) == LONG
    truth = draw_ball(4, *SIZE).alpha
    assert np.abs(frames[4][..., 3] / 255 - truth)[:150].mean() < 0.03  # above the ruler
    drag = page.evaluate(
        """() => { const link = document.querySelector('.result'), data = new DataTransfer();
        link.dispatchEvent(new DragEvent('dragstart', { dataTransfer: data }));
        return data.getData('DownloadURL'); }"""
    )
    assert re.fullmatch(r"video/quicktime:ball_matte\.mov:http://127\.0\.0\.1:.*\.mov", drag)
    page.click("[data-action=delete]")
    visit.wait_for("() => !document.querySelector('.job')")


def test_an_answer_that_comes_after_newer_events_is_not_shown(
    service: Server, visit: Visit, tmp_path: Path
) -> None:
    """The events of a short job may pass the answer of the request that queued it."""

    def answer_late(route: Any) -> None:
        answer = route.fetch()
        with service.client() as client:
            while client.get("/api/jobs").json()["jobs"][0]["state"] != "done":
                time.sleep(0.05)
        route.fulfill(response=answer)

    visit.upload(*photos(tmp_path, 1))
    visit.page.route("**/api/jobs", answer_late)
    with visit.page.expect_response("**/api/jobs"):
        press(visit, "Control+Enter")
    visit.page.wait_for_selector(".message:has-text('queued')")
    assert visit.page.locator(".job[data-state=done]").count() == 1


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_photos_become_id_photos(visit: Visit, tmp_path: Path, count: int) -> None:
    page = visit.page
    visit.upload(*photos(tmp_path, count))
    page.check("text=Select all")
    page.click("[data-preset=id-photo]")
    page.select_option("[data-behind]", "blue")
    command(visit, "--size 35x45mm@300")
    page.click(f"text=Run {count} clips")
    jobs_until(visit, "done", count)
    with page.expect_download() as started:
        page.click(f"text=ZIP of {count} results")
    with zipfile.ZipFile(io.BytesIO(started.value.path().read_bytes())) as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".jpg")]
        assert len(pictures) == count
        for name in pictures:
            data = np.frombuffer(archive.read(name), np.uint8)
            rgb = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
            assert rgb.shape == (531, 413, 3), name  # 35 by 45 mm at 300 dots an inch
            assert np.abs(rgb[3:9, 3:9].astype(int) - ID_BLUE).max() <= 6, name


def test_a_reload_in_the_middle_loses_nothing(
    service: Server, visit: Visit, clip: Path, tmp_path: Path
) -> None:
    page = visit.page
    broken = {"left": 2}

    def break_off(route: Any) -> None:
        broken["left"] -= 1
        if broken["left"] < 0:
            route.continue_()
        else:
            route.abort()

    page.route("**/api/uploads/*", break_off)
    visit.upload(clip, *photos(tmp_path, 1))
    assert broken["left"] < 0
    visit.faults[:] = [one for one in visit.faults if "ERR_FAILED" not in one]
    page.unroute("**/api/uploads/*")

    page.click(".clip-open:has-text('ball')")
    page.check("text=Select all")
    press(visit, "2", ".", ".", ".", ".", "i", ".", ".", "o", "s")
    page.fill("[data-number=erode]", "2")
    page.select_option("#despill", "green")
    page.click("[data-preset=web]")
    page.mouse.click(*visit.at(160.5, 80.5))
    command(visit, "--subject 160,80@f6")
    before = page.text_content(".command-words")
    page.uncheck("text=Select all")
    press(visit, "Control+Enter")
    with held_job(service):
        jobs_until(visit, "running")
        page.reload()
        command(visit, before)
    assert read_index_of_source(visit) == 6
    assert [visit.state(name) for name in ("view", "tool", "preset")] == [
        "source",
        "subject",
        "web",
    ]
    assert page.input_value("[data-number=erode]") == "2"
    assert page.locator(".prompt").count() == 1
    jobs_until(visit, "done")


def read_index_of_source(visit: Visit) -> int:
    press(visit, "1")
    return read_index(visit.picture())


def _only_questions(route: Any) -> None:
    if route.request.method == "PATCH":
        route.abort()
    else:
        route.continue_()


def test_an_unfinished_upload_goes_on_when_its_file_is_chosen_again(
    visit: Visit, clip: Path
) -> None:
    page = visit.page
    page.route("**/api/uploads/*", _only_questions)
    page.set_input_files("[data-picker]", str(clip))
    page.wait_for_selector(".upload:has-text('trying again')")
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.wait_for_selector(".upload:has-text('choose the same file again')")
    page.unroute("**/api/uploads/*")
    visit.upload(clip)
    assert page.locator(".upload").count() == 0
    visit.faults[:] = [one for one in visit.faults if "ERR_FAILED" not in one]


def test_both_languages(browser: Any, service: Server, visit: Visit, clip: Path) -> None:
    visit.upload(clip)
    with visiting(browser, service.url, language="zh-CN", scheme="light") as chinese:
        page = chinese.page
        assert page.get_attribute("html", "lang") == "zh-CN"
        assert page.text_content("vm-queue h2") == "队列"
        words = page.inner_text("body")
        assert "帧" in words and not re.search(r"\b(Clips|Queue|Frame|Erode|Run)\b", words)
        page.select_option("#language", "en")
        page.wait_for_selector("vm-queue h2:has-text('Queue')")
        page.reload()
        page.wait_for_selector("vm-queue h2:has-text('Queue')")


def test_every_text_is_in_both_languages() -> None:
    keys, asked = keys_of_strings(PAGE)
    assert keys >= asked, f"no such text: {sorted(asked - keys)}"
    table = (PAGE / "strings.js").read_text()
    assert not re.findall(r'\["[^"]*", ""\]|\["", ', table)


def test_the_keyboard_alone_is_enough(visit: Visit, clip: Path) -> None:
    page = visit.page
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.wait_for_timeout(500)  # nobody presses keys while the page is being filled
    page.evaluate("document.activeElement.blur()")
    focused = ""
    for _ in range(40):
        press(visit, "Tab")
        focused = page.evaluate("document.activeElement.textContent")
        if focused == "Choose files":
            break
    assert focused == "Choose files"
    press(visit, "Enter")
    deadline = time.monotonic() + 60
    while not choosers and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    choosers[0].set_files(str(clip))
    visit.wait_for("() => document.querySelector('.stage-zoom')?.textContent")
    seen = set()
    for _ in range(150):
        press(visit, "Tab")
        seen.add(page.evaluate(
            "(e => e.dataset.slider || e.dataset.view || e.dataset.preset || e.className || e.id)"
            "(document.activeElement)"
        ))  # fmt: skip
    assert seen >= {"erode", "alpha", "prores", "strip-track", "stage-canvas", "primary", "model"}
    page.locator(".strip-track").focus()
    press(visit, "ArrowRight", "ArrowRight")
    assert visit.state("frame") == 2
    page.locator(".wipe-handle").evaluate("e => e.blur()")
    press(visit, "5")
    visit.settled()
    page.locator(".wipe-handle").focus()
    press(visit, "ArrowLeft")
    assert visit.state("split") == pytest.approx(0.48)
    press(visit, "?")
    assert page.locator("dialog kbd").count() > 20
    page.uncheck("text=Single keys are on")
    press(visit, "Escape", "1")
    assert visit.state("view") == "wipe"


def test_no_serious_finding_of_axe(browser: Any, service: Server, visit: Visit, clip: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any, state: str) -> None:
        found = axe.run(page).response["violations"]
        serious = [one for one in found if one["impact"] in SERIOUS]
        lines = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in serious]
        assert not lines, f"{state}: " + "; ".join(lines)

    check(visit.page, "empty")
    visit.upload(clip)
    press(visit, "4", ".", ".", "o", "s")
    visit.settled()
    visit.page.mouse.click(*visit.at(160.5, 80.5))
    visit.page.click("text=More options")
    visit.page.click("text=Number candidates")
    visit.page.wait_for_selector(".candidate")
    visit.page.fill(".prompt-field", "nonsense")
    press(visit, "Enter")
    for scheme in ("dark", "light"):
        visit.page.select_option("#theme", scheme)
        check(visit.page, f"subject, {scheme}")
    visit.page.locator("#help").click()
    check(visit.page, "help")
    press(visit, "Escape")
    visit.page.click("[data-preset=png]")
    visit.page.fill("[data-number=erode]", "1")
    press(visit, "Control+Enter")
    with held_job(service):
        jobs_until(visit, "running")
        check(visit.page, "running")
    jobs_until(visit, "done")
    check(visit.page, "done")
    with visiting(browser, service.url, PHONE, "zh-CN", "dark") as phone:
        phone.settled()
        check(phone.page, "narrow, Chinese")


def test_stills_on_a_narrow_screen(browser: Any, service: Server, tmp_path: Path) -> None:
    with visiting(browser, service.url, PHONE, has_touch=True, is_mobile=True) as visit:
        page = visit.page
        page.select_option("#model", "u2netp")
        visit.upload(*photos(tmp_path, 1))
        page.tap(".clip-open >> nth=-1")
        page.tap("[data-preset=product]")
        visit.settled()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        before = page.locator(".job[data-state=done]").count()
        page.tap("vm-run .primary")
        jobs_until(visit, "done", before + 1)
        page.locator(".result").first.wait_for(state="visible")


def test_the_files_of_the_page_are_kept_by_browsers(service: Server) -> None:
    with service.client() as client:
        first = client.get("/")
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        tag = first.headers["etag"]
        again = client.get("/", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        types = {"main.js": "text/javascript", "base.css": "text/css", "icon.svg": "image/svg+xml"}
        for name, kind in types.items():
            assert client.get(f"/static/{name}").headers["content-type"].startswith(kind)
        _missing(client, "/static/..%2fpage_routes.py", "/static/none.js", "/static/%2e%2e/app.py")


def _missing(client: httpx.Client, *paths: str) -> None:
    for path in paths:
        assert client.get(path).status_code == 404, path

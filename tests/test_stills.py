"""Stills: photos on a background, in formats without alpha, of a given size, by the hundred."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tiny_onnx import make_salient
from writer_support import write_clip

import vidmatte
from vidmatte.alpha.placement import _find_head, choose_window
from vidmatte.cli import batch
from vidmatte.cli.main import main
from vidmatte.errors import OutputError, SourceError, UsageError
from vidmatte.media.icc import profile_of
from vidmatte.media.png import png_with_profile
from vidmatte.models.runtimes.device import CpuRunner
from vidmatte.readers import images
from vidmatte.settings.still_values import parse_crop, parse_size

SIZE = (160, 120)
BRIGHT, DARK = (230, 200, 240), (40, 60, 20)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, str]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx", 160)), "family": "isnet"}


def words_of(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def draw_photo(
    path: Path, size: tuple[int, int] = SIZE, at: tuple[float, float] = (0.5, 0.5)
) -> Path:
    """A bright disc with a soft edge on a dark ground."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot(x - at[0] * width, y - at[1] * height)
    share = np.clip((0.3 * min(size) - distance) / 4 + 0.5, 0, 1)[..., None]
    rgb = share * np.array(BRIGHT) + (1 - share) * np.array(DARK)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.rint(rgb).astype(np.uint8)[..., ::-1])
    return path


def read_rgb(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None, path
    order = cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(found, order)


@pytest.mark.parametrize("name", ["out.jpg", "out.png", "out.webp", "out.avif", "out.tif"])
def test_a_still_on_a_background_is_opaque(name: str, tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    result = vidmatte.matte(photo, out := tmp_path / name, background="#2040c0", **tiny)
    assert not result.warnings
    found = read_rgb(out)
    assert found.shape == (SIZE[1], SIZE[0], 3)
    top = np.iinfo(found.dtype).max
    levels = found.astype(float) * 255 / top
    assert np.abs(levels[:20] - (0x20, 0x40, 0xC0)).max() < 6, "the ground is the background"
    assert np.abs(levels[55:65, 75:85] - BRIGHT).max() < 6, "the subject keeps its colours"
    facts = json.loads(Path(f"{out}.json").read_text())
    assert facts["alpha"] == ("straight" if name == "out.webp" else "none")


def test_a_format_without_alpha_takes_white_and_says_so(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.jpg")
    result = vidmatte.matte(photo, out := tmp_path / "id.jpg", **tiny)
    (note,) = result.warnings
    assert "no alpha" in note
    assert "--background" in note
    assert (read_rgb(out)[:12] == 255).all()
    quiet = vidmatte.matte(photo, tmp_path / "w.jpg", background="white", **tiny)
    assert not quiet.warnings
    assert (tmp_path / "w.jpg").read_bytes() == out.read_bytes()


def test_a_movie_on_a_background_needs_no_extra_output(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    result = vidmatte.matte(photo, tmp_path / "out.mp4", background="white", **tiny)
    assert (result.written.format, result.written.pixel_format) == ("h264", "yuv420p")
    with_comp = vidmatte.matte(
        photo, out := tmp_path / "cut.png", comp=tmp_path / "c.jpg", background="white", **tiny
    )
    assert with_comp.written.extra_outputs[0].format == "jpeg"
    assert read_rgb(out).shape[2] == 4, "--background is that of --comp"
    with pytest.raises(UsageError, match="no composite in that format"):
        vidmatte.matte(photo, tmp_path / "o.exr", format="exr", background="white", **tiny)


@pytest.mark.parametrize("name", ["out.jpg", "out.webp", "out.avif", "out.webm", "out.mp4"])
def test_quality_changes_size_and_error(name: str, tmp_path: Path, tiny: dict[str, str]) -> None:
    noisy = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    cv2.imwrite(str(photo := tmp_path / "photo.png"), cv2.GaussianBlur(noisy, (0, 0), 1) // 2 + 120)
    behind = {"background": "white"} if name in ("out.jpg", "out.mp4") else {}
    sizes = [
        vidmatte.matte(
            photo, tmp_path / name, quality=quality, overwrite=True, **behind, **tiny
        ).written.bytes
        for quality in (20, 60, 95)
    ]
    assert sizes[0] * 1.2 < sizes[1] < sizes[2] / 1.2, sizes


def test_avif_keeps_alpha(tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    for name in ("a.png", "a.avif"):
        vidmatte.matte(photo, tmp_path / name, **tiny)
    png, avif = read_rgb(tmp_path / "a.png"), read_rgb(tmp_path / "a.avif")
    assert np.abs(png[..., 3].astype(int) - avif[..., 3]).mean() < 1


def test_an_opencv_without_avif_is_reported_before_the_run(
    tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "haveImageWriter", lambda _: False)
    with pytest.raises(UsageError, match="built without AVIF"):
        vidmatte.matte(draw_photo(tmp_path / "p.png"), tmp_path / "o.avif", **tiny)


def test_jpeg_carries_the_sources_profile(tmp_path: Path, tiny: dict[str, str]) -> None:
    profile = bytearray(70_000)  # two segments
    profile[:4], profile[16:20], profile[36:40] = len(profile).to_bytes(4), b"RGB ", b"acsp"
    photo = draw_photo(tmp_path / "photo.png")
    data = photo.read_bytes()
    at = data.index(b"IDAT") - 4
    photo.write_bytes(png_with_profile(data[:at], bytes(profile)) + data[at:])
    vidmatte.matte(photo, out := tmp_path / "out.jpg", background="white", **tiny)
    assert profile_of(out) == bytes(profile)
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).format.name == "yuvj444p"


def test_a_folder_of_jpegs(tmp_path: Path, tiny: dict[str, str]) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png")
    words = ["--fps", "25", "--format", "jpg", "--background", "grey", "-q", *words_of(tiny)]
    assert main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), *words]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "1.jpg"]


def draw_bust(path: Path, *, at: int = 470, hair: int = 0) -> np.ndarray:
    """A person from the front, 900x1100: crown at row 240, chin at 600; its alpha, float32.

    at: the column of its middle. hair: its width beyond the head on both sides.
    """
    y, x = np.mgrid[0:1100, 0:900].astype(np.float32)
    head = (1 - np.hypot((x - at) / 130, (y - 420) / 180)) * 130 + 0.5
    neck = np.where((y > 420) & (y < 800), 88 - np.abs(x - at) + 0.5, -1)
    shoulders = (1 - np.hypot((x - at) / 330, (y - 1000) / 300)) * 300 + 0.5
    parts = [head, neck, shoulders]
    if hair:
        parts.append((1 - np.hypot((x - at) / (130 + hair), (y - 360) / 121)) * 100 + 0.5)
    alpha = np.clip(np.max(parts, axis=0), 0, 1)
    rgb = alpha[..., None] * np.array(BRIGHT) + (1 - alpha[..., None]) * np.array(DARK)
    cv2.imwrite(str(path), np.rint(rgb).astype(np.uint8)[..., ::-1])
    return alpha


def rows_of_head(alpha: np.ndarray) -> tuple[int, float]:
    """The row of the crown, and the column of the middle of the rows below it."""
    rows = np.flatnonzero((alpha > 127).any(axis=1))
    columns = np.flatnonzero(alpha[rows[0] + 60] > 127)
    return int(rows[0]), float(columns.mean())


def test_an_id_photo(tmp_path: Path, tiny: dict[str, str]) -> None:
    """35x45 mm at 300 dpi; the head is 75 % of the height, its middle that of the frame."""
    draw_bust(photo := tmp_path / "photo.png", at=400)
    for name in ("id.png", "id.jpg", "id.tif"):
        result = vidmatte.matte(
            photo, tmp_path / name, size="35x45mm@300", threshold="0.4,0.6", **tiny
        )
        assert (result.written.width, result.written.height) == (413, 531)
        assert not [note for note in result.warnings if "white" not in note and "enl" not in note]
    crown, middle = rows_of_head(read_rgb(tmp_path / "id.png")[..., 3])
    assert abs(crown - 0.09 * 531) < 3
    assert abs(middle - 413 / 2) < 2
    chin = crown + 360 * 531 * 0.75 / (600 - 240)  # if the head was found exactly
    assert 0.70 <= (chin - crown) / 531 <= 0.80
    png = (tmp_path / "id.png").read_bytes()
    at = png.index(b"pHYs") + 4
    assert png[at : at + 9] == (11811).to_bytes(4) * 2 + b"\1", "300 per inch, in metres"
    assert (tmp_path / "id.jpg").read_bytes()[13:18] == b"\1" + (300).to_bytes(2) * 2
    facts = json.loads((tmp_path / "id.jpg.json").read_text())
    assert (facts["settings"]["size"], facts["rate"]) == ("35x45mm@300", None)


@pytest.mark.parametrize("hair", [0, 20, 40])
def test_the_heads_height_is_within_the_rules(hair: int, tmp_path: Path) -> None:
    alpha = draw_bust(tmp_path / "photo.png", hair=hair)
    head = _find_head(alpha)
    assert head is not None
    assert abs(head.crown - 240) <= 2
    assert abs(head.middle - 470) <= 2
    share = 0.75 * (600 - 240) / (head.chin - head.crown)
    assert 0.70 <= share <= 0.80, share


def test_no_head_is_seen_in_other_things() -> None:
    y, x = np.mgrid[0:300, 0:400]
    box = ((np.abs(x - 200) < 100) & (np.abs(y - 150) < 80)).astype(np.float32)
    disc = (np.hypot(x - 200, y - 150) < 90).astype(np.float32)
    bottle = (np.abs(x - 200) < np.where(y < 100, 20, 70)).astype(np.float32) * (y > 20)
    for alpha in (box, disc, bottle.astype(np.float32), np.zeros((300, 400), np.float32)):
        assert _find_head(alpha) is None


def test_a_size_without_a_head_shows_the_whole_subject(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.png", at=(0.4, 0.5))
    result = vidmatte.matte(photo, out := tmp_path / "out.png", size="300x100", **tiny)
    assert any("no head was found" in note for note in result.warnings)
    alpha = read_rgb(out)[..., 3]
    assert alpha.shape == (100, 300)
    x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
    assert abs(x + width / 2 - 150) <= 2
    assert abs(y + height / 2 - 50) <= 2
    assert 85 <= height <= 92, "a margin of 5 % on both sides"
    assert abs(width - height) <= 2, "its shape is kept"


@pytest.mark.parametrize(("crop", "margin"), [("subject", 0), ("subject:7", 7), ("subject:10%", 8)])
def test_a_crop_to_the_subject(
    crop: str, margin: int, tmp_path: Path, tiny: dict[str, str]
) -> None:
    photo = draw_photo(tmp_path / "photo.jpg")  # 4:2:0
    cut = vidmatte.matte(photo, tmp_path / "cut.png", **tiny)
    result = vidmatte.matte(photo, out := tmp_path / "out.png", crop=crop, **tiny)
    x, y, width, height = cv2.boundingRect(
        (read_rgb(cut.written.path)[..., 3] > 8).astype(np.uint8)
    )
    margin = round(0.1 * max(width, height)) if "%" in crop else margin
    found = read_rgb(out)
    assert abs(found.shape[1] - (width + 2 * margin)) <= 2
    inner = found[margin : margin + height, margin : margin + width].astype(int)
    expected = read_rgb(cut.written.path)[y : y + height, x : x + width].astype(int)
    solid = expected[..., 3] == 255
    assert np.abs(inner[..., 3] - expected[..., 3]).max() <= 1, "nothing was scaled"
    assert np.abs(inner[solid] - expected[solid]).mean() < 1.5
    assert not result.warnings


def test_what_a_photo_cuts_off_is_reported(tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png", at=(0.5, 0.9))
    result = vidmatte.matte(
        photo, out := tmp_path / "out.png", crop="subject:20", size="80x80", **tiny
    )
    assert any("cuts the subject off at its bottom" in note for note in result.warnings)
    assert (read_rgb(out)[-8:, :, 3] == 0).all(), "nothing is invented beyond the photo"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"size": "35x45mm"}, "35x45mm@300"),
        ({"size": "1x1"}, "2 to 65535"),
        ({"crop": "head"}, "subject:5%"),
        ({"crop": "subject:900%"}, "at most 500"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, str], part: str, tmp_path: Path) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    with pytest.raises(UsageError, match=part):
        vidmatte.matte(photo, tmp_path / "out.png", **options)


def test_size_and_crop_are_for_single_pictures(tmp_path: Path, tiny: dict[str, str]) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png")
    with pytest.raises(UsageError, match="not a single picture"):
        vidmatte.matte(tmp_path / "in", tmp_path / "out", fps="25", crop="subject", **tiny)
    dark = tmp_path / "dark.png"
    cv2.imwrite(str(dark), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(OutputError, match="no subject was found"):
        vidmatte.matte(dark, tmp_path / "out.png", crop="subject", **tiny)
    assert not list(tmp_path.glob("*out.png*")), "nothing is left"


def test_a_still_has_no_rate(
    tmp_path: Path, tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    assert main([str(photo), "-o", str(tmp_path / "a.exr"), *words_of(tiny)]) == 0
    assert main(["info", str(photo)]) == 0
    found = capsys.readouterr()
    assert "fps" not in found.err + found.out
    assert "frames/s" not in found.err
    assert main([str(photo), "-o", str(tmp_path / "b.png"), "--json", *words_of(tiny)]) == 0
    done = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(event for event in done if event["event"] == "done")["rate"] is None
    assert b"framesPerSecond" not in (tmp_path / "a.exr").read_bytes()


@pytest.mark.parametrize("behind", [(255, 255, 255), (0, 71, 187)])
@pytest.mark.parametrize("size", [None, "120x96"])
def test_no_rim_over_another_background(
    behind: tuple[int, int, int], size: str | None, tmp_path: Path
) -> None:
    """In the edge band, against the true composite: at most a quarter of the error of a cut-out
    whose colours are the source's times alpha, as rembg's."""
    photo = draw_photo(tmp_path / "photo.png", (320, 256))
    y, x = np.mgrid[0:256, 0:320]
    distance = np.hypot(x - 160, y - 128)
    alpha = np.clip((0.3 * 256 - distance) / 4 + 0.5, 0, 1).astype(np.float32)
    name = f"#{behind[0]:02x}{behind[1]:02x}{behind[2]:02x}"
    options = {} if size is None else {"size": size, "crop": "subject:20"}
    write_clip(
        photo, out := tmp_path / "out.png", lambda *_: alpha, foreground="estimate",
        background=name, **options,
    )  # fmt: skip
    found, share = read_rgb(out).astype(float), alpha[..., None]
    source = read_rgb(photo).astype(float)
    truth = share * np.array(BRIGHT) + (1 - share) * np.array(behind)
    peer = share * (share * source) + (1 - share) * np.array(behind)
    if size is not None:  # the window is the disc's box and 20 pixels, at the size's aspect
        window = choose_window(alpha, parse_size(size), parse_crop("subject:20"))
        assert window is not None
        left, top = round(window.left), round(window.top)
        area = np.s_[top : top + round(window.height), left : left + round(window.width)]
        truth, peer, share = (
            cv2.resize(each[area], (120, 96), interpolation=cv2.INTER_AREA)
            for each in (truth, peer, share[..., 0])
        )
        share = share[..., None]
    band = ((share > 0.02) & (share < 0.98))[..., 0]
    ours, theirs = (np.abs(each - truth)[band].mean() for each in (found, peer))
    assert ours <= theirs / 4, f"{ours:.2f} against {theirs:.2f} of 255"


def mixed_photos(folder: Path, count: int) -> list[Path]:
    """Photos of several sizes, formats and folders."""
    sizes = [(160, 120), (90, 150), (201, 101), (64, 64)]
    suffixes = [".png", ".jpg", ".tif", ".webp", ".bmp"]
    return [
        draw_photo(
            folder / f"day {number % 3}" / f"p{number // 3}{suffixes[number % 5]}",
            sizes[number % 4],
            at=(0.3 + 0.02 * (number % 20), 0.5),
        )
        for number in range(count)
    ]


def test_many_photos_in_one_call(
    tmp_path: Path, tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Subfolders stay, one manifest lists all, a broken photo stops none, and each result is
    that of a call of its own."""
    photos = mixed_photos(tmp_path / "in", 24)
    photos[5].write_bytes(b"broken")
    half = photos[7].read_bytes()
    photos[7].write_bytes(half[: len(half) // 2])
    words = ["-o", str(tmp_path / "out"), "--manifest", "one", *words_of(tiny)]
    assert main([*map(str, photos), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "22 done, 2 failed"
    assert sum("p1.webp" in line or "p2.jpg" in line for line in lines) >= 2
    done = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*"))
    good = [photo for number, photo in enumerate(photos) if number not in (5, 7)]
    expected = [photo.relative_to(tmp_path / "in").with_suffix(".png") for photo in good]
    assert done == sorted(expected), "no manifest of its own, nothing left of the failed ones"
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["source"]["path"] for one in found["results"]] == [
        photo.relative_to(tmp_path).as_posix() for photo in good
    ]
    assert len(found["failures"]) == 2
    assert found["settings"]["manifest"] == "one"
    for number in (0, 4, 13):
        vidmatte.matte(photos[number], alone := tmp_path / "alone.png", overwrite=True, **tiny)
        path = (tmp_path / "out" / photos[number].relative_to(tmp_path / "in")).with_suffix(".png")
        assert path.read_bytes() == alone.read_bytes()
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("matches its manifest") == 22
    changed = tmp_path / "out" / expected[3]
    changed.write_bytes(changed.read_bytes() + b"x")
    assert main(["verify", str(tmp_path / "out.json")]) == 1
    assert changed.name in capsys.readouterr().err


def test_photos_overlap(
    tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network works on one photo, the next one is read: both runs are inside their
    pipelines at once. The network itself gets one at a time."""
    inside, both, at_network = threading.Semaphore(0), [], []
    real_run, real_infer = batch.run, CpuRunner.run

    def run(*arguments: object, **options: object) -> object:
        inside.release()
        both.append(inside._value)
        result = real_run(*arguments, **options)
        inside.acquire()
        return result

    def infer(self: CpuRunner, *arguments: Any) -> Any:
        at_network.append(1)
        assert len(at_network) == 1, "the network is used by two photos at once"
        time.sleep(0.02)
        found = real_infer(self, *arguments)
        at_network.pop()
        return found

    monkeypatch.setattr(batch, "run", run)
    monkeypatch.setattr(CpuRunner, "run", infer)
    photos = mixed_photos(tmp_path / "in", 8)
    words = ["-o", str(tmp_path / "out"), "-q", "--runtime", "onnxruntime", *words_of(tiny)]
    assert main([*map(str, photos), *words]) == 0
    assert max(both) >= 2


def test_a_failing_photo_does_not_cancel_the_networks_run(
    tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pipeline is interrupted, which for a network of its own ends the run in progress."""
    real, cancelled = CpuRunner.run, []
    photos = mixed_photos(tmp_path / "in", 6)

    def infer(self: CpuRunner, *arguments: Any) -> Any:
        time.sleep(0.05)
        return real(self, *arguments)

    monkeypatch.setattr(CpuRunner, "run", infer)
    monkeypatch.setattr(CpuRunner, "cancel", lambda _: cancelled.append(1))
    real_read = images.read_picture
    reads: dict[Path, int] = {}

    def read(file: Path, max_pixels: int) -> av.VideoFrame:
        reads[file] = reads.get(file, 0) + 1
        if file == photos[2] and reads[file] == 2:
            raise SourceError(f"{file}: gone")
        return real_read(file, max_pixels)

    monkeypatch.setattr(images, "read_picture", read)
    words = ["-o", str(tmp_path / "out"), "-q", "--runtime", "onnxruntime", *words_of(tiny)]
    assert main([*map(str, photos), *words]) == 1
    assert not cancelled
    assert max(reads.values()) == 2, "once for the check, once for the run"


def test_which_manifest(tmp_path: Path, tiny: dict[str, str]) -> None:
    photo = draw_photo(tmp_path / "photo.png")
    cases = {"each": True, "one": True, True: True, "none": False, False: False}
    for number, (mode, has_one) in enumerate(cases.items()):
        result = vidmatte.matte(photo, out := tmp_path / f"{number}.png", manifest=mode, **tiny)
        assert Path(f"{out}.json").exists() is has_one, mode
        assert (result.manifest is not None) is has_one
    for words in (["--no-manifest"], ["--manifest", "none"]):
        out = tmp_path / "cli.png"
        assert main([str(photo), "-o", str(out), "-q", "--overwrite", *words, *words_of(tiny)]) == 0
        assert not Path(f"{out}.json").exists()
    with pytest.raises(UsageError, match="each, one, none"):
        vidmatte.matte(photo, tmp_path / "o.png", manifest="some")


def test_one_manifest_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = mixed_photos(tmp_path / "in", 2)
    assert main([*map(str, photos), "--manifest", "one"]) != 0
    assert "add -o" in capsys.readouterr().err
    (tmp_path / "out.json").write_text("mine")
    assert main([*map(str, photos), "-o", str(tmp_path / "out"), "--manifest", "one"]) != 0
    assert "is not a manifest" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupt_ends_the_call_cleanly(
    tmp_path: Path,
    tiny: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What has begun is finished, the rest is dropped, and nothing unfinished is left."""
    waited: list[object] = []

    def wait(futures: list[Any]) -> None:
        waited.append(futures)
        if len(waited) == 3:
            raise KeyboardInterrupt
        futures[0].exception()

    monkeypatch.setattr(batch, "wait", wait)
    photos = mixed_photos(tmp_path / "in", 30)
    words = ["-o", str(tmp_path / "out"), "-q", "--no-manifest", *words_of(tiny)]
    assert main([*map(str, photos), *words]) == 130
    assert "stopped: 28 of 30 photos are left" in capsys.readouterr().err
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert 2 <= len(left) < 30
    assert all(path.suffix == ".png" and not path.name.startswith(".") for path in left)
    for path in left:
        assert read_rgb(path).shape[2] == 4

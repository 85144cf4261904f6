"""``vidmatte bench --compare``: nothing is timed before it is checked, and all take turns."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import make_movie
from tiny_onnx import RecurrentReference, make_recurrent, make_salient, salient_alpha

from vidmatte.cli.bench_compare import _drawn, _lines
from vidmatte.cli.main import main
from vidmatte.errors import VidmatteError
from vidmatte.settings import Settings
from vidmatte.tools import bench_contenders, plain_loop
from vidmatte.tools.bench_clip import make_clip
from vidmatte.tools.bench_compare import Compared, Contender, _alphas, _Time, compare_programs
from vidmatte.tools.bench_contenders import _words_of
from vidmatte.tools.bench_plot import Bar, bars_svg

#: A program in rembg's place: writes grey PNGs of one alpha, notes what it was asked.
STAND_IN = """
import pathlib, shutil, sys
log, picture, count, out = map(pathlib.Path, sys.argv[1:])
log.open("a").write(f"{picture.stem} {count}\\n")
out.mkdir()
for number in range(int(str(count))):
    shutil.copy(picture, out / f"{number:06d}.png")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return script


def contender(
    script: Path, name: str, alpha: int, *, size: int = 8, lost: int = 0, tolerance: float = 3.0
) -> Contender:
    """A stand-in that gives frames of this alpha, ``lost`` fewer than it should."""
    picture = script.with_name(f"{name}.png")
    cv2.imwrite(str(picture), np.full((size, size, 4), alpha, np.uint8))
    log = script.with_name("log")

    def command(count: int, out: Path) -> list[str]:
        words = [str(log), str(picture), str(count - lost), str(out)]
        return [sys.executable, "-S", "-E", str(script), *words]

    return Contender(name, command, tolerance)


def asked(script: Path) -> list[str]:
    return script.with_name("log").read_text().splitlines()


def test_all_are_checked_before_they_take_turns(stand_in: Path, tmp_path: Path) -> None:
    contenders = [contender(stand_in, "one", 100), contender(stand_in, "two", 102)]
    steps: list[str] = []
    found = compare_programs(contenders, 5, 2, tmp_path, "", steps.append)
    turn = ["one 2", "one 5", "two 2", "two 5"]
    assert asked(stand_in) == ["one 2", "two 2", *turn, *turn]
    assert steps[:2] == ["checking one", "checking two"]
    assert [(one.name, len(one.times)) for one in found] == [("one", 2), ("two", 2)]
    assert [one.difference for one in found] == pytest.approx([0, 2])
    assert [one.coverage for one in found] == pytest.approx([100 / 255, 102 / 255])
    assert not list(tmp_path.glob("*ed")), "results were left behind"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"alpha": 104}, "two: its alpha differs from that of one by 4.00 of 255, allowed is 3"),
        ({"alpha": 100, "lost": 1}, "two: 1 frames instead of 2"),
        ({"alpha": 100, "size": 10}, "two: frames of another size than those of one"),
        ({"alpha": 2}, "two: its mean alpha is 0.008, not 0.02 to 0.9: it found no subject"),
    ],
    ids=["other alpha", "lost frame", "other size", "no subject"],
)
def test_nothing_is_timed_where_results_differ(
    second: dict[str, int], message: str, stand_in: Path, tmp_path: Path
) -> None:
    contenders = [contender(stand_in, "one", 100), contender(stand_in, "two", **second)]
    with pytest.raises(VidmatteError, match=message):
        compare_programs(contenders, 5, 1, tmp_path, "", lambda _: None)
    assert len(asked(stand_in)) == 2


def test_a_program_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    code = "import sys; print('early'); sys.exit('no such model')"
    failing = Contender("rembg p", lambda count, out: [sys.executable, "-S", "-c", code])
    with pytest.raises(VidmatteError, match=r"^rembg p failed: no such model: nothing is compared"):
        compare_programs([failing], 5, 1, tmp_path, "", lambda _: None)


def test_the_time_of_few_frames_is_subtracted_and_ratios_are_by_round() -> None:
    assert _Time(5.0, 8.0).less(_Time(3.0, 2.0), 4) == _Time(0.5, 1.5)
    times = [_Time(0.1, 0.2), _Time(0.2, 0.4), _Time(0.4, 0.8)]
    ours = Compared("vidmatte", False, 0, 0.3, tuple(times))
    other = Compared("loop", True, 0, 0.3, tuple(_Time(2 * t.clock, 3 * t.cores) for t in times))
    assert (ours.ms, ours.core_ms) == pytest.approx((200, 400))
    assert ours.times_as_long(other) == pytest.approx((2, 3))
    noisy = Compared("loop", True, 0, 0.3, (_Time(-0.1, 0.2),) * 3)
    assert ours.times_as_long(noisy) == (None, pytest.approx(0.5))


def test_the_plain_loop_gives_the_networks_own_alpha(tmp_path: Path) -> None:
    weights, clip = make_salient(tmp_path / "tiny.onnx", 64), tmp_path / "clip.mp4"
    make_clip(clip, 64, 64, 5)
    out = tmp_path / "out"
    words = [str(weights), str(clip), str(out), "--family", "isnet", "--first", "1"]
    plain_loop.main([*words, "--frames", "3"])
    pictures = sorted(out.iterdir())
    assert [picture.name for picture in pictures] == ["000000.png", "000001.png", "000002.png"]
    for picture in pictures:
        bgra = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
        expected = salient_alpha(bgra[..., 2::-1].astype(np.float32) / 255)
        assert np.abs(bgra[..., 3] - 255 * expected).max() <= 1
    again = tmp_path / "again.mov"  # from the folder of pictures to a movie
    plain_loop.main([str(weights), str(out), str(again), "--family", "isnet"])
    assert len(_alphas(again)) == 3
    for one, other in zip(_alphas(out), _alphas(again), strict=True):
        assert np.abs(one - other).mean() < 3


def test_the_plain_loop_carries_a_recurrent_networks_state(tmp_path: Path) -> None:
    weights, clip = make_recurrent(tmp_path / "tiny.onnx"), make_movie(tmp_path / "clip.mp4").path
    for out in (tmp_path / "out", tmp_path / "out.mov"):
        words = [str(weights), str(clip), str(out), "--family", "rvm", "--downsample", "1"]
        plain_loop.main([*words, "--frames", "4"])
    reference = RecurrentReference()
    for picture, alpha in zip(
        sorted((tmp_path / "out").iterdir()), _alphas(tmp_path / "out.mov"), strict=True
    ):
        bgra = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
        expected = 255 * reference.step(1 - bgra[..., 2::-1].astype(np.float32) / 255)
        assert np.abs(bgra[..., 3] - expected).mean() < 1
        assert np.abs(alpha - expected).mean() < 1


def test_options_reach_the_process() -> None:
    settings = Settings(audio=False, overwrite=True, smooth="off", threads=2, out_point="f9")
    words = _words_of(settings)
    assert sorted(words) == ["--no-audio", "--out=f9", "--overwrite", "--smooth=off", "--threads=2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--plot a.svg", "--plot a.svg: it has an effect with --compare only"),
        ("--rembg a", "--rembg a: it has an effect with --compare only"),
        ("--compare --rembg ./none", "--rembg none: there is no such command: python -m venv"),
        ("--compare --plot a.png", "--plot a.png: it is an SVG: write a name that ends in .svg"),
        ("--compare --plot none/a.svg", "--plot none/a.svg: there is no folder"),
        ("--compare --plot there.svg", "--plot there.svg: it exists: remove it, or write another"),
        ("--compare --format webm", "--format webm: --compare writes png or prores"),
        ("--compare --model chroma", "--model chroma: --compare is for one network"),
    ],
)
def test_options_without_effect_are_refused(
    words: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.svg").write_text("kept")
    assert main(["bench", *words.split(), "--size", "64x64", "--frames", "8"]) != 0
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1 and not captured.out
    assert Path("there.svg").read_text() == "kept"


FACTS = {
    "vidmatte": "0.1", "model": "a<b", "job": "PNG to PNG", "width": 64, "height": 36,
    "frames": 8, "device": "cpu", "cpu": "A & B", "cores": 2, "rounds": 1, "notes": [],
    "programs": {
        "plain loop": {"core_ms": 300.0, "ms": 160.0, "alpha_difference": 0, "coverage": 0.3},
        "vidmatte": {
            "core_ms": 150.0, "ms": 80.0, "alpha_difference": 1.25, "coverage": 0.3,
            "stages": {"read": 20.0, "network": 100.0, "write": 10.0},
            "peers_take": {"plain loop": {"times": 2.0, "times_core": 2.05}},
        },
    },
}  # fmt: skip


def test_the_table_shows_each_program_its_ratio_and_the_stages() -> None:
    text = "\n".join(_lines(FACTS))
    assert "a<b, 64x36, PNG to PNG\nA & B, 2 cores; 8 frames, 1 round\n" in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["vidmatte"] == ["vidmatte", "150.0", "80.0", "1.25", "2.05", "x"]
    assert rows["plain loop"] == ["plain", "loop", "300.0", "160.0", "0.00"]
    assert "vidmatte, core ms a frame by stage: read 20, network 100, write 10" in text


def test_the_plot_is_an_svg_with_a_bar_for_each_stage() -> None:
    document = _drawn(FACTS)
    root = ElementTree.fromstring(document)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert not [one for one in root.iter() if one.tag in (f"{space}script", f"{space}image")]
    assert "prefers-color-scheme:dark" in document
    bars = {
        label.text: float(one.get("width", "0"))
        for one in root.iter(f"{space}rect")
        if (label := one.find(f"{space}title")) is not None
    }
    scale = bars["plain loop: 300.0 core ms a frame"] / 300
    for name, alone in (("read", 20), ("network", 100), ("write", 10)):
        value = alone * 150 / 130  # of the complete run
        assert bars[f"{name}: {value:.1f} core ms a frame"] == pytest.approx(
            value * scale, abs=0.02
        )
    shown = " ".join(text.text or "" for text in root.iter(f"{space}text"))
    for word in ("a<b, 64x36", "A & B, 2 cores", "core milliseconds a frame", "300", "150"):
        assert word in shown
    width = float(root.get("width", "0"))
    edges = [float(one.get("x", "0")) + float(one.get("width", "0")) for one in root.iter()
             if one.tag == f"{space}rect"]  # fmt: skip
    assert max(edges) <= width


@pytest.mark.parametrize("length", [0.3, 1.0, 9.7, 84.0, 1611.0, 12345.0])
def test_the_axis_has_a_few_round_marks_and_reaches_over_the_longest_bar(length: float) -> None:
    root = ElementTree.fromstring(bars_svg("title", [Bar("one", (("", length),))], []))
    marks = [float(text.text or "") for text in root.iter() if text.get("text-anchor") == "middle"
             and (text.text or "x")[0].isdigit()]  # fmt: skip
    assert 5 <= len(marks) <= 11
    assert marks[0] == 0 and marks[-2] < length <= marks[-1]


REMBG = """#!{python} -S
import json, pathlib, sys, os
sys.argv[1:3] == ["p", "-m"] or sys.exit("unknown command")
assert json.loads(sys.argv[5])["model_path"] == os.environ["U2NET_HOME"] + "/tiny.onnx"
assert pathlib.Path(os.environ["U2NET_HOME"], "tiny.onnx").stat().st_size
sys.path[:0] = {path!r}
from vidmatte.tools import plain_loop
plain_loop.main([os.environ["U2NET_HOME"] + "/tiny.onnx", *sys.argv[6:], "--family", "isnet"])
"""


@pytest.mark.slow
def test_the_command_compares_rembg_a_plain_loop_and_vidmatte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rembg, plot = tmp_path / "rembg", tmp_path / "plot.svg"
    rembg.write_text(REMBG.format(python=sys.executable, path=sys.path))
    rembg.chmod(0o755)
    clip = make_movie(tmp_path / "clip.mp4", frames=10).path
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx", 128)), "--family", "isnet"]
    words += ["--rembg", str(rembg), "--plot", str(plot), "--json"]
    assert main(["bench", str(clip), "--compare", *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    names = ["rembg p", "plain loop", "vidmatte, filters off", "vidmatte"]
    assert list(facts["programs"]) == names
    assert facts["job"] == "PNG to PNG" and facts["frames"] == 10
    for name in names[2:]:
        row = facts["programs"][name]
        assert list(row["stages"]) == ["read", "network", "motion", "steady", "write"]
        assert set(row["peers_take"]) == {"rembg p", "plain loop"}
    assert facts["programs"]["plain loop"]["alpha_difference"] == 0
    ElementTree.parse(plot)


@pytest.mark.slow
def test_without_rembg_a_line_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_contenders.shutil, "which", lambda _: None)
    clip = make_movie(tmp_path / "clip.mp4", frames=8).path
    words = ["--model", str(make_salient(tmp_path / "tiny.onnx", 128)), "--family", "isnet"]
    assert main(["bench", str(clip), "--compare", *words]) == 0
    captured = capsys.readouterr()
    assert "vidmatte: rembg is left out: it is not on the PATH: python -m venv" in captured.err
    assert "plain loop" in captured.out and "rembg p" not in captured.out


@pytest.mark.slow
def test_a_range_of_a_movie_is_compared_with_a_recurrent_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=20).path
    words = ["--model", str(make_recurrent(tmp_path / "tiny.onnx")), "--family", "rvm"]
    words += ["--in", "f4", "--frames", "9", "--json"]
    assert main(["bench", str(clip), "--compare", *words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["programs"]) == ["plain loop", "vidmatte"]
    assert (facts["job"], facts["frames"]) == ("movie to ProRes 4444", 9)
    assert facts["notes"] == ["rembg is left out: it writes no movies"]

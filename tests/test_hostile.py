"""Files that were made to do harm, and names that were: nothing is read or written that the user
did not name, and nothing takes more memory than its content."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import make_movie, make_pictures
from test_source import animated_png
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.guidance.key_masks import _decoded
from vidmatte.errors import SourceError, UsageError
from vidmatte.readers.images import read_picture
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.render.background import open_background

#: Texts that FFmpeg obeys or takes for a movie, and names that they may bear.
LISTS = {
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{name}\n": ("a.m3u8", "a.mp4", "a.png"),
    "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n": ("b.m3u8", "b.mov"),
    "ffconcat version 1.0\nfile clip.mp4\n": ("c.ffconcat", "c.mp4", "c.png"),
    "hello, this is no movie\n" * 40: ("notes.txt", "notes.nfo", "notes.ans"),
    "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>": ("d.mpd",),
    "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n": ("e.sdp",),
}


@pytest.mark.parametrize(
    ("text", "name"), [(text, name) for text, names in LISTS.items() for name in names]
)
def test_a_list_of_other_files_is_never_followed(text: str, name: str, tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=2)
    make_movie(tmp_path / "clip.ts", frames=2)
    (tmp_path / name).write_text(text.format(name=name))
    with pytest.raises(SourceError, match="not a readable") as caught:
        open_reader(tmp_path / name, Settings())
    assert "\n" not in str(caught.value)
    clip = open_reader(tmp_path / "clip.mp4", Settings())
    with clip, pytest.raises(SourceError, match="not a readable"):
        open_background(str(tmp_path / name), clip.clip)


def test_a_mask_opens_no_other_file_either(tmp_path: Path) -> None:
    make_movie(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "mask.png").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(UsageError, match="not a picture"):
        _decoded(tmp_path / "mask.png")


@pytest.mark.parametrize("name", ["shot%03d.png", "shot%03d.jpg", "shot*.png", "{shot}1?.png"])
def test_a_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    other = make_pictures(tmp_path / "in", frames=1)[0]
    other.rename(tmp_path / "shot001.png")
    (tmp_path / name).write_bytes(b"no picture " * 9)
    with pytest.raises(SourceError):
        read_picture(tmp_path / name)
    (tmp_path / "shot001.png").rename(tmp_path / name)  # a PNG, whatever the suffix says
    assert read_picture(tmp_path / name).width


@pytest.mark.parametrize("folder", ["in", "100% done {a}"])
def test_an_animated_png_keeps_its_frames_under_any_name(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    animated_png(tmp_path / folder / "anim%02d.png", 3)
    with open_reader(tmp_path / folder / "anim%02d.png", Settings()) as source:
        assert len(list(source.pictures())) == 3


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, object]:
    """Options of a run with a network of a few bytes."""
    model = make_salient(tmp_path / "tiny.onnx")
    return {"model": str(model), "family": "isnet", "smooth": "off", "runtime": "onnxruntime"}


@pytest.mark.parametrize("kind", ["folder", "link", "link of the log", "link of the pictures"])
def test_resume_touches_no_folder_that_it_did_not_make(
    kind: str, tmp_path: Path, tiny: dict[str, object]
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    victim, work = tmp_path / "victim", tmp_path / ".cut.resume"
    (victim / "pictures-0").mkdir(parents=True)
    precious = [victim / "thesis.txt", victim / "pictures-0" / "me.png", victim / "frames.log"]
    for file in precious:
        file.write_text("precious")
    if kind == "folder":
        victim = victim.rename(work)
        precious = [work / file.relative_to(tmp_path / "victim") for file in precious]
    elif kind == "link":
        work.symlink_to(victim)
    else:
        work.mkdir()
        (work / "job.json").write_text("{}")
        name = "frames.log" if "log" in kind else "pictures-0"
        (work / name).symlink_to(victim / name)
    with pytest.raises(UsageError, match=r"is a link|not the work of an earlier run") as caught:
        vidmatte.matte(clip, tmp_path / "cut", format="png", resume=True, **tiny)
    assert "\n" not in str(caught.value)
    assert all(file.read_text() == "precious" for file in precious)


def test_a_file_of_others_outlives_the_work_that_it_lies_in(
    tmp_path: Path, tiny: dict[str, object]
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=3).path
    work = tmp_path / ".cut.mov.resume"

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vidmatte.matte(clip, tmp_path / "cut.mov", resume=True, progress=stop, **tiny)
    (work / "thesis.txt").write_text("precious")
    vidmatte.matte(clip, tmp_path / "cut.mov", resume=True, **tiny)
    assert [file.name for file in work.iterdir()] == ["thesis.txt"]


def test_a_manifest_is_not_written_through_a_link(tmp_path: Path, tiny: dict[str, object]) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".cut.mov.json.partial").symlink_to(tmp_path / "precious")
    vidmatte.matte(make_movie(tmp_path / "clip.mp4", frames=1).path, tmp_path / "cut.mov", **tiny)
    assert (tmp_path / "precious").read_text() == "precious"

"""Files that were made to do harm, and names that were: nothing is read or written that the user
did not name, and nothing takes more memory than its content."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import make_movie, make_pictures
from test_readers import animated_png
from tiny_onnx import make_salient

import vidmatte
from vidmatte.alpha.guidance.key_masks import _decoded
from vidmatte.cli.main import main
from vidmatte.errors import SourceError, UsageError
from vidmatte.jobs.report import Progress
from vidmatte.media.limits import without_bombs
from vidmatte.readers.images import read_picture
from vidmatte.readers.movie.reader import MovieReader
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


#: demux is that function's file; the others decode what vidmatte has written itself.
_OPENERS = ("demux.py", "still_encoders.py", "kept_alpha.py", "plain_loop.py", "bench_compare.py")


def test_one_function_opens_media_for_reading() -> None:
    package = Path(vidmatte.__file__).parent
    opening = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if any(word in line for word in ("av.open(", "imdecode(", "imread("))
        and '"w"' not in line
        and file.name not in _OPENERS
    ]
    assert not opening


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
    clip = make_movie(tmp_path / "clip.mp4", frames=30).path
    work = tmp_path / ".cut.mov.resume"

    def stop(progress: Progress) -> None:
        if progress.done >= 20:  # some are stored by then, however slow the encoders are
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


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *extra: bytes, samples: bytes = b"") -> bytes:
    """A grey PNG with chunks before its samples; black unless ``samples`` are given."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(samples))]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IEND", b"")])


def stating(size: tuple[int, int]) -> dict[str, bytes]:
    """Small pictures that state a size in their headers, by name."""
    width, height = size
    files = {}
    for name, codec, form in (
        ("a.jpg", "mjpeg", "yuvj444p"), ("a.bmp", "bmp", "bgr24"), ("a.tif", "tiff", "rgb24"),
        ("a.exr", "exr", "gbrpf32le"), ("a.dpx", "dpx", "rgb24"), ("a.tga", "targa", "bgr24"),
    ):  # fmt: skip
        encoder = av.CodecContext.create(codec, "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = 64, 48, form
        encoder.time_base = Fraction(1)
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8)).reformat(format=form)
        files[name] = bytearray(b"".join(map(bytes, encoder.encode(picture))))
    jpeg, tiff, exr = files["a.jpg"], files["a.tif"], files["a.exr"]
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)
    struct.pack_into("<ii", files["a.bmp"], 18, width, height)
    (at,) = struct.unpack_from("<I", tiff, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", tiff, at)[0], 12):
        (tag,) = struct.unpack_from("<H", tiff, entry)
        if tag in (256, 257):
            struct.pack_into("<HHII", tiff, entry, tag, 4, 1, width if tag == 256 else height)
    for window in (b"dataWindow\0box2i\0", b"displayWindow\0box2i\0"):
        at = exr.index(window) + len(window) + 4
        struct.pack_into("<4i", exr, at, 0, 0, width - 1, height - 1)
    struct.pack_into(">II", files["a.dpx"], 772, width, height)
    struct.pack_into("<HH", files["a.tga"], 12, width, height)
    for name, quality in (("lossless.webp", 101), ("lossy.webp", 80)):
        _, coded = cv2.imencode(
            ".webp", np.zeros((48, 64, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, quality]
        )
        files[name] = bytearray(coded.tobytes())
    w, h = min(width, 16383), min(height, 16383)
    struct.pack_into("<I", files["lossless.webp"], 21, (w - 1) | (h - 1) << 14)
    struct.pack_into("<HH", files["lossy.webp"], 26, w, h)
    return {"a.png": png_of(width, height)} | {name: bytes(data) for name, data in files.items()}


@pytest.mark.parametrize("size", [(60000, 60000), (16000, 15000)])
def test_a_picture_that_states_too_many_pixels_is_refused_unopened(
    size: tuple[int, int], tmp_path: Path
) -> None:
    for name, data in stating(size).items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError, match=r"\d+x\d+ pixels are more than the 200 million"):
            read_picture(tmp_path / name)


def test_the_limit_of_pixels_is_an_option_for_all_kinds(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=1, size=(160, 120)).path
    mjpeg = make_movie(tmp_path / "clip.avi", frames=1, size=(160, 120), codec="mpeg4").path
    (picture,) = make_pictures(tmp_path / "in", frames=1, size=(160, 120))
    moving = animated_png(tmp_path / "anim.png", 2)  # 32x24
    for path, limit in ((movie, 0.019), (mjpeg, 0.019), (picture, 0.019)):
        with pytest.raises(SourceError, match=r"more than the 0\.019 million"):
            open_reader(path, Settings(max_megapixels=limit))
        with open_reader(path, Settings(max_megapixels=0.02)) as source:
            assert len(list(source.pictures())) == 1
    open_reader(moving, Settings(max_megapixels=0.01)).close()


@pytest.mark.parametrize("width", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_png_of_an_impossible_size_is_one_line(
    width: int, tmp_path: Path, tiny: dict[str, object]
) -> None:
    (tmp_path / "huge.png").write_bytes(png_of(width, width))
    with pytest.raises(SourceError, match=r"huge\.png: [^\n]*$"):
        vidmatte.matte(tmp_path / "huge.png", tmp_path / "cut.png", **tiny)


def test_what_inflates_to_far_more_than_a_picture_is_left_out(tmp_path: Path) -> None:
    zeros = zlib.compress(bytes(1 << 27), 9)
    bombs = chunk(b"iCCP", b"a\0\0" + zeros), chunk(b"zTXt", b"a\0\0" + zeros)
    samples = b"".join(b"\0" + bytes(range(64)) for _ in range(48))
    (tmp_path / "bomb.png").write_bytes(png_of(64, 48, *bombs, samples=samples))
    (tmp_path / "bomb.jpg").write_bytes(png_of(64, 48, *bombs, samples=samples))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("bomb.png", "bomb.jpg"):
        assert (read_picture(tmp_path / name).to_ndarray() == np.arange(64)).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    (tmp_path / "bomb.data").write_bytes(png_of(64, 48, *bombs, samples=samples))
    with pytest.raises(SourceError, match="save it again without them"):
        open_reader(tmp_path / "bomb.data", Settings())


def test_frames_that_inflate_to_far_more_are_refused_in_movies_too(tmp_path: Path) -> None:
    zeros = zlib.compress(bytes(1 << 27), 9)
    for extra in (b"", chunk(b"iCCP", b"a\0\0" + zeros)):
        frame = png_of(64, 48, extra, samples=bytes(65 * 48))
        with av.open(str(tmp_path / "clip.mov"), "w") as movie:
            stream = movie.add_stream("png", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
            packet = av.Packet(frame)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
            packet.time_base, packet.duration = Fraction(1, 25), 1
            movie.mux(packet)
        if not extra:
            with open_reader(tmp_path / "clip.mov", Settings()) as source:
                assert len(list(source.pictures())) == 1
    with pytest.raises(SourceError, match="save it again without them"):
        open_reader(tmp_path / "clip.mov", Settings())


def test_a_large_profile_that_is_one_stays(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(1 << 17)
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(noise))
    picture = png_of(64, 48, profile, samples=bytes(65 * 48))
    assert without_bombs(picture) == picture


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("left", ["few", "most"])
def test_a_movie_that_lost_its_end_is_told_of(suffix: str, left: str, tmp_path: Path) -> None:
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(suffix, "libx264")
    movie = make_movie(tmp_path / f"clip{suffix}", frames=50, codec=codec)
    with open_reader(movie.path, Settings(strict=True)) as source:
        assert source.warnings == []
    with av.open(str(movie.path)) as container:
        packets = [packet.pos for packet in container.demux(video=0) if packet.size]
    data, short = movie.path.read_bytes(), tmp_path / f"short{suffix}"
    short.write_bytes(data[: packets[1] if left == "few" else packets[-1] + 8])
    with pytest.raises(SourceError, match=r"short.*the file states.*--strict stops here"):
        open_reader(short, Settings(strict=True)).close()
    with open_reader(short, Settings()) as source:
        assert [line for line in source.warnings if "the file states" in line]


DEEP = '{"vidmatte": ' + "[" * 100_000 + "]" * 100_000 + "}"
#: JSON of a wrong type, shape or depth, for wherever a file is read back.
WRONG = (DEEP, "[]", "null", "7", '"text"', '{"vidmatte": 1}', "{", "\0", "{}", '{"schema": 1}')


def wrong_types(value: object) -> Iterator[object]:
    """The value with one part at a time replaced by values of other types, or missing."""
    if isinstance(value, dict):
        for key in value:
            yield {name: one for name, one in value.items() if name != key}
            for other in wrong_types(value[key]):
                yield value | {key: other}
    elif isinstance(value, list) and value:
        for other in wrong_types(value[0]):
            yield [other, *value[1:]]
    yield from (other for other in (None, -1, "../../x", [1], {"a": []}, 1e300))


def spoilt(path: Path, step: int = 1) -> Iterator[str]:
    """Texts to replace a JSON file with; of the wrong types every ``step``-th."""
    yield from WRONG
    for value in islice(wrong_types(json.loads(path.read_text())), 0, None, step):
        yield json.dumps(value)


def assert_no_internal_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr at most for each failure, and never an internal error."""
    status = main(words)
    told = capsys.readouterr()
    assert status in (0, 1, 2), told.err
    assert "internal error" not in told.err
    assert "Traceback" not in told.err


def test_a_spoilt_manifest_is_one_line(
    tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    make_pictures(tmp_path / "in", frames=2)
    vidmatte.matte(tmp_path / "in", tmp_path / "cut", format="png", fps="25", **tiny)
    manifest = tmp_path / "cut.json"
    for text in spoilt(manifest):
        manifest.write_text(text)
        assert_no_internal_error(["verify", str(tmp_path / "cut")], capsys)
        (tmp_path / "in" / "note.json").write_text(text)
        open_reader(tmp_path / "in", Settings(fps="25")).close()


def test_verify_reads_nothing_outside_the_results_folder(
    tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    make_pictures(tmp_path / "in", frames=1)
    vidmatte.matte(tmp_path / "in", tmp_path / "cut", format="png", fps="25", **tiny)
    (tmp_path / "secret").write_text("secret")
    manifest = json.loads((tmp_path / "cut.json").read_text())
    for name in ("../secret", str(tmp_path / "secret"), "a/../../secret"):
        manifest["result"]["files"] = [name]
        (tmp_path / "cut.json").write_text(json.dumps(manifest))
        assert main(["verify", str(tmp_path / "cut")]) == 1
        assert "result.files.0" in capsys.readouterr().err


@pytest.mark.parametrize("note", ["job.json", "finished.json"])
def test_a_spoilt_note_of_resume_is_one_line(
    note: str, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    make_pictures(tmp_path / "in", frames=3, size=(64, 48))
    work, out = tmp_path / ".cut.resume", tmp_path / "cut"
    words = [str(tmp_path / "in"), "-o", str(out), "--format", "png", "--fps", "25", "--resume"]
    words += [word for name, value in tiny.items() for word in (f"--{name}", str(value))]
    kept = tmp_path / "kept"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidmatte.cli.batch.remove_checkpoint", lambda _: shutil.copytree(work, kept))
        assert main(words) == 0
    capsys.readouterr()
    for text in spoilt(kept / note, 11 if note == "job.json" else 7):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(kept, work)
        if note == "job.json":
            (work / "finished.json").unlink()
        (work / note).write_text(text)
        assert_no_internal_error([*words, "--overwrite"], capsys)


def test_a_spoilt_cache_is_computed_again(
    tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_movie(tmp_path / "clip.mp4", frames=2).path
    cache = tmp_path / "cache"
    vidmatte.matte(clip, tmp_path / "one.mov", cache=cache, **tiny)
    (stored,) = cache.iterdir()
    whole = stored.read_bytes()
    codec = whole.index(b"V_FFV1")
    for spoilt_ in (b"", b"x", whole[:300], whole[:codec] + b"V_XX" + whole[codec + 4 :]):
        stored.write_bytes(spoilt_)
        result = vidmatte.matte(clip, tmp_path / "two.mov", cache=cache, overwrite=True, **tiny)
        assert result.written.frames == 2
    assert "no attribute" not in capsys.readouterr().err


@pytest.mark.parametrize("how", ["replaced", "removed", "one picture removed"])
def test_no_manifest_vouches_for_a_source_that_changed(
    how: str, tmp_path: Path, tiny: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    if "picture" in how:
        make_pictures(tmp_path / "clip", frames=12)
        clip, touched = tmp_path / "clip", tmp_path / "clip" / "shot_0001.png"
    else:
        clip = touched = make_movie(tmp_path / "clip.mp4", frames=12).path

    def change(progress: Progress) -> None:
        if progress.done == 10:
            content = touched.read_bytes()
            touched.unlink()
            if how == "replaced":
                touched.write_bytes(content)

    result = vidmatte.matte(clip, tmp_path / "cut.mov", progress=change, **tiny)
    assert [line for line in result.warnings if "it changed during the run" in line]
    manifest = json.loads((tmp_path / "cut.mov.json").read_text())
    assert manifest["source"]["sha256"] is manifest["source"]["bytes"] is None
    assert [line for line in manifest["warnings"] if "it changed during the run" in line]
    assert main(["verify", str(tmp_path / "cut.mov")]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_weights_that_change_cost_no_manifest_and_no_false_checksum(
    how: str, tmp_path: Path, tiny: dict[str, object]
) -> None:
    clip, weights = make_movie(tmp_path / "clip.mp4", frames=12).path, Path(str(tiny["model"]))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()

    def change(progress: Progress) -> None:
        if progress.done == 10:
            weights.unlink()
            if how == "replaced":
                weights.write_bytes(b"other weights")

    result = vidmatte.matte(clip, tmp_path / "cut.mov", progress=change, **tiny)
    assert [line for line in result.warnings if "it changed during the run" in line]
    assert json.loads((tmp_path / "cut.mov.json").read_text())["model"]["sha256"] == digest


def test_a_background_of_which_nothing_decodes_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where every packet of an FFV1 movie fails its checksum."""
    make_movie(tmp_path / "clip.mp4", frames=1)
    with open_reader(tmp_path / "clip.mp4", Settings()) as source:
        monkeypatch.setattr(MovieReader, "pictures", lambda self: iter(()))
        with pytest.raises(SourceError, match="none of its frames decodes"):
            open_background(str(tmp_path / "clip.mp4"), source.clip)

"""``--exr-layers``: a layer and a Cryptomatte id for each subject, read back by other readers."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from guidance_drawn import Drawn
from test_subjects import tiny_options, two_discs, written

import vidmatte
from vidmatte.cli.main import main
from vidmatte.errors import InterruptedRunError, UsageError
from vidmatte.media.exr import exr_time, left_out_of_exr
from vidmatte.media.exr_writer import HALF, ExrWriter
from vidmatte.pixels import planes
from vidmatte.readers.open import open_reader
from vidmatte.settings import Settings
from vidmatte.writers.exr_layers import _id_bits, _LayerJoiner, _ranked
from vidmatte.writers.open import output_specs
from vidmatte.writers.output import OutputSpec

COUNT = 3
SUBJECTS = ("pink:70,90", "azure:250,80")
KEY = "cryptomatte/3ae39a5"  # of CryptoObject


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """A pink and an azure disc, apart from each other."""
    return two_discs(COUNT)


@pytest.fixture(scope="module")
def clip(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    return written(drawn, tmp_path_factory.mktemp("clips") / "discs")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A network that marks what is bright."""
    return tiny_options(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")


@pytest.fixture(scope="module")
def made(clip: Path, tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command line writes for both."""
    out = tmp_path_factory.mktemp("made") / "cut"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    words += [f"--subject={one}" for one in SUBJECTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDMATTE_OFFLINE", "1")
        assert main([str(clip), "-o", f"{out}/", "--format=exr", "--exr-layers", *words]) == 0
    return out


def layer_of(path: Path, layer: str = "") -> np.ndarray:
    """R, G, B, A of a layer, (4, H, W) float32, by FFmpeg's decoder."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.options = {"layer": layer} if layer else {}
        picture = next(container.decode(video=0))
    views = planes.plane_views(picture)
    if picture.format.name == "gbrapf16le":
        views = [view.view(np.float16) for view in views]
    green, blue, red, alpha = views
    return np.stack([red, green, blue, alpha]).astype(np.float32)


def coverage_of(path: Path, name: str, count: int) -> np.ndarray:
    """A name's matte as a compositor extracts it: the coverage of all ranks with its id."""
    wanted = np.array(_id_bits(name), "<u4").view("<f4")
    total: Any = 0
    for pair in range(-(-count // 2)):
        ranks = layer_of(path, f"CryptoObject{pair:02}")
        total = total + np.where(ranks[0] == wanted, ranks[1], 0)
        total = total + np.where(ranks[2] == wanted, ranks[3], 0)
    return np.asarray(total)


@pytest.mark.parametrize(
    ("name", "digits"), [("bunny", "13851a76"), ("default", "42c9679f"), ("hello", "248bfa47")]
)
def test_ids_are_those_of_the_specification(name: str, digits: str) -> None:
    assert f"{_id_bits(name):08x}" == digits


def test_ids_are_floats_that_survive_arithmetic() -> None:
    published = {"hello": 6.0705627e-17, "равнина": -1.3192631e-25, "mädchen": 6.2361298e25}
    found = np.array([_id_bits(name) for name in published], "<u4").view("<f4")
    assert np.array_equal(found, np.array([*published.values()], np.float32))
    many = np.array([_id_bits(f"subject{number}") for number in range(3000)], "<u4").view("<f4")
    assert np.isfinite(many).all()
    assert (np.abs(many) >= np.finfo(np.float32).tiny).all()


def test_every_subject_has_a_layer_and_an_id(made: Path, drawn: Drawn) -> None:
    files = sorted(made.glob("*.exr"))
    assert [file.name for file in files] == [f"{index:04}.exr" for index in range(COUNT)]
    for index, file in enumerate(files):
        pink, azure = layer_of(file, "pink"), layer_of(file, "azure")
        for which, layer in enumerate((pink, azure)):
            wanted = drawn.masks[index][which]
            assert ((layer[3] > 0.5) & wanted).sum() / ((layer[3] > 0.5) | wanted).sum() > 0.85
        matte = coverage_of(file, "pink", 2), coverage_of(file, "azure", 2)
        assert np.abs(matte[0] - pink[3]).max() < 1e-3
        assert np.abs(matte[1] - azure[3]).max() < 1e-3
        assert (matte[0] + matte[1]).max() <= 1 + 1e-6
        assert np.abs(layer_of(file) - pink - azure).max() < 2e-3
    note = left_out_of_exr(files[0], files[0].read_bytes())
    assert note == "its main layer is used, without CryptoObject00, azure, pink"


def test_another_library_reads_names_kinds_and_the_manifest(made: Path) -> None:
    if importlib.util.find_spec("OpenEXR") is None:
        pytest.skip("the package OpenEXR is not installed")
    openexr: Any = importlib.import_module("OpenEXR")
    path = sorted(made.glob("*.exr"))[1]
    with openexr.File(str(path), separate_channels=True) as opened:
        header, channels = dict(opened.header()), opened.channels()
        colours = {f"{layer}{one}" for layer in ("", "pink.", "azure.") for one in "RGBA"}
        ids = {f"CryptoObject00.{one}" for one in "rgba"}
        assert set(channels) == colours | ids
        for name, channel in channels.items():
            assert channel.pixels.dtype == (np.float32 if name in ids else np.float16)
        for layer in ("", "pink.", "azure."):
            theirs = np.stack([channels[f"{layer}{one}"].pixels for one in "RGBA"])
            assert np.array_equal(theirs, layer_of(path, layer.rstrip(".")))
    assert header[f"{KEY}/name"] == "CryptoObject"
    assert header[f"{KEY}/hash"] == "MurmurHash3_32"
    assert header[f"{KEY}/conversion"] == "uint32_to_float32"
    manifest = json.loads(header[f"{KEY}/manifest"])
    assert manifest == {name: f"{_id_bits(name):08x}" for name in ("pink", "azure")}
    assert header["alpha"] == "premultiplied"


def test_the_result_and_its_manifest_are_one(made: Path) -> None:
    facts = json.loads((made.parent / "cut.json").read_text("utf-8"))
    assert facts["settings"]["exr_layers"] is True
    assert facts["settings"]["only"] is None
    assert main(["verify", str(made)]) == 0
    assert sorted(path.name for path in made.parent.iterdir()) == ["cut", "cut.json"]
    assert not [path for path in made.iterdir() if path.suffix != ".exr"]


def part_of(spec: OutputSpec, path: Path, alpha: np.ndarray, colour: float) -> Path:
    """A picture of one subject, as a run writes it."""
    form = "premultiplied" if spec.premultiplied else "straight"
    shown = alpha * colour if spec.premultiplied else np.full_like(alpha, colour)
    writer = ExrWriter(spec.clip, HALF, spec.clip.colour, form)
    path.write_bytes(writer.pack({**dict.fromkeys("RGB", shown), "A": alpha}, 0x01020304))
    return path


@pytest.mark.parametrize("alpha", ["straight", "premultiplied"])
def test_alphas_that_overlap_are_scaled_to_one(alpha: str, clip: Path, tmp_path: Path) -> None:
    settings = Settings(format="exr", alpha=alpha, fps="25")
    with open_reader(clip, settings) as source:
        timed = replace(source.clip, timecode="01:00:00:00")
        spec = next(output_specs(tmp_path / "cut", timed, settings, is_folder=True))
    size = (spec.clip.height, spec.clip.width)
    alphas = np.zeros((3, *size), np.float32)
    alphas[0, :, :200], alphas[1, :, 100:] = 1, 0.5  # columns 100 to 199 belong to both
    alphas[2, :50] = 0.25
    names = ["one", "two", "a-name-of-more-than-thirty-one-bytes"]
    files = [
        part_of(spec, tmp_path / f"{number}.exr", alphas[number], colour)
        for number, colour in enumerate((0.5, 0.25, 1.0))
    ]
    (joined := tmp_path / "joined.exr").write_bytes(_LayerJoiner(spec, names).join(files))
    assert exr_time(joined) == (25.0, 0x01020304)
    expected = alphas / np.maximum(alphas.sum(axis=0), 1)
    layers = np.stack([layer_of(joined, name) for name in names])
    assert np.abs(layers[:, 3] - expected).max() < 1e-3
    weight = layers[:, 3] if spec.premultiplied else 1
    colours = np.array([0.5, 0.25, 1.0])[:, None, None]
    assert np.abs(layers[:, 0] - colours * weight).max() < 1e-3
    whole = layer_of(joined)
    assert np.abs(whole[3] - expected.sum(axis=0)).max() < 1e-3
    if spec.premultiplied:
        assert np.abs(whole[:3] - layers[:, :3].sum(axis=0)).max() < 1e-3
    else:
        blend = (colours * expected).sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-6)
        assert np.abs(whole[0] - blend)[expected.sum(axis=0) > 0].max() < 1e-2
    for number, name in enumerate(names):
        assert np.abs(coverage_of(joined, name, 3) - expected[number]).max() < 1e-6


def test_ranks_are_in_the_order_of_coverage_and_at_most_six() -> None:
    names = [f"subject{number}" for number in range(8)]
    alphas = np.repeat(np.linspace(0, 0.2, 8, dtype=np.float32), 6).reshape(8, 2, 3)
    channels = _ranked(alphas, names)
    layers = [f"CryptoObject{pair:02}" for pair in range(3)]
    assert [*channels] == [f"{layer}.{letter}" for layer in layers for letter in "rgba"]
    coverages = [channels[f"{layer}.{letter}"][0, 0] for layer in layers for letter in "ga"]
    assert coverages == sorted(alphas[2:, 0, 0], reverse=True)
    first = np.array(_id_bits("subject7"), "<u4").view("<f4")
    assert (channels["CryptoObject00.r"] == first).all()
    assert not _ranked(alphas[:1], names[:1])["CryptoObject00.r"].any(), "nothing there has no id"


@pytest.mark.parametrize("phase", ["layer azure", "joining layers"])
def test_a_stopped_run_is_resumed(
    phase: str, clip: Path, tiny: dict[str, Any], made: Path, tmp_path: Path
) -> None:
    matted: list[str] = []

    def stop(progress: vidmatte.Progress) -> None:
        if progress.phase == phase and progress.done:
            raise KeyboardInterrupt

    def note(progress: vidmatte.Progress) -> None:
        if progress.done > progress.before:
            matted.append(progress.phase)

    options: Any = {**tiny, "subject": SUBJECTS, "format": "exr", "exr_layers": True}
    (folder := tmp_path / "results").mkdir()
    out = folder / "cut"
    with pytest.raises(InterruptedRunError, match=r"cut was not written; --resume continues"):
        vidmatte.matte(clip, out, progress=stop, resume=True, **options)
    assert [file.name for file in folder.iterdir()] == [".cut.resume"]
    with pytest.raises(UsageError, match="belongs to a different job"):
        vidmatte.matte(clip, out, resume=True, **{**options, "subject": SUBJECTS[::-1]})
    result = vidmatte.matte(clip, out, progress=note, resume=True, **options)
    assert {"layer pink", "subject"}.isdisjoint(matted), "what was finished is not done again"
    assert ("layer azure" in matted) == (phase == "layer azure")
    assert not result.warnings
    for file in made.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()
    assert not (folder / ".cut.resume").exists()
    again = vidmatte.matte(clip, out, resume=True, **options)
    assert again.resumed_at == COUNT


def test_the_stored_work_of_another_run_is_not_touched(
    clip: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    work = tmp_path / "results" / ".cut.resume"
    work.mkdir(parents=True)
    (work / "job.json").write_text("{}")
    options: Any = {**tiny, "subject": SUBJECTS, "format": "exr", "exr_layers": True}
    with pytest.raises(UsageError, match=r"holds job.json, which is not the work of a run"):
        vidmatte.matte(clip, work.parent / "cut", resume=True, **options)
    assert [file.name for file in work.parent.rglob("*")] == [".cut.resume", "job.json"]


@pytest.mark.parametrize("phase", ["layer azure", "joining layers"])
def test_nothing_is_left_of_a_run_that_is_stopped(
    phase: str, clip: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    def stop(progress: vidmatte.Progress) -> None:
        if progress.phase == phase:
            raise KeyboardInterrupt

    options: Any = {**tiny, "subject": SUBJECTS, "format": "exr", "exr_layers": True}
    (folder := tmp_path / "results").mkdir()
    with pytest.raises(InterruptedRunError, match="cut was not written"):
        vidmatte.matte(clip, folder / "cut", progress=stop, out_point="f2", **options)
    assert not [*folder.iterdir()]


def test_a_pattern_and_a_single_picture_have_layers_too(
    clip: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    options: Any = {**tiny, "subject": SUBJECTS, "exr_layers": True, "manifest": False}
    pattern = tmp_path / "shots" / "cut_%03d.exr"
    result = vidmatte.matte(clip, pattern, start_number=7, out_point="f2", **options)
    assert result.written.files == ("cut_007.exr", "cut_008.exr")
    assert sorted(path.name for path in pattern.parent.iterdir()) == [*result.written.files]
    assert layer_of(pattern.parent / "cut_008.exr", "azure")[3].max() > 0.9
    options.pop("fps")
    still = sorted(clip.iterdir())[0]
    done = vidmatte.matte(still, tmp_path / "still.exr", exr_compression="zips", **options)
    assert done.written.bytes == (tmp_path / "still.exr").stat().st_size
    assert layer_of(tmp_path / "still.exr", "pink")[3].max() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": ()}, "it needs --subject or --subjects, with NAME:"),
        ({"format": "png"}, "png has no layers: write -o FOLDER/ --format exr"),
        ({"only": "pink"}, "--exr-layers and --only pink exclude each other"),
        ({"matte": "matte.mov"}, "--exr-layers and --matte matte.mov exclude each other"),
        ({"exr_compression": "dwaa"}, "it is lossy, and --exr-layers has ids"),
        ({"subject": f"{'n' * 201}:70,90"}, "a layer's name at most 200"),
    ],
)
def test_what_layers_do_not_go_with_is_refused(
    options: dict[str, Any], message: str, clip: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    given = {**tiny, "subject": SUBJECTS, "format": "exr", "exr_layers": True, **options}
    with pytest.raises(UsageError, match=message):
        vidmatte.matte(clip, tmp_path / "cut", **given)
    assert not (tmp_path / "cut").exists()


def test_layers_go_with_neither_a_result_for_each_nor_a_plan(
    clip: Path, tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(clip), "-o", f"{tmp_path / 'cut'}/", "--format=exr", "--exr-layers"]
    words += ["--subject=pink:70,90", *(f"--{n.replace('_', '-')}={v}" for n, v in tiny.items())]
    assert main([*words, "--each"]) == 2
    assert "--each and --exr-layers exclude each other" in capsys.readouterr().err
    assert main(["plan", *words]) == 2
    assert "no plan joins the layers of subjects" in capsys.readouterr().err

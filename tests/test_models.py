"""Models by name or file, ensembles of two, and the cache of raw alphas."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import onnx
import pytest
from filelock import FileLock
from media import make_movie, make_pictures
from test_network import RUNTIMES
from tiny_onnx import make_recurrent, make_salient
from tolerance import ROUNDED_16, assert_close
from weights_support import entry_of, release

import vidmatte
from vidmatte.core.families import FAMILIES
from vidmatte.errors import (
    DeviceError,
    ModelError,
    OutputError,
    SourceError,
    UsageError,
    WeightsError,
)
from vidmatte.models.chosen_weights import Weights
from vidmatte.models.ensemble import COMBINATIONS
from vidmatte.models.registry import RAW_ALPHA_OPTIONS, find_model
from vidmatte.models.runtimes import openvino
from vidmatte.models.runtimes.torch_device import TorchDevice
from vidmatte.readers.open import open_reader
from vidmatte.settings import NO_EFFECT, RAW_ALPHA, RESULT, OptionModel, Settings, names_of
from vidmatte.settings.option import option


def silent(line: str) -> None:
    del line


def alphas(clip: Path, model: str, **options: object) -> list[np.ndarray]:
    with vidmatte.stream(clip, model=model, smooth="off", refine="off", **options) as frames:
        return [frame.alpha for frame in frames]


def test_unknown_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        find_model(Settings(model=str(tmp_path / "gone.onnx"), family="rvm"), silent)
    model = make_salient(tmp_path / "tiny.onnx")
    every = f"--family {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]}$"
    with pytest.raises(UsageError, match=every):
        find_model(Settings(model=str(model)), silent)
    with pytest.raises(UsageError, match=f"choose from {', '.join(FAMILIES)}$"):
        Settings(model=str(model), family="sam")
    with pytest.raises(UsageError, match="two models at most"):
        find_model(Settings(model="a+b+c"), silent)
    for half in ("isnet+", "+rvm"):
        with pytest.raises(UsageError, match=rf"--model '{re.escape(half)}': a name is missing: "):
            find_model(Settings(model=half), silent)
    with pytest.raises(UsageError, match="--normalize minmax is for per-frame models: omit it"):
        find_model(Settings(model="rvm", normalize="minmax"), silent)


def test_inputs_of_half_precision_are_named(tmp_path: Path) -> None:
    model = onnx.load(make_salient(tmp_path / "half.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model.graph.input[0].name = "half"
    to_float = onnx.helper.make_node("Cast", ["half"], ["input"], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, to_float)
    onnx.save(model, str(tmp_path / "half.onnx"))
    settings = Settings(model=str(tmp_path / "half.onnx"), family="isnet", runtime="onnxruntime")
    with pytest.raises(ModelError, match=r"half is tensor\(float16\), not float32"):
        _ = find_model(settings, silent).network


def test_a_plus_in_a_file_name_is_no_second_model(tmp_path: Path) -> None:
    model = make_salient(tmp_path / "a+b.onnx")
    found = find_model(Settings(model=str(model), family="isnet"), silent)
    assert [part.path for part in found.weights] == [model]


def test_weights_of_the_store_are_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on every run; but a changed file is hashed again, and so is a user's own file."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = make_salient(folder / "toy.onnx")
    published = path.read_bytes()
    toy = entry_of(release("http://localhost:1/toy.onnx", published))
    monkeypatch.setattr("vidmatte.models.chosen_weights.lookup", lambda name: toy)
    hashed: list[Path] = []

    def counted(file: Path) -> str:
        hashed.append(file)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    for module in ("models.chosen_weights", "models.weights.record"):
        monkeypatch.setattr(f"vidmatte.{module}.sha256_of", counted)

    def weights(**settings: str) -> Weights:
        return find_model(Settings(models_dir=str(folder), **settings), silent).weights[0]

    expected = hashlib.sha256(published).hexdigest()
    assert weights(model="toy").sha256 == expected
    assert hashed == [path]  # once, when the store found it
    assert weights(model="toy").sha256 == expected
    assert hashed == [path]

    assert weights(model=str(path), family="u2net").sha256 == expected
    assert hashed == [path] * 2

    found = weights(model="toy")
    path.write_bytes(published + b"more")
    assert found.sha256 == hashlib.sha256(published + b"more").hexdigest()
    with pytest.raises(WeightsError, match="could not be fetched"):
        weights(model="toy")


def with_external_data(path: Path) -> Path:
    """The same network with its weights in a second file, NAME.onnx.data."""
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)
    onnx.save(
        onnx.load(str(path)),
        str(path),
        save_as_external_data=True,
        location=data.name,
        size_threshold=0,
    )
    return data


def test_the_hash_covers_external_weights(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    path = make_salient(tmp_path / "tiny.onnx")
    data = with_external_data(path)
    options = {"family": "isnet", "cache": str(tmp_path / "cache")}
    first = alphas(movie.path, str(path), **options)
    weights = Weights("tiny", "isnet", path)
    assert weights.sha256 == Weights("tiny", "isnet", path).sha256

    values = np.fromfile(data, np.float32)
    (-values).tofile(data)
    assert weights.sha256 != Weights("tiny", "isnet", path).sha256
    others = alphas(movie.path, str(path), **options)
    assert not np.array_equal(first, others)
    assert np.array_equal(others, alphas(movie.path, str(path), **options))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_recurrent_network_with_external_weights_runs(runtime: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    path = make_recurrent(tmp_path / "tiny.onnx")
    in_one_file = alphas(movie.path, str(path), family="rvm", runtime=runtime)
    with_external_data(path)
    with_data = alphas(movie.path, str(path), family="rvm", runtime=runtime)
    assert np.array_equal(in_one_file, with_data)


@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_external_weights_that_cannot_be_used_are_named(family: str, tmp_path: Path) -> None:
    make = make_salient if family == "isnet" else make_recurrent
    path = make(tmp_path / "tiny.onnx")
    data = with_external_data(path)
    with data.open("r+b") as file:
        file.truncate(1 << 31)  # sparse: it takes no disk space
    settings = Settings(model=str(path), family=family)
    with pytest.raises(ModelError, match=r"^[^\n]*tiny\.onnx: [^\n]* larger than 2 GiB: [^\n]*$"):
        _ = find_model(settings, silent).network
    data.write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"^[^\n]*tiny\.onnx: its external data cannot be read[^\n]*$"
    ):
        _ = find_model(settings, silent).network
    data.unlink()
    for use in (lambda model: model.network, lambda model: model.weights[0].sha256):
        with pytest.raises(ModelError, match=r"^[^\n]*tiny\.onnx\.data is missing[^\n]*$"):
            use(find_model(settings, silent))


@pytest.mark.parametrize("where", ["../secret", "{folder}/secret", "in/../../secret"])
def test_external_weights_outside_of_the_models_folder_are_not_read(
    where: str, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    path = make_salient(folder / "tiny.onnx")
    data = with_external_data(path)
    data.rename(tmp_path / "secret")
    location = where.format(folder=tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    for use in (lambda model: model.network, lambda model: model.weights[0].sha256):
        with pytest.raises(ModelError, match=r"secret is not a file in its folder: [^\n]*$"):
            use(find_model(Settings(model=str(path), family="isnet"), silent))


@pytest.mark.parametrize("how", ["max", "min", "mean"])
def test_two_models_at_once(how: str, tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=5)
    one = make_salient(tmp_path / "one.onnx", 32)
    other = make_salient(tmp_path / "other.onnx", 64)
    both = alphas(movie.path, f"{one}+{other}", family="isnet", combine=how)
    first = alphas(movie.path, str(one), family="isnet")
    second = alphas(movie.path, str(other), family="isnet")
    expected = {"max": np.maximum, "min": np.minimum, "mean": lambda a, b: (a + b) / 2}[how]
    for combined, a, b in zip(both, first, second, strict=True):
        np.testing.assert_allclose(combined, expected(a, b), atol=1e-6)


def test_edges_takes_the_subject_from_the_first_and_its_edge_from_the_second() -> None:
    first, second = np.zeros((200, 200), np.float32), np.zeros((200, 200), np.float32)
    first[50:150, 50:150] = 1
    second[52:148, 52:148] = 1  # the finer outline
    second[90:110, 90:110] = 0  # a hole that only the second has
    second[:20, :20] = 1  # a region that only the second takes for the subject
    combined = COMBINATIONS["edges"](first, second)
    assert combined[100, 100] == 1
    assert combined[10, 10] == 0
    assert combined[100, 50] < 0.05
    assert combined[100, 53] > 0.95


@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_cached_alphas_are_reused_without_the_network(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=7)
    make = make_salient if family == "isnet" else make_recurrent
    model = str(make(tmp_path / "tiny.onnx"))
    options = {"family": family, "cache": str(tmp_path / "cache")}
    plain = alphas(movie.path, model, family=family)
    first = alphas(movie.path, model, **options)
    files = list((tmp_path / "cache").iterdir())
    assert [file.suffix for file in files] == [".mkv"]

    def refuse(*args: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr("vidmatte.models.registry.load_network", refuse)
    again = alphas(movie.path, model, **options)
    for cached, one, raw in zip(again, first, plain, strict=True):
        assert np.array_equal(cached, one)
        assert_close(cached, raw, ROUNDED_16)
    with pytest.raises(AssertionError, match="was loaded"):
        alphas(movie.path, model, in_point="f2", **options)  # another range: not the same frames


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (1, 64), (64, 1), (1, 9000), (9000, 1)])
@pytest.mark.parametrize("family", ["isnet", "rvm"])
def test_alphas_one_pixel_wide_or_high_are_cached_too(
    family: str, size: tuple[int, int], tmp_path: Path
) -> None:
    width, height = size
    ramp = np.linspace(60, 170, width * height).reshape(height, width, 1)
    cv2.imwrite(str(tmp_path / "strip.png"), ramp.repeat(3, axis=2).astype(np.uint8))
    make = make_salient if family == "isnet" else make_recurrent
    model = str(make(tmp_path / "tiny.onnx"))
    options = {"family": family, "cache": str(tmp_path / "cache")}
    (first,) = alphas(tmp_path / "strip.png", model, **options)
    assert first.std() > 0.01
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (again,) = alphas(tmp_path / "strip.png", model, **options)
    assert np.array_equal(first, again)


def test_the_cache_key_of_a_folder_covers_its_images(tmp_path: Path) -> None:
    (first, *_) = make_pictures(tmp_path / "plates", frames=3)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    cache = tmp_path / "cache"

    def count() -> int:
        alphas(tmp_path / "plates", model, family="isnet", cache=str(cache), fps="25")
        return len(list(cache.iterdir()))

    assert count() == 1
    (tmp_path / "plates" / ".DS_Store").touch()
    (tmp_path / "plates" / "cut").mkdir()
    assert count() == 1
    os.utime(first, (1, 1))
    assert count() == 2


def test_damaged_cached_alphas_are_recomputed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=7)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = {"family": "isnet", "cache": str(tmp_path / "cache")}
    first = alphas(movie.path, model, **options)
    (file,) = (tmp_path / "cache").iterdir()
    data = file.read_bytes()
    with av.open(str(file)) as container:
        packet = [bytes(packet) for packet in container.demux() if packet.size][4]
    middle = data.index(packet) + len(packet) // 2
    concealed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]  # by FFmpeg
    for damaged in (data[: len(data) // 2], b"", b"no movie", concealed):
        file.write_bytes(damaged)
        assert np.array_equal(first, alphas(movie.path, model, **options))
        assert file.read_bytes() != damaged
        assert np.array_equal(first, alphas(movie.path, model, **options))
    other = make_movie(tmp_path / "other.mp4", size=(96, 54), frames=7)
    alphas(other.path, model, family="isnet", cache=str(tmp_path / "smaller"))
    (smaller,) = (tmp_path / "smaller").iterdir()
    key, its_sums = file.name.split(".")[0], smaller.name.split(".", 1)[1]
    smaller.rename(tmp_path / "cache" / f"{key}.{its_sums}")
    file.unlink()
    assert np.array_equal(first, alphas(movie.path, model, **options))
    monkeypatch.setattr("vidmatte.models.alpha_cache.is_complete", lambda *_: True)
    file.write_bytes(data.replace(packet, b"\xff" * len(packet)))  # after the run has begun
    with pytest.raises(OutputError, match="run it again"):
        alphas(movie.path, model, **options)
    assert np.array_equal(first, alphas(movie.path, model, **options))
    assert "Traceback" not in capsys.readouterr().err


def test_an_option_decides_the_raw_alpha_unless_its_row_says_otherwise() -> None:
    """A new option invalidates the cache by default: never a matte of other settings."""

    class Table(OptionModel):
        new: int = option(0, "help", group="Matte")
        on_a_machine: int = option(0, "help", group="Machine")
        control: int = option(0, "help", group="Controls", decides=RESULT)
        how: int = option(0, "help", group="Matte", decides=NO_EFFECT)

    assert names_of(Table, decides=RAW_ALPHA) == ("new", "on_a_machine")
    assert names_of(Table, decides=RESULT) == ("control",)
    assert names_of(Table, decides=NO_EFFECT) == ("how",)
    assert set(RAW_ALPHA_OPTIONS) == {
        "normalize", "pace", "downsample", "combine", "cuts", "in_point", "out_point", "handles",
        "conform", "deinterlace", "fps", "runtime", "colour", "screen", "key",
        "keep_shadows", "clean_plate",
        "video_track", "input_size", "input_format", "input_fps",
    }  # fmt: skip


def test_a_frame_that_does_not_decode_stops_a_strict_run_with_cached_alphas_too(
    tmp_path: Path,
) -> None:
    movie = make_movie(
        tmp_path / "clip.mov", frames=6, codec="prores_ks", pixel_format="yuv422p10le"
    )
    with av.open(str(movie.path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][3]
    with movie.path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 64)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = {"family": "isnet", "cache": str(tmp_path / "cache")}
    assert len(alphas(movie.path, model, **options)) == 6
    with pytest.raises(SourceError, match="--strict stops here"):
        alphas(movie.path, model, strict=True, **options)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_depends_on_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=3)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = {"family": "isnet", "cache": str(tmp_path / "cache")}
    alphas(movie.path, model, **options)
    monkeypatch.setattr("vidmatte.models.registry.__version__", "0.0.1")
    alphas(movie.path, model, **options)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_cache_depends_on_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with --runtime auto, whose choice depends on the package and the CPU."""
    movie = make_movie(tmp_path / "clip.mp4", frames=1)
    path = str(make_salient(tmp_path / "tiny.onnx"))

    def key(installed: bool, half: bool, runtime: str = "auto") -> str:
        monkeypatch.setattr(openvino, "is_installed", lambda: installed)
        monkeypatch.setattr(openvino, "has_bfloat16", lambda: half)
        settings = Settings(model=path, family="isnet", cache=str(tmp_path), runtime=runtime)
        with open_reader(movie.path, settings) as source:
            return find_model(settings, silent).cache_key(source.clip)

    alone, half = key(False, False), key(True, True)
    assert alone != half
    assert alone == key(True, False) == key(False, True) == key(True, True, "onnxruntime")
    assert half == key(True, True, "openvino")
    assert key(True, False, "openvino") not in (alone, half)


def test_a_fallback_from_gpu_to_cpu_is_cached_as_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    path, cache = str(make_salient(tmp_path / "tiny.onnx")), tmp_path / "cache"
    with monkeypatch.context() as patched:
        gpu = TorchDevice("cuda:0")  # onnxruntime here has no CUDA in it
        patched.setattr("vidmatte.models.registry.choose_device", lambda wanted: (gpu, None))
        alphas(movie.path, path, family="isnet", cache=str(cache))
    alphas(movie.path, path, family="isnet", cache=str(cache))
    assert len(list(cache.iterdir())) == 1


def test_a_run_that_ends_early_caches_nothing(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=40)
    model = make_salient(tmp_path / "tiny.onnx")
    cache = tmp_path / "cache"
    with vidmatte.stream(movie.path, model=str(model), family="isnet", cache=str(cache)) as frames:
        next(frames)
    assert list(cache.iterdir()) == []


def test_an_unused_cache_creates_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDMATTE_OFFLINE", "1")
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    cache = tmp_path / "deep" / "cache"
    with pytest.raises(ModelError):
        alphas(movie.path, str(broken), family="isnet", cache=str(cache))
    with pytest.raises(WeightsError):
        find_model(Settings(cache=str(cache), models_dir=str(tmp_path / "none")), silent)
    assert not cache.parent.exists()
    alphas(movie.path, str(make_salient(tmp_path / "tiny.onnx")), family="isnet", cache=str(cache))
    assert len(list(cache.iterdir())) == 1


def test_two_runs_at_once_cache_the_same_alphas(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=60)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    options = {"model": model, "family": "isnet", "cache": str(tmp_path / "cache")}
    with (
        vidmatte.stream(movie.path, **options) as one,
        vidmatte.stream(movie.path, **options) as two,
    ):
        for frame, other in zip(one, two, strict=True):
            assert np.array_equal(frame.alpha, other.alpha)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".mkv"]


def test_no_partial_file_stays_in_the_cache(tmp_path: Path) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=30)
    model = str(make_salient(tmp_path / "tiny.onnx"))
    cache = tmp_path / "cache"
    code = (
        "import resource, signal, sys, vidmatte\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "clip, model, kept = sys.argv[1:]\n"
        "for _ in vidmatte.stream(clip, model=model, family='isnet', cache=kept): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(movie.path), model, str(cache)],
        capture_output=True,
        text=True,
    )
    assert f"OutputError: --cache {cache}: File too large; free" in done.stderr
    assert list(cache.iterdir()) == []

    alphas(movie.path, model, family="isnet", cache=str(cache))
    (file,) = cache.iterdir()
    file.unlink()
    stale, running = (cache / f".{'0123456789abcdef' * 2}.{name}.part" for name in ("one", "two"))
    for partial in (stale, running):  # of a killed run, and of one that is still running
        partial.write_bytes(b"part")
        partial.with_name(f"{partial.name}.lock").touch()
    (cache / ".mine.part").touch()
    with FileLock(f"{running}.lock"):
        for _ in range(2):  # computed, then read
            alphas(movie.path, model, family="isnet", cache=str(cache))
            found = {path.name for path in cache.iterdir()}
            assert found == {file.name, running.name, f"{running.name}.lock", ".mine.part"}
            stale.touch()
    alphas(movie.path, model, family="isnet", cache=str(cache))
    assert {path.name for path in cache.iterdir()} == {file.name, ".mine.part"}


def test_a_gpu_whose_libraries_fail_falls_back_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the missing libraries are onnxruntime's: it has no CUDA in it."""
    path = make_salient(tmp_path / "tiny.onnx")
    notes: list[str] = []
    monkeypatch.setattr(
        "vidmatte.models.registry.choose_device", lambda wanted: (TorchDevice("cuda:0"), None)
    )
    model = find_model(Settings(model=str(path), family="isnet"), notes.append)
    assert model.network is model.network
    assert model.device.name == "cpu"
    assert notes[0].startswith("running on the CPU: cuda:0: ")
    named = find_model(Settings(model=str(path), family="isnet", device="cuda"), notes.append)
    with pytest.raises(DeviceError, match="--device cpu"):
        _ = named.network


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that refuses files here")
@pytest.mark.parametrize(
    ("folder", "message"),
    [("/proc/kept/raw", "cannot create the folder"), ("/proc", "name another folder, or omit")],
)
def test_a_cache_that_cannot_be_written_is_reported_at_the_start(
    folder: str, message: str, tmp_path: Path
) -> None:
    movie = make_movie(tmp_path / "clip.mp4", frames=2)
    options = {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}
    settings = Settings(**options, cache=folder)
    with (
        pytest.raises(OutputError, match=rf"^--cache {folder}: .*{message}") as caught,
        open_reader(movie.path, settings) as source,
    ):
        find_model(settings, silent).network_for(source.clip)
    assert "space" not in str(caught.value)

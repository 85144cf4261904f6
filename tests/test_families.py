"""Families of the catalogue on tiny networks of their published input and output shapes, own files
with a TOML file beside them, and licences that must be accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import make_pictures
from test_weights_cli import run
from tiny_onnx import IMAGENET, make_classes, make_recurrent, make_salient, salient_alpha
from weights_support import entry_of, release
from writer_support import disc

import vidmatte
from vidmatte.core.families import FAMILY_TABLE
from vidmatte.core.frame import Frame
from vidmatte.errors import ModelError, UsageError
from vidmatte.models.load import load_network
from vidmatte.models.registry import find_model
from vidmatte.models.runtimes.device import Device
from vidmatte.models.weights import catalogue
from vidmatte.models.weights.record import read_record
from vidmatte.models.weights.store import Store
from vidmatte.settings import Settings

MEAN, STD = IMAGENET
SIZE = (96, 64)
#: The published shapes: side of the input, mean and deviation.
SALIENT: dict[str, tuple[Any, Any, Any]] = {
    "modnet": (("height", "width"), 0.5, 0.5),
    "ben2": (1024, MEAN, STD),
    "bria": (1024, MEAN, STD),
}


def frame_of(rgb: np.ndarray) -> Frame:
    """A frame with these R'G'B' values in 0..1."""
    codes = np.rint(rgb * 255).astype(np.uint8)
    return Frame(0, 0, 1, 1, av.VideoFrame.from_ndarray(codes, "rgb24"), codes, new_shot=True)


def scene() -> np.ndarray:
    """A bright disc on black, (H, W, 3) in 0..1."""
    return np.dstack([disc(0, *SIZE)] * 3).astype(np.float32)


def alpha_of(path: Path, family: str, rgb: np.ndarray, **options: Any) -> np.ndarray:
    settings = Settings(threads=1, smooth="off", runtime="onnxruntime", **options)
    network = load_network(path, family, settings, Device())
    (frame,) = network.predict(iter([frame_of(rgb)]))
    assert frame.alpha is not None
    return frame.alpha


@pytest.mark.parametrize("family", SALIENT)
def test_a_network_of_the_published_shapes(family: str, tmp_path: Path) -> None:
    size, mean, std = SALIENT[family]
    path = make_salient(tmp_path / "tiny.onnx", size, mean=mean, std=std)
    found = alpha_of(path, family, scene())
    assert np.abs(found - salient_alpha(scene())).mean() < 0.004


def test_modnet_keeps_the_aspect_ratio() -> None:
    size = FAMILY_TABLE["modnet"].size
    assert size is not None
    assert size.of(1920, 1080) == (896, 512)
    assert size.of(1080, 1920) == (512, 896)


def test_ben2_runs_frame_by_frame() -> None:
    """Its exported graph divides one picture into patches."""
    assert FAMILY_TABLE["ben2"].default_batch == 1


def test_all_classes_but_the_background_are_clothes(tmp_path: Path) -> None:
    path = make_classes(tmp_path / "cloth.onnx")
    rgb = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    rgb[:, 24:48, 0] = rgb[:, 48:72, 1] = rgb[:, 72:, 2] = 1
    alpha = alpha_of(path, "cloth", rgb)
    assert alpha[:, :20].max() < 0.001
    assert alpha[:, 28:].min() > 0.999


def test_the_output_must_be_of_the_familys_shape(tmp_path: Path) -> None:
    one = make_salient(tmp_path / "one.onnx", 768, mean=MEAN, std=STD)
    with pytest.raises(ModelError, match=r"'output' is \(.*1, 768, 768\), not 4 classes"):
        alpha_of(one, "cloth", scene())
    four = make_classes(tmp_path / "four.onnx", 1024)
    with pytest.raises(ModelError, match=r"'d0' is \(.*4, 1024, 1024\), not one alpha"):
        alpha_of(four, "bria", scene())


def with_toml(folder: Path, text: str, size: Any = 32) -> Path:
    path = make_salient(folder / "my.onnx", size)
    (folder / "my.toml").write_text(text)
    return path


def test_an_own_file_needs_no_option_beside_its_toml(tmp_path: Path) -> None:
    """Its mean and deviation differ from the family's, and its input keeps the aspect ratio."""
    path = with_toml(
        tmp_path,
        'family = "u2net"\nsize = 64\nkeep_aspect = true\nmultiple = 8\nmean = 0.5\n'
        "std = [1, 1.0, 1]\nbatch = 2\n",
        size=("height", "width"),
    )
    (photo,) = make_pictures(tmp_path / "in", size=SIZE, frames=1)
    options = {"model": str(path), "smooth": "off", "refine": "off", "threads": 1}
    with vidmatte.stream(photo, **options) as frames:
        (frame,) = frames
    assert np.abs(frame.alpha - salient_alpha(frame.rgb / 255)).mean() < 0.02
    model = find_model(Settings(**options), print)
    assert model.weights[0].family == "u2net"
    assert model.network.batch == 2
    before = model.weights[0].sha256
    (tmp_path / "my.toml").write_text('family = "isnet"')
    assert find_model(Settings(**options), print).weights[0].sha256 != before


def test_a_toml_chooses_classes(tmp_path: Path) -> None:
    make_classes(tmp_path / "my.onnx", 64)
    (tmp_path / "my.toml").write_text('family = "cloth"\nclasses = [2]\nsize = 64')
    model = find_model(Settings(model=str(tmp_path / "my.onnx"), smooth="off"), print)
    rgb = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    rgb[:, :48, 0] = rgb[:, 48:, 1] = 1
    (frame,) = model.network.predict(iter([frame_of(rgb)]))
    assert frame.alpha is not None
    assert frame.alpha[:, :44].max() < 0.001
    assert frame.alpha[:, 52:].min() > 0.999


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('family = "isnet"\nsise = 3', r"my.toml: unknown key sise: allowed are family, size,"),
        ("size = 320", "my.toml: family: Field required"),
        ('family = "sam"', "my.toml: family: it is one of isnet, u2net,"),
        ('family = "isnet"\nsize = 3', "my.toml: size: Input should be greater than or equal to 8"),
        ('family = "isnet"\nstd = 0', "my.toml: std.0: Input should be greater"),
        ('family = "isnet"\nmean = [1, 2]', "my.toml: mean.2: Field required"),
        ('family = "isnet"\nmean = nan', "my.toml: mean.0: Input should be a finite number"),
        ('family = "rvm"\nsize = 320', "my.toml: size: rvm has no such choice, omit it"),
        ('family = "isnet"\nclasses = [1]', "my.toml: isnet: its classes are 0 to -1"),
        ('family = "isnet"\nclass_count = 3', "my.toml: class_count: add classes"),
        ("family = isnet", r"my.toml: Invalid value \(at line 1"),
    ],
)
def test_a_wrong_toml_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = with_toml(tmp_path, text)
    with pytest.raises(UsageError, match=message) as refused:
        find_model(Settings(model=str(path)), print)
    assert "\n" not in str(refused.value)


def test_family_and_toml_must_agree(tmp_path: Path) -> None:
    path = with_toml(tmp_path, 'family = "isnet"')
    find_model(Settings(model=str(path), family="isnet"), print)
    with pytest.raises(UsageError, match=r"--family rvm: .*my.toml says isnet: omit --family"):
        find_model(Settings(model=str(path), family="rvm"), print)
    recurrent = make_recurrent(tmp_path / "own.onnx")
    (tmp_path / "own.toml").write_text('family = "rvm"')
    assert find_model(Settings(model=str(recurrent)), print).network.recurrent


@pytest.fixture
def restricted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A catalogue with a model whose licence must be accepted; an empty store."""
    monkeypatch.delenv("VIDMATTE_OFFLINE", raising=False)
    file = make_salient(tmp_path / "toy.onnx", mean=MEAN, std=STD)
    base = entry_of(release(file.as_uri(), file.read_bytes()), commercial="ask first")
    entry = catalogue.Entry(**(vars(base) | {"needs_acceptance": True}))
    monkeypatch.setattr(catalogue, "CATALOGUE", (*catalogue.CATALOGUE, entry))
    monkeypatch.setitem(catalogue._BY_NAME, "toy", entry)
    monkeypatch.setenv("VIDMATTE_MODELS_DIR", str(tmp_path / "models"))
    return Store()


def test_a_licence_is_accepted_once(restricted: Store, tmp_path: Path) -> None:
    (photo,) = make_pictures(tmp_path / "in", size=SIZE, frames=1)
    out, refusal = tmp_path / "out.png", "^toy: its licence must be accepted first: ask first$"
    with pytest.raises(UsageError, match=refusal):
        vidmatte.matte(photo, out, model="toy")
    with pytest.raises(UsageError, match=refusal):
        restricted.ensure("toy")
    assert not restricted.folder.exists()
    vidmatte.matte(photo, out, model="toy", accept_licence="toy")
    record = read_record(restricted.path(catalogue.lookup("toy")))
    assert record is not None
    assert record.accepted is not None
    vidmatte.matte(photo, out, model="toy", overwrite=True)  # it is kept
    restricted.verify(catalogue.lookup("toy"))
    restricted.ensure("toy")


def test_pull_asks_for_it_too(restricted: Store) -> None:
    with pytest.raises(UsageError, match="toy: its licence must be accepted first"):
        run("pull", "u2netp", "toy")
    assert not restricted.folder.exists()
    run("pull", "toy", "--accept-licence", "toy")
    run("pull", "toy", "-q")
    (row,) = [row for row in json.loads(run("--json").output) if row["name"] == "toy"]
    assert row["needs_acceptance"]
    assert row["state"] == "fetched"


def test_a_file_put_there_by_hand_needs_it_too(restricted: Store, tmp_path: Path) -> None:
    entry = catalogue.lookup("toy")
    restricted.folder.mkdir()
    restricted.path(entry).write_bytes((tmp_path / "toy.onnx").read_bytes())
    with pytest.raises(UsageError, match="toy: its licence must be accepted first"):
        restricted.ensure(entry)
    restricted.ensure(entry, accepted="toy")
    restricted.ensure(entry)


@pytest.mark.usefixtures("restricted")
@pytest.mark.parametrize(
    ("accepted", "message"),
    [
        ("u2netp", "--accept-licence u2netp: its licence, Apache-2.0, needs no acceptance: omit"),
        ("toy", "--accept-licence toy: it is not used here, u2netp is: omit it"),
    ],
)
def test_an_acceptance_without_effect_is_refused(accepted: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_model(Settings(model="u2netp", accept_licence=accepted), print)


def test_bria_is_not_for_commercial_use() -> None:
    asking = [entry.name for entry in catalogue.CATALOGUE if entry.needs_acceptance]
    assert asking == ["bria-rmbg"]

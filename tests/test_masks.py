"""Masks, and the adjustments of the matte, in complete runs of the API and the command line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import Movie, make_movie, make_pictures
from scene import read_index
from tiny_onnx import make_recurrent, make_salient

import vidmatte
from vidmatte.alpha.masks import parse_threshold
from vidmatte.cli.main import main
from vidmatte.errors import UsageError


@pytest.fixture
def movie(tmp_path: Path) -> Movie:
    return make_movie(tmp_path / "clip.mp4", frames=3)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, str]:
    return {"model": str(make_salient(tmp_path / "tiny.onnx")), "family": "isnet"}


def alphas(movie: Movie, tiny: dict[str, str], **options: object) -> list[np.ndarray]:
    with vidmatte.stream(movie.path, smooth="off", refine="off", **tiny, **options) as frames:
        return [frame.alpha for frame in frames]


def test_adjustments_change_the_alpha(movie: Movie, tiny: dict[str, str]) -> None:
    plain = alphas(movie, tiny)
    for one, inverted in zip(plain, alphas(movie, tiny, invert=True), strict=True):
        np.testing.assert_allclose(inverted, 1 - one, atol=1e-6)
    for one, hard in zip(plain, alphas(movie, tiny, threshold="0.4,0.6"), strict=True):
        np.testing.assert_allclose(hard, np.clip((one - 0.4) / 0.2, 0, 1), atol=1e-5)
    for options, sign in (({"erode": 2.5}, -1), ({"dilate": 2.5}, 1)):
        for one, moved in zip(plain, alphas(movie, tiny, **options), strict=True):
            assert sign * (moved.mean() - one.mean()) > 0.005


def test_the_background_is_not_painted_in_the_models_colours_of_the_subject(
    movie: Movie, tmp_path: Path
) -> None:
    options = {"model": str(make_recurrent(tmp_path / "tiny.onnx")), "family": "rvm"}
    with vidmatte.stream(movie.path, invert=True, **options) as frames:
        assert all(frame.foreground is None for frame in frames)
    for policy in ("auto", "estimate"):
        vidmatte.matte(movie.path, tmp_path / policy, invert=True, foreground=policy, **options)
    made = [sorted((tmp_path / policy).iterdir()) for policy in ("auto", "estimate")]
    for one, other in zip(*made, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_masks_are_images_or_folders(movie: Movie, tiny: dict[str, str], tmp_path: Path) -> None:
    mask = np.zeros((108, 192), np.uint8)
    mask[:, :96] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        cv2.imwrite(str(masks / f"m{number}.png"), mask if number == 1 else 0 * mask)
    for alpha in alphas(movie, tiny, garbage_matte=str(tmp_path / "left.png")):
        assert alpha[:, :96].max() == 0
        assert alpha[:, 96:].max() > 0.9
    held = alphas(movie, tiny, holdout=str(masks))
    assert [bool((alpha[:, :96] == 1).all()) for alpha in held] == [False, True, False]


@pytest.mark.parametrize("kind", ["ya8", "ya16be", "gray", "gray16be", "rgb24", "rgba", "rgba64be"])
def test_a_white_mask_is_white_in_every_kind_of_png(
    movie: Movie, tiny: dict[str, str], tmp_path: Path, kind: str
) -> None:
    picture = av.VideoFrame(192, 108, kind)
    picture.planes[0].update(b"\xff" * picture.planes[0].buffer_size)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 192, 108, kind
    encoder.time_base = Fraction(1, 25)
    (tmp_path / "white.png").write_bytes(b"".join(map(bytes, encoder.encode(picture))))
    for alpha in alphas(movie, tiny, holdout=str(tmp_path / "white.png")):
        assert alpha.min() == 1


def test_masks_match_the_frames_of_the_source_or_of_the_trimmed_part(
    movie: Movie, tiny: dict[str, str], tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        cv2.imwrite(str(masks / f"m{number}.png"), np.full((108, 192), 255 * (number == 2)))

    def held(**part: str) -> list[bool]:
        return [
            bool((alpha == 1).all()) for alpha in alphas(movie, tiny, holdout=str(masks), **part)
        ]

    assert held() == [False, False, True]
    assert held(in_point="f1") == [False, True]
    assert held(in_point="f1", out_point="f2") == [False]
    (masks / "m0.png").unlink()
    assert held(in_point="f1") == [False, True]
    assert held(out_point="f2") == [False, True]
    with pytest.raises(UsageError, match=r"2 pictures for 1 frames \(of 3\)"):
        held(out_point="f1")


@pytest.mark.parametrize(
    "options",
    [
        {"conform": "50"},
        {"conform": "10"},
        {"conform": "25", "in_point": "f3"},
        {"conform": "60", "in_point": "f2", "out_point": "f5"},
    ],
)
@pytest.mark.parametrize("variable", [False, True])
def test_at_another_rate_masks_stay_with_their_source_frames(
    variable: bool, options: dict[str, str], tiny: dict[str, str], tmp_path: Path
) -> None:
    """The clip's ruler identifies the frame, a white strip the mask that it got."""
    pts = {"pts": [0, 20, 41, 60, 115, 140], "time_base": Fraction(1, 600)} if variable else {}
    movie = make_movie(tmp_path / "clip.mp4", frames=6, options={"bf": "0"}, **pts)
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(6):
        mask = np.zeros((108, 192), np.uint8)
        mask[:, 30 * number : 30 * number + 30] = 255
        cv2.imwrite(str(masks / f"{number}.png"), mask)
    settings = {"holdout": str(masks), "smooth": "off", "refine": "off", **tiny, **options}
    with vidmatte.stream(movie.path, **settings) as frames:
        shown = [
            (read_index(frame.rgb), [n for n in range(6) if (strip(frame.alpha, n) == 1).all()])
            for frame in frames
        ]
    assert len(shown) > 1
    assert [held for _, held in shown] == [[index] for index, _ in shown]
    (masks / "5.png").unlink()
    with pytest.raises(UsageError, match=r"5 pictures for \d frames"):
        first_frame(movie, settings)


def strip(alpha: np.ndarray, number: int) -> np.ndarray:
    """The part of a frame that mask ``number`` holds out."""
    return alpha[:, 30 * number : 30 * number + 30]


def first_frame(movie: Movie, settings: dict[str, str]) -> None:
    """Run until the masks have been read."""
    with vidmatte.stream(movie.path, **settings) as frames:
        next(frames)


def test_bad_values_are_reported_before_the_run(
    movie: Movie, tiny: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(movie.path), "-o", str(tmp_path / "out.mov"), "--family", "isnet"]
    words += ["--model", tiny["model"]]
    few = tmp_path / "few"
    few.mkdir()
    cv2.imwrite(str(few / "1.png"), np.zeros((108, 192), np.uint8))
    many = tmp_path / "many"
    make_pictures(many, frames=4)
    for more, part in (
        (["--threshold", "0.9,0.1"], "LOW,HIGH"),
        (["--garbage-matte", str(tmp_path / "gone.png")], "gone.png"),
        (["--holdout", str(few)], "1 pictures for 3 frames"),
        (["--holdout", str(many)], "4 pictures for 3 frames"),
        (["--garbage-matte", str(movie.path)], "give a picture"),
        (["--gamma", "0"], "0.05 to 20"),
    ):
        assert main([*words, *more]) != 0
        stderr = capsys.readouterr().err
        assert part in stderr
        assert len(stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.mov").exists()
    with pytest.raises(UsageError):
        parse_threshold("half")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_parts_of_a_mask_count_as_black(
    movie: Movie, tiny: dict[str, str], tmp_path: Path, dtype: type
) -> None:
    height, width = alphas(movie, tiny)[0].shape
    layers = np.full((height, width, 4), np.iinfo(dtype).max, dtype)
    layers[:, width // 2 :, 3] = 0
    cv2.imwrite(str(tmp_path / "layer.png"), layers)
    for alpha in alphas(movie, tiny, holdout=str(tmp_path / "layer.png")):
        assert (alpha[:, : width // 2] == 1).all()
    plain = alphas(movie, tiny)
    for alpha, one in zip(alphas(movie, tiny, garbage_matte=str(tmp_path / "layer.png")), plain,
                          strict=True):  # fmt: skip
        assert (alpha[:, : width // 2] == 0).all()
        assert (alpha[:, width // 2 :] == one[:, width // 2 :]).all()


def test_a_mask_of_another_shape_is_refused(
    movie: Movie, tiny: dict[str, str], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((20, 200), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.full((54, 96), 255, np.uint8))
    with pytest.raises(UsageError, match="200x20 and the frames are 192x108, another shape"):
        alphas(movie, tiny, garbage_matte=str(tmp_path / "wide.png"))
    assert all((alpha == 0).all() for alpha in alphas(
        movie, tiny, garbage_matte=str(tmp_path / "small.png")))  # fmt: skip

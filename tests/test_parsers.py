"""Our own parsers on what a fuzzer found, and on mutations of it: see ``parser_targets``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from parser_targets import CORPUS, TARGETS, run_target

MUTATIONS = 60  # of each file


def mutated(data: bytes, random_: random.Random) -> bytes:
    """The data with some bytes changed, removed, repeated or inserted."""
    spoilt = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 4, 16))):
        at = random_.randrange(len(spoilt) + 1)
        length = random_.choice((1, 1, 2, 4, 8, 64))
        kind = random_.randrange(4)
        if kind == 0:
            spoilt[at : at + length] = random_.randbytes(length)
        elif kind == 1:
            spoilt[at : at + length] = random_.choice((b"\0", b"\xff", b"\x7f", b"[")) * length
        elif kind == 2:
            del spoilt[at : at + length]
        else:
            spoilt[at:at] = spoilt[at : at + length] * random_.choice((1, 3))
    return bytes(spoilt)


def test_every_target_has_a_corpus() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_surprises_a_parser(name: str, tmp_path: Path) -> None:
    random_ = random.Random(name)
    for file in sorted((CORPUS / name).iterdir()):
        data = file.read_bytes()
        for spoilt in (data, *(mutated(data, random_) for _ in range(MUTATIONS))):
            run_target(name, spoilt, tmp_path)

"""Twelve pairs of subjects in four situations: many clips that no setting was made for one by one.

Each pair leaves and returns (``leave0`` ...), is cut (``cut0`` ...), crosses (``cross0`` ...), and
crosses, is cut, looks the other way and crosses again (``turn0`` ...). ``measure_guidance.py
--clips 'leave*'`` measures them; without ``--clips`` it leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from guidance_clips import Actor, Scene, Shot, cutting, leaving, line

PAIRS = (
    ("side", "arms"), ("arms", "side"), ("back", "side"), ("side", "back"), ("arms", "back"),
    ("back", "arms"), ("cat", "heavy"), ("heavy", "cat"), ("fur", "cat"), ("heavy", "fur"),
    ("car", "back"), ("side", "cat"),
)  # fmt: skip


def pair_scenes() -> Iterator[Scene]:
    """Every pair, the wanted one first, in every situation, on grounds in turn."""
    for number, (wanted, other) in enumerate(PAIRS):
        for scene in (
            leaving(f"leave{number}", wanted, other, number),
            cutting(f"cut{number}", wanted, other, number),
            crossing(f"cross{number}", wanted, other, number + 2, in_front=number % 2 == 0),
            turning(f"turn{number}", wanted, other, number + 1),
        ):
            yield replace(scene, held_out=True)


def crossing(name: str, wanted: str, other: str, ground: int, *, in_front: bool) -> Scene:
    """The wanted one crosses in front of the other, or behind."""
    there = line((0, 0.27, 1.06, 0.85), (1, 0.75, 1.06, 0.85))
    back = line((0, 0.74, 1.06, 0.83), (1, 0.24, 1.06, 0.83))
    mine, yours = Actor("a", wanted, there), Actor("b", other, back)
    return Scene(name, "a", (Shot((yours, mine) if in_front else (mine, yours), 30, ground),))


def turning(name: str, wanted: str, other: str, ground: int) -> Scene:
    """The wanted one crosses in front; after a cut both are mirrored and it crosses behind."""
    left, right = (0.25, 0.7), (0.75, 0.3)
    shots = []
    for begin, end, mirrored in ((*left, False), (*left[::-1], True)):
        mine = Actor("a", wanted, line((0, begin, 1.04, 0.8), (1, end, 1.04, 0.8)), mirrored)
        begin, end = right[::-1] if mirrored else right
        yours = Actor("b", other, line((0, begin, 1.04, 0.8), (1, end, 1.04, 0.8)), mirrored)
        shots.append(Shot((mine, yours) if mirrored else (yours, mine), 30, ground, 0.0))
    return Scene(name, "a", tuple(shots))

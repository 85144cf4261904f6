"""Mattes without a network: a chroma key, and the difference from a clean plate."""

from vidmatte.models.keyer.chroma import ChromaKeyer, KeySettings, Screen, find_screen
from vidmatte.models.keyer.difference import (
    CleanPlate,
    DifferenceSettings,
    add_core,
    combine_with_plate,
)

__all__ = [
    "ChromaKeyer",
    "CleanPlate",
    "DifferenceSettings",
    "KeySettings",
    "Screen",
    "add_core",
    "combine_with_plate",
    "find_screen",
]

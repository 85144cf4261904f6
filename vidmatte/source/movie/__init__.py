"""Frames from movies, in order and on their clock."""

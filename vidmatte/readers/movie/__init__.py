"""Frames of movies, in display order, with exact times."""

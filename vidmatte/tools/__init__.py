"""Beside a run: scores, measurements, contact sheets."""

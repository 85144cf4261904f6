"""Containers and picture formats that FFmpeg reads or writes wrongly, one module each."""

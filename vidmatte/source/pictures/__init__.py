"""Frames from picture files: a folder of them, or one."""

"""Samples in memory: pixel formats, planes as arrays, conversions, what networks see."""

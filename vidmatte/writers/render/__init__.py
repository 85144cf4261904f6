"""Renders the pictures that encoders take from frames with alpha."""

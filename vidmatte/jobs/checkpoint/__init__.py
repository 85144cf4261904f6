"""Checkpoints of a run with ``--resume``: its frames, stored so that a later run can continue."""

"""The work of a run with ``--resume``: kept as it is done, continued where it stopped."""

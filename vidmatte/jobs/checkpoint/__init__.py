"""The work of a run with ``--resume``: stored as it is done, continued where it stopped."""

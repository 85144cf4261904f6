"""The work of a run with ``--resume``: kept as it is done, taken up where it stopped."""

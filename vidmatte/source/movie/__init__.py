"""Frames from movies, in order and on their clock.

``movie`` is the source. ``opened`` has the file and its ``packets``, ``describe`` what it says
of itself, ``timing`` its clock and ``untimed`` the frames that bear no time; ``stated`` finds out
whether it ends too early. ``decode`` makes frames of packets, of which ``ffv1`` checks the sums;
``deinterlace`` makes whole ones of fields.
"""

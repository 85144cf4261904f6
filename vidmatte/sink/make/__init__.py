"""From a frame with its alpha to the picture that an encoder takes.

``makers`` has a maker for each thing that a result can show. The cut-out is made in
``pixels``: ``convert`` brings the source's samples to the format, ``spill`` takes a screen's
light off, ``transparent`` colours what is not seen. ``special`` makes floats and palettes,
``background`` what a composite lies over; ``planes``, ``tags`` and ``transfer`` are tools.
"""

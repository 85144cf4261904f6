"""The work of a run with ``--resume``: kept as it is done, taken up where it stopped.

``kept`` is the sink, ``workfolder`` what it keeps on the disk, with the ``framelog`` in it, a
record of ``pieces`` a frame. ``begun`` words how an earlier run was another one.
"""

"""Frames from picture files: a folder of them, or one.

``pictures`` is the source, ``folder`` and ``numbering`` say which files it has and in what
order. What FFmpeg does not tell of a file is read from it: ``chunks`` of PNG and WebP, the
``icc`` profile, the ``dpx`` header, whether it has an alpha (``own_alpha``). ``tiff`` and ``exr``
refuse what FFmpeg misreads, ``png`` brings files into a form that it is quick with.
"""

"""The source's sound on its way into a movie.

``sound`` reads it beside the frames; each of its ``tracks`` is copied, or ``encoded`` anew from
``samples``.
"""

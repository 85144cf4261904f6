"""Timelines of editing programs: FCPXML, FCP7 XML, OTIO and EDL, read and written.

``model`` is what all of them have in common, in frame numbers; ``files`` chooses the format by
the suffix; ``result`` puts results over their originals; ``shots`` turns an edit into the ranges
of media that it needs, found by ``media``.
"""

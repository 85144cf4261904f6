"""This one, not that one: a subject chosen once and followed through the clip.

In the order of the work: ``core.prompts`` and ``subjects_file`` (what the user says), ``coarse`` (a
frame made small), ``key_masks`` (prompts to the mask of a key frame), ``passes`` over a ``store``
with a ``tracker`` (keys anywhere, corrections), ``gate`` (a field and the network's alpha make the
matte).
"""

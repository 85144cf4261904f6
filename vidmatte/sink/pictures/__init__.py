"""Results that are pictures: a folder of them, or one.

``pictures`` writes them; ``exr`` and ``png`` stand in for FFmpeg's encoders, ``icc`` puts in the
source's profile, ``tiff`` says how its alpha is meant.
"""

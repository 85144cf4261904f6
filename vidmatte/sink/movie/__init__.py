"""Results that are movies: one file, its frames and its sound.

``movie`` writes it, through ``ordered`` where the frames of a codec lean on each other.
``aspect``, ``vendor`` and ``webp`` set right what FFmpeg's muxers cannot say; ``proof`` reads
the file again.
"""

"""How near a matte is to a known one, in the measures of the matting literature.

``compare`` takes two sequences, which ``mattes`` reads, frame after frame through the
``metrics``; ``motion`` reads the known one that some of these want.
"""

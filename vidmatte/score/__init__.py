"""How near a matte is to a known one, in the measures of the matting literature."""

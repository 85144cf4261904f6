"""From a frame with its alpha to the picture that an encoder takes."""

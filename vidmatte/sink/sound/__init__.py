"""The source's sound on its way into a movie."""

"""Where frames go: movies with alpha, picture sequences, single pictures."""

"""Results that are movies: one file, its frames and its sound."""

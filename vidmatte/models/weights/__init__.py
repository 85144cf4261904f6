"""Weights: the catalogue, and the store that fetches and verifies files."""

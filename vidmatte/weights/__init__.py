"""Weights: which networks are known by name, and the store that fetches and checks them."""

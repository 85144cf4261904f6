"""Weights: which networks are known by name, and the store that fetches and checks them.

The ``catalogue`` lists them, each with ``sources`` (its release, ``packages`` of registries) and
a ``fingerprint``. The ``store`` is a folder, with a ``record`` beside each file. ``transport``
and ``progress`` serve the fetching.
"""

"""The version, for whoever needs it without loading the package's API."""

__version__ = "0.1.0"

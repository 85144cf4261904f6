"""The service behind ``vidmatte serve``: an HTTP API for clips and jobs, and its page."""

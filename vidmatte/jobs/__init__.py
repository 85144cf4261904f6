"""A job: from a source, a model and an output name to a result."""

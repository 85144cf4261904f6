"""The networks: which exist, how each is fed, and the runtimes that run them."""

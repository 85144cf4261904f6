"""The networks: which there are, how each is fed, and what runs them."""

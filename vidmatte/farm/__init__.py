"""One clip over many machines: a plan, its segments made anywhere, and the join to one result."""

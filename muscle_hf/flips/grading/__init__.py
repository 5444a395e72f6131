"""Which answers were not recognised rather than wrong: two causes, estimated together."""

"""When two answers are the same one, spelled otherwise."""

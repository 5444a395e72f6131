"""Bounds on what an update may break, and the decision on record."""

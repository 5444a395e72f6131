"""Negative flips as preference pairs."""

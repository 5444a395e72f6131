"""Rates of what was labelled or checked by hand in part."""

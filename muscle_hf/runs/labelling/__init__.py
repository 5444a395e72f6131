"""Which rows to label, and what the labels say."""

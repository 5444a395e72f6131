"""`CompatibilityTrainer`: its options, rows, teachers, losses of a batch, and flips counted while it trains."""

"""The Hub: push an adapter with its evidence, find others, load them, publish the metric Spaces."""

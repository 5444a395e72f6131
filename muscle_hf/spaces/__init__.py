"""The metric modules: found by `evaluate.load`, shown as pages, pushed as Spaces."""

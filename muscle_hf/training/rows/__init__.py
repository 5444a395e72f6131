"""The rows that are trained on: checked, answered where they have no labels, cut and packed."""

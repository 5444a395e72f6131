"""The compatibility loss, its masks and divergences: tensors in, tensors out."""

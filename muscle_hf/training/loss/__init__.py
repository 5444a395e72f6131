"""The loss of a batch: per token or aligned, in full or in slices, with a cache, a router or two goals."""

"""Base and adapter: loaded, widened, merged, fingerprinted, asked for logits and hidden states."""

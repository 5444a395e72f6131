"""Two tokenizers: which tokens are the same, which stretches of text both cut alike, and a loss for these."""

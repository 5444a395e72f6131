"""The formats of files: tables, JSON Lines, lm-evaluation-harness, lighteval; one module or a few each."""

"""Encoder-decoders (T5, BART and their relatives): their trainer, its config and its rows.

The trainer is [`CompatibilitySeq2SeqTrainer`][muscle_hf.CompatibilitySeq2SeqTrainer].
"""

"""Checkpoints: written, checked, gone on from, and what of interrupted work is kept."""

"""Prompts and rows of a task, and what a model answers to them: generated, or chosen from what is there."""

from .choose import choose_answers
from .generate import generate_answers

__all__ = ["choose_answers", "generate_answers"]

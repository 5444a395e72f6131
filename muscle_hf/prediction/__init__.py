"""Prompts and rows of a task, and what a model answers to them: generated, or chosen from what is there."""

from ..packages import required

with required("train", "muscle_hf.prediction"):
    from .choose import Choices, choose_answers
    from .generate import Answers, generate_answers
    from .prompts import Prompt

__all__ = ["Answers", "Choices", "Prompt", "choose_answers", "generate_answers"]

"""Prompts and rows of a task, and what a model answers to them: generated, or chosen from what is there."""

from ..packages import required

with required("train", "muscle_hf.prediction"):
    from .choose import Choices, choose_answers
    from .engines import Engine, OpenAIEngine, TransformersEngine, VLLMEngine
    from .generate import Answers, generate_answers
    from .prompts import Prompt
    from .sample import Samples, sample_answers
    from .step_values import Rollout, StepValues, step_values

__all__ = [
    "Answers",
    "Choices",
    "Engine",
    "OpenAIEngine",
    "Prompt",
    "Rollout",
    "Samples",
    "StepValues",
    "TransformersEngine",
    "VLLMEngine",
    "choose_answers",
    "generate_answers",
    "sample_answers",
    "step_values",
]

"""What the models answer to the test rows, as JSON Lines that `muscle-hf compare` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.adapters import load_adapted_model
from ..prediction import answer_file as answering
from ..prediction.answer_file import Asking, Question
from ..prediction.kept_answers import AnswersSoFar
from .plan import Plan


def write_answers(plan: Plan, adapter: str, path: Path, *, old: bool, decided_by: Mapping[str, Any]) -> None:
    """Ask a model the test rows, keep its answers batch by batch, and write them when all are there.

    Args:
        plan: The update.
        adapter: Id or path of the adapter to ask.
        path: The file, of rows with `id`, `question`, `prediction`, `reference` and, where there are some, `choices`.
        old: Whether it lies on the old base.
        decided_by: What decides the answers, beside the rows.
    """
    base, tokenizer = (plan.old_base, plan.old_tokenizer) if old else (plan.new_base, plan.tokenizer)
    questions = [
        Question(one.number, f"test row {one.number}", one.prompt, one.completion, one.choices, follows_prompt=True)
        for one in plan.data.test
    ]
    asking = Asking(
        plan.settings.ask_batch_size,
        plan.max_new_tokens,
        None if plan.delimiter is None else plan.settings.normalization,
        plan.delimiter,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where the same update asks other rows, the stage has refused it before.
    kept = AnswersSoFar(path, {**decided_by, "questions": [one.number for one in plan.data.test]})
    model = load_adapted_model(
        base.name, adapter, role="old" if old else "new", needs_adapter=True, init_kwargs=dict(base.init_kwargs)
    )
    if "device_map" not in base.init_kwargs and "quantization_config" not in base.init_kwargs:
        model.to(plan.config.device)
    answering.answer(model, tokenizer, questions, asking, kept, f"asking: {path.stem}")
    kept.finish(answering.rows_of_answers(questions, kept, str(tokenizer.eos_token or "")))

"""What the models answer to the test rows, as JSON Lines that `muscle-hf compare` reads."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.adapters import load_adapted_model
from ..models.splitting import split_to_ask
from ..prediction import answer_file
from ..prediction.engines.in_process import TransformersEngine
from ..prediction.kept_answers import AnswersSoFar
from ..training.old_endpoint import old_endpoint
from .answer_pattern import with_parts
from .plan import Plan
from .rows import Example

logger = logging.getLogger(__name__)


def write_answers(
    plan: Plan,
    adapter: str,
    path: Path,
    *,
    old: bool,
    decided_by: Mapping[str, Any],
    questions: Sequence[Example] | None = None,
) -> None:
    """Ask a model the test rows, or other ones, keep its answers batch by batch, and write them when all are there.

    `decided_by` is what decides the answers, beside the rows.
    """
    tokenizer = plan.old_tokenizer if old else plan.tokenizer
    settings = plan.settings
    questions = plan.data.test if questions is None else questions
    normalization = None if plan.delimiter is None else settings.normalization
    asking = answer_file.Asking(plan.max_new_tokens, normalization, plan.delimiter)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where the same update asks other rows, the stage has refused it before.
    kept = AnswersSoFar(path, {**decided_by, "questions": [question.number for question in questions]})
    engine = old_endpoint(plan.config) if old else None
    answer_file.answer(engine or _in_process(plan, adapter, old=old), questions, asking, kept, f"asking: {path.stem}")
    if (ends := answer_file.how_they_ended(kept)) is not None:
        logger.warning(f"{path.stem}: {ends}")
    rows = answer_file.rows_of_answers(questions, kept, str(tokenizer.eos_token or ""))
    kept.finish(rows if plan.answer_pattern is None else with_parts(rows, plan.answer_pattern))


def _in_process(plan: Plan, adapter: str, *, old: bool) -> TransformersEngine:
    base, tokenizer = (plan.old_base, plan.old_tokenizer) if old else (plan.new_base, plan.tokenizer)
    model = load_adapted_model(
        base.name,
        adapter,
        role="old" if old else "new",
        needs_adapter=True,
        init_kwargs=dict(base.init_kwargs),
        auto_class=base.kind.auto_class,
    )
    return TransformersEngine(split_to_ask(model, plan.config.device), tokenizer, plan.settings.ask_batch_size)

"""What the models answer to the test rows, as JSON Lines that `muscle-hf compare` reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from .. import generate_answers
from ..adapters import load_adapted_model
from ..files import replaced
from ..hub.answering import without_end
from ..prompts import Prompt
from .plan import Plan
from .rows import Example


def write_answers(plan: Plan, adapter: str, path: Path, *, old: bool) -> None:
    """Ask a model the test rows, and write what it answers.

    Args:
        plan: The update.
        adapter: Id or path of the adapter to ask.
        path: The file, of rows with `id`, `question`, `prediction`, `reference` and, where there are some, `choices`.
        old: Whether it lies on the old base.
    """
    base, tokenizer = (plan.old_base, plan.old_tokenizer) if old else (plan.new_base, plan.tokenizer)
    model = load_adapted_model(
        base.name, adapter, role="old" if old else "new", needs_adapter=True, init_kwargs=dict(base.init_kwargs)
    )
    if "device_map" not in base.init_kwargs and "quantization_config" not in base.init_kwargs:
        model.to(plan.config.device)
    predictions = _predictions(plan, model, tokenizer, f"asking: {path.stem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for example, prediction in zip(plan.data.test, predictions, strict=True):
            row = _row(example, prediction, str(tokenizer.eos_token or ""))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _predictions(plan: Plan, model: PeftModel, tokenizer: PreTrainedTokenizerBase, description: str) -> Sequence[str]:
    prompts: list[Prompt] = [one.prompt for one in plan.data.test]
    shared: dict[str, Any] = {"batch_size": plan.settings.ask_batch_size, "description": description}
    if plan.delimiter is None:
        texts = generate_answers(
            model, tokenizer, prompts, max_new_tokens=int(plan.max_new_tokens or 0), **shared
        ).texts
        return list(texts)
    from .. import choose_answers

    choices = [list(one.choices or ()) for one in plan.data.test]
    chosen = choose_answers(
        model,
        tokenizer,
        prompts,
        choices,
        normalization=plan.settings.normalization,
        delimiter=plan.delimiter,
        **shared,
    ).indices
    return [of_row[index] for of_row, index in zip(choices, chosen.tolist(), strict=True)]


def _row(example: Example, prediction: str, end: str) -> dict[str, Any]:
    question = (
        example.prompt
        if isinstance(example.prompt, str)
        else "\n".join(f"{one['role']}: {one['content']}" for one in example.prompt)
    )
    row = {
        "id": example.number,
        "question": question.strip(),
        "prediction": without_end(prediction, end),
        "reference": without_end(example.completion, end),
    }
    return row | ({} if example.choices is None else {"choices": [without_end(one, end) for one in example.choices]})

"""Training and evaluation sets as `trl.SFTTrainer` takes them: checked before any model is loaded."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from trl import is_conversational
from trl.data_utils import get_dataset_column_names

from ...errors import ConfigurationError, InputError
from ...prediction.prompts import Prompt
from ...text import conversation, loosely, quote

logger = logging.getLogger(__name__)

# What ShareGPT calls the speakers, and TRL hands on as it is; chat templates know user and assistant.
_NO_ROLES = ("human", "gpt", "chatgpt", "bot")


def check_rows(dataset: Any) -> None:
    """Refuse a training set without rows, or with a row that is not whole, before any model is loaded."""
    if dataset is None:
        raise InputError("train_dataset is missing; pass the training set of the task.")
    if isinstance(dataset, dict):
        splits = ", ".join(map(str, dataset))
        raise InputError(f"train_dataset holds the splits {splits}; pass one of them, as train_dataset[name].")
    if isinstance(dataset, Dataset) and len(dataset) == 0:
        raise InputError("train_dataset has no rows; pass the training set of the task.")
    if isinstance(dataset, IterableDataset) and next(iter(dataset), None) is None:
        raise InputError("train_dataset is a stream without rows; pass the training set of the task.")
    if not isinstance(dataset, Dataset | IterableDataset):
        how = {"list": "Dataset.from_list(rows)", "str": 'load_dataset(name, split="train")'}
        kind = type(dataset).__name__
        hint = f": write {how[kind]}" if kind in how else ""
        raise InputError(f"train_dataset is a {kind}; a datasets.Dataset is needed{hint}.")
    if not isinstance(dataset, Dataset) or "input_ids" in dataset.column_names:
        return
    if "prompt" in dataset.column_names and "completion" not in dataset.column_names:
        raise InputError(
            f"train_dataset has a column prompt and no completion, only {dataset.column_names}. Name the answers "
            "completion, or pass prompts without answers as unlabelled_dataset."
        )
    for name in ("prompt", "completion", "messages", "text"):
        if name not in dataset.column_names:
            continue
        for number, cell in enumerate(dataset[name]):
            if not isinstance(cell, str | list):
                raise InputError(f"train_dataset, row {number}: {name} is {cell!r}; a text or messages are needed.")


def check_layouts(train: Any, evaluation: Any, args: Any, formatting_func: Callable[[Any], Any] | None) -> None:
    """Refuse data sets of a layout that `trl.SFTTrainer` does not train on as it is; the user may format rows."""
    if (args.dataset_kwargs or {}).get("skip_prepare_dataset"):
        return
    for name, dataset in _sets(train, evaluation):
        columns = get_dataset_column_names(dataset)
        row = next(iter(dataset), None)
        if row is None or "input_ids" in columns:
            continue
        if formatting_func is not None:
            text = formatting_func(row)
            if not isinstance(text, str):
                raise ConfigurationError(
                    f"formatting_func gives {_a_kind(text)} for the first row of {name}; it is called for one row at "
                    "a time and must give a text."
                )
            continue
        if {"prompt", "completion"} <= {*columns}:
            continue
        if not {args.dataset_text_field, "messages", "conversations"} & {*columns}:
            raise InputError(
                f"{name} has the columns {sorted(columns)}. It needs prompt and completion, messages, conversations "
                f"or {args.dataset_text_field} (dataset_text_field). Rename yours, such as "
                'rename_columns({"question": "prompt", "answer": "completion"}), or give a formatting_func that '
                "writes a row as a text."
            )
        _refuse_other_roles(name, row)
        if args.completion_only_loss:
            logger.warning(
                f"completion_only_loss=True does nothing for {name}, which has no completions: all of its tokens are "
                "trained on. Set assistant_only_loss=True for conversations, or give prompt and completion."
            )


def prompts_of(train: Any) -> list[Prompt]:
    """Give the prompts of a training set, messages without their answers; none where prompts do not stand alone."""
    columns = train.column_names if isinstance(train, Dataset) else []
    if "prompt" in columns:
        return [prompt for prompt in train["prompt"] if prompt]
    return [messages[:-1] for messages in train["messages"] if messages] if "messages" in columns else []


def say_known_questions(train: Any, questions: Sequence[Prompt]) -> None:
    """Warn of questions of a flips data set that the training set asks too: flips flatter whoever trained on them."""
    asked = {loosely(prompt) for prompt in prompts_of(train)}
    known = [prompt for prompt in questions if loosely(prompt) in asked]
    if known:
        first = known[0] if isinstance(known[0], str) else conversation(known[0])
        logger.warning(
            f"{len(known)} of the {len(questions)} rows of flips_dataset are asked in train_dataset too, for instance "
            f"{quote(first.strip())}: models that were trained on them know their answers, so the flips that are "
            "measured are too few. Leave them out of one of the two."
        )


def check_chat_template(train: Any, evaluation: Any, args: Any, tokenizer: Any) -> None:
    """Refuse conversations where nothing writes them as a text, and `assistant_only_loss` where there are none."""
    for name, dataset in _sets(train, evaluation):
        row = next(iter(dataset), None) or {}
        if "input_ids" in row:
            continue
        is_chat = is_conversational(row) or "conversations" in row
        needs = f"{name} holds conversations"
        if args.assistant_only_loss:
            if not is_chat:
                raise ConfigurationError(
                    f"assistant_only_loss=True is for conversations, and {name} holds texts. Set "
                    "completion_only_loss=True for prompt and completion, or give messages."
                )
            needs = "assistant_only_loss=True needs a chat template that marks what the assistant says"
        if is_chat and not getattr(tokenizer, "chat_template", None) and args.chat_template_path is None:
            raise ConfigurationError(
                f"{needs}, and the tokenizer has no chat template. Name one with chat_template_path, pass a "
                "processing_class that has one, or give prompt and completion as texts."
            )


def _sets(train: Any, evaluation: Any) -> Iterator[tuple[str, Any]]:
    yield "train_dataset", train
    if isinstance(evaluation, dict):
        yield from ((f"eval_dataset[{name!r}]", dataset) for name, dataset in evaluation.items())
    elif isinstance(evaluation, Dataset | IterableDataset):
        yield "eval_dataset", evaluation
    elif evaluation is not None:
        raise InputError(f"eval_dataset is {_a_kind(evaluation)}; a datasets.Dataset is needed, or several by name.")


def _refuse_other_roles(name: str, row: dict[str, Any]) -> None:
    turns = row.get("conversations", row.get("messages"))
    for turn in turns if isinstance(turns, list) else []:
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        if role in _NO_ROLES:
            raise InputError(
                f"{name}: a turn is from {role!r}, and the chat template would be given that role. "
                "Rename the roles to system, user and assistant, as messages with role and content."
            )


def _a_kind(value: Any) -> str:
    return f"a {type(value).__name__}"

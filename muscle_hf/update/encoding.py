"""The rows as tokens, as the trainings will see them: how many, how long, and what is lost to `max_length`."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, get_training_chat_template, is_conversational
from trl.chat_template_utils import has_generation_markers

from ..errors import InputError
from ..losses.logits import IGNORE_INDEX
from ..seq2seq.contrast_options import check_contrast_of_run
from ..seq2seq.data import TextEncoder, limits_of, refuse_empty_prompts
from ..text import printable
from ..training.hooks import prepare_rows, stand_in
from ..training.rows.tokens import first_trainable_row, is_trainable
from .rows import Example, as_dataset, as_pairs


@dataclass(frozen=True)
class Encoded:
    """What a split is as tokens."""

    rows: int
    tokens: int  # of all rows, before any is cut
    longest: int
    cut_rows: int  # longer than `max_length`
    lost_tokens: int  # beyond it
    empty_rows: int  # no token that is trained on is left
    trained_tokens: int  # after the cut
    sequences: int  # what a training draws its batches from: rows, or, packed, several of them in one
    vocabulary: frozenset[int]  # the ids of all tokens in the rows


def encode_examples(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, config: SFTConfig, name: str
) -> Encoded:
    """Encode the rows of a split by TRL's own code, and count; a split without a token to train on is refused."""
    rows = as_dataset(examples)
    if not tokenizer.chat_template and is_conversational(rows[0]):
        raise InputError(
            f"the {name} rows are conversations, and the tokenizer of the new base has no chat template. Name one "
            "with --chat-template-path (chat_template_path=…), or give prompt and completion as texts."
        )
    whole = copy.copy(config)
    whole.max_length, whole.shuffle_dataset = None, False
    try:
        encoded = _prepared(rows, tokenizer, whole, packing=False)
        used = _prepared(encoded, tokenizer, config, packing=config.packing)
        first_trainable_row(used)
    except InputError as error:
        raise InputError(f"the {name} rows cannot be trained on. {error}") from error
    # What transformers, jinja and trl raise for a conversation without a template, or one that it refuses.
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(f"the {name} rows cannot be encoded: {printable(str(error))}") from error
    lengths = [len(ids) for ids in encoded["input_ids"]]
    limit = None if config.packing and config.packing_strategy != "bfd" else config.max_length
    beyond = [0 if limit is None else max(0, length - limit) for length in lengths]
    return Encoded(
        rows=len(rows),
        tokens=sum(lengths),
        longest=max(lengths),
        cut_rows=sum(lost > 0 for lost in beyond),
        lost_tokens=sum(beyond),
        empty_rows=sum(not is_trainable(labels[:limit]) for labels in encoded["labels"]),
        trained_tokens=sum(label != IGNORE_INDEX for labels in encoded["labels"] for label in labels[1:limit]),
        sequences=len(used),
        vocabulary=frozenset(token for ids in encoded["input_ids"] for token in ids),
    )


def encode_pairs(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, config: Any, model: Any, name: str
) -> Encoded:
    """Encode the rows of a split for an encoder-decoder, and count: prompt and completion together."""
    rows = as_pairs(examples)
    try:
        encoded = TextEncoder(tokenizer, name)(rows.to_dict())
        refuse_empty_prompts(encoded["input_ids"], name)
    except InputError as error:
        raise InputError(f"the {name} rows cannot be trained on. {error}") from error
    if name == "training":
        check_contrast_of_run(config, encoded["labels"])
    limits = limits_of(model, (config.max_prompt_length, config.max_completion_length))
    lengths, kept = [], []
    for pair in zip(encoded["input_ids"], encoded["labels"], strict=True):
        lengths.append([len(ids) for ids in pair])
        kept.append(
            [len(ids) if limit is None else min(len(ids), limit) for ids, limit in zip(pair, limits, strict=True)]
        )
    return Encoded(
        rows=len(rows),
        tokens=sum(map(sum, lengths)),
        longest=max(map(sum, lengths)),
        cut_rows=sum(whole != rest for whole, rest in zip(lengths, kept, strict=True)),
        lost_tokens=sum(map(sum, lengths)) - sum(map(sum, kept)),
        empty_rows=0,
        trained_tokens=sum(completion for _, completion in kept),
        sequences=len(rows),
        vocabulary=frozenset(token for ids in (*encoded["input_ids"], *encoded["labels"]) for token in ids),
    )


def _prepared(rows: Dataset, tokenizer: PreTrainedTokenizerBase, config: SFTConfig, *, packing: bool) -> Dataset:
    completion_only = config.completion_only_loss
    if completion_only is None:
        completion_only = {"prompt", "completion"} <= set(rows.column_names)
    template = None
    if config.assistant_only_loss and not has_generation_markers(tokenizer.chat_template):
        template = get_training_chat_template(tokenizer)
    # A trainer needs a model with weights; this is all that its encoding reads of it.
    trainer = stand_in(tokenizer, completion_only_loss=completion_only, chat_template=template)
    encoded: Dataset = prepare_rows(
        trainer, rows, config, tokenizer=tokenizer, packing=packing, formatting_func=None, name="train"
    )
    return encoded


def optimizer_steps(sequences: int, config: Any, *, epochs: float, max_steps: int) -> int:
    """Return the optimizer steps of a training, as transformers counts them; positive `max_steps` come first."""
    if max_steps > 0:
        return max_steps
    round_batches = math.floor if config.dataloader_drop_last else math.ceil
    # Each process takes one of so many batches that follow each other.
    batches = round_batches(round_batches(sequences / config.train_batch_size) / config.world_size)
    steps_an_epoch: int = max(math.ceil(batches / config.gradient_accumulation_steps), 1)
    return math.ceil(epochs * steps_an_epoch)

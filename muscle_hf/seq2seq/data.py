"""Rows of encoder-decoders as tokens: what the encoder reads, what the decoder reads, and what it is to say."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..alignment.vocabulary_map import VocabularyMap
from ..errors import ConfigurationError, InputError, ModelMismatchError
from ..losses.logits import IGNORE_INDEX
from ..models.adapters import base_model
from ..prediction.prompts import Prompt, as_texts, encode
from ..training.rows.ids import embeddings_of, outputs_of, refuse_wrong_ids
from ..training.rows.tokens import ENCODER_DECODER

logger = logging.getLogger(__name__)

_PROMPT, _COMPLETION = "prompt", "completion"
_READ = "attention_mask"
FLIP_TEXTS = {"rejected": "rejected_labels", "chosen": "chosen_labels"}
"""Columns of texts -> of their tokens: what the new model said wrongly, and what the old one said rightly."""


@dataclass(frozen=True)
class DecoderStart:
    """How labels become what the decoder reads: moved by a position, with a token before them.

    Args:
        token: What stands before them; None where that is their last one, as in mBART.
        padding: What stands for labels that are not trained on.
    """

    token: int | None
    padding: int

    @classmethod
    def of(cls, model: Any) -> "DecoderStart":
        """Find out by the model's own method; a model that does something else is refused."""
        base = base_model(model)
        padding = base.config.pad_token_id
        name = type(base).__name__
        if padding is None or not hasattr(base, "prepare_decoder_input_ids_from_labels"):
            raise ConfigurationError(
                f"{name} has no pad_token_id, or does not say what its decoder reads "
                "(prepare_decoder_input_ids_from_labels). Set it in the config, or take a model such as T5 or BART."
            )
        probes = [[token for token in range(8) if token != padding][start : start + 3] for start in (1, 2)]
        shifted = [base.prepare_decoder_input_ids_from_labels(torch.tensor([probe]))[0].tolist() for probe in probes]
        firsts = [row[0] for row in shifted]
        if any(row[1:] != probe[:-1] for row, probe in zip(shifted, probes, strict=True)):
            raise ConfigurationError(f"{name} reads something else than its labels, one position later.")
        return cls(None if firsts == [probe[-1] for probe in probes] else firsts[0], padding)

    def before(self, labels: Sequence[int]) -> list[int]:
        """Return what the decoder reads to give these labels.

        Example:
            >>> DecoderStart(token=0, padding=0).before([7, -100, 1])
            [0, 7, 0]
        """
        read = [self.padding if label == IGNORE_INDEX else label for label in labels]
        return [read[-1] if self.token is None else self.token, *read[:-1]]


def encoded_rows(
    dataset: Any,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    name: str,
    *,
    longest: tuple[int | None, int | None],
    keep: Sequence[str] = (),
) -> Dataset:
    """Encode a data set: `input_ids` and `labels` of a row, and `decoder_input_ids`.

    Its rows have `prompt` and `completion`, as texts or as messages for the chat template, or are encoded already, as
    `input_ids` (those that an `attention_mask` leaves out are padding, and go) and unshifted `labels`. A completion
    gets the tokenizer's end token, where it does not end with it. `longest` are the tokens of prompt and completion
    that are kept (None: all that the model has positions for), `keep` more columns.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"The {name} set is a {type(dataset).__name__}; encoder-decoders are trained on a datasets.Dataset. Of a "
            "stream take a part: Dataset.from_list(list(stream.take(1000)))."
        )
    columns = {*dataset.column_names}
    missing = [column for column in keep if column not in columns]
    if missing:
        raise InputError(f"weight_column={missing[0]!r} is no column of the {name} set; it has {sorted(columns)}.")
    if "input_ids" not in columns:
        if not {_PROMPT, _COMPLETION} <= columns:
            raise InputError(
                f"The {name} set has the columns {sorted(columns)}. It needs prompt and completion, or input_ids and "
                'labels. Rename yours, such as rename_columns({"document": "prompt", "summary": "completion"}).'
            )
        dataset = dataset.map(
            TextEncoder(tokenizer, name),
            batched=True,
            remove_columns=[column for column in dataset.column_names if column not in keep],
            desc=f"Encoding the {name} set",
        )
    elif "labels" not in columns:
        raise InputError(f"The {name} set has input_ids and no labels, only {sorted(columns)}.")
    else:
        refuse_wrong_ids(dataset, embeddings_of(model), outputs_of(model), name, as_long=[_READ])
        if _READ in columns:
            dataset = dataset.map(_without_padding, desc=f"Taking the padding out of the {name} set")
    used = ["input_ids", "labels", *keep]
    dataset = dataset.select_columns(used)
    refuse_empty_prompts(dataset["input_ids"], name)
    dataset = _cut(dataset, tokenizer, model, name, longest)
    if not any(label != IGNORE_INDEX for labels in dataset["labels"] for label in labels):
        raise InputError(f"The {name} set has no token to train on: every label is {IGNORE_INDEX}.")
    start = DecoderStart.of(model)
    return dataset.map(
        lambda row: {ENCODER_DECODER: start.before(row["labels"])}, desc=f"Shifting the labels of the {name} set"
    )


@dataclass(frozen=True)
class TextEncoder:
    """Encodes prompts and completions of the data set of this name; works on batches of rows."""

    tokenizer: PreTrainedTokenizerBase
    name: str

    def __call__(self, rows: Mapping[str, list[Any]]) -> dict[str, list[list[int]]]:
        """Return `input_ids` and `labels`."""
        prompts: list[Prompt] = rows[_PROMPT]
        texts = as_texts(self.tokenizer, prompts)
        completions = [
            self._completion(prompt, text, completion)
            for prompt, text, completion in zip(prompts, texts, rows[_COMPLETION], strict=True)
        ]
        labels: list[list[int]] = [[] for _ in completions]
        for is_text in (True, False):  # a chat template writes the special tokens itself
            places = [place for place, prompt in enumerate(prompts) if isinstance(prompt, str) == is_text]
            if places:
                encoded = self.tokenizer(
                    text_target=[completions[place] for place in places], add_special_tokens=is_text, verbose=False
                )
                for place, ids in zip(places, encoded["input_ids"], strict=True):
                    labels[place] = self._ended(list(ids))
        return {"input_ids": encode(self.tokenizer, texts, prompts, may_end=True), "labels": labels}

    def _completion(self, prompt: Prompt, text: str, completion: Any) -> str:
        """Return what is to be said, as a text: of messages what the chat template adds to the prompt's."""
        if isinstance(prompt, str) and isinstance(completion, str):
            return completion
        if isinstance(prompt, str) or not isinstance(completion, list):
            raise InputError(
                f"The {self.name} set has a prompt of the kind {type(prompt).__name__} and a completion of the kind "
                f"{type(completion).__name__}; give texts for both, or messages for both."
            )
        whole = str(self.tokenizer.apply_chat_template([*prompt, *completion], tokenize=False))
        if not whole.startswith(text):
            raise InputError(
                f"The chat template writes a conversation of the {self.name} set in another way once it has an "
                "answer, so what is to be said cannot be told from the prompt. Give prompt and completion as texts."
            )
        return whole[len(text) :]

    def _ended(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ConfigurationError(
                "The tokenizer has no end token (eos_token), so the model would never learn to stop. Set it."
            )
        return ids if ids and ids[-1] == end else [*ids, end]


def refuse_other_tokens(pairs: VocabularyMap | None) -> None:
    """Refuse two models whose tokens could be paired, but are not the same; None stands for the same ones."""
    if pairs is not None and not pairs.identical:
        raise ModelMismatchError(
            "The two models have not the same tokens in the same rows of their embeddings, which encoder-decoders "
            "need here. Take a new base with the old one's tokenizer and as many rows."
        )


def refuse_empty_prompts(rows: Sequence[Sequence[int]], name: str) -> None:
    """Refuse prompts without a token, of the data set of this name."""
    for number, row in enumerate(rows):
        if not row:
            raise InputError(
                f"Row {number} of the {name} set: the prompt has no tokens, and an encoder cannot read nothing. Leave "
                "the row out."
            )


def positions_of(model: Any) -> int | None:
    """Return how many positions encoder and decoder have each; None with relative positions."""
    limit = getattr(base_model(model).config, "max_position_embeddings", None)
    return int(limit) if limit else None


def limits_of(model: Any, longest: Sequence[int | None]) -> list[int | None]:
    """Return how much of prompts and of completions is kept: what was asked for, but no more than has a position."""
    positions = positions_of(model)
    known = [[limit for limit in (asked, positions) if limit is not None] for asked in longest]
    return [min(limits, default=None) for limits in known]


def _without_padding(row: Mapping[str, Any]) -> dict[str, list[int]]:
    """Leave out the tokens that a row's mask leaves out: batches are padded here."""
    read = [token for token, is_read in zip(row["input_ids"], row[_READ], strict=True) if is_read]
    return {"input_ids": read}


def _cut(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    name: str,
    longest: tuple[int | None, int | None],
) -> Dataset:
    """Cut what is too long, and count it in a warning."""
    for column, option, limit in zip(
        ("input_ids", "labels"),
        ("max_prompt_length", "max_completion_length"),
        limits_of(model, longest),
        strict=True,
    ):
        if limit is None:
            continue
        longer = sum(len(ids) > limit for ids in dataset[column])
        if not longer:
            continue
        logger.warning(
            f"{longer} of {len(dataset)} rows of the {name} set have more than {limit} {column} ({option}) and lose "
            "their ends."
        )
        # An encoder is used to the end token; a completion that is cut does not end there.
        end = tokenizer.eos_token_id if column == "input_ids" else None
        cut = Cut(column, limit, end)
        dataset = dataset.map(cut, desc=f"Cutting the {name} set")
    return dataset


@dataclass(frozen=True)
class Cut:
    """Cuts a column to so many tokens, the last of which is the end token, where it was before."""

    column: str
    limit: int
    end: int | None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, list[int]]:
        """Return the column as it is then.

        Example:
            >>> Cut("input_ids", 3, end=1)({"input_ids": [5, 6, 7, 8, 1]})
            {'input_ids': [5, 6, 1]}
        """
        ids = list(row[self.column])
        if len(ids) > self.limit:
            is_ended = self.end is not None and ids[-1] == self.end
            ids = [*ids[: self.limit - 1], ids[-1]] if is_ended else ids[: self.limit]
        return {self.column: ids}


class Seq2SeqCollator:
    """Pads encoded rows on the right: an encoder with positions of its own counts them from the left."""

    def __init__(self, padding: int) -> None:
        """Keep the token that stands in empty places."""
        self.padding = padding

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch: `input_ids` and `attention_mask`, (batch, prompt); all other columns, (batch, completion).

        `labels` are -100 where there is nothing to say, `token_weights` 1 and `target_index` -1.
        """
        fillers: dict[str, float] = {"input_ids": self.padding, "labels": IGNORE_INDEX, ENCODER_DECODER: self.padding}
        fillers |= {"token_weights": 1.0, "target_index": -1} | dict.fromkeys(FLIP_TEXTS.values(), IGNORE_INDEX)
        batch = {
            name: _padded([example[name] for example in examples], filler)
            for name, filler in fillers.items()
            if name in examples[0]
        }
        batch["attention_mask"] = _padded([[1] * len(example["input_ids"]) for example in examples], 0)
        return batch


def _padded(rows: list[list[Any]], filler: float) -> torch.Tensor:
    width = max(map(len, rows))
    kind = torch.float32 if isinstance(filler, float) else torch.int64
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=kind)

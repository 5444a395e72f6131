"""The rows of a training run of an encoder-decoder: encoded, weighed, and numbered for a cache."""

from typing import Any
from urllib.parse import quote

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import ConfigurationError, InputError
from ..models.embedding_rows import refuse_tokens_without_rows
from ..training.rows.tokens import trained_token_counts, with_target_numbers, with_weights
from .config import CompatibilitySeq2SeqConfig
from .contrast import encoded_flips
from .data import encoded_rows, limits_of


class Seq2SeqRows:
    """Makes of the data sets that the user passed what [`CompatibilitySeq2SeqTrainer`] reads."""

    def __init__(self, args: CompatibilitySeq2SeqConfig, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """Start with nothing prepared."""
        self.args, self.model, self.tokenizer = args, model, tokenizer
        self.to_cache: dict[str, Dataset] = {}
        """Name of a data set -> its rows, numbered for the cache."""
        self.is_cache_sealed = False
        """Nothing more can be put into the cache."""

    def training(self, dataset: Any) -> Dataset:
        """Prepare the training set."""
        column = self.args.weight_column
        passed, dataset = dataset, self._encoded(dataset, "train", keep=() if column is None else (column,))
        flips = encoded_flips(passed, self.tokenizer) if self.args.contrast_flips else {}
        for name, tokens in flips.items():
            self._check_flips(name, tokens)
            dataset = dataset.add_column(name, tokens)
        if column is not None:
            dataset = with_weights(dataset, column).remove_columns(column)
        return self._numbered(dataset, "train")

    def evaluation(self, dataset: Any, name: str = "eval") -> Any:
        """Prepare an evaluation set, or several by name; None and the name of a prepared one stay what they are."""
        if dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):
            return {key: self.evaluation(part, key) for key, part in dataset.items()}
        return self._numbered(self._encoded(dataset, name), f"eval-{quote(name, safe='')}")

    def _encoded(self, dataset: Any, name: str, keep: tuple[str, ...] = ()) -> Dataset:
        longest = self.args.max_prompt_length, self.args.max_completion_length
        encoded = encoded_rows(dataset, self.tokenizer, self.model, name, longest=longest, keep=keep)
        for column in ("input_ids", "labels"):
            refuse_tokens_without_rows(encoded[column], self.tokenizer, self.model, what=f"The {name} set", role="new")
        return encoded

    def _check_flips(self, name: str, rows: list[list[int]]) -> None:
        refuse_tokens_without_rows(rows, self.tokenizer, self.model, what="The train set", role="new")
        (limit,) = limits_of(self.model, [self.args.max_completion_length])
        for number, tokens in enumerate(rows):
            if limit is not None and len(tokens) > limit:
                raise InputError(
                    f"Row {number} of the train set: the text of {name.removesuffix('_labels')} has {len(tokens)} "
                    f"tokens, and a completion has {limit} at most. Raise max_completion_length, or shorten the text."
                )

    def _numbered(self, dataset: Dataset, name: str) -> Dataset:
        """Number what is trained on, over all data sets, and keep the rows for the cache."""
        if self.args.teacher_cache == "none":
            return dataset
        if self.is_cache_sealed:
            raise ConfigurationError(
                "The teacher cache has no targets for this set. Pass it to the trainer as eval_dataset, by a "
                "name of its own if there are several, or evaluate without a cache."
            )
        start = sum(sum(trained_token_counts(rows)) for rows in self.to_cache.values())
        self.to_cache[name] = dataset
        return with_target_numbers(dataset, start)

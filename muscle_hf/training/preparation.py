"""The rows of a training run: encoded, aligned, mixed with unlabelled ones, numbered for a cache, cut and packed."""

import copy
from pathlib import Path
from typing import Any
from urllib.parse import quote

from accelerate.logging import get_logger
from datasets import Dataset
from trl import SFTTrainer
from trl.data_utils import get_dataset_column_names

from ..alignment.datasets import FIRST_CHUNK, OLD_COLUMNS, align_rows, chunk_counts, with_first_chunks
from ..alignment.vocabulary_map import VocabularyMap
from ..errors import ConfigurationError, InputError
from ..models.embedding_rows import refuse_tokens_without_rows
from .config import CompatibilityConfig
from .data import (
    TOKEN_COLUMNS,
    ColumnCollator,
    packed,
    trained_token_counts,
    truncated,
    warn_about_lost_tokens,
    with_target_numbers,
    with_weights,
)
from .hooks import prepare_rows
from .pair import ModelPair
from .unlabelled import answered_rows, mixed, with_given_teachers

logger = get_logger(__name__)


class RowsOfTraining(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """The part of [`CompatibilityTrainer`] that prepares data sets."""

    _pair: ModelPair
    _unlabelled: Dataset | None
    # Name of a data set -> its rows, numbered for the cache; sealed once the cache is opened.
    _rows_to_cache: dict[str, Dataset]
    _cache_is_open = False
    _training_set_is_prepared = False
    # Tokens of both models by identity, where they differ.
    _vocabulary: VocabularyMap | None = None

    def _prepare_dataset(
        self, dataset: Dataset, processing_class: Any, args: Any, packing: bool, formatting_func: Any, name: str
    ) -> Dataset:
        # The parent prepares the training set first; an evaluation set may be called "train" too.
        of_training, self._training_set_is_prepared = not self._training_set_is_prepared, True
        if not isinstance(dataset, Dataset):
            self._refuse_stream(dataset, args, name, of_training=of_training)
            return self._prepared(dataset, processing_class, args, formatting_func, name, packing=packing)
        dataset = self._encoded(dataset, processing_class, args, formatting_func, name, packing=packing)
        if of_training and args.weight_column is not None:
            dataset = with_weights(dataset, args.weight_column)
        if of_training and self._unlabelled is not None:
            unlabelled = self._encoded(self._unlabelled, processing_class, args, None, "unlabelled", packing=packing)
            dataset = mixed(dataset, with_given_teachers(unlabelled), args.unlabelled_ratio, args.seed)
        if not {*TOKEN_COLUMNS, *OLD_COLUMNS}.isdisjoint(dataset.column_names) or args.teacher_cache != "none":
            dataset = truncated(dataset, args, packing=packing)
            if args.teacher_cache != "none":
                dataset = self._numbered(dataset, args, "train" if of_training else f"eval-{quote(name, safe='')}")
            return packed(dataset, args, packing=packing)
        return self._prepared(dataset, processing_class, args, None, name, packing=packing)

    def _prepared(
        self, dataset: Any, processing_class: Any, args: Any, formatting_func: Any, name: str, *, packing: bool
    ) -> Any:
        options = {"tokenizer": processing_class, "formatting_func": formatting_func, "name": name}
        return prepare_rows(self, dataset, args, packing=packing, **options)

    def _encoded(
        self,
        dataset: Dataset,
        processing_class: Any,
        args: CompatibilityConfig,
        formatting_func: Any,
        name: str,
        *,
        packing: bool,
    ) -> Dataset:
        """Encode rows whole, so that what truncation takes away can be counted; nothing is lost in silence."""
        ours = {*TOKEN_COLUMNS, *OLD_COLUMNS, FIRST_CHUNK} & set(dataset.column_names)
        if ours:
            raise InputError(
                f"The {name} set has the columns {sorted(ours)}, whose names are used here for something else. Rename "
                "or remove them: dataset.remove_columns([...])."
            )
        whole = copy.copy(args)
        whole.max_length, whole.shuffle_dataset = None, False
        dataset = self._prepared(dataset, processing_class, whole, formatting_func, name, packing=False)
        keeps_ends = packing and args.packing_strategy != "bfd"
        warn_about_lost_tokens(dataset, None if keeps_ends else args.max_length, name)
        of_set = f"The {name} set"
        refuse_tokens_without_rows(dataset["input_ids"], processing_class, self._pair.student, what=of_set, role="new")
        if self._vocabulary is not None:
            self._vocabulary.check_tokens(dataset["input_ids"], processing_class)
        if args.alignment == "chunks":
            old_length = getattr(self._pair.old_config.get_text_config(), "max_position_embeddings", None)
            dataset, summary = align_rows(
                dataset,
                processing_class,
                self._pair.required_old_tokenizer(),
                text_field=args.dataset_text_field,
                chat_template=self.chat_template,
                max_length=args.max_length,
                old_length=old_length,
                processes=args.dataset_num_proc,
            )
            tokenizer, old = self._pair.required_old_tokenizer(), self._pair.old_outline()
            refuse_tokens_without_rows(dataset["old_input_ids"], tokenizer, old, what=of_set, role="old")
            logger.info(f"The {name} set: {summary}")
        return dataset

    def _refuse_stream(self, dataset: Any, args: CompatibilityConfig, name: str, *, of_training: bool) -> None:
        for option, is_used in (
            ("teacher_cache", args.teacher_cache != "none"),
            ("alignment", args.alignment != "tokens"),
            ("A pair of models with other embedding rows", self._vocabulary is not None),
            ("weight_column", of_training and args.weight_column is not None),
            ("unlabelled_dataset", of_training and self._unlabelled is not None),
        ):
            if is_used:
                raise ConfigurationError(
                    f"{option} needs data that are read in one order, and the {name} set is a "
                    f"{type(dataset).__name__}. Pass a datasets.Dataset, or leave the option out."
                )

    def _answered(self, prompts: Dataset, args: CompatibilityConfig) -> Dataset:
        """Let the teachers answer the unlabelled prompts; the main process asks, the others read what it kept."""
        longest = args.unlabelled_max_new_tokens
        with args.main_process_first(local=False, desc="answers to the unlabelled prompts"):
            return answered_rows(
                prompts,
                teacher=args.unlabelled_teacher,
                ask_old=self._pair.asker("old", args, longest),
                ask_new=self._pair.asker("new", args, longest),
                folder=Path(args.output_dir) / "unlabelled_answers",
                fingerprint=self._pair.fingerprint_of_answers(longest),
                block_size=args.per_device_eval_batch_size,
                show_progress=not args.disable_tqdm,
            )

    def _numbered(self, dataset: Dataset, args: CompatibilityConfig, name: str) -> Dataset:
        """Number what is trained on, over all data sets, and keep the rows for the cache."""
        if self._cache_is_open:
            raise ConfigurationError(
                "The teacher cache has no targets for this set. Pass it to the trainer as eval_dataset, by a "
                "name of its own if there are several, or evaluate without a cache."
            )
        counts = chunk_counts if args.alignment == "chunks" else trained_token_counts
        start = sum(sum(counts(rows)) for rows in self._rows_to_cache.values())
        self._rows_to_cache[name] = dataset
        return (with_first_chunks if args.alignment == "chunks" else with_target_numbers)(dataset, start)

    def _wrap_collator(self) -> None:
        """Let the collator take our columns along, where there are any."""
        self._collator_alone = self.data_collator
        if not {*TOKEN_COLUMNS, *OLD_COLUMNS}.isdisjoint(get_dataset_column_names(self.train_dataset)):
            self.data_collator: Any = ColumnCollator(self.data_collator)

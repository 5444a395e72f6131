"""The rows of a training run: encoded, aligned, mixed with unlabelled ones, numbered for a cache, cut and packed."""

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from accelerate import Accelerator
from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from trl.data_utils import get_dataset_column_names

from ..alignment.datasets import FIRST_CHUNK, OLD_COLUMNS, align_rows, chunk_counts, with_first_chunks
from ..alignment.vocabulary_map import VocabularyMap
from ..errors import ConfigurationError, InputError
from ..models.embedding_rows import refuse_tokens_without_rows
from ..models.in_step import in_step
from .checkpoints.kept_work import UNLABELLED_ANSWERS
from .config import CompatibilityConfig
from .hooks import prepare_rows, stand_in
from .old_endpoint import asker, old_endpoint
from .pair import ModelPair
from .rows.ids import embeddings_of, outputs_of, refuse_wrong_ids
from .rows.packing import packed, truncated
from .rows.tokens import TOKEN_COLUMNS, trained_token_counts, warn_about_lost_tokens, with_target_numbers, with_weights
from .rows.unlabelled import answered_rows, mixed, rows_needed, with_given_teachers

logger = get_logger(__name__)

OWN_COLUMNS = frozenset({*TOKEN_COLUMNS, *OLD_COLUMNS})
"""Columns that say something of single tokens; truncation, packing and collating take them along."""
_OF_TOKENS = ("labels", "attention_mask", "completion_mask", "assistant_masks")


class RowsOfRun:
    """Makes of the data sets that the user passed what a trainer reads.

    `tokenizer` is the student's, with the chat template that is trained with; `vocabulary` holds the tokens of both
    models by identity, where they differ; `unlabelled` gives answered prompts to mix with so many
    labelled rows.
    """

    def __init__(
        self,
        args: CompatibilityConfig,
        pair: ModelPair,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocabulary: VocabularyMap | None,
        unlabelled: Callable[[int], Dataset] | None,
        completion_only_loss: bool,
        chat_template: str | None,
        formatting_func: Callable[[dict[str, Any]], str] | None,
    ) -> None:
        """Start with nothing prepared."""
        self.args, self.pair, self.tokenizer, self.vocabulary = args, pair, tokenizer, vocabulary
        self.unlabelled, self.chat_template, self.formatting_func = unlabelled, chat_template, formatting_func
        self._encoder = stand_in(tokenizer, completion_only_loss=completion_only_loss, chat_template=chat_template)
        self._are_ready = bool((args.dataset_kwargs or {}).get("skip_prepare_dataset"))
        self.to_cache: dict[str, Dataset] = {}
        """Name of a data set -> its rows, numbered for the cache."""
        self.is_cache_sealed = False
        """Nothing more can be put into the cache."""
        self.unlabelled_rows = 0
        """Rows without labels in an epoch."""

    def training(self, dataset: Any) -> Any:
        """Prepare the training set."""
        args, packing = self.args, bool(self.args.packing)
        if self._are_ready:
            return dataset
        if not isinstance(dataset, Dataset):
            more = {"weight_column": args.weight_column, "unlabelled_dataset": self.unlabelled}
            self._refuse_stream(dataset, "train", **{name: value is not None for name, value in more.items()})
            return self._streamed(dataset, "train", packing=packing)
        dataset = self._encoded(dataset, "train", packing=packing, formatting_func=self.formatting_func)
        if args.weight_column is not None:
            dataset = with_weights(dataset, args.weight_column)
        if self.unlabelled is not None:
            labelled, answers = len(dataset), self.unlabelled(len(dataset))
            unlabelled = self._encoded(answers, "unlabelled", packing=packing, formatting_func=None)
            dataset = mixed(dataset, with_given_teachers(unlabelled), args.unlabelled_ratio, args.seed)
            self.unlabelled_rows = len(dataset) - labelled
        return self._finished(dataset, "train", kept_as="train", packing=packing)

    def evaluation(self, dataset: Any, name: str = "eval") -> Any:
        """Prepare an evaluation set, or several by name; None and the name of a prepared one stay what they are."""
        if self._are_ready or dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):
            return {key: self.evaluation(part, key) for key, part in dataset.items()}
        packing = bool(self.args.packing if self.args.eval_packing is None else self.args.eval_packing)
        if not isinstance(dataset, Dataset):
            self._refuse_stream(dataset, name)
            return self._streamed(dataset, name, packing=packing)
        dataset = self._encoded(dataset, name, packing=packing, formatting_func=self.formatting_func)
        return self._finished(dataset, name, kept_as=f"eval-{quote(name, safe='')}", packing=packing)

    def _as_trl_does(self, dataset: Any, args: Any, name: str, *, packing: bool, formatting_func: Any) -> Any:
        return prepare_rows(
            self._encoder,
            dataset,
            args,
            tokenizer=self.tokenizer,
            packing=packing,
            formatting_func=formatting_func,
            name=name,
        )

    def _streamed(self, dataset: IterableDataset, name: str, *, packing: bool) -> Any:
        """Prepare a stream: as TRL does, or aligned row by row as it is read."""
        formatting_func = self.formatting_func
        if self.args.alignment == "tokens":
            return self._as_trl_does(dataset, self.args, name, packing=packing, formatting_func=formatting_func)
        dataset = self._aligned(self._whole(dataset, name, formatting_func), name)
        tokenizer, old = self.pair.required_old_tokenizer(), self.pair.old_outline()

        def refuse(rows: dict[str, Any]) -> dict[str, Any]:
            refuse_tokens_without_rows(rows["old_input_ids"], tokenizer, old, what=f"The {name} set", role="old")
            return {}

        return packed(
            truncated(dataset.map(refuse, batched=True), self.args, packing=packing), self.args, packing=packing
        )

    def _whole(self, dataset: Any, name: str, formatting_func: Any) -> Any:
        """Encode rows whole: what truncation takes away can be counted, and both tokenizers see the same text."""
        ours = {*OWN_COLUMNS, FIRST_CHUNK} & set(get_dataset_column_names(dataset))
        if ours:
            raise InputError(
                f"The {name} set has the columns {sorted(ours)}, whose names are used here for something else. Rename "
                "or remove them: dataset.remove_columns([...])."
            )
        whole = copy.copy(self.args)
        whole.max_length, whole.shuffle_dataset = None, False
        return self._as_trl_does(dataset, whole, name, packing=False, formatting_func=formatting_func)

    def _encoded(self, dataset: Dataset, name: str, *, packing: bool, formatting_func: Any) -> Dataset:
        """Encode rows whole, so that what truncation takes away can be counted; nothing is lost in silence."""
        args, pair = self.args, self.pair
        if "input_ids" in dataset.column_names:
            sizes = embeddings_of(pair.student), outputs_of(pair.student)
            refuse_wrong_ids(dataset, *sizes, name, as_long=_OF_TOKENS)
        dataset = self._whole(dataset, name, formatting_func)
        keeps_ends = packing and args.packing_strategy != "bfd"
        warn_about_lost_tokens(dataset, None if keeps_ends else args.max_length, name)
        of_set = f"The {name} set"
        refuse_tokens_without_rows(dataset["input_ids"], self.tokenizer, pair.student, what=of_set, role="new")
        if self.vocabulary is not None:
            self.vocabulary.check_tokens(dataset["input_ids"], self.tokenizer)
        if args.alignment == "chunks":
            dataset = self._aligned(dataset, name)
            tokenizer, old = pair.required_old_tokenizer(), pair.old_outline()
            refuse_tokens_without_rows(dataset["old_input_ids"], tokenizer, old, what=of_set, role="old")
        return dataset

    def _aligned(self, dataset: Any, name: str) -> Any:
        """Align rows with the old model's own tokens, and say how much of them is."""
        dataset, summary = align_rows(
            dataset,
            self.tokenizer,
            self.pair.required_old_tokenizer(),
            text_field=self.args.dataset_text_field,
            chat_template=self.chat_template,
            max_length=self.args.max_length,
            old_length=getattr(self.pair.old_config.get_text_config(), "max_position_embeddings", None),
            processes=self.args.dataset_num_proc,
        )
        of = "" if isinstance(dataset, Dataset) else "of its first rows, "
        logger.info(f"The {name} set: {of}{summary or 'nothing is trained on'}")
        return dataset

    def _finished(self, dataset: Dataset, name: str, *, kept_as: str, packing: bool) -> Any:
        """Cut, number and pack encoded rows: as TRL does, where they have no columns of ours."""
        args = self.args
        has_cache = args.teacher_cache != "none"
        if OWN_COLUMNS.isdisjoint(dataset.column_names) and not has_cache:
            return self._as_trl_does(dataset, args, name, packing=packing, formatting_func=None)
        dataset = truncated(dataset, args, packing=packing)
        return packed(self._numbered(dataset, kept_as) if has_cache else dataset, args, packing=packing)

    def _numbered(self, dataset: Dataset, name: str) -> Dataset:
        """Number what is trained on, over all data sets, and keep the rows for the cache."""
        if self.is_cache_sealed:
            raise ConfigurationError(
                "The teacher cache has no targets for this set. Pass it to the trainer as eval_dataset, by a "
                "name of its own if there are several, or evaluate without a cache."
            )
        counts = chunk_counts if self.args.alignment == "chunks" else trained_token_counts
        start = sum(sum(counts(rows)) for rows in self.to_cache.values())
        self.to_cache[name] = dataset
        return (with_first_chunks if self.args.alignment == "chunks" else with_target_numbers)(dataset, start)

    def _refuse_stream(self, dataset: Any, name: str, **more: bool) -> None:
        used = {
            "teacher_cache": self.args.teacher_cache != "none",
            "A pair of models with other embedding rows": self.vocabulary is not None,
        } | more
        for option, is_used in used.items():
            if is_used:
                raise ConfigurationError(
                    f"{option} needs data that are read in one order, and the {name} set is a "
                    f"{type(dataset).__name__}. Pass a datasets.Dataset, or leave the option out."
                )


def answered(
    pair: ModelPair, prompts: Dataset, args: CompatibilityConfig, accelerator: Accelerator, labelled: int
) -> Dataset:
    """Let the teachers answer the unlabelled prompts that are mixed with so many labelled rows.

    Every process asks its share, and all get all answers.
    """
    needed = rows_needed(labelled, args.unlabelled_ratio)
    longest, block = args.unlabelled_max_new_tokens, args.per_device_eval_batch_size
    ask_old = pair.asker("old", args, longest, accelerator)
    fingerprint = pair.fingerprint_of_answers(longest)

    def together(role: str) -> AbstractContextManager[None]:
        return nullcontext() if role == "old" and endpoint else in_step(pair.ready_to_ask(role, accelerator))

    if (endpoint := old_endpoint(args)) is not None:
        ask_old, block = asker(endpoint, longest), max(block, endpoint.at_once)
        fingerprint["old"] = json.dumps(endpoint.identity)
    return answered_rows(
        prompts,
        teacher=args.unlabelled_teacher,
        ask_old=ask_old,
        ask_new=pair.asker("new", args, longest, accelerator),
        together=together,
        folder=Path(args.output_dir) / UNLABELLED_ANSWERS,
        fingerprint=fingerprint,
        block_size=block,
        show_progress=not args.disable_tqdm,
        needed=needed,
        seed=args.seed,
    )

"""DPO on single steps: rejected ends where the step does, without an end token that would teach about ending."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, IterableDataset
from trl import DPOTrainer

from ..errors import ConfigurationError, InputError
from ..text import how_many, listed, quote
from .hooks import send_nothing
from .rows.step_pairs import IDS

__all__ = ["StepDPOTrainer"]


class StepDPOTrainer(DPOTrainer):  # type: ignore[misc]  # trl is untyped
    """A `trl.DPOTrainer` for the pairs of `step_pairs(…, end="step")`, which takes their tokens as they are.

    TRL puts an end token behind chosen and rejected alike. Behind a step that is not the last it would teach the model
    not to end there, which it never did: the easiest way to lower the loss, and no word on the step. Here chosen ends
    where the model ended, and rejected does not end. Everything else, the loss included, is TRL's.

    Args:
        *args: As in [`trl.DPOTrainer`].
        **kwargs: Likewise; `train_dataset` and `eval_dataset` are what `step_pairs(values, end="step")` gives.

    Raises:
        InputError: A data set without token ids, an empty one, pairs with an empty side or two equal ones, or pairs
            longer than `max_length`, which TRL would cut.
        ConfigurationError: An encoder-decoder.

    Example:
        >>> pairs = muscle_hf.step_pairs(values, end="step")  # doctest: +SKIP
        >>> StepDPOTrainer(model, args=trl.DPOConfig("out"), train_dataset=pairs).train()  # doctest: +SKIP
    """

    _send_telemetry = send_nothing

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse an empty data set, and make the trainer."""
        dataset = kwargs.get("train_dataset", args[4] if len(args) > 4 else None)
        validation = kwargs.get("eval_dataset", args[5] if len(args) > 5 else None)
        if dataset is None:
            raise InputError("train_dataset is missing; give what step_pairs(values, end='step') returns.")
        sets = {"eval_dataset": validation} if not isinstance(validation, dict) else validation
        for name, pairs in ({"train_dataset": dataset} | sets).items():
            _refuse_unless_pairs(name, pairs)
        super().__init__(*args, **kwargs)
        if self.model.config.is_encoder_decoder:
            raise ConfigurationError(
                "The model is an encoder-decoder, and StepDPOTrainer trains causal language models, whose steps stand "
                "behind the prompt. Pass one."
            )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Take pairs of tokens as they are, where TRL would make them of texts."""
        _refuse_unless_pairs(f"the {dataset_name} data set", dataset)
        columns = dataset.column_names
        if not {*IDS} <= {*columns}:
            raise InputError(
                f"the {dataset_name} data set has the columns {listed(columns or ())}, but pairs of steps have "
                f"{', '.join(IDS)}: make them with step_pairs(values, end='step'). Pairs of texts are for "
                "trl.DPOTrainer."
            )
        rows = dataset.with_format(None)  # lists, whatever the trainer reads
        for number, row in enumerate(rows):
            _refuse_no_pair(row, f"row {number} of the {dataset_name} data set")
        longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
        if args.max_length is not None and longest > args.max_length:
            raise InputError(
                f"the longest pair of the {dataset_name} data set has {how_many(longest, 'token')}, but max_length is "
                f"{args.max_length}, and a step that is cut off is none; raise max_length, or leave such pairs out."
            )
        largest = max(max(row[name], default=0) for row in rows for name in IDS)
        if largest >= len(processing_class):
            raise InputError(
                f"the {dataset_name} data set has the token id {largest}, but the tokenizer has "
                f"{how_many(len(processing_class), 'token')}: the pairs are of another model. Make them with "
                "step_values of this one."
            )
        return dataset


def _refuse_no_pair(row: Mapping[str, Any], what: str) -> None:
    """Refuse a pair with a side that says nothing, or the same as the other: it would teach half, or nothing."""
    for name in IDS:
        if row[name] is None or min(row[name], default=0) < 0:
            raise InputError(f"{what}: {name} is {quote(row[name])}; a list of token ids of 0 and more is needed.")
    for name in IDS[1:]:
        if not row[name]:
            raise InputError(f"{what}: {name} has no tokens, so there is nothing to compare; leave the pair out.")
    if row["chosen_ids"] == row["rejected_ids"]:
        raise InputError(f"{what}: chosen_ids and rejected_ids are the same, which teaches nothing; leave it out.")


def _refuse_unless_pairs(name: str, pairs: Any) -> None:
    if isinstance(pairs, Dataset) and not len(pairs):
        raise InputError(f"{name} has no pairs; its description (`.info` of the data set) says why.")
    if isinstance(pairs, IterableDataset | list):
        raise InputError(f"{name} is of the kind {type(pairs).__name__}; give what step_pairs returns.")

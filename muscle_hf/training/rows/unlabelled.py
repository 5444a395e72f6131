"""Rows without labels: prompts that the old, the new or the surer model answers, mixed with the labelled rows.

Both models know the labelled set by heart, so what they disagree on is not in it. On prompts without labels the
student learns from the model that answers. The prompts are asked once: the answers are kept on disk as JSON Lines,
batch by batch, so a run that was killed, or one with more prompts, asks only for what is missing.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets

from ...alignment.datasets import OLD_COLUMNS
from ...errors import ConfigurationError, InputError, unknown_option
from ...losses.compatibility import NEW, OLD, PRODUCT
from ...prediction.kept_answers import AnswersByPrompt, Ask, prompt_key
from ...prediction.layouts import RENAME
from ...prediction.prompts import Prompt
from ...prediction.questions import described, read_unlabelled
from .checks import prompts_of
from .tokens import TOKEN_COLUMNS

logger = logging.getLogger(__name__)

UNLABELLED_TEACHERS = {
    "old": "the old model",
    "new": "the new model: self-distillation, a control",
    "more_confident": "for each prompt the model whose answer has the higher mean log-likelihood a token",
    "product": "the answer of the more confident model, learned from the product of both models' probabilities",
}


def check_unlabelled(dataset: Any, *, teacher: str, labelled: Any = None) -> Dataset:
    """Read unlabelled rows, and refuse those that cannot be learned from; to be called before any model is loaded.

    A column `completion` beside `prompt` holds the old model's answers and is kept. Rows that share a prompt with the
    labelled ones are kept too, and counted in a warning; a labelled set whose prompts do not stand alone (plain text,
    a stream) is not looked at.
    """
    if teacher not in UNLABELLED_TEACHERS:
        raise unknown_option("unlabelled_teacher", teacher, UNLABELLED_TEACHERS)
    refuse_other_kinds(dataset, needs="a column prompt")
    layout, rows = read_unlabelled(
        dataset.to_list(),
        "unlabelled_dataset",
        place="unlabelled_dataset, row {}".format,
        names=dataset.column_names,
        way_out=RENAME,
    )
    logger.log(
        logging.INFO if layout.is_plain else logging.WARNING, f"unlabelled_dataset: {described(layout, rows[0])}"
    )
    has_answers = rows[0].answer is not None
    if has_answers and teacher not in ("old", "product"):
        raise ConfigurationError(
            f"unlabelled_dataset has a column completion, which is taken for the old model's answers, but "
            f'unlabelled_teacher={teacher!r}. Set it to "old" or "product", or remove the column to have the prompts '
            "answered."
        )
    read = Dataset.from_list(
        [{"prompt": row.prompt, **({"completion": row.answer} if has_answers else {})} for row in rows]
    )
    _warn_about_shared_prompts(read, labelled)
    return read


def warn_about_weights(dataset: Dataset, column: str | None) -> None:
    """Say so where unlabelled rows have the column of weights, which is read of labelled rows alone."""
    if column is not None and column in (dataset.column_names or ()):
        logger.warning(
            f"The weights of unlabelled_dataset ({column}) are not read: weight_column is of the training set, and "
            "each unlabelled row counts as one of weight 1."
        )


def refuse_other_kinds(dataset: Any, *, needs: str) -> None:
    """Refuse what cannot be mixed in by the number of its rows, and say which column a data set `needs`."""
    if isinstance(dataset, IterableDataset):
        raise InputError(
            "unlabelled_dataset is a stream, whose rows can be neither asked once and kept nor mixed in by their "
            "number. Load it without streaming=True, or keep a part: Dataset.from_list(list(stream.take(10_000)))."
        )
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"unlabelled_dataset is a {type(dataset).__name__}; a datasets.Dataset with {needs} is needed."
        )


def answered_rows(
    dataset: Dataset,
    *,
    teacher: str,
    ask_old: Ask,
    ask_new: Ask,
    folder: Path,
    fingerprint: Mapping[str, Any],
    block_size: int,
    show_progress: bool,
    needed: int | None = None,
    seed: int = 0,
    together: Callable[[str], AbstractContextManager[Any]] = lambda role: nullcontext(),
) -> Dataset:
    """Give every prompt, or so many as are `needed`, the answer of the model that it is to be learned from.

    Where fewer are needed than there are, they are drawn with the seed, and the others are not asked; for a prompt
    whose answer did not end, the next one of the same drawing is asked.

    A prompt that stands in several rows is asked once; of two equally sure models the old one answers. Where a column
    `completion` holds the old model's answers, nothing is asked and nothing is kept. Of several processes each asks
    its share, and all get all answers. They are kept in the folder, in `old-<digest>/answers.jsonl` and `new-...`
    likewise: `fingerprint` is what decides an answer besides the prompt, as JSON holds it (the models under "old" and
    "new" each count for their own answers only), and `block_size` prompts are asked before their answers are kept. All
    processes enter `together("old")`, or "new", to ask.

    The rows keep their order and have the columns `prompt`, `completion` (an assistant message where the prompt is a
    conversation) and `teacher` (`losses.OLD`, `NEW` or `PRODUCT`, int64). Prompts whose answer did not end are left
    out, with a warning: an end token would be put after them, and the student would learn to stop halfway.
    """
    dataset = check_unlabelled(dataset, teacher=teacher)
    prompts: list[Prompt] = list(dataset["prompt"])
    wanted = len(prompts) if needed is None else min(needed, len(prompts))
    drawn: list[int] = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    if wanted < len(prompts):
        logger.info(
            f"{wanted} of {len(prompts)} rows of unlabelled_dataset are drawn with seed {seed}, the same in every "
            "epoch; the others are not asked."
        )
    if "completion" in dataset.column_names:
        logger.info("%d rows of unlabelled_dataset bring their answers, taken for the old model's.", len(prompts))
        rows, logged = sorted(drawn[:wanted]), list(dataset["completion"])
        completions = [_as_completion(prompts[row], logged[row]) for row in rows]
        return _answered(dataset, rows, completions, [PRODUCT if teacher == "product" else OLD] * wanted)
    asked = [teacher] if teacher in ("old", "new") else ["old", "new"]
    kept = [AnswersByPrompt(folder, role, fingerprint) for role in asked]
    chosen: dict[int, tuple[str, dict[str, Any]]] = {}
    ended: list[int] = []
    # What has no end is left out, and the next rows are asked in its place, unless none had one.
    while len(ended) < wanted and len(chosen) < len(prompts) and (ended or not chosen):
        rows = sorted(drawn[len(chosen) :][: wanted - len(ended)])
        answers = [
            of_model.of(
                prompts,
                rows,
                ask_old if of_model.role == "old" else ask_new,
                block_size,
                show_progress=show_progress,
                together=partial(together, of_model.role),
            )
            for of_model in kept
        ]
        # Of equal ones `max` takes the first, the old model.
        of_rows = [max(zip(asked, of_row, strict=True), key=_confidence) for of_row in zip(*answers, strict=True)]
        chosen |= zip(rows, of_rows, strict=True)
        ended = sorted(row for row, (_, answer) in chosen.items() if answer["finished"])
    if len(ended) < len(chosen):
        lost = f"{len(chosen) - len(ended)} of {len(chosen)} answers to unlabelled_dataset did not end"
        if not ended:
            raise InputError(f"{lost} within unlabelled_max_new_tokens, which leaves nothing to learn. Raise it.")
        logger.warning(f"{lost} within unlabelled_max_new_tokens; their rows are left out. Raise it to keep them.")
    return _answered(
        dataset,
        ended,
        [_as_completion(prompts[index], chosen[index][1]["completion"]) for index in ended],
        [PRODUCT if teacher == "product" else OLD if chosen[index][0] == "old" else NEW for index in ended],
    )


def with_given_teachers(encoded: Dataset) -> Dataset:
    """Say at every token whom its row is learned from, since packing keeps only what stands at every token."""
    return encoded.map(lambda row: {"given_teachers": [row["teacher"]] * len(row["input_ids"])})


def mixed(labelled: Dataset, unlabelled: Dataset, ratio: float | None, seed: int) -> Dataset:
    """Put encoded rows into one data set: the labelled ones in their order, then unlabelled ones.

    The ratio is that of unlabelled rows to labelled ones. Where there are fewer, all of them are repeated as often as
    needed; where there are more, the same part of them, drawn with the seed, is taken in every epoch. None: each of
    them once. A labelled token has no given teacher (0: the mask decides); where only one side has `token_weights`,
    the other's are 1.
    """
    rows = rows_to_mix_in(len(labelled), len(unlabelled), ratio, seed)
    names = ["input_ids", "labels", "given_teachers"]
    names += ["token_weights"] if "token_weights" in {*labelled.column_names, *unlabelled.column_names} else []
    names += [name for name in ("chunk_ids", *OLD_COLUMNS) if name in labelled.column_names]
    labelled, unlabelled = _with_columns(labelled, names), _with_columns(unlabelled, names)
    # Such as int64 for int32, where one side was encoded elsewhere.
    unlabelled = unlabelled.cast(labelled.features)
    return concatenate_datasets([labelled, unlabelled.select(rows)])


def check_ratio(ratio: float | None) -> None:
    """Refuse a ratio of unlabelled to labelled rows that is no number above 0; None stands for all rows, once."""
    # True would pass for 1; NaN is not above 0.
    is_number = isinstance(ratio, int | float) and not isinstance(ratio, bool) and math.isfinite(ratio)
    if ratio is not None and not (is_number and ratio > 0):
        raise ConfigurationError(
            f"unlabelled_ratio={ratio!r} must be a number above 0, the unlabelled rows for each labelled one, or None "
            "for all of them."
        )


def rows_needed(labelled: int, ratio: float | None) -> int | None:
    """Return the number of unlabelled rows that an epoch has; None for all of them, once."""
    check_ratio(ratio)
    count = None if ratio is None else round(ratio * labelled)
    if count == 0:
        raise ConfigurationError(
            f"unlabelled_ratio={ratio!r} with {labelled} labelled rows gives no unlabelled row. Raise it, or "
            "leave unlabelled_dataset out."
        )
    return count


def rows_to_mix_in(labelled: int, unlabelled: int, ratio: float | None, seed: int) -> list[int]:
    """Choose the unlabelled rows of an epoch, by the numbers of labelled and unlabelled ones; see [`mixed`]."""
    count = rows_needed(labelled, ratio) or unlabelled
    passes, rest = divmod(count, unlabelled)
    # In their order, which is how a disk likes it; the trainer shuffles.
    part: list[int] = np.sort(np.random.default_rng(seed).permutation(unlabelled)[:rest]).tolist()
    logger.info(
        f"{labelled} labelled and {count} unlabelled rows an epoch, of {unlabelled} unlabelled ones: "
        f"{passes} times all of them, and {rest} drawn with seed {seed}, the same in every epoch."
    )
    return [*range(unlabelled)] * passes + part


def _with_columns(encoded: Dataset, names: Sequence[str]) -> Dataset:
    """Keep these columns, and fill up the missing ones among ours as padding is."""
    for name in names:
        if name not in encoded.column_names:
            filler = TOKEN_COLUMNS[name]
            encoded = encoded.map(lambda row, name=name, filler=filler: {name: [filler] * len(row["input_ids"])})
    return encoded.select_columns(list(names))


def _confidence(of_model: tuple[str, dict[str, Any]]) -> float:
    """Give `Answers.mean_log_likelihoods` of one answer."""
    return float(of_model[1]["log_likelihood"] / of_model[1]["tokens"])


def _answered(dataset: Dataset, rows: Sequence[int], completions: list[Any], teachers: list[int]) -> Dataset:
    kept = dataset.select_columns(["prompt"]).select(rows)
    return kept.add_column("completion", completions).add_column("teacher", teachers)


def _as_completion(prompt: Prompt, completion: str) -> Any:
    """Give an answer in the form of its prompt: a text, or a message of the assistant."""
    return completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]


def _warn_about_shared_prompts(dataset: Dataset, labelled: Any) -> None:
    known = {prompt_key(prompt) for prompt in prompts_of(labelled)}
    warn_about_shared_rows(sum(prompt_key(prompt) in known for prompt in dataset["prompt"]), len(dataset), "prompt")


def warn_about_shared_rows(shared: int, rows: int, what: str) -> None:
    """Say how many of the unlabelled rows, if any, have a prompt or a text that is trained on with its label too."""
    if shared:
        logger.warning(
            f"{shared} of {rows} rows of unlabelled_dataset have a {what} that train_dataset has as well. "
            "They are kept: the student learns both from the label and from the model that answers."
        )

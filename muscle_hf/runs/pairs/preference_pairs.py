"""Negative flips as preference pairs: a right answer preferred to the new model's wrong one, for `trl.DPOTrainer`.

A flip is a training example of two answers to one question. Rejected is always what the new model wrote, so that it is
a text which that model gives.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...flips.answers.judged import Judge, judge_of, judged, rows_of
from ...text import listed, one_line, quote
from ..instance import Instance
from ..outcomes import Outcomes
from .pair_set import OLD, REFERENCE, SAMPLE, Pair, PairSet, check_ratio
from .prompts import check_prompt, prompt_of, refuse_held_out

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

__all__ = ["flip_pairs", "pairs_of_comparison"]

FROM_FILES = (OLD, REFERENCE)
"""What may be chosen where the answers are those of files."""
_CHOICES = ("new_sample_first", *FROM_FILES)
_NO_TEXT = "without the whole text of an answer"
_WITH_TEXTS = (
    "generated answers of lm-evaluation-harness (--log_samples), lighteval, Inspect, HELM, EvalScope, OpenCompass, "
    "OpenAI evals, HumanEval and EvalPlus have them, and tables with a column `response`; where the answers of a "
    "table are all that the model wrote, as those of `muscle-hf predict`, say so with --columns response=prediction "
    '(columns={"response": "prediction"})'
)


def flip_pairs(
    *,
    prompts: Sequence[Any],
    old: Sequence[str | None],
    new: Sequence[str | None],
    references: Sequence[Any],
    judge: Judge | None = None,
    chosen: str = "new_sample_first",
    samples: Iterable[Sequence[str] | None] | None = None,
    held_out: Iterable[Any] | None = None,
    max_length_ratio: float | None = None,
) -> "Dataset":
    """Make preference pairs of the questions that the old model answers rightly and the new one wrongly.

    Rejected is the new model's answer. What is left out, and how much longer chosen answers are than rejected ones, is
    logged, and is the description of the data set (`pairs.info.description`).

    Args:
        prompts: What the models were asked, shape (n,): texts, or conversations of messages with `role` and `content`.
        old: The whole texts of the old model's answers, shape (n,), None where it gave none.
        new: Those of the new model.
        references: The right answers, shape (n,).
        judge: Says of an answer and its reference whether it is right, True or False. None: it equals the reference,
            but for the white space around it.
        chosen: "new_sample_first": the first sample of the new model that is right, else the old answer. "old": the
            old answer. "reference": the right answer as it is given.
        samples: Answers of the new model to each prompt, shape (n, k), as `sample_answers` gives them, for
            "new_sample_first"; None or empty for a prompt that was not asked. Those that were cut off are not taken.
        held_out: Prompts of the test set, or its rows, such as a `flips_dataset`: pairs of these are refused.
        max_length_ratio: Leave out pairs in which one answer is more than so many times as long as the other, in words
            (in characters where texts have no spaces); from 1 up. None: keep all.

    Returns:
        A data set with `prompt`, `chosen`, `rejected`, `id` (the place of the prompt, from 0) and `chosen_from`
        ("old", "new_sample", "reference"), as `trl.DPOTrainer` takes it; answers to conversations are messages too.
        It is empty, with these columns, where nothing flipped.

    Raises:
        InputError: Unequal lengths, a prompt that asks nothing, a judge that gives no bool, samples that would not be
            used, a question of the test set.
        MissingPackageError: datasets is not installed.

    Example:
        >>> import muscle_hf
        >>> pairs = muscle_hf.flip_pairs(
        ...     prompts=["2 + 2 =", "3 + 3 ="], old=[" It is 4", " It is 6"], new=[" It is 4", " It must be 9"],
        ...     references=["4", "6"], judge=lambda answer, right: answer.endswith(right),
        ...     samples=[[" 4"], [" Seven", " 6"]])
        >>> pairs[:]["chosen"], pairs[:]["rejected"], pairs[:]["chosen_from"]
        ([' 6'], [' It must be 9'], ['new_sample'])
    """
    if chosen not in _CHOICES:
        raise InputError(f"chosen is {quote(chosen)}, but must be one of {listed(map(quote, _CHOICES))}.")
    check_ratio(max_length_ratio)
    columns = {"prompts": prompts, "old": old, "new": new, "references": references}
    notes = []
    # The texts of `Samples` say by themselves which of them ended.
    finished = getattr(samples, "finished", None)
    if chosen != "new_sample_first" and samples is not None:
        raise InputError(f"samples would be ignored with chosen={chosen!r}; take chosen='new_sample_first'.")
    if samples is not None:
        columns["samples"] = samples = [_samples(row, f"samples[{place}]") for place, row in enumerate(samples)]
    elif chosen == "new_sample_first":
        notes.append("there are no samples of the new model, so the old answers are chosen")
    n = rows_of(columns)
    right_by = judge_of(judge, references)
    asked = [check_prompt(prompt, f"prompts[{place}]") for place, prompt in enumerate(prompts)]
    flips = []
    for place in range(n):
        before, after = (_text(name, place, columns[name][place]) for name in ("old", "new"))
        right = before is not None and judged(right_by, before, references[place], f"old[{place}]")
        if right and (after is None or not judged(right_by, after, references[place], f"new[{place}]")):
            flips.append(place)
    if held_out is not None:
        refuse_held_out([asked[place] for place in flips], held_out, "held_out")
    pairs, left_out = [], Counter[str]()
    for place in flips:
        text, source = old[place], OLD
        if chosen == REFERENCE:
            text, source = _text("references", place, references[place]), REFERENCE
        elif samples is not None:
            for number, sample in enumerate(samples[place] or ()):
                is_whole = finished is None or bool(finished[place][number])
                if is_whole and judged(right_by, sample, references[place], f"samples[{place}][{number}]"):
                    text, source = sample, SAMPLE
                    break
        if text is None or new[place] is None:
            left_out[_NO_TEXT] += 1
            continue
        pairs.append(Pair(asked[place], text, str(new[place]), place, source))
    return _told(PairSet.of(pairs, len(flips), left_out, max_length_ratio, notes))


def pairs_of_comparison(
    outcomes: Outcomes,
    task: str | None = None,
    chosen: str = OLD,
    max_length_ratio: float | None = None,
    held_out: Iterable[Any] | None = None,
    *,
    held_out_name: str = "held_out",
) -> PairSet:
    """Make pairs of the negative flips of a comparison, see `RunComparison.preference_pairs`."""
    if chosen not in FROM_FILES:
        way_out = "; samples are taken by muscle_hf.flip_pairs(…, samples=…)" if chosen in _CHOICES else ""
        raise InputError(f"chosen is {quote(chosen)}, but must be {' or '.join(map(quote, FROM_FILES))}{way_out}.")
    check_ratio(max_length_ratio)
    tasks = _tasks(outcomes, task)
    several = len(outcomes.tasks) > 1
    left_out, whole, prompts = Counter[str](), [], []
    flips = 0
    for name in tasks:
        places = outcomes.compared[name].negative_flips
        flips += len(places)
        for flip in outcomes.instances(name, np.asarray(places)):
            text = flip.old_response if chosen == OLD else flip.reference
            if flip.question is None or not flip.question.strip():
                left_out["without a question"] += 1
                continue
            prompts.append(prompt_of(flip.question))
            if text is None or flip.new_response is None:
                left_out[_NO_TEXT] += 1
                continue
            whole.append(Pair(prompts[-1], text, flip.new_response, _id(flip, several), chosen))
    if held_out is not None:
        refuse_held_out(prompts, held_out, held_out_name)
    if flips and not whole:
        raise InputError(_nothing_whole(outcomes, left_out))
    if len({type(pair.id) for pair in whole}) > 1:
        whole = [replace(pair, id=str(pair.id)) for pair in whole]
    scored = [part.name for part in outcomes.tasks if part.has_scores]
    notes = [f"no pairs of {listed(scored)}: scores say of no answer that it is right"] if scored and not task else []
    return PairSet.of(whole, flips, left_out, max_length_ratio, notes)


def _told(made: PairSet) -> "Dataset":
    dataset = made.dataset()
    for line in made.lines:
        logger.warning(line)
    return dataset


def pairs_as_dataset(outcomes: Outcomes, *options: Any) -> "Dataset":
    """Give the pairs of a comparison as a data set, and log what is told of them."""
    return _told(pairs_of_comparison(outcomes, *options))


def _tasks(outcomes: Outcomes, task: str | None) -> list[str]:
    has_scores = {part.name: part.has_scores for part in outcomes.tasks}
    if task is not None and task not in has_scores:
        raise InputError(f"there is no task {quote(task)} in the comparison; it has {listed(has_scores)}.")
    tasks = [name for name in has_scores if not has_scores[name] and task in (None, name)]
    if not tasks:
        raise InputError(
            f"{'the comparison' if task is None else task} has scores, which say of no answer that it is right; pairs "
            "need right and wrong answers."
        )
    return tasks


def _nothing_whole(outcomes: Outcomes, left_out: Mapping[str, int]) -> str:
    sources = " and ".join(dict.fromkeys(outcomes.sources))
    if not left_out.get(_NO_TEXT):
        return (
            f"{sources} have no question beside the answers that flipped, and a pair begins with what the models were "
            "asked; name its column with --columns question=NAME."
        )
    return (
        f"{sources} have not the whole texts of the answers that flipped, only what was taken out of them to be "
        f"compared, and models are trained on what they write: {_WITH_TEXTS}."
    )


def _id(flip: Instance, several: bool) -> str | int:
    return f"{flip.task}:{flip.id}" if several else flip.id


def _text(name: str, place: int, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name}[{place}] is {quote(value)}; give the whole text of the answer, or None.")
    return value


def _samples(row: Any, name: str) -> list[str]:
    """Take the samples of one prompt; a text is none, though it is a sequence of texts."""
    samples = [row] if isinstance(row, str) or not isinstance(row, Iterable) else list(row)
    if row is None:
        return []
    if isinstance(row, str) or not all(isinstance(sample, str) for sample in samples):
        raise InputError(f"{name} is {one_line(repr(row))}; give a list of texts for each prompt.")
    return samples

"""Pairs that differ from one step of an answer on: a right way to go on preferred to the step that went wrong."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from datasets import Dataset, DatasetInfo, Features, List, Value

from ...errors import ConfigurationError, InputError
from ...prediction.step_values import Rollout, StepValues
from ...runs.pairs.pair_set import ROLLOUT, Pair, PairSet
from ...runs.pairs.prompts import check_prompt, refuse_held_out
from ...text import how_many, quote

logger = logging.getLogger(__name__)

__all__ = ["step_pairs"]

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""The columns of token ids, as TRL names them once it has made them of texts."""
_ENDS = ("rest", "step")


def step_pairs(
    values: Sequence[StepValues],
    end: str = "rest",
    *,
    held_out: Iterable[Any] | None = None,
    max_length_ratio: float | None = None,
) -> Dataset:
    """Make a preference pair of each wrong answer with a pit: a right rollout from before it, and what was written.

    Question and steps before the pit are the prompt of both, so that the pair says which step it was, and chosen is
    the model's own. With `end="step"` rejected ends at the pit (arXiv 2406.14532, with the shared beginning that its
    theorem asks for). What is left out, and how much longer chosen texts are than rejected ones, is logged, and is
    the description of the data set.

    Args:
        values: What `step_values` gives.
        end: "rest": rejected is the whole rest of the answer; plain `trl.DPOTrainer` trains on these texts. "step":
            rejected is the one step, as token ids for [`StepDPOTrainer`], which puts no end behind it. Plain
            `DPOTrainer` would, and teach about ending: it fails on these, since they have no texts.
        held_out: Prompts of the test set, or its rows, such as a `flips_dataset`: pairs of these are refused.
        max_length_ratio: With "rest", leave out pairs in which one side is more than so many times as long as the
            other, as in `flip_pairs`.

    Returns:
        For "rest" a data set with `prompt`, `chosen`, `rejected`, `id` (the place in `values`) and `chosen_from`
        ("rollout"), so that it can be joined to that of `flip_pairs`; for "step" with `prompt_ids`, `chosen_ids` (up
        to the end token), `rejected_ids`, `id` and `chosen_from`. It is empty, with these columns, without pairs.

    Raises:
        ConfigurationError: Another `end`, or a length ratio that would be ignored.
        InputError: Something else than step values, or a question of the test set.

    Example:
        >>> values = muscle_hf.step_values(model, tokenizer, prompts, answers, judge=judge)  # doctest: +SKIP
        >>> pairs = muscle_hf.step_pairs(values)  # doctest: +SKIP
        >>> trl.DPOTrainer(model, args=args, train_dataset=pairs).train()  # doctest: +SKIP
    """
    if end not in _ENDS:
        raise ConfigurationError(f"end is {quote(end)}, but must be one of {', '.join(map(quote, _ENDS))}.")
    if end == "step" and max_length_ratio is not None:
        raise ConfigurationError(
            "max_length_ratio would be ignored with end='step', where rejected is one step; leave it out."
        )
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"values is {quote(values)}; give the list that step_values returns.")
    wrong = Counter[str]()
    whole: list[tuple[int, StepValues, int, Rollout]] = []
    asked: list[Any] = []
    for place, each in enumerate(values):
        if not isinstance(each, StepValues):
            raise InputError(f"values[{place}] is {quote(each)}; give what step_values returns.")
        if each.right:
            continue
        asked.append(each.prompt)
        pit = each.pit
        if pit is None:
            wrong["of one step only" if len(each.steps) == 1 else "in which no step stands out"] += 1
            continue
        chosen = next((rollout for rollout in each.rollouts[pit] if rollout.right), None)
        if chosen is None:
            wrong["without a right rollout from before the pit"] += 1
            continue
        whole.append((place, each, pit, chosen))
    if held_out is not None:
        checked = [check_prompt(prompt, f"the prompt of wrong answer {place}") for place, prompt in enumerate(asked)]
        refuse_held_out(checked, held_out, "held_out", "wrong answer")
    right = len(values) - len(asked)
    notes = [f"no pairs of {how_many(right, 'right answer')}"] if right else []
    texts = []
    for place, each, pit, chosen in whole:
        rejected = each.steps[pit:] if end == "rest" else each.steps[pit : pit + 1]
        before = each.question + "".join(each.steps[:pit])
        texts.append(Pair(before, chosen.text, "".join(rejected), place, ROLLOUT))
    made = PairSet.of(texts, len(asked), wrong, max_length_ratio, notes, "wrong answer")
    for line in made.lines:
        logger.warning(line)
    if end == "rest":
        return made.dataset()
    kept = {pair.id for pair in made.pairs}
    rows = [_ids(*row) for row in whole if row[0] in kept]
    ids = Features(dict.fromkeys(IDS, List(Value("int64"))))
    features = Features(ids | {"id": Value("int64"), "chosen_from": Value("string")})
    columns = {name: [row[name] for row in rows] for name in features}
    return Dataset.from_dict(columns, features, DatasetInfo(description="\n".join(made.lines), features=features))


def _ids(place: int, values: StepValues, pit: int, chosen: Rollout) -> dict[str, Any]:
    """Give a pair as tokens: as they were drawn, with the end that the model wrote."""
    before, after = values.tokens[pit], values.tokens[pit + 1]
    # Tokens may merge where a step begins; then the prompt ends before that, as in TRL.
    shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(before, after, strict=False)))
    return {
        "prompt_ids": list(before[:shared]),
        "chosen_ids": [*before[shared:], *chosen.tokens, chosen.end],
        "rejected_ids": list(after[shared:]),
        "id": place,
        "chosen_from": ROLLOUT,
    }

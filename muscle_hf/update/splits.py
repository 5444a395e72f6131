"""The rows split, so that no test question is trained on, and as the trainings take them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..errors import InputError
from ..text import loosely, quote
from .rows import Example, key_of


@dataclass(frozen=True)
class Splits:
    """Rows to train on, to choose epochs by (maybe none), and to compare the models on; and notes about the split.

    `known` are test rows of a set of its own whose prompts the data to train on have too, but for case and spaces.
    """

    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: tuple[str, ...]
    known: tuple[Example, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, tuple[Example, ...]]]:
        """Give each split with its name."""
        yield from (("training", self.training), ("validation", self.validation), ("test", self.test))


def split_examples(
    examples: Sequence[Example], *, test_share: float, validation_share: float, seed: int, test: Sequence[Example] = ()
) -> Splits:
    """Split rows so that those with the same prompt stay together, whatever their order in the file.

    With a test set of its own, the share is 0, and rows that ask what it asks, but for case and white space, are left
    out of the others, and said. A split without rows is refused.
    """
    asked = {loosely(example.prompt) for example in test}
    left = [example for example in examples if loosely(example.prompt) not in asked]
    trained_on = {loosely(example.prompt) for example in examples}
    known = tuple(example for example in test if loosely(example.prompt) in trained_on)
    notes = []
    if known:
        notes.append(
            f"{len(known)} of the {len(test)} test rows are asked in the data to train on too, for instance "
            f"{_shown(known[0])}: {len(examples) - len(left)} rows are not trained on for that, but the old adapter "
            "may have been trained on them, and then the old model looks better than it is"
        )
    # By a hash of seed and prompt: the same rows on every machine, and with rows added or removed elsewhere.
    order = sorted(left, key=lambda example: (_hash(seed, example), example.number))
    groups = [list(group) for _, group in groupby(order, key=lambda example: key_of(example.prompt))]
    together = sum(len(group) for group in groups if len(group) > 1)
    if together:
        notes.append(f"{together} rows share their prompt with another; such rows are kept on one side")
    parts: list[list[Example]] = []
    for share in (test_share, validation_share):
        wanted, taken = round(share * len(left)), list[Example]()
        while groups and len(taken) < wanted:
            taken += groups.pop(0)
        parts.append(taken)
    splits = Splits(
        training=_in_order([example for group in groups for example in group]),
        validation=_in_order(parts[1]),
        test=tuple(test) if test else _in_order(parts[0]),
        notes=tuple(notes),
        known=known,
    )
    if examples and not left:
        raise InputError(
            f"the test set asks all {len(examples)} rows of --dataset (dataset=…), so none are left to train on. Is "
            "it the same file? Leave --test-dataset out, and --test-share of the rows is kept apart."
        )
    for name, part in splits:
        if not part and (name != "validation" or validation_share):
            raise InputError(
                f"the split leaves no {name} rows: there are {len(left)} rows, test_share {test_share:g} and "
                f"validation_share {validation_share:g}. Give more rows, or other shares."
            )
    return splits


def _shown(example: Example) -> str:
    prompt = example.prompt if isinstance(example.prompt, str) else example.prompt[-1]["content"]
    return quote(prompt.strip())


def _in_order(examples: Sequence[Example]) -> tuple[Example, ...]:
    return tuple(sorted(examples, key=lambda example: example.number))


def _hash(seed: int, example: Example) -> str:
    return hashlib.sha256(f"{seed}:{key_of(example.prompt)}".encode()).hexdigest()

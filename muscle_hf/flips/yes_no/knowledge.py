"""What a model knows of a question, told by another form of it; and groups that are no such thing.

Whether a model says "no" because it knows no answer shows only where knowledge is measured apart from the yes or no
that is judged: by an open form of the same question, answered several times. Three groups are those of the paper on
negative bias (arXiv 2511.10881); how they are told apart here is ours.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ..inputs import Values, is_number, take_answers
from .answers import Codes

KNOWLEDGE = CORRECT, INCORRECT, INSUFFICIENT = ("correct", "incorrect", "insufficient")
"""What a model knows: the right answer, a wrong one, or none."""

_YES_NO = {"yes", "no", "true", "false"}
# A closed question has two answers, whatever they are called; so few answers may have two by chance.
_ENOUGH = 10
# Groups that fit the answers as chance would once in so many times are taken for made of them.
_ONCE_IN = 1_000


def knowledge_of(samples: Iterable[Sequence[Any]], references: Values, agreement: float = 0.75) -> list[str]:
    """Say what a model knows of each question, from several sampled answers to an open form of it.

    The groups are those of arXiv 2511.10881; the rule is our own. The commonest answer counts: where it is at least
    `agreement` of all, the model knows what it says, which is "correct" or "incorrect"; otherwise, and where that is
    no answer at all, its knowledge is "insufficient".

    Args:
        samples: For each question two or more sampled answers, shape (n, k), all strings or all ints, None where a
            sample has no answer; spelled as the right answers are. They are answers to an *open* question ("Which is
            the capital of Australia?"), not to the yes/no question that is judged ("Is it Sydney?"): who says no to
            everything would be taken for somebody who knows half of all.
        references: The right answer to each open question, shape (n,).
        agreement: Share of the samples, above 0.5 and up to 1, that says the same; 0.75 is 6 of 8.

    Returns:
        "correct", "incorrect" or "insufficient" for each question, for `compare_yes_no(knowledge=…)`.

    Raises:
        InputError: Samples that are yes and no themselves, or have two values only as answers to a closed question
            do; fewer than two samples; unequal lengths; another agreement; answers of another type than right ones.

    Example:
        >>> import muscle_hf
        >>> samples = [["Canberra"] * 7 + ["Sydney"], ["Sydney"] * 8, ["Oslo", "Bergen", None, "Oslo"]]
        >>> muscle_hf.knowledge_of(samples, ["Canberra", "Canberra", "Oslo"])
        ['correct', 'incorrect', 'insufficient']
    """
    if not is_number(agreement) or not 0.5 < agreement <= 1:
        raise InputError(
            f"agreement is {agreement!r}, but must be a share above 0.5, so that one answer has it, and at most 1"
        )
    if isinstance(samples, (str, bytes, Mapping)):
        raise InputError("samples must be a list with a list of sampled answers for each question")
    rows = [_row(place, row) for place, row in enumerate(samples)]
    if not rows:
        raise InputError("samples is empty: give the sampled answers of one question at least")
    # Each sample beside the right answer, so that both are of one type and as long.
    (right,) = take_answers(references=references)
    right = list(right.tolist() if isinstance(right, np.ndarray) else right)
    if len(right) != len(rows):
        raise InputError(f"samples has {len(rows)} questions, references has {len(right)}: give one right answer each")
    flat, _ = take_answers(
        samples=[answer for row in rows for answer in row],
        references=[answer for answer, row in zip(right, rows, strict=True) for _ in row],
    )
    flat = list(flat.tolist() if isinstance(flat, np.ndarray) else flat)
    _refuse_closed(rows, flat, right)
    groups, start = [], 0
    for row, answer in zip(rows, right, strict=True):
        said, count = Counter(flat[start : start + len(row)]).most_common(1)[0]
        start += len(row)
        # 6 of 8 is 0.75 but for rounding.
        agreed = count >= agreement * len(row) - 1e-9 and said is not None
        groups.append(INSUFFICIENT if not agreed else CORRECT if said == answer else INCORRECT)
    return groups


def take_knowledge(name: str, knowledge: Values, n: int) -> Codes:
    """Take the group of each instance, as its place in `KNOWLEDGE`."""
    if isinstance(knowledge, (str, bytes, Mapping)) or not hasattr(knowledge, "__iter__"):
        raise InputError(f"{name} must be a list with one of {', '.join(KNOWLEDGE)} for each instance")
    groups = [str(group) if isinstance(group, str) else group for group in knowledge]
    if len(groups) != n:
        raise InputError(f"old has {n}, {name} has {len(groups)}: all must hold the same instances in the same order")
    places = {group: place for place, group in enumerate(KNOWLEDGE)}
    for index, group in enumerate(groups):
        if not isinstance(group, str) or group not in places:
            raise InputError(
                f"{name}[{index}] is {group!r}, but must be one of {', '.join(map(repr, KNOWLEDGE))}; muscle_hf."
                "knowledge_of gives these, from answers to an open form of the question. Leave instances of which it "
                "is not known out of all columns"
            )
    return np.array([places[group] for group in groups], np.int64)


def refuse_circular(name: str, groups: Codes, gold: Codes, said: Mapping[str, Codes]) -> None:
    """Refuse groups that are told by the right answer and the yes or no that are judged.

    So made, a group says nothing of knowledge: its bias is what was put in. Any column that is a function of the right
    answer and of one model's answer, such as "correct where it answers rightly", is refused, unless the instances are
    so few that as many groups dealt out at random would fit as well once in a thousand times.
    """
    sizes = np.bincount(groups, minlength=3)
    if np.count_nonzero(sizes) < 2:
        return
    # How many ways there are to deal groups of these sizes out.
    ways = math.lgamma(len(groups) + 1) - sum(math.lgamma(size + 1) for size in sizes.tolist())
    if ways < math.log(_ONCE_IN):
        return
    for whose, codes in said.items():
        cells = np.zeros((9, 3), np.bool_)
        cells[gold * 3 + codes, groups] = True
        if cells.sum(axis=1).max() <= 1:
            raise InputError(
                f"{name} follows from the right answers and the {whose} model's answers, for each of the "
                f"{len(groups):,} instances: groups made from the answers under judgement say nothing of what the "
                "model knows. Ask an open form of each question several times, and take knowledge_of(samples, "
                "references)"
            )


def _row(place: int, row: Any) -> list[Any]:
    if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__iter__"):
        raise InputError(f"samples[{place}] is {row!r}, but must be a list of sampled answers to that question")
    values = row.tolist() if hasattr(row, "tolist") else list(row)
    if len(values) < 2:
        raise InputError(
            f"samples[{place}] has {len(values)}: one answer always agrees with itself; sample two or more, such as 8"
        )
    return values


def _refuse_closed(rows: Sequence[Sequence[Any]], flat: Sequence[Any], right: Sequence[Any]) -> None:
    """Refuse what is no open question: guessing gets half of a closed one right."""
    raw = {answer for row in rows for answer in row if answer is not None} | set(right)
    words = all(isinstance(value, bool) or str(value).strip(" .").casefold() in _YES_NO for value in raw)
    distinct = {answer for answer in flat if answer is not None} | set(right)
    if words or (len(distinct) == 2 and len(right) >= _ENOUGH):
        shown = " and ".join(sorted(map(repr, distinct)))
        raise InputError(
            f"samples and references have no other values than {shown}: these are answers to a yes/no question, of "
            "which guessing gets half right, so they do not tell what a model knows. Sample answers to an open form "
            "of the question"
        )

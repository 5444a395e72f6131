"""Two sides of a comparison under one rule of what is the same answer; what differs in its spelling alone is told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..flips.answers.number_texts import as_text, whole_numbers
from ..flips.answers.same_answer import NAMES, TEXTS, Spelling, of_kind, tells_apart, trimmed
from ..flips.answers.spelled_otherwise import SpelledOtherwise, spelled_otherwise, together
from ..text import quote
from .answers import TaskAnswers, Text, answer_column

# From this share of a side's answers on, a comparison says more about the spelling than about the update.
_REFUSED = 0.05
# In fewer rows it may be chance that nothing is right.
_ENOUGH = 10


def spelled_alike(old: TaskAnswers, new: TaskAnswers) -> tuple[TaskAnswers, TaskAnswers]:
    """Bring both sides under one rule of what is the same answer."""
    names = [side.spelling.names if side.spelling else None for side in (old, new)]
    if names[0] != names[1]:
        shown = [f"{side.source} with normalize={name}" for side, name in zip((old, new), names, strict=True)]
        raise InputError(f"{' and '.join(shown)} were read for different comparisons: read both with the same.")
    if old.typed != new.typed:
        # A CSV file cannot say that its 7 is a number, so beside one all are texts that may be numbers.
        old, new = (_untyped(side) if side.typed else side for side in (old, new))
    answers = [side.answers for side in (old, new) if side.references is None and side.answers is not None]
    if not old.typed and len(answers) == 2:
        # No right answer says what is asked, so all answers have to.
        spelling = Spelling(names[0], typed=False).settle(pa.concat_arrays(answers))
        old, new = (_respelled(side, spelling) for side in (old, new))
    return old, new


def _untyped(side: TaskAnswers) -> TaskAnswers:
    """Read a side as if it came from a file without types."""
    spelling = replace(side.spelling or Spelling(), typed=False)
    changed: dict[str, Any] = {"ids": whole_numbers(trimmed(as_text(side.ids))), "typed": False}
    for name in ("answers", "references"):
        if (column := getattr(side, name)) is not None:
            changed[name] = as_text(column) if spelling.names == () else trimmed(as_text(column))
    if "references" in changed:
        spelling = spelling.settle(changed["references"])
    return _respelled(replace(side, **changed), spelling)


def _respelled(side: TaskAnswers, spelling: Spelling) -> TaskAnswers:
    """Spell answers and right answers as one kind, also where they are shown."""
    changed: dict[str, Any] = {
        name: of_kind(column, spelling.kind)
        for name in ("answers", "references")
        if spelling.kind != TEXTS and (column := getattr(side, name)) is not None
    }
    if (read := side.texts) is not None:
        # Names have been applied to these texts, and 1,500 that became 1.500 must not become 1500.
        shown = replace(spelling, names=() if spelling.names == () else None)
        changed["texts"] = lambda places: _shown(read(places), shown)
    return replace(side, spelling=spelling, **changed)


def _shown(texts: Sequence[Text], spelling: Spelling) -> list[Text]:
    questions, references, answers, responses = zip(*texts, strict=True) if texts else ((), (), (), ())
    columns = (spelling.shown(answer_column(values)).to_pylist() for values in (references, answers))
    return [Text(*text) for text in zip(questions, *columns, responses, strict=True)]


def spelling_notes(old: TaskAnswers, new: TaskAnswers) -> list[str]:
    """Say how many answers of two aligned sides differ in their spelling alone: of each side, and between both.

    Nothing is said where answers are to be compared as spelled, or were by the program that wrote the file. Refused
    where the comparison would be about spelling, and nobody said what need not count.
    """
    names = old.spelling.names if old.spelling else ()
    if names == ():
        return []
    otherwise_right = [(side, otherwise) for side in (old, new) if (otherwise := _against_right_ones(side))]
    many = [
        (side, otherwise)
        for side, otherwise in otherwise_right
        if otherwise.rows >= _REFUSED * otherwise.of
        # Where the right answers themselves tell such spellings apart, it need not be one.
        and (side.references is None or not tells_apart(side.references, otherwise.names))
    ]
    if many and names is None:
        told = "; ".join(dict.fromkeys(_counts(side, otherwise) for side, otherwise in many))
        proposed = ",".join(name for name in NAMES if any(name in otherwise.names for _, otherwise in many))
        if "thousands" in proposed:  # which cannot go together
            proposed = proposed.replace(",decimal-comma", "")
        raise InputError(
            f"{told}. Say what is the same answer: --normalize {proposed} (normalize={proposed!r}), or --normalize "
            "none (normalize='none') for answers as they are spelled."
        )
    notes = [
        f"{otherwise.rows:,} of {otherwise.of:,} answers of {side.source} would be right as well with --normalize "
        f"{','.join(otherwise.names)}, {_example(otherwise)}"
        for side, otherwise in otherwise_right
    ]
    counted = [side for side, _ in otherwise_right]
    notes += [_strange(side) for side in (old, new) if side not in counted and _is_strange(side)]
    both = _against_each_other(old, new)
    if both:
        notes.append(
            f"{both.rows:,} of {len(old):,} answers of both would be the same with --normalize "
            f"{','.join(both.names)}, {_example(both)}"
        )
    return notes


def _against_right_ones(side: TaskAnswers) -> SpelledOtherwise | None:
    if side.scores is not None:
        return side.spelled_otherwise
    parts = [spelled_otherwise(side.answers, side.references), side.spelled_otherwise]
    return together(parts, side.answers, side.references)


def _against_each_other(old: TaskAnswers, new: TaskAnswers) -> SpelledOtherwise | None:
    """Look at the answers of both where neither is right: the others are told already."""
    if old.answers is None or new.answers is None:
        return None
    if any(side.scores is not None and not np.isin(side.scores, (0.0, 1.0)).all() for side in (old, new)):
        return None  # scores tell how good a text is, and nobody asks whether two are the same
    if all(side.scores is None and side.references is not None for side in (old, new)):
        wrong = pc.and_(*(pc.fill_null(pc.not_equal(side.answers, side.references), False) for side in (old, new)))
        return spelled_otherwise(old.answers.filter(wrong), new.answers.filter(wrong))
    return spelled_otherwise(old.answers, new.answers)


def _is_strange(side: TaskAnswers) -> bool:
    """Tell whether right answers are labels, and not one answer is one of these, as where they have other names."""
    if side.scores is not None or side.answers is None or side.references is None or len(side) < _ENOUGH:
        return False
    # Mostly one of the first is one of the first labels.
    if pc.any(pc.is_in(side.answers[:_ENOUGH], pc.unique(side.references[:_ENOUGH]))).as_py():
        return False
    answers, labels = pc.drop_null(side.answers), pc.unique(side.references)
    return len(answers) > 0 and 1 < len(labels) <= len(side) / 2 and not pc.any(pc.is_in(answers, labels)).as_py()


def _strange(side: TaskAnswers) -> str:
    place = pc.index(pc.is_valid(side.answers), True).as_py()
    answer, right = (quote(column[place].as_py()) for column in (side.answers, side.references) if column is not None)
    return (
        f"none of the {len(side):,} answers of {side.source} is the right answer of any row, for instance {answer} "
        f"where {right} is right: does it use other names for the same?"
    )


def _counts(side: TaskAnswers, otherwise: SpelledOtherwise) -> str:
    return (
        f"{otherwise.already:,} of {otherwise.of:,} answers of {side.source} are right as they are spelled, and "
        f"{otherwise.already + otherwise.rows:,} with --normalize {','.join(otherwise.names)}, {_example(otherwise)}"
    )


def _example(otherwise: SpelledOtherwise) -> str:
    return f"for instance {quote(otherwise.example[0])} for {quote(otherwise.example[1])}"

"""The columns of a table that hold answers and right answers: brought to one type, or refused as what cannot be equal.

The rule itself is in `same_answer`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ...flips.answers.number_texts import LARGEST_FLOAT, NUMBER, as_text, few_distinct, whole_numbers, without_nan
from ...flips.answers.same_answer import NUMBERS, TEXTS, TRUTH_VALUES, Spelling, of_kind
from ...text import quote
from ..answers import BIG, Column


def settled(column: Column, spelling: Spelling, name: str, source: str, notes: list[str]) -> Column:
    """Make texts or integers of a column of answers; note the first that is compared as something else."""
    if spelling.typed:
        return _plain(column, name, source)
    if spelling.kind == TEXTS or not pa.types.is_string(column.type):
        return column
    _refuse_rounded(column, name, source)
    plain = of_kind(column, spelling.kind)
    for changed in (pc.not_equal(column, plain), pc.and_(pc.is_valid(column), pc.is_null(plain))):
        if pc.any(changed).as_py():
            row = _first(changed)
            before, after = column[row].as_py(), plain[row].as_py()
            note = f"{quote(before)} as {'no answer' if after is None else quote(after)}"
            notes += [note] if note not in notes else []
    return plain


def alike(
    answers: Column, references: Column, spelling: Spelling, name: str, source: str, notes: list[str]
) -> tuple[Column, Column]:
    """Make answers and settled right answers one type, or refuse what can never be equal."""
    if answers.null_count == len(answers):
        return pa.nulls(len(answers), references.type), references
    kind = held_by(answers.type)
    answers = settled(answers, spelling, name, source, notes)
    refuse_kind(answers, name, source)
    if spelling.typed and kind != spelling.kind:
        raise InputError(
            f"{source}: {quote(name)} holds {kind} and the right answers are {spelling.kind}: 1 and '1' are different "
            "answers, so all of them would count as wrong. Write both in the same way, or let the kind not count with "
            "--normalize numbers or --normalize booleans (normalize=)."
        )
    if answers.type == references.type:
        return answers, references
    if pa.types.is_string(answers.type) or pa.types.is_string(references.type):
        return as_text(answers), as_text(references)
    return answers.cast(BIG), references.cast(BIG)


def empty_note(answers: Column, references: Column, source: str) -> list[str]:
    """Say how many answers are empty, null or white space alone: otherwise they count as wrong without a word."""
    empty = pc.is_null(answers)
    if pa.types.is_string(answers.type):
        empty = pc.or_(empty, pc.fill_null(pc.or_(pc.equal(answers, ""), pc.utf8_is_space(answers)), False))
    if not pc.any(empty).as_py():
        return []
    count = pc.sum(pc.and_(empty, pc.fill_null(pc.not_equal(answers, references), True))).as_py() or 0
    return (
        [f"{source}: {count:,} empty {'answer counts' if count == 1 else 'answers count'} as wrong"] if count else []
    )


def refuse_kind(column: Column, name: str, source: str) -> None:
    """Refuse what can be no answer and no id, being neither a text nor an integer, with its first row."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        examples = pc.is_valid(column)
        if pa.types.is_floating(kind) and (odd := pc.not_equal(column, pc.floor(column))).true_count:
            examples = odd  # the numbers that no integer can be
        row = _first(examples)
        held = {"double": "numbers with a decimal point", "bool": "true and false"}.get(str(kind), "lists")
        raise InputError(
            f"{source}: {quote(name)} holds {held}, for instance {quote(column[row].as_py())} in row {row + 1}; a "
            "string or an integer is needed."
        )


def _first(rows: Column) -> int:
    return int(np.argmax(np.asarray(pc.fill_null(rows, False))))


def held_by(kind: pa.DataType) -> str:
    """Tell what a column with a type holds."""
    if pa.types.is_boolean(kind):
        return TRUTH_VALUES
    return NUMBERS if is_number(kind) else TEXTS


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column of a type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _plain(column: Column, name: str, source: str) -> Column:
    """Make texts or integers of answers that have a type: of floats integers where all are whole, else texts."""
    if pa.types.is_boolean(column.type):
        return as_text(column)
    if not pa.types.is_floating(column.type):
        return column
    column = without_nan(column)
    large = pc.fill_null(pc.and_(pc.greater_equal(pc.abs(column), LARGEST_FLOAT), pc.is_finite(column)), False)
    if pc.any(large).as_py():
        row = _first(large)
        raise InputError(
            f"{source}: {quote(name)} holds floats, for instance {quote(column[row].as_py())} in row {row + 1}, and a "
            "float beyond 2**53 cannot be told from its neighbours; write integers or strings."
        )
    whole = whole_numbers(column)
    return as_text(column) if pa.types.is_floating(whole.type) else whole


def _refuse_rounded(column: Column, name: str, source: str) -> None:
    """Refuse numbers of a file without types that all went through floats, where these had lost the last digits."""
    column = pc.unique(column) if few_distinct(column) else column
    numbers = column.filter(pc.fill_null(pc.match_substring_regex(column, NUMBER), False))
    if not len(numbers) or not pc.all(pc.match_substring_regex(numbers, "[.eE]")).as_py():
        return
    large = pc.greater_equal(pc.abs(numbers.cast(pa.float64())), LARGEST_FLOAT)
    if pc.any(large).as_py():
        raise InputError(
            f"{source}: all numbers of {quote(name)} are spelled as floats, for instance "
            f"{quote(numbers.filter(large)[0].as_py())}, and beyond 2**53 a float cannot be told from its neighbours. "
            "Write the integers as they were (in pandas as Int64 or str), or compare as spelled with --normalize none "
            "(normalize='none')."
        )

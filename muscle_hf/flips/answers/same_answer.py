"""What is the same answer: the one rule by which answers are spelled alike before they are compared.

docs/compare-rules.md says it for users. Columns are Arrow arrays, so that a million answers take no time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from .number_texts import ANY_NUMBER, NUMBER, Column, as_text, canonical, few_distinct

NAMES = {
    "unicode": "one letter in two encodings, such as a full-width A; the long minus sign and -",
    "whitespace": "spaces and line ends around an answer, and how many inside",
    "quotes": "quotation marks around it",
    "punctuation": "brackets, asterisks, stops, currency and per cent signs around it: (A), A., $5, 5%",
    "case": "capital letters",
    "thousands": "separators: 1,000 is 1000",
    "decimal-comma": "1,5 is 1.5, and 1.000 is 1000",
    "numbers": "1.0, 01, +1 and 1e0 are 1, also where one file holds texts and one numbers",
    "booleans": "true and 1 are the same, and false and 0",
}
"""What need not count, in the order in which it is applied -> what that means."""

EXACT = "none"
"""Compares answers as they are spelled."""

TEXTS, NUMBERS, TRUTH_VALUES = "strings", "numbers", "truth values"
"""What a column of answers may hold."""

_THOUSANDS = r"^[+-]?[0-9]{1,3}(?:[, '_\x{A0}\x{202F}][0-9]{3})+(?:\.[0-9]+)?$"
_DECIMAL_COMMA = r"^[+-]?(?:[0-9]+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?)$"
_SPACES = r"[\s\p{Z}\x{200B}\x{FEFF}]+"
_QUOTES = "\"'`´“”„‟‘’‚‛«»‹›"  # noqa: RUF001 - all that stand for quotation marks
_TRUTH_VALUES = pa.array(["true", "false"])
_GAPS = pa.array(["", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat", "\\n"])
"""No answer in a column of numbers or truth values, in any case; among texts these are texts."""
_PEEK = 1_000


def parse_names(normalize: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Check what need not count; give the names in the order in which they are applied.

    They may also be separated by commas. "none" alone compares as spelled and gives (); None is the default and stays.
    """
    if not normalize:
        return None
    parts = [normalize] if isinstance(normalize, str) else normalize
    names = [name.strip() for part in parts for name in part.split(",")]
    for name in names:
        if name not in NAMES and name != EXACT:
            raise InputError(f"--normalize (normalize=) has no {name!r}; choose from {', '.join((*NAMES, EXACT))}.")
    if EXACT in names and set(names) != {EXACT}:
        raise InputError("--normalize none (normalize='none') compares answers as they are spelled: give it alone.")
    if {"thousands", "decimal-comma"} <= set(names):
        raise InputError(
            "--normalize (normalize=): to thousands 1,000 is 1000, and to decimal-comma it is 1; give one of both."
        )
    return tuple(name for name in NAMES if name in names)


@dataclass(frozen=True)
class Spelling:
    """How the answers of one file are spelled alike before they are compared."""

    names: tuple[str, ...] | None = None
    """What need not count, see `parse_names`."""
    typed: bool = True
    """Whether the file tells the integer 1 from the text "1"; a CSV file does not."""
    kind: str = TEXTS
    """What all right answers are: `TEXTS`, `NUMBERS` or `TRUTH_VALUES`."""

    def respell(self, column: Column) -> Column:
        """Spell alike what can be told from each value alone; long texts have to be whole still."""
        if pa.types.is_list(column.type):
            return _in_lists(column, self.respell)
        names = self.names or ()
        if {"numbers", "booleans"} & set(names):
            column = as_text(column)
        if not pa.types.is_string(column.type) or self.names == ():
            return column
        return respell(column if self.typed else trimmed(column), names)

    def shown(self, column: Column) -> Column:
        """Spell answers as they are compared, for showing them."""
        if pa.types.is_list(column.type):
            return _in_lists(column, self.shown)
        column = as_text(self.respell(column))
        return column if self.typed or self.kind == TEXTS else of_kind(column, self.kind)

    def settle(self, right: Column) -> "Spelling":
        """Take a file without types for one of numbers or truth values where all right answers are such."""
        if self.typed or self.names == () or not pa.types.is_string(right.type):
            return self
        return replace(self, kind=_kind_of_texts(right))


def respell(column: Column, names: Sequence[str]) -> Column:
    """Spell texts alike by some of `NAMES`."""
    for name in (name for name in NAMES if name in names):
        if name == "unicode":
            column = pc.replace_substring(pc.utf8_normalize(column, form="NFKC"), "\N{MINUS SIGN}", "-")
        elif name == "whitespace":
            column = _spaced(column)
        elif name == "quotes":
            column = pc.utf8_trim(column, characters=_QUOTES)
        elif name == "punctuation":
            column = pc.utf8_rtrim(pc.utf8_ltrim(column, characters="([{*$€£¥"), characters=")]}*.,:;%$€£¥")
        elif name == "case":
            column = pc.utf8_lower(column)
        elif name == "thousands":
            column = _replaced(column, _THOUSANDS, r"[, '_\x{A0}\x{202F}]", "")
        elif name == "decimal-comma":
            column = _replaced(column, _DECIMAL_COMMA, r"\.", "")
            column = _replaced(column, _DECIMAL_COMMA, ",", ".")
        elif name == "numbers":
            column = canonical(column, ANY_NUMBER)
        else:
            column = _bits(column)
        if name in ("quotes", "punctuation") and "whitespace" in names:
            column = _spaced(column)
    return column


def of_kind(column: Column, kind: str) -> Column:
    """Write numbers or truth values, read from a file without types, each in one way; what is none stays a text."""
    if few_distinct(column):
        encoded = column.dictionary_encode()
        return of_kind(encoded.dictionary, kind).take(encoded.indices)
    column = pc.if_else(pc.is_in(pc.utf8_lower(column), _GAPS), None, column)
    return canonical(column, NUMBER) if kind == NUMBERS else _lowered(column, _TRUTH_VALUES)


def trimmed(column: Column) -> Column:
    """Take the space around the texts of a column away."""
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def tells_apart(column: Column, names: Sequence[str]) -> bool:
    """Tell whether a column of right answers holds two that some of `NAMES` would make the same."""
    distinct = pc.unique(column)
    return bool(pa.types.is_string(column.type)) and len(pc.unique(respell(distinct, names))) < len(distinct)


def _kind_of_texts(values: Column) -> str:
    """Tell whether all texts of a column are numbers, or truth values; the empty column holds texts."""
    kind = TEXTS
    values = pc.unique(values) if few_distinct(values) else values
    for part in (values[:_PEEK], values):
        if pc.all(pc.match_substring_regex(part, NUMBER)).as_py() and part.null_count < len(part):
            kind = NUMBERS
        elif pc.all(pc.is_in(pc.utf8_lower(part.drop_null()), _TRUTH_VALUES)).as_py() and part.null_count < len(part):
            kind = TRUTH_VALUES
        elif part.null_count < len(part):
            return TEXTS
    if kind == NUMBERS:
        # Sections 1.1 and 1.10 are no numbers: where the right answers tell them apart, so do we.
        fractions = pc.unique(values.filter(pc.fill_null(pc.match_substring(values, "."), False)))
        fractions = canonical(fractions, NUMBER)
        fractions = fractions.filter(pc.fill_null(pc.match_substring(fractions, "."), False))
        if len(pc.unique(fractions)) < len(fractions):
            return TEXTS
    return kind


def _in_lists(column: Column, change: Callable[[Column], Column]) -> Column:
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.cumsum([0, *sizes]), pa.int32())
    return pa.ListArray.from_arrays(offsets, change(column.flatten()), mask=pc.is_null(column))


def _spaced(column: Column) -> Column:
    return pc.utf8_trim(pc.replace_substring_regex(column, _SPACES, " "), characters=" ")


def _replaced(column: Column, where: str, pattern: str, replacement: str) -> Column:
    """Replace within the texts that match."""
    matching = pc.match_substring_regex(column, where)
    if not pc.any(matching).as_py():
        return column
    return pc.if_else(matching, pc.replace_substring_regex(column, pattern, replacement), column)


def _lowered(column: Column, values: Column) -> Column:
    lowered = pc.utf8_lower(column)
    return pc.if_else(pc.is_in(lowered, values), lowered, column)


def _bits(column: Column) -> Column:
    lowered = pc.utf8_lower(column)
    for number, texts in (("1", ["true", "1", "1.0"]), ("0", ["false", "0", "0.0"])):
        column = pc.if_else(pc.is_in(lowered, pa.array(texts)), number, column)
    return column

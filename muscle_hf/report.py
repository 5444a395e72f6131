"""Comparisons as tables: the same rows for a terminal, a card and a file."""

import math
import re
from collections.abc import Mapping, Sequence

from .errors import InputError
from .flips import Comparison

# Column title, attribute of `Comparison`, direction in which it gets better.
COLUMNS = (
    ("accuracy", "new_accuracy", "↑"),
    ("NFR", "negative_flip_rate", "↓"),
    ("PFR", "positive_flip_rate", "↑"),
    ("inconsistency", "inconsistency_flip_rate", "↓"),
)
RELATIVE = ("relative NFR", "relative_negative_flip_rate", "↓")

# An underscore inside a word means nothing to Markdown, and escaping it would make names hard to read in the file.
_MARKUP = re.compile(r"[\\`*~|]|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])|#(?=#*$)")
_BLOCK_START = re.compile(r"^(?=[-+](?:[-+ ]|$)|[#=])|^(\d{1,9})(?=[.)](?: |$))")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def header() -> list[str]:
    """Return the titles of the columns, with the direction in which each gets better."""
    return ["model", *(f"{title}, % {arrow}" for title, _, arrow in COLUMNS), f"{RELATIVE[0]} {RELATIVE[2]}"]


def table_rows(comparisons: Mapping[str, Comparison], *, level: float = 0.95) -> list[list[str]]:
    """Return one row of text for each comparison, as wide as [`header`].

    Args:
        comparisons: Name of the new model -> its comparison with the old model.
        level: Level of the confidence intervals in brackets.

    Returns:
        A list of rows; rates in percent, the relative NFR as a ratio.

    Example:
        >>> from muscle_hf.flips import compare
        >>> table_rows({"new": compare(old=[1, 1], new=[1, 0], references=[1, 1])})
        [['new', '50.0 [9.5, 90.5]', '50.0 [9.5, 90.5]', '0.0 [0.0, 65.8]', '50.0 [9.5, 90.5]', '1.00 [1.00, 1.00]']]
    """
    return [
        [name]
        + [rate(comparison, attribute, level=level, percent=True) for _, attribute, _ in COLUMNS]
        + [rate(comparison, RELATIVE[1], level=level, percent=False)]
        for name, comparison in comparisons.items()
    ]


def rate(comparison: Comparison, name: str, *, level: float = 0.95, percent: bool) -> str:
    """Return a rate with its confidence interval, such as "8.7 [7.9, 9.6]", or "undefined".

    Args:
        comparison: The comparison.
        name: One of its rates.
        level: Level of the confidence interval.
        percent: Percentages with one decimal, or fractions with two.

    Raises:
        InputError: There is no rate of that name, or `level` is not between 0 and 1.

    Example:
        >>> from muscle_hf.flips import compare
        >>> rate(compare(old=[1, 1], new=[1, 0], references=[1, 1]), "negative_flip_rate", percent=True)
        '50.0 [9.5, 90.5]'
    """
    low, high = comparison.confidence_interval(name, level)
    estimate = getattr(comparison, name)
    if math.isnan(estimate):
        return "undefined"
    if percent:
        return f"{100 * estimate:z.1f} [{100 * low:z.1f}, {100 * high:z.1f}]"
    return f"{estimate:z.2f} [{low:z.2f}, {high:z.2f}]"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in GitHub's Markdown; text that would break it is escaped.

    Args:
        head: Titles of the columns.
        rows: The cells, each row as long as `head`.

    Raises:
        InputError: A row is longer or shorter than `head`; Markdown would drop its last cells without a word.

    Example:
        >>> print(markdown_table(["a", "b"], [["1|2", "<b>"]]))
        | a | b |
        |---|---|
        | 1\\|2 | &lt;b&gt; |
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(head):
            raise InputError(f"row {number} of the table has {len(row)} cells, but there are {len(head)} columns.")

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *(line(row) for row in rows)])


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, whatever a model or a user wrote into it.

    Args:
        text: Any text. Runs of white space become one space, control characters become U+FFFD.

    Example:
        >>> print(escape_markdown("*new* base_v2 | <script>"))
        \\*new\\* base_v2 \\| &lt;script&gt;
    """
    text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    text = _BLOCK_START.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""How a card shows texts that somebody else wrote: on one line and as they are, or fenced, and never as markup."""

import re

from ..text import escape_markdown, printable

LONGEST_TEXT = 600
"""Characters that are shown of a question or an answer."""

LONGEST_NAME = 200
"""Characters that are shown of a name, such as the one of a row or of a slice."""


def shown(value: object) -> str:
    """Return a value for a line of a card: escaped, on one line, and as text even where it looks like a formula."""
    return without_formulas(escape_markdown(cut(printable(str(value)), LONGEST_TEXT)))


def without_formulas(markdown: str) -> str:
    """Return Markdown in which nothing starts a formula, which the Hub renders before it reads the Markdown."""
    return markdown.replace("$$", "&#36;&#36;").replace("\\\\(", "&#92;(").replace("\\\\[", "&#92;[")


def cut(text: str, longest: int) -> str:
    """Return a text, or its beginning with the length of the whole.

    Example:
        >>> cut("abcdefgh", 3)
        'abc … (cut; 8 characters in all)'
    """
    return text if len(text) <= longest else f"{text[:longest]} … (cut; {len(text):,} characters in all)"


def fenced(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text as a block of code: nothing in it is markup, and no line of it closes the block.

    Example:
        >>> print(fenced("a fence:\\n```"))
        ````text
        a fence:
        ```
        ````
    """
    lines = re.sub(r"[^\S\n]", " ", re.sub(r"\r\n?", "\n", cut(text, longest)))
    inside = re.sub(r"\S+", lambda word: printable(word[0]), lines)
    longest_run = max((len(run) for run in re.findall("`+", inside)), default=0)
    fence = "`" * max(3, longest_run + 1)
    return f"{fence}text\n{inside}\n{fence}"

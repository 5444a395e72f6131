"""Names that cards share: of the rows of their tables, and of the figures that the Hub can search."""

import difflib
import re

from ..errors import InputError

OLD_MODEL = "old model"
"""The row of the model that all others are compared with."""

PLAIN_UPDATE = "plain update"
"""The new task adapter as it is."""

CONTROL = "control: same steps more"
"""The new task adapter, trained on for as many steps without the old model."""

COMPATIBILITY_ADAPTER = "compatibility adapter"

RATES = {
    "accuracy": "new_accuracy",
    "negative_flip_rate": "negative_flip_rate",
    "positive_flip_rate": "positive_flip_rate",
    "relative_negative_flip_rate": "relative_negative_flip_rate",
}
"""Type of a figure on the Hub -> the rate of a [`Comparison`][muscle_hf.flips.Comparison] that it is."""

REDUCTION = "negative_flip_rate_reduction"
"""Negative flip rate of the plain update minus that of this adapter."""

REDUCTION_AGAINST_CONTROL = "negative_flip_rate_reduction_against_control"
"""The same with the control."""

CARD, PICTURE, RECORD = "README.md", "quadrants.png", "comparison.json"
"""The files of a card."""

# Of two names with as many words: above this they are taken for one, misspelt.
_ALIKE = 0.9


def note_on_row(name: str) -> str | None:
    """Return what is to be said of a row that the card does not know, and refuse a misspelling of a known one."""
    known = (COMPATIBILITY_ADAPTER, PLAIN_UPDATE, CONTROL)
    if name in known:
        return None
    words = _words(name)
    for other in (*known, OLD_MODEL):
        if len(words) == len(_words(other)):
            alike = difflib.SequenceMatcher(None, " ".join(words), " ".join(_words(other))).ratio()
            if alike >= _ALIKE and other == OLD_MODEL:
                raise InputError(f"{name!r} is what all rows are compared with; the card makes that row itself.")
            if alike >= _ALIKE:
                raise InputError(
                    f"The card knows no row {name!r}. Did you mean {other!r}? Otherwise take a name that is less like "
                    "it."
                )
    return (
        f"{name!r} is a row of the card's table and no more: verdict, picture and the figures that the Hub searches "
        f"are of {COMPATIBILITY_ADAPTER!r}, compared with {PLAIN_UPDATE!r} and {CONTROL!r}."
    )


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())

"""Which column of a table is what, by its default name or by the one that was given."""

from dataclasses import dataclass

from ...errors import InputError
from ...text import listed, quote
from .columnar import Columns

FIELDS = ("id", "prediction", "reference", "score", "choices", "question", "sample", "response")
"""What a column may be, by its default name."""


class NoTableError(InputError):
    """A file that holds no table of answers; it may be another program's, of which none here is known."""


@dataclass(frozen=True)
class Layout:
    """Which column is what; None where the table has none."""

    id: str | None
    prediction: str | None
    reference: str | None
    score: str | None
    choices: str | None
    question: str | None
    sample: str | None
    response: str | None = None
    """The whole text of which the prediction is what was taken out."""


def layout_of(
    table: Columns,
    source: str,
    prediction: str | None,
    metric: str | None,
    named: dict[str, str],
    *,
    answers_only: bool = False,
) -> Layout:
    """Tell what the columns are; refuse names that a table does not have, and one without answers.

    With `answers_only` scores and right answers are left out, and need not be there.
    """
    unknown = sorted(set(named) - set(FIELDS))
    if unknown:
        raise InputError(f"{quote(unknown[0])} is nothing that a column can be; choose from {', '.join(FIELDS)}.")
    if prediction is not None:
        named["prediction"] = prediction
    if metric is not None and metric != "accuracy":
        named["score"] = metric
    for what, name in named.items():
        if name not in table.names:
            raise InputError(f"{source} has no column {quote(name)} ({what}); it has {_listed(table.names)}.")
    layout = {field: named.get(field, field if field in table.names else None) for field in FIELDS}
    # A score beside several columns of answers is not the score of the one that was chosen.
    if metric == "accuracy" or (prediction is not None and "score" not in named):
        layout["score"] = None
    hint = f"it has {_listed(table.names)}. Other names are given with --columns, such as --columns id=question_id"
    if answers_only:
        layout |= {"score": None, "reference": None, "sample": None}
        if layout["prediction"] is None:
            raise NoTableError(f"{source} has no column 'prediction'; {hint}.")
        return Layout(**layout)
    if layout["prediction"] is None and layout["score"] is None:
        raise NoTableError(f"{source} has no column 'prediction' and no 'score'; {hint}.")
    if layout["reference"] is None and layout["score"] is None:
        raise InputError(
            f"{source} has no column 'reference' with the right answers, and no 'score'; {hint}. Right answers in "
            "another file are given with --references FILE (references=)."
        )
    return Layout(**layout)


def _listed(names: list[str]) -> str:
    return listed(map(quote, names)) or "none"

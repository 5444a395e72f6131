"""What lm-evaluation-harness wrote before 0.4 with `--write_out`: `<task>_write_out_info.json`.

An indented array with an object for each document: its number, prompt and response of each request (`prompt_0`,
`logit_0`, …), the right answer (`truth`), and every metric as the text that Python makes of its value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .records import Record, answers_of

_NEEDED = "one document of lm-evaluation-harness (--write_out)"
_ENDING = "_write_out_info"
# What is no metric; forks of the harness also write what was extracted, and the right answer again.
_OTHERS = re.compile(r"(prompt|logit)_\d+|doc_id|truth|pred|gold")
_FIELDS = {"doc_id", "prompt_0"}
_PERPLEXITIES = ("ppl", "perplexity")
_TRUTH = {"True": 1.0, "False": 0.0}


def _recognises(head: Head) -> bool:
    return (head.layout != "object" and head.keys >= _FIELDS) or _is_numbered(head)


def _is_numbered(head: Head) -> bool:
    """Tell whether documents stand in an object by their number, as a fork of the harness writes them."""
    first = next(iter((head.first or {}).values()), None)
    return isinstance(first, dict) and first.keys() >= _FIELDS


def _read(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    rows = list(head.document.values()) if _is_numbered(head) else [row for _, row in head.objects(_NEEDED)]
    chosen = metric or next((name for name in _scores(rows[0])), None)
    # For acc_norm and others the file does not hold how long the choices are.
    are_choices = chosen == "acc" and all(map(_chose_as_scored, rows))

    def records() -> Iterator[Record]:
        for row in rows:
            likelihoods = _likelihoods(row)
            yield Record(
                id=row["doc_id"],
                scores=_scores(row),
                answer=likelihoods.index(max(likelihoods)) if are_choices else None,
                reference=row.get("truth"),
                question=row["prompt_0"],
                # Before it stand the examples, which may be others for the same document.
                document=row["prompt_0"].rpartition("\n\n")[2],
                output=row["logit_0"] if isinstance(row.get("logit_0"), str) else None,
                likelihoods=likelihoods,
            )

    made = answers_of(records, task, str(head.path), metric=metric, slices=slices)
    if made.metric in _PERPLEXITIES and made.scores is not None and made.scores.max() <= 0:
        # They become a perplexity only when their mean is taken.
        note = f"{task}: {made.metric} is written as log-likelihoods, so higher is better"
        made = replace(made, higher_is_better=True, notes=(*made.notes, note))
    return [made]


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in row.items() if not _OTHERS.fullmatch(name)}


def _number(value: Any) -> Any:
    """Read a number or truth value as Python writes it; parts of a corpus score, such as "(1, 0.5)", stay texts."""
    try:
        return _TRUTH.get(value, value) if not isinstance(value, str) or value in _TRUTH else float(value)
    except ValueError:
        return value


def _likelihoods(row: Mapping[str, Any]) -> list[float]:
    responses = [row.get(f"logit_{place}") for place in range(sum(name.startswith("logit_") for name in row))]
    return [value for value in responses if type(value) is float]


def _chose_as_scored(row: Mapping[str, Any]) -> bool:
    """Tell whether the likeliest choice is right where the document counts as right."""
    likelihoods, truth = _likelihoods(row), row.get("truth")
    if len(likelihoods) < 2 or type(truth) is not int:
        return False
    return bool((likelihoods.index(max(likelihoods)) == truth) == _number(row.get("acc")))


def _about(head: Head) -> About:
    return About(task_name(head.path).removesuffix(_ENDING))


HARNESS_WRITE_OUT = Format(
    "lm-evaluation-harness before 0.4", "documents", _recognises, _read, (f"*{_ENDING}.json",), _about
)

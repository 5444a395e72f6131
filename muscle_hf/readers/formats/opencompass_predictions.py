"""Predictions of OpenCompass beside their gold answers, compared as the rows of a table are."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa

from ...errors import InputError
from ...flips.answers.same_answer import Spelling, parse_names
from ...text import listed, quote
from ..answers import Column, Positions, TaskAnswers, Text, answer_column, digest, label
from .jsonlines import checked, column_of
from .tables import read_table

T = TypeVar("T")

_FEW = 10
_NOTE = (
    "an answer is right where the whole prediction is the gold answer, since predictions hold no scores; results of "
    "an evaluation with --dump-eval-details do"
)


def compared(
    rows: Iterable[tuple[int | str, Mapping[str, Any]]],
    task: str,
    source: str,
    *,
    metric: str | None,
    slices: Sequence[str],
    normalize: str | Sequence[str] | None,
) -> TaskAnswers:
    """Compare the prediction of each row with its gold answer, or with one of several."""
    rows = list(rows)
    lacking = [str(key) for key, item in rows if item.get("gold") in (None, [], "")]
    if lacking:
        raise InputError(
            f"{source}: {len(lacking)} of {len(rows)} predictions have no gold answer, for instance "
            f"{listed(lacking[:3])} (OpenCompass leaves it out where it is empty, 0 or unknown); compare the results "
            "of an evaluation with --dump-eval-details."
        )
    if any(_is_conversation(item) for _, item in rows):
        raise InputError(f"{source} holds conversations of several rounds, which have no one answer to compare.")
    said, gold = [item["prediction"] for _, item in rows], [_alternatives(item["gold"]) for _, item in rows]
    if any(isinstance(text, str) for text in _flat(said)):
        # As OpenCompass compares a text with a label that is a number.
        gold = [[answer if isinstance(answer, str | dict | list) else str(answer) for answer in some] for some in gold]
    is_choice = any(len(answers) > 1 for answers in gold)
    right = [answers[0] for answers in gold]
    compared_as = _matched(said, gold, Spelling(parse_names(normalize), typed=True)) if is_choice else said
    table = _Rows(
        source,
        {
            "id": [key for key, _ in rows],
            "question": [prompt_text(item.get("origin_prompt")) for _, item in rows],
            "prediction": compared_as,
            "reference": right,
        },
    )
    made = read_table(table, task, source, file=source, metric=metric, slices=slices, normalize=normalize)
    if made.scores is None and len(made) >= _FEW and not made.values().any():
        raise InputError(
            f"{source}: none of {len(made)} predictions is its gold answer, for instance {quote(said[0])} beside "
            f"{quote(right[0])}: OpenCompass takes the answer out of the text when it evaluates, so compare the "
            "results of an evaluation with --dump-eval-details."
        )
    made = replace(made, notes=(f"{task}: {_NOTE}", *made.notes))
    if not is_choice:
        return made

    def texts(positions: Positions) -> list[Text]:
        return [
            Text(
                prompt_text(rows[place][1].get("origin_prompt")), " / ".join(map(str, gold[place])), label(said[place])
            )
            for place in positions.tolist()
        ]

    targets = pa.array([digest(answers) for answers in gold])
    return replace(made, targets=targets, texts=texts)


def prompt_text(prompt: Any) -> str | None:
    """Give a prompt as people are shown it: a text, or the turns of a conversation."""
    if isinstance(prompt, list):
        turns = [turn.get("prompt", turn.get("content")) if isinstance(turn, dict) else turn for turn in prompt]
        return "\n".join(turn for turn in turns if isinstance(turn, str))
    return prompt if isinstance(prompt, str) else None


def _is_conversation(item: Mapping[str, Any]) -> bool:
    prompts, said, gold = (item.get(name) for name in ("origin_prompt", "prediction", "gold"))
    return (
        isinstance(prompts, list)
        and isinstance(said, list)
        and isinstance(gold, list)
        and len(prompts) == len(said) == len(gold)
    )


def _alternatives(gold: Any) -> list[Any]:
    return gold if isinstance(gold, list) else [gold]


def _flat(said: Sequence[Any]) -> list[Any]:
    return [text for item in said for text in (item if isinstance(item, list) else [item])]


def _matched(said: Sequence[Any], gold: Sequence[Sequence[Any]], spelling: Spelling) -> list[Any]:
    """Put the first gold answer in the place of each prediction that is another one of them."""

    def spelled(values: Sequence[Any]) -> Iterator[Any]:
        texts = spelling.respell(answer_column([value if isinstance(value, str) else None for value in values]))
        return (value if text is None else text for value, text in zip(values, texts.to_pylist(), strict=True))

    keys, gold_keys = spelled(_flat(said)), spelled(_flat(gold))
    matched = []
    for item, answers in zip(said, gold, strict=True):
        known = [next(gold_keys) for _ in answers]
        texts = [answers[0] if next(keys) in known else text for text in (item if isinstance(item, list) else [item])]
        matched.append(texts if isinstance(item, list) else texts[0])
    return matched


class _Rows:
    """Rows in memory, as a table that can be scanned (`columnar.Columns`)."""

    typed = True

    def __init__(self, source: str, columns: Mapping[str, list[Any]]) -> None:
        self.source, self.columns, self.names = source, columns, list(columns)

    def scan(
        self, wanted: Sequence[str], use: Callable[[int, dict[str, Column]], T], *, strict: Collection[str] = ()
    ) -> list[T]:
        kinds: dict[str, str] = {}
        for name in strict:
            for place, value in enumerate(self.columns[name]):
                checked(f"{self.source}, prediction {place}", name, value, kinds)
        return [use(0, {name: column_of(self.columns[name], kinds.get(name)) for name in wanted})]

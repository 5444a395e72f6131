"""Reviews of evalscope: `reviews/<model>/<data set>_<subset>.jsonl`, a line for each sample.

Since 1.0 a line has a `sample_score`, up to 0.17 the model's `choices`, each with a `review`. Several choices, or
samples with one `group_id`, are sampled answers. A sample that nobody could judge has no score: it is left out, and a
note says so.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...text import quote
from ..answers import TaskAnswers, digest
from .format import About, Format, task_name
from .head import Head
from .records import Record, answers_of

_NEEDED = "one review of evalscope"
_DATE = re.compile(r"\d{8}_\d{6}")


def _is_prediction(head: Head) -> bool:
    return {"index", "model_output", "messages"} <= head.keys or (
        {"answer_id", "choices"} <= head.keys and "reviewed" not in head.keys
    )


def _recognises(head: Head) -> bool:
    is_review = "sample_score" in head.keys or {"choices", "reviewed"} <= head.keys
    return head.layout in ("lines", "array") and (is_review or _is_prediction(head))


def _read(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    source = str(head.path)
    if _is_prediction(head):
        raise InputError(
            f"{source} holds predictions of evalscope, which have no scores; name the file of the same name in its "
            "folder reviews/, or the folder of the run."
        )
    unscored: list[str] = []
    # Of several metrics, a judge may have failed to give one.
    wanted = next((name for record, _ in _records(head) for name in record.scores if metric in (None, name)), None)

    def records() -> Iterator[Record]:
        unscored.clear()
        for record, status in _records(head):
            if record.scores and (wanted is None or wanted in record.scores):
                yield record
            else:
                unscored.append(status)

    made = answers_of(records, task, source, metric=metric, slices=slices)
    if unscored:
        told = ", ".join(f"{status}: {count}" for status, count in Counter(unscored).items())
        total = len(unscored) + len(made)
        made = replace(made, not_whole=f"{source}: {len(unscored)} of {total} samples have no score ({told}).")
    return [made]


def _records(head: Head) -> Iterator[tuple[Record, str]]:
    """Give each answer, and what is told of its score."""
    seen: Counter[str] = Counter()
    for where, row in head.objects(_NEEDED):
        for record in _of_sample(row) if "sample_score" in row else _of_choices(where, row, seen):
            yield record, _status(row)


def _status(row: Mapping[str, Any]) -> str:
    score = row["sample_score"]["score"] if "sample_score" in row else {}
    return str(score.get("status") or "not reviewed")


def _of_sample(row: Mapping[str, Any]) -> Iterator[Record]:
    """Give the answer of a line of evalscope since 1.0."""
    sample = row["sample_score"]
    score, group = sample["score"], sample.get("group_id")
    number = row["index"] if sample.get("sample_id") is None else sample["sample_id"]
    main = score.get("main_score_name")
    values = {name: value for name, value in score["value"].items() if value is not None}
    target = row.get("target")
    yield Record(
        id=number if group is None else group,
        scores={main: values[main], **values} if main in values else values,
        answer=score.get("extracted_prediction"),
        reference=target[0] if isinstance(target, list) and len(target) == 1 else target,
        question=row.get("input") or _asked(row.get("messages") or ()),
        output=score.get("prediction"),
        sample=None if group is None else number,
        fields=sample.get("sample_metadata") or {},
    )


def _asked(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Give what the user said, as far as it is text."""
    said = [message["content"] for message in messages if message.get("role") == "user"]
    texts = [
        text if isinstance(text, str) else "\n".join(part.get("text") or "" for part in text if isinstance(part, dict))
        for text in said
    ]
    return "\n".join(texts) or None


def _of_choices(where: str, row: Mapping[str, Any], seen: Counter[str]) -> Iterator[Record]:
    """Give the answers of a line of evalscope up to 0.17; before 0.13 lines were not numbered."""
    asked = row.get("raw_input")
    key: int | str
    if (number := row.get("index")) is None:
        text = digest(asked)
        key, seen[text] = f"{text[:12]}-{seen[text]}", seen[text] + 1
    else:
        key = number
    choices = row["choices"] or [{}]
    for place, choice in enumerate(choices):
        review = choice.get("review") or {}
        result = review.get("result")
        values = result if isinstance(result, dict) else {"acc": result}
        if result is not None and not any(isinstance(value, int | float) for value in values.values()):
            raise InputError(f"{where}: the result of the review is {quote(result)}, which is no number to compare.")
        said = (choice.get("message") or {}).get("content")
        gold, answer = review.get("gold"), review.get("pred")
        yield Record(
            id=key,
            scores={name: value for name, value in values.items() if value is not None},
            answer=answer if isinstance(answer, str | int) and not isinstance(answer, bool) else None,
            reference=gold,
            question=_prompt(row),
            document=asked,
            output=said if isinstance(said, str) else None,
            sample=place if len(choices) > 1 else None,
        )


def _prompt(row: Mapping[str, Any]) -> str | None:
    prompt = row.get("origin_prompt")
    texts = prompt.get("data") if isinstance(prompt, dict) else None
    if isinstance(texts, list) and texts and isinstance(texts[0], str):
        return texts[0]
    asked = row.get("raw_input")
    return asked.get("question") if isinstance(asked, dict) and isinstance(asked.get("question"), str) else None


def _about(head: Head) -> About:
    folder = head.path.resolve().parent
    if folder.parent.name in ("reviews", "predictions"):
        model = folder.name
    else:
        model = folder.parent.name if folder.name == "reviews" else ""
    date = next((parent.name for parent in folder.parents if _DATE.fullmatch(parent.name)), "")
    return About(task_name(head.path), model, date)


EVALSCOPE = Format("evalscope", "reviews", _recognises, _read, ("*.jsonl",), _about, beside=_is_prediction)

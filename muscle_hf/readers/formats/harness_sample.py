"""One logged sample of lm-evaluation-harness: its metric, its answer, its choices, what people are shown of it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...text import listed, quote
from ..answers import Text
from ..digests import answer_digest, likelihoods_digest

HASHES = ("doc_hash", "prompt_hash", "target_hash")
_KNOWN = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", *HASHES}
# Documents have no common field for what was asked; these are looked for in this order, before the whole prompt.
_QUESTIONS = ("question", "query", "problem", "goal", "ctx", "instruction", "prompt", "sentence", "text", "input")
_INVALID = "[invalid]"
# Metrics that choose by a log-likelihood over a length.
_BY_LENGTH = ("acc_norm", "acc_bytes")


class NoMetricError(InputError):
    """A task without the metric that was asked for, or without any that gives one number a sample.

    Where none was asked for (`of_any_run`), another run of the task would have none either.
    """

    def __init__(self, where: str, reason: str, *, of_any_run: bool = False) -> None:
        """Say where it is, and why it cannot be compared."""
        super().__init__(f"{where}: {reason}")
        self.reason, self.of_any_run = reason, of_any_run


class NoFilterError(NoMetricError):
    """A task without the filter that was asked for."""

    def __init__(self, where: str, wanted: str, filters: Sequence[str]) -> None:
        """Say where it is, and which filters there are."""
        super().__init__(where, f"there is no filter {quote(wanted)}; it has {listed(map(quote, filters))}.")
        self.filters = filters


def refuse_nan(where: str, likelihoods: Sequence[float]) -> None:
    """Refuse a sample of which a log-likelihood is NaN: what it was scored says nothing of an answer."""
    if any(map(math.isnan, likelihoods)):
        raise InputError(
            f"{where}: a log-likelihood is NaN, so there is no most likely choice, and the score says nothing. The "
            "model computed no number there: evaluate it again in another precision, such as bfloat16 or float32."
        )


def number_of(value: Any) -> float | None:
    """Read a score; nan where it is null, None where it is no number."""
    if value is None:
        return float("nan")
    try:
        # Numbers of numpy became strings in some versions.
        return float(value == "True" if value in ("True", "False") else value)
    except (TypeError, ValueError):
        return None


def choose_metric(where: str, row: Mapping[str, Any], wanted: str | None) -> tuple[str, list[str]]:
    """Choose the metric that was asked for, or the first that gives one number a sample; also name all that do."""
    # "bypass" stands where only answers were asked for (--predict_only).
    names = [name for name in row.get("metrics", row) if name not in _KNOWN | {"bypass"}]
    usable = [name for name in names if number_of(row.get(name)) is not None]
    lists = [name for name in names if name not in usable]
    shown = f"usable: {listed(map(quote, usable)) or 'none'}"
    if wanted is None:
        if not usable:
            raise NoMetricError(
                where,
                f"no metric gives one number a sample ({listed(map(quote, lists)) or 'there is none'}; parts of a "
                "corpus score cannot be compared sample by sample).",
                of_any_run=True,
            )
        return str(next((name for name in usable if row.get(name) is not None), usable[0])), usable
    if wanted in lists:
        raise NoMetricError(
            where,
            f"metric {quote(wanted)} is {quote(row[wanted])} for each sample, a part of a corpus score, which cannot "
            f"be compared sample by sample; {shown}.",
        )
    if wanted not in usable:
        raise NoMetricError(where, f"there is no metric {quote(wanted)}; {shown}.")
    return wanted, usable


def answer_of(row: Mapping[str, Any], metric: str, delimiter: str) -> tuple[Any, bool]:
    """Give the answer of a sample, and whether it is the number of a choice."""
    filtered = row["filtered_resps"]
    pairs = [_likelihood(item) for item in filtered]
    if len(pairs) > 1 and None not in pairs:
        values = _values_of_choices(row, pairs, metric, delimiter)
        if metric == "exact_match":
            return _greedy(row, delimiter), False
        return (None, False) if values is None else (int(np.argmax(values)), True)
    if pairs and None not in pairs:
        return _greedy(row, delimiter), False  # one log-likelihood is a score, no answer
    answer = filtered[0] if isinstance(filtered, list) and filtered else filtered
    answer = answer[0] if isinstance(answer, list) and answer else answer
    if answer == _INVALID:
        # The filter found nothing: whether two of these are the same answer only the whole responses tell.
        responses = _responses(row["resps"])
        return f"{_INVALID} {responses[0] if len(responses) == 1 else json.dumps(responses)}", False
    return answer if isinstance(answer, str) else json.dumps(answer, sort_keys=True), False


def _values_of_choices(
    row: Mapping[str, Any], pairs: Sequence[float | None], metric: str, delimiter: str
) -> NDArray[np.float64] | None:
    """Give what the choices are chosen by, the largest; None where the contexts hold them, and no one knows where."""
    arguments = arguments_of(row)
    values = np.array(pairs, dtype=np.float64)
    count = len(values)
    if [len(argument) > 1 for argument in arguments] != [True] * count:
        raise IndexError(f"{count} log-likelihoods for {len(arguments)} requests of context and choice")
    if "acc_mutual_info" in row and count % 2 == 0:
        # The second half are the same choices without their question.
        count //= 2
        values = values[:count] - values[count:] if metric == "acc_mutual_info" else values[:count]
    if metric not in _BY_LENGTH:
        return values
    if _in_context(arguments):
        return None
    choices = _choices(row, delimiter)[:count]
    sizes = [len(text.encode()) if metric == "acc_bytes" else len(text) for text in choices]
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / np.array(sizes, dtype=np.float64)


def two_choices(row: Mapping[str, Any], metric: str, delimiter: str) -> tuple[str, str, float] | None:
    """Give the texts of two choices, and the second's log-likelihood less the first's; None where there are not two.

    That is nan where it is no finite number, or not what the metric chooses by, as where lengths are divided by.
    """
    filtered = row["filtered_resps"]
    if not isinstance(filtered, list) or len(filtered) not in (2, 4):
        return None
    values = _values_of_choices(row, [_likelihood(item) for item in filtered], metric, delimiter)
    if values is None or len(values) != 2 or _in_context(arguments_of(row)):
        return None
    first, second = (text.strip() for text in _choices(row, delimiter)[:2])
    known = metric not in _BY_LENGTH and np.isfinite(values).all()
    return first, second, float(values[1] - values[0]) if known else math.nan


def _greedy(row: Mapping[str, Any], delimiter: str) -> str | None:
    """Give the choice that the model itself writes, which is what `exact_match` asks; None where it writes another."""
    if _in_context(arguments_of(row)):
        return None
    texts = zip(_choices(row, delimiter), row["filtered_resps"], strict=False)
    return max((text for text, item in texts if str(item[1]) == "True"), key=len, default=None)


def is_probability_mass(row: Mapping[str, Any]) -> bool:
    """Tell whether a sample is of TruthfulQA with several right choices, whose `acc` is their share of probability."""
    doc = row["doc"] if isinstance(row["doc"], Mapping) else {}
    counts = [
        len(targets["choices"]) if isinstance(targets, Mapping) and isinstance(targets.get("choices"), list) else 0
        for targets in (doc.get("mc2_targets"), doc.get("mc1_targets"))
    ]
    return len(row["filtered_resps"]) == counts[0] != counts[1]


def output_of(where: str, row: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Give a digest of what the model gave, of a kind that two models cannot share, and whether of likelihoods."""
    filtered = row["filtered_resps"]
    values = [_likelihood(item) for item in filtered] if isinstance(filtered, list) else []
    known = [value for value in values if value is not None]
    refuse_nan(where, known)
    if not known and all(len(argument) == 1 for argument in arguments_of(row)):
        # Of a whole text there is the likelihood alone, without a continuation.
        known = [value for item in _responses(row["resps"]) if (value := number_of(item)) is not None]
    if known:
        return likelihoods_digest(known), True
    return answer_digest(_responses(row["resps"]), str(row["target"])), False


def _likelihood(item: Any) -> float | None:
    """Read a log-likelihood with its flag of greediness; None of anything else."""
    if isinstance(item, list) and len(item) == 2 and str(item[1]) in ("True", "False"):
        try:
            return float(item[0])
        except (TypeError, ValueError, OverflowError):
            return None
    return None


def contradicts(row: Mapping[str, Any], answer: int, metric: str, score: float, delimiter: str) -> bool:
    """Tell whether the answer's score says otherwise than the target, read as numbers of choices or as a text."""
    if metric not in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info"):
        return False
    target, right = str(row["target"]), _numbers(row["target"])
    if not right or (answer in right) == (score == 1):
        return False
    # A target may be the text of a choice too, and that text a number.
    choices = _choices(row, delimiter)
    return target not in choices or (choices[answer] == target) != (score == 1)


def _numbers(target: Any) -> set[int]:
    """Read the numbers of the right choices; none where the target is something else."""
    if re.fullmatch(r"\d{1,4}|\[\d{1,4}(, \d{1,4})*\]", str(target)) is None:
        return set()
    return set(map(int, re.findall(r"\d+", str(target))))


def arguments_of(row: Mapping[str, Any]) -> list[list[Any]]:
    """Give the arguments of each request, such as context and continuation."""
    arguments = row["arguments"]
    if isinstance(arguments, Mapping):
        return [list(argument.values()) for argument in arguments.values()]
    return [list(argument) for argument in arguments]


def _in_context(arguments: Sequence[Sequence[Any]]) -> bool:
    """Tell whether choices differ in what comes before the text that is scored (Winogrande)."""
    return len(arguments) > 1 and len({str(argument[1]) for argument in arguments}) == 1


def _choices(row: Mapping[str, Any], delimiter: str) -> list[str]:
    """Give the texts of the choices."""
    arguments = arguments_of(row)
    if _in_context(arguments):
        return [str(argument[0]) for argument in arguments]
    return [str(argument[1]).removeprefix(delimiter) for argument in arguments]


def _responses(responses: Any) -> list[str]:
    """Give the texts in nested lists of responses, one for each request and repetition."""
    if isinstance(responses, list):
        return [text for item in responses for text in _responses(item)]
    return [responses if isinstance(responses, str) else json.dumps(responses)]


def text_of(row: Mapping[str, Any], metric: str, delimiter: str) -> Text:
    """Give what people are shown of a sample."""
    doc = row["doc"] if isinstance(row["doc"], Mapping) else {}
    question = next((doc[key] for key in _QUESTIONS if isinstance(doc.get(key), str)), None)
    if question is None:
        question = next((str(argument[0]) for argument in arguments_of(row) if argument), None)
    target = str(row["target"])
    answer, is_choice = answer_of(row, metric, delimiter)
    if is_choice and len(_choices(row, delimiter)) == len(_numbers(target)):
        # Every choice is right, being another way to say the same, so which is the likeliest says nothing.
        answer, is_choice = _greedy(row, delimiter), False
    if is_choice:
        choices = _choices(row, delimiter)
        return Text(question, _right_choices(target, choices, numbers=True), f"{answer}: {choices[answer]}")
    if all(_likelihood(item) is not None for item in row["filtered_resps"]) and row["filtered_resps"]:
        choices = [] if _in_context(arguments_of(row)) else _choices(row, delimiter)
        return Text(question, _right_choices(target, choices, numbers=False), answer)
    response = next(iter(_responses(row["resps"])), "")
    alone = response.strip() in (answer.strip(), "") or answer.startswith(_INVALID)
    return Text(question, target, answer if alone else f"{answer}\n\n{response}", response)


def _right_choices(target: str, choices: Sequence[str], *, numbers: bool) -> str:
    """Show the right choices; the target as it is where it does not number them."""
    right = sorted(_numbers(target))
    if len(choices) < 2 or not right or right[-1] >= len(choices):
        return target
    return " / ".join(f"{number}: {choices[number]}" if numbers else choices[number] for number in right)


def canonical(doc: Any) -> str:
    """Write a document as the harness hashes it since 0.4.3, so that older files can be joined with newer ones."""
    return json.dumps(doc, indent=2, ensure_ascii=False)


def hash_of(text: Any) -> str:
    """Hash a text as the harness does."""
    return hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()

"""Output of promptfoo (`--output results.json`, `.jsonl` or `.csv`, `promptfoo export`), results of versions 2 and 3.

A result is of one test, one prompt and one provider. Version 3 numbers tests (`testIdx`); in version 2 the results of
one prompt and provider stand in the order of the tests.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ...errors import InputError
from ...text import listed, one_line
from ..answers import TaskAnswers, digest
from .format import About, Format, task_name
from .head import Head
from .jsonlines import object_in
from .promptfoo_table import is_table, read_table_of_results
from .records import Record, answers_of

_NEEDED = "one result of promptfoo a line"
_CHOICES = ("provider", "prompt")
_ERROR = 2  # promptfoo's number for a provider that gave no answer

_Result: TypeAlias = Mapping[str, Any]


def is_output(head: Head) -> bool:
    """Tell whether a file is an output of promptfoo."""
    if is_table(head):
        return True
    if head.layout not in ("object", "lines") or not (b'"results"' in head.start or b'"success"' in head.start):
        return False
    if head.first is None:  # cut off, so that only its beginning can tell
        return b'"evalId"' in head.start and b'"results"' in head.start
    if _is_result(head.first):
        return True
    results = object_in(head.first, "results") or head.first
    rows = results.get("results")
    return isinstance(rows, list) and (_is_result(rows[0]) if rows else "stats" in results)


def read_output(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    """Read the results of one prompt and provider; of repeated tests each is a sampled answer."""
    summary, results = _results(head)
    kept, repeated = _chosen(results, head), _is_repeated(head.document)
    made = answers_of(
        lambda: _records(kept, repeated), task, head.source, metric=metric, slices=slices, notes=_notes(kept)
    )
    return [replace(made, not_whole=_not_whole(summary, len(results), head.source))]


def about(head: Head) -> About:
    """Say which provider answered; an output has no name, so its task is that of the file."""
    document = head.first or {}
    summary = object_in(document, "results") or document
    rows = summary.get("results")
    providers = {_provider(row) for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    provider = head.where.get("provider", providers.pop() if len(providers) == 1 else "")
    return About(task_name(head.path), provider, str(summary.get("timestamp") or ""))


def _results(head: Head) -> tuple[Mapping[str, Any], list[_Result]]:
    """Give what the output says of all results, and the results."""
    if is_table(head):
        return {}, list(read_table_of_results(head.path))
    document = head.document
    if isinstance(document, dict) and not _is_result(document):
        summary = object_in(document, "results") or document
        return summary, list(summary["results"])
    return {}, [row for _, row in head.objects(_NEEDED)]


def _chosen(results: Sequence[_Result], head: Head) -> list[_Result]:
    """Give the results of one prompt and provider: of the only ones, or of those that were chosen."""
    columns: dict[tuple[str, str], list[_Result]] = {}
    names: dict[str, Any] = {}
    for number, result in enumerate(results):
        if not _is_result(result):
            raise InputError(f"{head.path}: result {number} says not whether it is a success, and of which test.")
        # A provider may have a label beside its name.
        names[_provider(result)] = object_in(result, "provider").get("id")
        columns.setdefault((_provider(result), _prompt(result)), []).append(result)
    if not columns:
        raise InputError(f"{head.path} holds no results of promptfoo.")
    wanted = [head.where.get(name) for name in _CHOICES]
    kept = {
        column: rows
        for column, rows in columns.items()
        if all(want in (None, name, names.get(name)) for want, name in zip(wanted, column, strict=True))
    }
    if len(kept) == 1:
        return next(iter(kept.values()))
    left = kept or columns
    # Only what tells them apart has to be chosen.
    differ = [place for place in range(len(_CHOICES)) if len({column[place] for column in left}) > 1]
    choices = ["".join(f"@{_CHOICES[place]}={one_line(column[place])}" for place in differ) for column in left]
    raise InputError(
        f"{head.source} stands for {len(kept)} of the {len(columns)} pairs of provider and prompt in it; choose one "
        f"behind the path: {listed(choices if differ else _CHOICES)}."
    )


def _records(results: Sequence[_Result], repeated: bool) -> Iterator[Record]:
    numbers: dict[str, list[int]] = {}
    for place, result in enumerate(results):
        test, variables = object_in(result, "testCase"), _variables(result)
        asserted = [
            [check.get("type"), check.get("value")] for check in test.get("assert") or () if isinstance(check, dict)
        ]
        # Repetitions are numbered as tests of their own.
        same = numbers.setdefault(digest([variables, asserted, test.get("description")]), []) if repeated else []
        same.append(result.get("testIdx", place))
        output = object_in(result, "response").get("output")
        failed = _is_error(result)
        yield Record(
            id=same[0],
            scores={
                "success": None if failed else result["success"],
                "score": None if failed else result.get("score"),
                **{name: None if failed else score for name, score in object_in(result, "namedScores").items()},
            },
            answer=output if isinstance(output, str) or output is None else json.dumps(output),
            reference=asserted or None,
            question=_question(result),
            document=variables,
            sample=len(same),
            fields={**object_in(test, "metadata"), **variables},
        )


def _is_result(value: Any) -> bool:
    return isinstance(value, dict) and "success" in value and bool({"testIdx", "promptIdx", "vars"} & value.keys())


def _is_error(result: _Result) -> bool:
    """Tell whether there was no answer to judge, which promptfoo counts apart from failed tests."""
    if "failureReason" in result:
        return bool(result["failureReason"] == _ERROR)
    # Version 2 also keeps the reason of a failed test there, beside what judged it.
    return bool(result.get("error")) and not result.get("gradingResult") and not result["success"]


def _variables(result: _Result) -> Mapping[str, Any]:
    """Give the variables of a test, without those that a run adds."""
    return {
        name: value for name, value in object_in(result, "vars").items() if name[:1] != "_" and name != "sessionId"
    }


def _question(result: _Result) -> str:
    raw = object_in(result, "prompt").get("raw")
    return raw if isinstance(raw, str) else ", ".join(f"{name}: {value}" for name, value in _variables(result).items())


def _provider(result: Any) -> str:
    provider = result.get("provider")
    if isinstance(provider, dict):
        provider = provider.get("label") or provider.get("id")
    return str(provider or "")


def _prompt(result: _Result) -> str:
    """Name a prompt by its label, as promptfoo's own tables do; one without by its number."""
    prompt = object_in(result, "prompt")
    return str(prompt.get("label") or prompt.get("display") or result.get("promptIdx", ""))


def _is_repeated(document: Any) -> bool:
    """Tell whether each test was run several times (`--repeat`), where the output says it."""
    if not isinstance(document, dict):
        return False
    options = object_in(object_in(document, "config"), "evaluateOptions"), object_in(document, "runtimeOptions")
    return any(isinstance(option.get("repeat"), int) and option["repeat"] > 1 for option in options)


def _notes(results: Sequence[_Result]) -> list[str]:
    failed = sum(map(_is_error, results))
    return [f"{failed} of {len(results)} tests have no answer: the provider gave an error"] if failed else []


def _not_whole(summary: Mapping[str, Any], count: int, source: str) -> str | None:
    """Say that there are not as many results as promptfoo counted; None where it says nothing else."""
    counts = [object_in(summary, "stats").get(name) for name in ("successes", "failures", "errors")]
    told = [number for number in counts if isinstance(number, int)]
    if len(told) < 2 or sum(told) == count:
        return None
    return f"{source} is of an output with {count} results, which counts {sum(told)} itself: was it changed?"


PROMPTFOO = Format(
    program="promptfoo",
    holds="an output",
    recognises=is_output,
    read=read_output,
    files=("*.json", "*.jsonl", "*.csv"),
    about=about,
    choices=_CHOICES,
)

"""Results of EvalPlus: `<samples>_eval_results.json`, problem -> its samples, each with what became of its tests.

Up to 0.2.0 a problem has lists of [status, details], of the tests of the data set ("base") and of EvalPlus ("plus");
since then a list of samples with `base_status` and `plus_status`. BigCodeBench writes the same with one `status`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .human_eval import problem_set
from .records import Record, answers_of

_PASSED = {"pass": True, "success": True}
_STATUS = _PASSED | dict.fromkeys(("fail", "failed", "timeout", "timed out"), False)


def _recognises(head: Head) -> bool:
    problems = (head.first or {}).get("eval")
    if not isinstance(problems, dict) or not problems:
        return False
    first = next(iter(problems.values()))
    if isinstance(first, dict):
        return "base" in first
    return isinstance(first, list) and all(
        isinstance(sample, dict) and not {"base_status", "status"}.isdisjoint(sample) for sample in first
    )


def _read(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    problems = dict(head.document["eval"])

    def records() -> Iterator[Record]:
        for problem, samples in problems.items():
            for number, sample in enumerate(_samples(samples)):
                yield Record(
                    id=problem,
                    scores=_scores(sample),
                    document=problem,
                    output=sample.get("solution"),
                    sample=number,
                )

    return [answers_of(records, task, str(head.path), metric=metric, slices=slices, grades=False)]


def _samples(held: Any) -> list[Mapping[str, Any]]:
    """Give the samples of a problem, those of old versions in the form of new ones."""
    if not isinstance(held, dict):
        return list(held)
    base, plus = ([status for status, *_ in held[name]] for name in ("base", "plus"))
    others = plus or [None] * len(base)
    return [{"base_status": one, "plus_status": two} for one, two in zip(base, others, strict=True)]


def _scores(sample: Mapping[str, Any]) -> dict[str, bool]:
    """Tell which tests a sample passes; those of EvalPlus come beside those of the data set, and first."""
    if "status" in sample:
        return {"passed": _STATUS[sample["status"]]}
    base, plus = _STATUS[sample["base_status"]], sample.get("plus_status")
    return {"base": base} if plus is None else {"plus": base and _STATUS[plus], "base": base}


def _about(head: Head) -> About:
    problems = (head.first or {}).get("eval") or {"": None}
    return About(problem_set(next(iter(problems)), task_name(head.path)))


EVALPLUS = Format("EvalPlus", "results", _recognises, _read, ("*eval_results.json",), _about)

"""Results of human-eval: `<samples>.jsonl_results.jsonl`, a line for each completion with whether it passed the tests.

Completions of one problem are sampled answers to it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import InputError
from ..answers import TaskAnswers
from .format import About, Format, task_name
from .head import Head
from .records import Record, answers_of

_NEEDED = "one completion of human-eval"


def problem_set(problem: str, otherwise: str) -> str:
    """Name a set of problems by one of them, such as "HumanEval/12"."""
    name, slash, _ = problem.partition("/")
    return name if slash and name else otherwise


def _recognises(head: Head) -> bool:
    has_code = bool({"completion", "solution"} & head.keys)
    is_table = bool({"prediction", "score"} & head.keys)
    return "task_id" in head.keys and has_code and not is_table and head.layout in ("lines", "array")


def _read(head: Head, task: str, *, metric: str | None, slices: Sequence[str]) -> list[TaskAnswers]:
    if "passed" not in head.keys:
        raise InputError(
            f"{head.path} holds completions, but not whether they pass the tests: evaluate them with human-eval "
            "(evaluate_functional_correctness) or EvalPlus (evalplus.evaluate), and compare the results."
        )

    def records() -> Iterator[Record]:
        seen: Counter[str] = Counter()
        for where, row in head.objects(_NEEDED):
            if not isinstance(row["passed"], bool):
                raise InputError(f"{where}: passed is {row['passed']!r}; true or false is needed.")
            yield Record(
                id=row["task_id"],
                scores={"passed": row["passed"]},
                question=row.get("prompt"),
                document=row["task_id"],
                output=row.get("completion", row.get("solution")),
                sample=seen[row["task_id"]],
            )
            seen[row["task_id"]] += 1

    return [answers_of(records, task, str(head.path), metric=metric, slices=slices, grades=False)]


def _about(head: Head) -> About:
    first = head.first or {}
    return About(problem_set(str(first.get("task_id")), task_name(head.path)))


HUMAN_EVAL = Format("human-eval", "results", _recognises, _read, ("*_results.jsonl",), _about)

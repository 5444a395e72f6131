"""A gate for CI: hold a comparison of two model versions to bounds, given as options or in a file of a project.

Every bound is checked: a row that has one of its own is held to that of "*" too. A rate exactly on a bound keeps it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .answers import quote
from .columns import is_number
from .errors import InputError
from .measure import Part
from .not_compared import incomplete
from .outcomes import Outcomes
from .pointers import refuse_pointer
from .report import printable

if TYPE_CHECKING:
    from yaml import Node

GATE_ON = ("estimate", "upper")
_SHOWN_ROWS = 20
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MERGE = "tag:yaml.org,2002:merge"


class _Kind(NamedTuple):
    answers: str | None
    """The rate of a `Comparison` that is bounded; None where answers have none."""
    scores: str | None
    """The same of a `ScoreComparison`."""
    low: float
    high: float
    expected: str


RATES = {
    "max_nfr": _Kind(
        "negative_flip_rate", "negative_flip_rate", 0, 1, "a rate from 0 to 1, such as 0.02 for 2 % of all instances"
    ),
    "max_relative_nfr": _Kind("relative_negative_flip_rate", None, 0, math.inf, "a ratio from 0 up, such as 0.5"),
    "max_regression": _Kind(
        None, "mean_regression", 0, math.inf, "a size of falls from 0 up in the unit of the score, such as 0.1"
    ),
    "min_accuracy_change": _Kind(
        "accuracy_change", "mean_change", -math.inf, math.inf, "a change, such as -0.01 for one point of accuracy less"
    ),
}
"""What can be bounded, by the name of the option."""


@dataclass(frozen=True)
class Bound:
    """What a rate must not be above ("max_...") or below ("min_...").

    Raises:
        InputError: No such rate, no row, or a value that the rate cannot have.
    """

    rate: str
    """One of `RATES`."""
    where: str
    """A row: "all", a task or "column=value"; or several: "*" for each task, "column=*" for each group of a column."""
    value: float
    source: str = field(default="", compare=False)
    """Where it was given, as messages name it."""

    def __post_init__(self) -> None:
        """Refuse what would never be checked, or never hold."""
        if self.rate not in RATES:
            raise InputError(f"there is no bound named {quote(self.rate)}; there are: {', '.join(RATES)}.")
        if not isinstance(self.where, str) or not self.where:
            raise InputError(
                f"{self}: the name of the row is empty; without a name and colon the bound is for all instances."
            )
        kind = RATES[self.rate]
        if not is_number(self.value) or not kind.low <= self.value <= kind.high:
            raise InputError(f"{self}: the value is {quote(self.value)}, but must be {kind.expected}.")

    def __str__(self) -> str:
        """Say where it was given, or what it is."""
        return printable(self.source or f"{self.rate} {self.where}:{self.value}")


@dataclass(frozen=True)
class Violation:
    """A bound that a row breaks; made by `check`."""

    bound: Bound
    row: str
    """The row as a gate calls it: "all", a task, or "column=value"."""
    estimate: float
    low: float
    """The interval at the level of the comparison; nan where there is none."""
    high: float
    n: int
    """How many instances the row has."""
    compared_value: float
    """What was held to the bound: the estimate or the worse end of the interval; nan where there is no interval."""
    message: str
    """One line with all of it."""

    def to_dict(self) -> dict[str, Any]:
        """Give what `muscle_hf/run_comparison.schema.json` describes, as plain Python values.

        Returns:
            `row`; `bound`, the number; `rate`, the name of the bound; `value`, what was held to it; `estimate`,
            `low`, `high` and `message`. Undefined numbers are nan.
        """
        return {
            "row": self.row,
            "bound": float(self.bound.value),
            "rate": self.bound.rate,
            "value": self.compared_value,
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "message": self.message,
        }


def parse_bound(rate: str, text: str) -> Bound:
    """Read a bound as the command line has it: VALUE or WHERE:VALUE.

    Args:
        rate: One of `RATES`, such as "max_nfr".
        text: The value, after the last colon; before it the row, which is "all" if left out. Names of tasks may hold
            colons themselves.

    Returns:
        The bound.

    Raises:
        InputError: No such rate, no row before the colon, a value that is no number or out of range.

    Example:
        >>> bound = parse_bound("max_nfr", "leaderboard|mmlu:law|5:0.05")
        >>> bound.where, bound.value
        ('leaderboard|mmlu:law|5', 0.05)
        >>> parse_bound("max_nfr", "0.02").where
        'all'
    """
    where, colon, value = text.rpartition(":")
    return _bound(rate, where if colon else "all", value.strip(), f"--{rate.replace('_', '-')} {text}")


def read_bounds(path: str | Path) -> tuple[list[Bound], str | None]:
    """Read the bounds of a project from a YAML file.

    The rates of `RATES` at the top are for all instances together; `tasks` has a task or "*" -> rates, and `slices` a
    column -> a group or "*" -> rates. Names are taken as they are written: `no` is no truth value here.

    Args:
        path: The file, UTF-8.

    Returns:
        The bounds in the order of the file, and its `gate_on`; None where it has none.

    Raises:
        InputError: Not YAML or not UTF-8, a key that is unknown or stands twice, a value of the wrong type or out of
            range, no bound at all; or the file cannot be read. The message names the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "gate.yaml"
        >>> _ = file.write_text('gate_on: upper\\nmax_nfr: 0.02\\ntasks: {"*": {max_nfr: 0.05}}')
        >>> bounds, gate_on = read_bounds(file)
        >>> [(bound.where, bound.value) for bound in bounds], gate_on
        ([('all', 0.02), ('*', 0.05)], 'upper')
    """
    import yaml

    path = Path(path)
    refuse_pointer(path)
    try:
        root = yaml.compose(path.read_bytes().decode("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); a YAML file of bounds is needed."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{path}{place}: not YAML: {printable(error.problem or error.context or '')}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not YAML: {printable(str(error))}.") from None
    if root is None:
        raise InputError(f"{path} is empty: a gate needs at least one bound, such as `max_nfr: 0.02`.")
    bounds, gate_on = [], None
    for key, value in _entries(path, root, "the file", ("gate_on", *RATES, "tasks", "slices")):
        if key in RATES:
            bounds.append(_from_file(path, value, key, "all"))
        elif key == "gate_on":
            gate_on = _scalar(path, value, key)
            if gate_on not in GATE_ON:
                raise _fault(path, value, f"gate_on is {quote(gate_on)}, but must be {' or '.join(GATE_ON)}")
        elif key == "tasks":
            for task, rates in _entries(path, value, key):
                bounds += _rates(path, rates, f"the task {quote(task)}", task)
        else:
            for column, groups in _entries(path, value, key):
                for group, rates in _entries(path, groups, f"the column {quote(column)}"):
                    bounds += _rates(path, rates, f"the group {quote(group)}", f"{column}={group}")
    if not bounds:
        raise InputError(f"{path} has no bound, so nothing would be checked: give one, such as `max_nfr: 0.02`.")
    return bounds, gate_on


def check(outcomes: Outcomes, bounds: Sequence[Bound], *, gate_on: str = "estimate") -> list[Violation]:
    """Hold a comparison to bounds.

    Relative NFR and mean regression are undefined only where nothing can flip or nothing fell: the bound holds.

    Args:
        outcomes: What was compared.
        bounds: All of them are checked. Of score tasks, only "*" and their names speak: "all" is the one task, or the
            right and wrong answers of several.
        gate_on: "estimate", or "upper" for the worse end of the interval: the rate must be known to keep the bound. A
            rate without interval then breaks it.

    Returns:
        What is broken, in the order of the bounds; empty where all hold.

    Raises:
        InputError: Tasks that were not compared, where the comparison did not allow for it; a row that is not there, a
            rate that a named row has not, or that none of the rows of a "*" has; a change of accuracy beyond -1 to 1;
            another word for `gate_on`.

    Example:
        >>> from muscle_hf.runs import compare_runs
        >>> from muscle_hf.answers import Run, TaskAnswers
        >>> import pyarrow as pa
        >>> ids, gold = pa.array(["a", "b"]), pa.array(["x", "x"])
        >>> old = TaskAnswers("quiz", "old.csv", ids, answers=pa.array(["x", "x"]), references=gold)
        >>> new = TaskAnswers("quiz", "new.csv", ids, answers=pa.array(["x", "y"]), references=gold)
        >>> result = compare_runs(Run("v1", "old.csv", {"quiz": old}), Run("v2", "new.csv", {"quiz": new}))
        >>> print(check(result, [parse_bound("max_nfr", "quiz:0.4")])[0].message)
        quiz: negative flip rate 0.5 (1 of 2), 95 % interval 0.09453 to 0.9055, is above the bound: --max-nfr quiz:0.4
    """
    if gate_on not in GATE_ON:
        raise InputError(f"gate_on is {quote(gate_on)}, but must be {' or '.join(GATE_ON)}.")
    if outcomes.not_compared and not outcomes.allow_missing:
        raise incomplete(outcomes.not_compared, len(outcomes.tasks))
    held = [
        _hold(bound, row, part, outcomes.level, gate_on) for bound in bounds for row, part in _rows(outcomes, bound)
    ]
    return [violation for violation in held if violation]


# Checking ------------------------------------------------------------------------------------------------------------


def _rows(outcomes: Outcomes, bound: Bound) -> list[tuple[str, Part]]:
    """Give the rows that a bound is for, all of which have its rate."""
    rows, column = list(outcomes.parts), bound.where.removesuffix("=*")
    if bound.where == "*":
        found = [(part.name, part) for part in outcomes.tasks]
    elif column != bound.where and column in outcomes.slices:
        found = [(f"{column}={part.name}", part) for part in outcomes.slices[column]]
    else:
        # The only task may be called "all" as well.
        found = list({id(part): (row, part) for row, part in rows if row == bound.where}.values())
    if not found or (bound.where == "all" and outcomes.overall is None):
        raise _no_row(outcomes, bound, [row for row, _ in rows])
    having = [(row, part) for row, part in found if _rate(bound, part)]
    if not having:
        kind = "scores" if RATES[bound.rate].scores else "answers"
        raise InputError(f"{bound}: {quote(bound.where)} has no {bound.rate[4:]}, which only {kind} have.")
    if bound.rate == "min_accuracy_change" and abs(bound.value) > 1 and any(not part.has_scores for _, part in having):
        raise InputError(f"{bound}: accuracy is from 0 to 1, so its change is from -1 to 1.")
    return having


def _no_row(outcomes: Outcomes, bound: Bound, rows: list[str]) -> InputError:
    hint = ""
    if bound.where in outcomes.not_compared:
        hint = f", because it was not compared: {outcomes.not_compared[bound.where].rstrip('.')}"
    elif bound.where == "all":
        hint = ", because tasks with scores are not pooled; bound each with '*' or by name"
    elif "=" in bound.where and not any(bound.where.startswith(f"{column}=") for column in outcomes.slices):
        hint = "; slices are made with --by COLUMN (by=)"
    names = ", ".join(map(quote, rows[:_SHOWN_ROWS]))
    more = f", … ({len(rows)} in all)" if len(rows) > _SHOWN_ROWS else ""
    return InputError(f"{bound}: there is no row {quote(bound.where)}{hint}. Rows: {names}{more}.")


def _rate(bound: Bound, part: Part) -> str | None:
    kind = RATES[bound.rate]
    return kind.scores if part.has_scores else kind.answers


def _hold(bound: Bound, row: str, part: Part, level: float, gate_on: str) -> Violation | None:
    """Hold one row to a bound, given that the row has the rate."""
    name, above = _rate(bound, part) or "", bound.rate.startswith("max")
    estimate = float(getattr(part.comparison, name))
    broken = estimate > bound.value if above else estimate < bound.value
    if math.isnan(estimate) or (gate_on == "estimate" and not broken):
        return None
    low, high = part.comparison.confidence_interval(name, level)
    compared = estimate
    if gate_on == "upper" and not math.isnan(low):
        # A bootstrap of few and skewed values may lie on one side of its estimate.
        compared = max(estimate, high) if above else min(estimate, low)
        if not (compared > bound.value if above else compared < bound.value):
            return None
    elif gate_on == "upper" and not broken:
        compared = math.nan
    # So many digits that the message does not say that 0.02 is above 0.02.
    digits = next((d for d in (4, 6, 9) if f"{compared:.{d}g}" != f"{bound.value:.{d}g}"), 17)
    text = f"{row}: {name.replace('_', ' ')} {estimate:z.{digits}g} ({_count(bound, part)})"
    if not math.isnan(low):
        text += f", {100 * level:g} % interval {low:z.{digits}g} to {high:z.{digits}g},"
    if math.isnan(compared):
        text += " has no interval, being the mean of a single value, and so cannot be shown to keep the bound"
    else:
        text += f" {'is' if broken else 'reaches'} {'above' if above else 'below'} the bound"
    return Violation(bound, row, estimate, low, high, part.n, compared, printable(f"{text}: {bound}"))


def _count(bound: Bound, part: Part) -> str:
    negative, positive = part.coin.negative, part.coin.positive
    if bound.rate == "max_regression":
        return f"{negative} of {part.n} fell"
    if bound.rate == "min_accuracy_change":
        words = ("fell", "rose") if part.has_scores else ("broken", "repaired")
        return f"{negative} {words[0]} and {positive} {words[1]} of {part.n}"
    return f"{negative} of {part.n}"


# Reading -------------------------------------------------------------------------------------------------------------


def _bound(rate: str, where: str, text: str, source: str) -> Bound:
    value: Any = float(text) if _NUMBER.fullmatch(text) else text  # which is refused as no number
    return Bound(rate, where, value, source)


def _rates(path: Path, node: "Node", what: str, where: str) -> list[Bound]:
    return [_from_file(path, value, rate, where) for rate, value in _entries(path, node, what, tuple(RATES))]


def _from_file(path: Path, node: "Node", rate: str, where: str) -> Bound:
    text = _scalar(path, node, rate)
    place = "" if where == "all" else f" of {quote(where)}"
    return _bound(rate, where, text, f"{rate}{place}: {text} in {path}, line {node.start_mark.line + 1}")


def _scalar(path: Path, node: "Node", what: str) -> str:
    """Give a value as it is written; quotes make a number a text."""
    from yaml import ScalarNode

    if not isinstance(node, ScalarNode):
        raise _fault(path, node, f"{what} must be one value, not a list or a mapping")
    if node.style and what in RATES:
        raise _fault(path, node, f"{what} is the text {quote(node.value)}; write the number without quotes")
    return str(node.value)


def _entries(path: Path, node: "Node", what: str, known: tuple[str, ...] = ()) -> list[tuple[str, "Node"]]:
    """Give the keys of a mapping as they are written, with their values; any key where none is known beforehand."""
    from yaml import MappingNode, ScalarNode

    if not isinstance(node, MappingNode):
        raise _fault(path, node, f"{what} must be a mapping, such as {{max_nfr: 0.05}}")
    found: dict[str, Node] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or key.tag == _MERGE:
            raise _fault(path, key, f"every key of {what} must be a name; merge keys (<<) are not read")
        if key.value in found:
            raise _fault(path, key, f"{quote(key.value)} stands twice in {what}; YAML would keep the last one only")
        if known and key.value not in known:
            raise _fault(path, key, f"{quote(key.value)} of {what} is not known; there are: {', '.join(known)}")
        found[key.value] = value
    return list(found.items())


def _fault(path: Path, node: "Node", text: str) -> InputError:
    return InputError(f"{path}, line {node.start_mark.line + 1}: {text}.")

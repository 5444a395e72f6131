"""The bounds of a gate: what a rate must not be above or below, given as options or in a file of a project."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import refuse_pointer
from ..flips.inputs import is_number
from ..text import printable, quote
from .kinds import RATES as RATES

if TYPE_CHECKING:
    from yaml import Node

GATE_ON = ("interval", "estimate")
MARGINS = {"margin": "min_accuracy_change"}
"""Options that say by how much a rate may fall -> the bound that this is, with the other sign."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAMES = (*MARGINS, *RATES)
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Bound:
    """What a rate must not be above ("max_...") or below ("min_..."); a value that it cannot have is refused."""

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


def parse_bound(name: str, text: str) -> Bound:
    """Read a bound as the command line has it: VALUE or WHERE:VALUE; names of tasks may hold colons themselves."""
    where, colon, value = text.rpartition(":")
    return bound_of(name, where if colon else "all", value.strip(), f"--{name.replace('_', '-')} {text}")


def bound_of(name: str, where: str, value: str | float, source: str) -> Bound:
    """Make a bound of one of `RATES` or `MARGINS`, of a number or of the text of one."""
    given: Any = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    if name not in MARGINS:
        return Bound(name, where, given, source)  # which refuses a text, as no number
    if not is_number(given) or given < 0:
        raise InputError(
            f"{printable(source)}: the value is {quote(given)}, but must be a size from 0 up by which accuracy, or "
            "the mean score, may fall, such as 0.01 for one point of accuracy."
        )
    return Bound(MARGINS[name], where, 0.0 - given, source)


def read_bounds(path: str | Path) -> tuple[list[Bound], str | None]:
    """Read the bounds of a project, and its `gate_on` (None where it has none), from a YAML file in UTF-8.

    The names of `RATES` and `MARGINS` at the top are for all instances together; `tasks` has a task or "*" -> these,
    and `slices` a column -> a group or "*" -> these. Names are taken as they are written: `no` is no truth value here.
    Messages name the line of a key that is unknown or stands twice, and of a value that is no number or out of range.
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
    for key, value in _entries(path, root, "the file", ("gate_on", *_NAMES, "tasks", "slices")):
        if key in _NAMES:
            bounds.append(_from_file(path, value, key, "all"))
        elif key == "gate_on":
            gate_on = _scalar(path, value, key)
            if gate_on not in GATE_ON:
                raise _fault(path, value, wrong_word(gate_on))
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


def wrong_word(gate_on: object) -> str:
    """Say what `gate_on` must be."""
    told = f"gate_on is {quote(gate_on)}, but must be {' or '.join(GATE_ON)}"
    return f"{told}; a bound that is kept on the interval is kept on its upper end" if gate_on == "upper" else told


# Reading -------------------------------------------------------------------------------------------------------------


def _rates(path: Path, node: "Node", what: str, where: str) -> list[Bound]:
    return [_from_file(path, value, rate, where) for rate, value in _entries(path, node, what, _NAMES)]


def _from_file(path: Path, node: "Node", rate: str, where: str) -> Bound:
    text = _scalar(path, node, rate)
    place = "" if where == "all" else f" of {quote(where)}"
    return bound_of(rate, where, text, f"{rate}{place}: {text} in {path}, line {node.start_mark.line + 1}")


def _scalar(path: Path, node: "Node", what: str) -> str:
    """Give a value as it is written; quotes make a number a text."""
    from yaml import ScalarNode

    if not isinstance(node, ScalarNode):
        raise _fault(path, node, f"{what} must be one value, not a list or a mapping")
    if node.style and what in _NAMES:
        raise _fault(path, node, f"{what} is the text {quote(node.value)}; write the number without quotes")
    return str(node.value)


def _entries(path: Path, node: "Node", what: str, known: tuple[str, ...] = ()) -> list[tuple[str, "Node"]]:
    """Give the keys of a mapping as they are written, with their values; any key where none is known beforehand."""
    from yaml import MappingNode, ScalarNode

    if not isinstance(node, MappingNode):
        raise _fault(path, node, f"{what} must be a mapping, such as {{max_nfr: 0.05}}")
    entries: dict[str, Node] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or key.tag == _MERGE:
            raise _fault(path, key, f"every key of {what} must be a name; merge keys (<<) are not read")
        if key.value in entries:
            raise _fault(path, key, f"{quote(key.value)} stands twice in {what}; YAML would keep the last one only")
        if known and key.value not in known:
            raise _fault(path, key, f"{quote(key.value)} of {what} is not known; there are: {', '.join(known)}")
        entries[key.value] = value
    return list(entries.items())


def _fault(path: Path, node: "Node", text: str) -> InputError:
    return InputError(f"{path}, line {node.start_mark.line + 1}: {text}.")

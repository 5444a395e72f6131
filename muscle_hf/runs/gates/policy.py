"""A policy: what an update has to keep, who asks for it and why, in a YAML file of a project."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...files import refuse_pointer
from ...flips.paired_tests import TESTS
from ...readers.missing import MISSING
from ...text import printable, quote
from .bounds import GATE_ON, MARGINS, RATES, TIERS, UNDECIDED, Bound, bound_of, wrong_word

if TYPE_CHECKING:
    from yaml import Node

_MERGE = "tag:yaml.org,2002:merge"
_BOUNDS = (*MARGINS, *RATES)
# What stands beside a bound; on a row or the whole file it is for all bounds in it that say nothing else.
_BESIDE = ("tier", "owner", "reason")
# Option -> its words.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "gate_on": GATE_ON,
    "undecided": UNDECIDED,
    "test": TESTS,
    "missing": MISSING,
}
_OPTIONS = ("level", *_WORDS, "cluster", "yes_no")


@dataclass(frozen=True)
class Policy:
    """What an update has to keep; made by `read_policy`. Options that the file leaves out are None."""

    source: str
    """The file, as messages name it."""
    sha256: str
    """Digest of the file."""
    bounds: tuple[Bound, ...]
    """In the order of the file."""
    by: tuple[str, ...] = ()
    """The columns that they slice by."""
    required_tasks: tuple[str, ...] = ()
    """Tasks without which nothing is judged, whatever else is allowed to be missing."""
    level: float | None = None
    gate_on: str | None = None
    undecided: str | None = None
    test: str | None = None
    missing: str | None = None
    cluster: str | None = None
    yes_no: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Give what it says to `compare_runs`: `compare_runs(old, new, **policy.options)`."""
        names = ("level", "test", "missing", "cluster", "yes_no")
        return {name: value for name in names if (value := getattr(self, name)) is not None} | {"by": self.by}

    @property
    def judging(self) -> dict[str, Any]:
        """Give what it says to `judge`: `judge(result, policy.bounds, **policy.judging)`."""
        said = {name: value for name in ("gate_on", "undecided") if (value := getattr(self, name)) is not None}
        return said | {"required_tasks": self.required_tasks}


def read_policy(path: str | Path) -> Policy:
    """Read the policy of a project from a YAML file in UTF-8.

    The file has

    - bounds for all instances together, by the names of `RATES` and `MARGINS`; `tasks`, a task or "*" -> bounds; and
      `slices`, a column -> a group or "*" -> bounds. A bound is a number, or `{value: 0.02, tier: advisory, owner:
      search team, reason: …}`, or a list of these. A tier, an owner and a reason may also stand beside the bounds of a
      row, or at the top of the file: then they are for all below that say nothing else;
    - `required_tasks`, a list of tasks without which nothing is judged;
    - options: `level`, `gate_on`, `undecided`, `test`, `missing`, `cluster`, `yes_no`.

    Names are taken as they are written: `no` is no truth value here.

    Args:
        path: The file.

    Returns:
        The policy.

    Raises:
        InputError: The file cannot be read, is no YAML or has no bound; a key that is unknown (with the nearest right
            one) or stands twice, or a value that cannot be, each with its line.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "policy.yaml"
        >>> _ = file.write_text("margin: 0.01\\nslices: {category: {law: {max_nfr: 0.05, owner: legal}}}")
        >>> policy = read_policy(file)
        >>> [(bound.where, bound.rate, bound.value, bound.owner) for bound in policy.bounds]
        [('all', 'min_accuracy_change', -0.01, ''), ('category=law', 'max_nfr', 0.05, 'legal')]
        >>> policy.options
        {'by': ('category',)}
    """
    path = Path(path)
    content, root = _composed(path)
    read = _Reader(path)
    said: dict[str, Any] = {}
    rows: list[tuple[str, str, list[tuple[str, Node]]]] = []
    known = (*_BOUNDS, *_BESIDE, "tasks", "slices", "required_tasks", *_OPTIONS)
    entries = read.entries(root, "the file", known)
    rows.append(("all", "the file", [(key, value) for key, value in entries if key in (*_BOUNDS, *_BESIDE)]))
    for key, value in entries:
        if key == "tasks":
            for task, bounds in read.entries(value, key):
                what = f"the task {quote(task)}"
                rows.append((task, what, read.entries(bounds, what, (*_BOUNDS, *_BESIDE))))
        elif key == "slices":
            columns = read.entries(value, key)
            said["by"] = tuple(column for column, _ in columns)
            for column, groups in columns:
                for group, bounds in read.entries(groups, f"the column {quote(column)}"):
                    what = f"the group {quote(group)}"
                    rows.append((f"{column}={group}", what, read.entries(bounds, what, (*_BOUNDS, *_BESIDE))))
        elif key == "required_tasks":
            said[key] = read.names(value, key)
        elif key in _OPTIONS:
            said[key] = read.option(value, key)
    beside = read.beside(rows[0][2], {})
    bounds_read = [bound for where, _, row in rows for bound in read.row(row, where, read.beside(row, beside))]
    if not bounds_read:
        raise InputError(f"{path} has no bound, so nothing would be checked: give one, such as `max_nfr: 0.02`.")
    return Policy(str(path), hashlib.sha256(content).hexdigest(), tuple(bounds_read), **said)


def _composed(path: Path) -> tuple[bytes, "Node"]:
    """Read the file as YAML without making anything of it."""
    import yaml

    refuse_pointer(path)
    try:
        content = path.read_bytes()
        root = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
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
        raise InputError(f"{path} is empty: a policy needs at least one bound, such as `max_nfr: 0.02`.")
    return content, root


@dataclass(frozen=True)
class _Reader:
    """Makes bounds and options of the nodes of a file, and names the line of what it refuses."""

    path: Path

    def row(self, entries: "list[tuple[str, Node]]", where: str, beside: Mapping[str, str]) -> list[Bound]:
        """Read the bounds of a row."""
        bounds = []
        for name, node in entries:
            if name in _BOUNDS:
                for item in self._items(node):
                    bounds.append(self._bound(item, name, where, beside))
        return bounds

    def beside(self, entries: "list[tuple[str, Node]]", outer: Mapping[str, str]) -> dict[str, str]:
        """Read the tier, the owner and the reason among some entries; those that lack are the outer ones."""
        said = dict(outer)
        for name, node in entries:
            if name in _BESIDE:
                said[name] = self._words(node, name, TIERS) if name == "tier" else self._text(node, name)
        return said

    def option(self, node: "Node", name: str) -> Any:
        """Read an option of the whole policy."""
        if name in _WORDS:
            return self._words(node, name, _WORDS[name])
        text = self._text(node, name, "; write yes_no: yes,no" if name == "yes_no" else "")
        if name != "level":
            return text
        try:
            level = float(text)
        except ValueError:
            level = 0.0
        if _quoted(node) or not 0 < level < 1:
            raise self._fault(node, f"level is {quote(text)}, but must be a number between 0 and 1, such as 0.95")
        return level

    def names(self, node: "Node", what: str) -> tuple[str, ...]:
        """Read a list of names."""
        from yaml import SequenceNode

        if not isinstance(node, SequenceNode):
            raise self._fault(node, f"{what} must be a list, such as [gsm8k, mmlu_pro]")
        names: dict[str, None] = {}
        for item in node.value:
            name = self._text(item, f"a task of {what}")
            if name in names:
                raise self._fault(item, f"{quote(name)} stands twice in {what}")
            names[name] = None
        return tuple(names)

    def entries(self, node: "Node", what: str, known: tuple[str, ...] = ()) -> "list[tuple[str, Node]]":
        """Give the keys of a mapping as they are written, with their values; any key where none is known."""
        from yaml import MappingNode, ScalarNode

        if not isinstance(node, MappingNode):
            raise self._fault(node, f"{what} must be a mapping, such as {{max_nfr: 0.05}}")
        entries: dict[str, Node] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag == _MERGE:
                raise self._fault(key, f"every key of {what} must be a name; merge keys (<<) are not read")
            if key.value in entries:
                raise self._fault(key, f"{quote(key.value)} stands twice in {what}; YAML would keep the last one only")
            if known and key.value not in known:
                near = get_close_matches(key.value, known, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise self._fault(
                    key, f"{quote(key.value)} of {what} is not known{hint}; there are: {', '.join(known)}"
                )
            entries[key.value] = value
        return list(entries.items())

    def _items(self, node: "Node") -> "list[Node]":
        from yaml import SequenceNode

        if not isinstance(node, SequenceNode):
            return [node]
        if not node.value:
            raise self._fault(node, "an empty list bounds nothing; leave it out, or give a number")
        return list(node.value)

    def _bound(self, node: "Node", name: str, where: str, beside: Mapping[str, str]) -> Bound:
        from yaml import MappingNode

        if isinstance(node, MappingNode):
            entries = self.entries(node, name, ("value", *_BESIDE))
            values = [value for key, value in entries if key == "value"]
            if not values:
                raise self._fault(node, f"{name} has no value; write {{value: 0.02, …}}")
            node, beside = values[0], self.beside(entries, beside)
        text = self._scalar(node, name)
        if _quoted(node):
            raise self._fault(node, f"{name} is the text {quote(text)}; write the number without quotes")
        place = "" if where == "all" else f" of {quote(where)}"
        source = f"{name}{place}: {text} in {self.path}, line {node.start_mark.line + 1}"
        bound = bound_of(name, where, text, source)
        return replace(bound, **{name: beside[name] for name in _BESIDE if name in beside})  # type: ignore[arg-type]

    def _words(self, node: "Node", name: str, words: tuple[str, ...]) -> str:
        word = self._scalar(node, name)
        if name == "gate_on" and word not in words:
            raise self._fault(node, wrong_word(word))
        if word not in words:
            near = get_close_matches(word, words, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise self._fault(node, f"{name} is {quote(word)}, but must be {' or '.join(words)}{hint}")
        return word

    def _text(self, node: "Node", name: str, instead: str = "") -> str:
        text = self._scalar(node, name, instead).strip()
        if not text:
            raise self._fault(node, f"{name} is empty; leave it out, or say what it is")
        return text

    def _scalar(self, node: "Node", what: str, instead: str = "") -> str:
        """Give a value as it is written."""
        from yaml import ScalarNode

        if not isinstance(node, ScalarNode):
            raise self._fault(node, f"{what} must be one value, not a list or a mapping{instead}")
        return str(node.value)

    def _fault(self, node: "Node", text: str) -> InputError:
        return InputError(f"{self.path}, line {node.start_mark.line + 1}: {text}.")


def _quoted(node: "Node") -> bool:
    """Tell whether a value is a text because of its quotes."""
    return bool(getattr(node, "style", None))

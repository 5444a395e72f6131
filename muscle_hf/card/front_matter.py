"""The front matter of a card: what the Hub searches, written, and changed in a card that is there already."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import CardData, EvalResult
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from ..errors import InputError
from ..flips.comparison import Comparison
from ..text import printable
from .markdown import LONGEST_NAME, cut
from .measured import LEVEL, Rival
from .names import RATES, REDUCTION, REDUCTION_AGAINST_CONTROL

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "negative_flip_rate": "Negative flip rate (right with the old model, wrong with this one)",
    "positive_flip_rate": "Positive flip rate (wrong with the old model, right with this one)",
    "relative_negative_flip_rate": "Negative flip rate relative to independent errors",
    REDUCTION: "Negative flip rate of the plain update minus that of this model",
    REDUCTION_AGAINST_CONTROL: "Negative flip rate of the control minus that of this model",
}


def eval_results(
    ours: Comparison, rivals: Mapping[str, Rival | None], *, task: str, dataset: Mapping[str, str | None]
) -> list[EvalResult]:
    """Give the figures of a card as the Hub reads them: fractions with n and interval; undefined ones are left out."""
    found: dict[str, tuple[Comparison, str, dict[str, str]]] = {kind: (ours, rate, {}) for kind, rate in RATES.items()}
    for kind, one in rivals.items():
        if one is not None and one.broken is not None:
            found[kind] = (one.broken, "accuracy_change", {"compared_with": cut(printable(one.name), LONGEST_NAME)})
    results = []
    for kind, (comparison, rate, more) in found.items():
        value, (low, high) = float(getattr(comparison, rate)), comparison.confidence_interval(rate, LEVEL)
        if math.isnan(value):
            continue
        bounds = {} if math.isnan(low) else {"level": LEVEL, "low": low, "high": high}
        results.append(
            EvalResult(
                task_type=task,
                dataset_type=str(dataset["type"]),
                dataset_name=str(dataset["name"]),
                dataset_config=dataset.get("config"),
                dataset_split=dataset.get("split"),
                dataset_revision=dataset.get("revision"),
                metric_type=kind,
                metric_name=METRIC_NAMES[kind],
                metric_value=value,
                metric_args={"n": comparison.n} | bounds | more,
            )
        )
    return results


def read_front_matter(text: str) -> dict[str, Any] | None:
    """Read a card's front matter; None where it has none."""
    match = REGEX_YAML_BLOCK.search(text)
    if match is None:
        return None
    try:
        # The reader that huggingface_hub has; the Hub takes dates and numbers in the same way.
        data = yaml.safe_load(match[2])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"the front matter of the card is no YAML: {' '.join(str(error).split())}") from None
    if data is not None and not isinstance(data, dict):
        raise InputError(f"the front matter of the card is a {type(data).__name__}; fields with values are needed.")
    return data or {}


def with_front_matter(text: str, **fields: Any) -> str:
    """Change some fields of a card's front matter, and not a byte of the rest.

    Args:
        text: The card; without front matter it gets one.
        fields: Name -> new value; None takes a field away.

    Returns:
        The card. Comments, the order of fields and the way others are written stay as they are.

    Raises:
        InputError: The front matter is no YAML, or not made of fields.

    Example:
        >>> print(with_front_matter("---\\nlicense: mit  # ours\\ntags: [a, b]\\n---\\n# Hello", license="apache-2.0"))
        ---
        license: apache-2.0
        tags: [a, b]
        ---
        # Hello
    """
    before = read_front_matter(text)
    if before is None:
        given = {name: value for name, value in fields.items() if value is not None}
        return f"---\n{_dumped(given)}---\n\n{text}" if given else text
    changed = {name: value for name, value in fields.items() if before.get(name) != value}
    if not changed:
        return text
    match = REGEX_YAML_BLOCK.search(text)
    assert match is not None  # noqa: S101 - there was front matter a moment ago
    end = "\r\n" if "\r\n" in match[1] else "\n"
    wanted = {name: value for name, value in (before | changed).items() if value is not None}
    new = _edited(match[2], changed, end)
    if _reads_as(new) != wanted:  # a field that others point to, or one line for all of them
        new = _dumped(wanted).rstrip("\n").replace("\n", end)
    return f"{text[: match.start(2)]}{new}{text[match.end(2) :]}"


def _edited(block: str, changed: Mapping[str, Any], end: str) -> str:
    """Replace the lines of some fields, and add those that are new at the end."""
    lines = block.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    places = _places(block)
    for name in sorted((name for name in changed if name in places), key=lambda name: -places[name][0]):
        first, last = places[name]
        value = changed[name]
        lines[first:last] = [] if value is None else [_dumped({name: value}).replace("\n", end)]
    added = {name: value for name, value in changed.items() if name not in places and value is not None}
    lines += [_dumped(added).replace("\n", end)] if added else []
    return "".join(lines).removesuffix("\n").removesuffix("\r")


def _places(block: str) -> dict[str, tuple[int, int]]:
    """Tell which lines each field takes: from its name to the last line with something of its value."""
    root = yaml.compose(block, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return {}
    lines, starts = block.splitlines(), [key.start_mark.line for key, _ in root.value]
    places = {}
    for (key, _), following in zip(root.value, [*starts[1:], len(lines)], strict=True):
        last = following
        while last > key.start_mark.line + 1 and (
            not lines[last - 1].strip() or lines[last - 1].lstrip().startswith("#")
        ):
            last -= 1
        places[str(key.value)] = (key.start_mark.line, last)
    return places


def _reads_as(block: str) -> Any:
    try:
        return yaml.safe_load(block) or {}
    except (yaml.YAMLError, ValueError):
        return None


def _dumped(fields: Mapping[str, Any]) -> str:
    plain: dict[str, Any] = {name: _plain(value) for name, value in fields.items()}
    if not plain:
        return ""
    text = f"{CardData(**plain).to_yaml()}\n"
    # Written as it is, a letter that YAML takes for the end of a line would be lost.
    return text if _reads_as(text) == plain else yaml.safe_dump(plain, sort_keys=False)


def _plain(value: Any) -> Any:
    """Return a value without classes of its own, of which YAML would write the names."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, Sequence) else value

"""A search over options of the method: what is tried, and which candidate the validation answers choose."""

import difflib
import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from ..errors import ConfigurationError
from ..flips.comparison import Comparison
from ..text import how_many, quote

SEARCH = "search"
"""Folder of the candidates, below the output folder, and name of the stage that chooses."""

CHOICE = "search.json"
"""The figures of all candidates, and who was chosen."""

Value = str | float | bool
"""Of an option."""

_SEARCHED: Mapping[str, type] = {
    **dict.fromkeys(("mask", "divergence", "teacher", "gradient_conflict", "unlabelled_teacher"), str),
    **dict.fromkeys(
        ("temperature", "cross_entropy_weight", "jensen_shannon_beta", "focal_alpha", "focal_beta", "teacher_weight"),
        float,
    ),
    **dict.fromkeys(("unlabelled_ratio", "learning_rate"), float),
    "scale_by_temperature_squared": bool,
}
_LENGTH = "candidates of different length could not be told from longer training"
_NOT_SEARCHED = {
    **dict.fromkeys(("seed", "data_seed"), "the luckiest seed would win, which says nothing of other seeds"),
    **dict.fromkeys(("num_train_epochs", "max_steps", "per_device_train_batch_size"), _LENGTH),
    "gradient_accumulation_steps": _LENGTH,
    "preset": "it stands for several options: give --preset, and search those",
    "product_temperatures": "they are fitted on the validation rows",
    "student_rank": "the larger adapter would win by its room",
    "alignment": "the two tokenizers decide it",
}


def entries_of(given: Any) -> Any:
    """Write the mapping of a YAML file as the command line has it, `temperature=1,2`; leave all else as it is."""
    if not isinstance(given, dict):
        return [given] if isinstance(given, str) else given
    entries = []
    for name, values in given.items():
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(value, str | int | float) for value in values):
            raise ConfigurationError(f"search: {name} is {quote(values)}; a list of values is needed, such as [1, 2].")
        entries.append(f"{name}={','.join(shown(value) for value in values)}")
    return entries


def read_grid(entries: Sequence[str], known: Collection[str]) -> dict[str, tuple[Value, ...]]:
    """Read what is searched, as `["temperature=1,2", "mask=none"]`: each option with the values to try.

    `known` are the options that a training has at all. No entries are no search.
    """
    grid: dict[str, tuple[Value, ...]] = {}
    for entry in entries:
        name, equals, values = entry.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise ConfigurationError(
                f"search: {quote(entry)} names no values; write option=value,value without spaces."
            )
        _refuse_others(name, known)
        if name in grid:
            raise ConfigurationError(f"search: {name} stands there twice; write all of its values behind one {name}=.")
        grid[name] = tuple(_value(name, text.strip()) for text in values.split(","))
        for number, value in enumerate(grid[name]):
            if value in grid[name][:number]:
                raise ConfigurationError(f"search: {name}={shown(value)} stands there twice; leave one out.")
    if entries and len(combinations(grid)) == 1:
        options = " ".join(f"--{name.replace('_', '-')} {shown(values[0])}" for name, values in grid.items())
        raise ConfigurationError(f"search: one combination is no search; give {options or 'values'} without --search.")
    return grid


def _refuse_others(name: str, known: Collection[str]) -> None:
    if name in _SEARCHED:
        return
    if name in known:
        reason = _NOT_SEARCHED.get(name, "it does not belong to the method, and all candidates are trained alike")
        raise ConfigurationError(f"search: {name} cannot be searched: {reason}. Try {', '.join(sorted(_SEARCHED))}.")
    near = difflib.get_close_matches(name, _SEARCHED, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(sorted(_SEARCHED))}."
    raise ConfigurationError(f"search: there is no option {name}. {hint}")


def _value(name: str, text: str) -> Value:
    kind = _SEARCHED[name]
    if kind is str and text:
        return text
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if kind is float and math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    needed = {str: "a name", bool: "true or false", float: "a number"}[kind]
    raise ConfigurationError(
        f"search: a value of {name} is {quote(text)}; {needed} is needed. Write values with commas and without spaces."
    )


def combinations(grid: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return every combination; the last option changes first.

    Example:
        >>> combinations({"temperature": [1.0, 2.0], "mask": ["none"]})
        [{'temperature': 1.0, 'mask': 'none'}, {'temperature': 2.0, 'mask': 'none'}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def shown(value: Value) -> str:
    """Write a value as it is given, such as `1`, `0.0001`, `true` and `none`."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.12g}"


def described(values: Mapping[str, Value]) -> str:
    """Write a combination as people read it."""
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())


@dataclass(frozen=True)
class Figures:
    """What a model's answers to the validation rows come to, compared with the old model's."""

    accuracy: float
    negative_flip_rate: float
    relative_negative_flip_rate: float  # nan where the old model is right on nothing, or this one wrong on nothing

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Take them out of a comparison."""
        return cls(comparison.new_accuracy, comparison.negative_flip_rate, comparison.relative_negative_flip_rate)

    def cells(self) -> tuple[str, str, str]:
        """Write accuracy and NFR in percent, and the relative NFR."""
        relative = self.relative_negative_flip_rate
        ratio = "undefined" if math.isnan(relative) else f"{relative:.2f}"
        return f"{100 * self.accuracy:.1f}", f"{100 * self.negative_flip_rate:.1f}", ratio

    @property
    def rank(self) -> float:
        """The relative NFR, an undefined one as 0: the lower the better."""
        relative = self.relative_negative_flip_rate
        return 0.0 if math.isnan(relative) else relative

    def __str__(self) -> str:
        """Write them on one line."""
        return "accuracy {} %, NFR {} %, relative NFR {}".format(*self.cells())


def choose(candidates: Sequence[Figures], bound: float) -> tuple[int, bool]:
    """Choose a candidate, and say whether it reaches the bound on accuracy.

    Of those that reach it the one with the lowest relative NFR; where none does, the most accurate one. Of equal ones
    the first. An undefined relative NFR is that of a model without a negative flip, so it counts as 0 here.

    Example:
        >>> choose([Figures(0.7, 0.0, 0.0), Figures(0.8, 0.1, 0.7), Figures(0.9, 0.05, 0.6)], bound=0.8)
        (2, True)
    """
    numbers = range(len(candidates))
    reaching = [number for number in numbers if candidates[number].accuracy >= bound]
    if not reaching:
        return max(numbers, key=lambda number: candidates[number].accuracy), False
    return min(reaching, key=lambda number: candidates[number].rank), True


OPTIMISTIC = (
    "The validation flips of the chosen candidate are optimistic, because they chose it; the test rows had no part in "
    "the choice, so theirs are not"
)


@dataclass(frozen=True)
class Choice:
    """What a search came to."""

    rows: int  # of the validation
    plain: Figures  # of the plain update, whose accuracy is the bound
    candidates: tuple[tuple[dict[str, Value], Figures], ...]
    chosen: int
    reached: bool

    @classmethod
    def of(cls, rows: int, plain: Figures, candidates: Sequence[tuple[dict[str, Value], Figures]]) -> Self:
        """Choose one of them."""
        return cls(rows, plain, tuple(candidates), *choose([figures for _, figures in candidates], plain.accuracy))

    @property
    def values(self) -> dict[str, Value]:
        """The options of the chosen candidate."""
        return self.candidates[self.chosen][0]

    def sentence(self) -> str:
        """Say who was chosen, among how many, by what."""
        count, bound = len(self.candidates), f"{100 * self.plain.accuracy:.1f} %"
        said = f"a search chose {described(self.values)} among {how_many(count, 'candidate')} by their answers to "
        said += how_many(self.rows, "validation row")
        if not self.reached:
            return f"{said}: none is as accurate as the plain update ({bound}), so the most accurate one was taken"
        reaching = sum(figures.accuracy >= self.plain.accuracy for _, figures in self.candidates)
        fit = "all" if reaching == count else f"the {reaching}"
        said += f": the lowest relative NFR of {fit} that are as accurate as the plain update ({bound}) or more"
        lowest = self.candidates[self.chosen][1].rank
        equal = sum(
            figures.accuracy >= self.plain.accuracy and figures.rank == lowest for _, figures in self.candidates
        )
        return said if equal == 1 else f"{said}, which {how_many(equal, 'candidate')} have: the first was taken"

    def rows_of_table(self) -> dict[str, Figures]:
        """Give all figures by name, the chosen one marked."""
        named = {described(values): figures for values, figures in self.candidates}
        marked = described(self.values)
        return {f"{name} (chosen)" if name == marked else name: figures for name, figures in named.items()} | {
            "plain update": self.plain
        }

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON holds it, nan apart."""
        return {
            "validation_rows": self.rows,
            "plain_update": asdict(self.plain),
            "candidates": [{"options": values, **asdict(figures)} for values, figures in self.candidates],
            "chosen": self.chosen,
            "reaches_the_plain_update": self.reached,
        }

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `as_dict` gives, from a file of JSON."""
        there = json.loads(text)
        return cls(
            rows=there["validation_rows"],
            plain=_figures(there["plain_update"]),
            candidates=tuple((each["options"], _figures(each)) for each in there["candidates"]),
            chosen=there["chosen"],
            reached=there["reaches_the_plain_update"],
        )


def _figures(entry: Mapping[str, Any]) -> Figures:
    relative = entry["relative_negative_flip_rate"]
    return Figures(entry["accuracy"], entry["negative_flip_rate"], math.nan if relative is None else relative)

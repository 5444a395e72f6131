"""Find compatibility adapters on the Hub by what their cards say; nothing on a card is trusted."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from huggingface_hub import ModelInfo, list_models
from huggingface_hub.hf_api import ExpandModelProperty_T

from ..errors import ConfigurationError, InputError
from ..text import printable
from .failures import hub_failures
from .names import ADAPTER_TAG, BASE_TAG, OLD_BASE_TAG, is_id

__all__ = ["Figure", "FoundAdapter", "Measured", "find_adapters"]

_DATASET = "dataset:"
REDUCTION, NFR, ACCURACY = "negative_flip_rate_reduction", "negative_flip_rate", "accuracy"
_ASKED: list[ExpandModelProperty_T] = [
    *("model-index", "tags", "pipeline_tag", "downloads", "lastModified", "sha", "gated", "private"),
]
# What a figure can be, as a fraction; anything else on a card is no figure.
_RANGES = {REDUCTION: (-1.0, 1.0), NFR: (0.0, 1.0), ACCURACY: (0.0, 1.0)}
# The end of an interval may have been rounded past its value.
_SLACK = 1e-9


@dataclass(frozen=True)
class Figure:
    """A figure of a card, as a fraction; nobody but the card's author has checked it.

    Args:
        value: The figure.
        low: Lower end of its interval, None where the card gives none.
        high: Upper end.
        level: Of the interval, such as 0.95.
        n: How many instances it was measured on.
    """

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a card says was measured on one data set; None where it gives no figure that can be one.

    Args:
        dataset: Id or name of the data set.
        split: Split of the data set.
        nfr_reduction: Negative flip rate of the plain update minus that of this adapter: the more, the better.
        nfr: Share of the instances where the old model was right and this adapter is wrong.
        accuracy: Share of the instances where this adapter is right.
    """

    dataset: str | None = None
    split: str | None = None
    nfr_reduction: Figure | None = None
    nfr: Figure | None = None
    accuracy: Figure | None = None


@dataclass(frozen=True)
class FoundAdapter:
    """A compatibility adapter of the Hub. All of it is what its owner wrote: show it with care.

    Args:
        name: Id on the Hub, for `load_adapter`.
        base_model: The new base, which it is put on; None where the card does not say.
        compatible_with: The old bases whose answers it keeps.
        task: The Hub's name of the task, such as "text-generation".
        datasets: Ids of what it was trained on.
        measured: What the card says was measured, in the card's order; of the asked data set alone where one was
            asked for and is named among them.
        downloads: In the last 30 days.
        last_modified: Time of the last commit.
        commit: The last commit, for `load_adapter(..., revision=…)`.
        gated: Whether its owner asks for something before it can be loaded.
        private: Whether it can only be seen with a token.
    """

    name: str
    base_model: str | None
    compatible_with: tuple[str, ...]
    task: str | None
    datasets: tuple[str, ...]
    measured: tuple[Measured, ...]
    downloads: int | None
    last_modified: datetime | None
    commit: str | None
    gated: bool
    private: bool

    @property
    def best(self) -> Measured | None:
        """The first entry with a reduction of the negative flip rate, or else the first with any figure."""
        with_reduction = [one for one in self.measured if one.nfr_reduction is not None]
        return next(iter(with_reduction or self.measured), None)

    @property
    def nfr_reduction(self) -> float:
        """What adapters are sorted by: a fraction, nan where the card gives none."""
        found = None if self.best is None else self.best.nfr_reduction
        return math.nan if found is None else found.value


def find_adapters(
    base_model: str | None = None,
    compatible_with: str | None = None,
    *,
    task: str | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    token: str | bool | None = None,
) -> list[FoundAdapter]:
    """Find compatibility adapters on the Hub, by the bases, the task and the data that their cards name.

    Figures are the cards' own and nobody has checked them; those of different data sets cannot be compared.

    Args:
        base_model: Id of the new base that you want to move to. Defaults to any.
        compatible_with: Id of the old base that you come from. Defaults to any.
        task: The Hub's name of a task, such as "text-generation". Defaults to any.
        dataset: Id of a data set that the card names. Defaults to any.
        limit: How many to return, of those that come first. Defaults to all.
        token: Of the Hub; None takes the saved one, False none.

    Returns:
        The adapters with the highest reduction of the negative flip rate first, then those without a figure, by
        downloads.

    Raises:
        InputError: A name that is no id of the Hub.
        ConfigurationError: A limit below 1.
        HubError: No network, a wrong token, or a Hub that does not answer.

    Example:
        >>> for found in find_adapters("org/base-v2", compatible_with="org/base-v1"):  # doctest: +SKIP
        ...     print(found.name, found.nfr_reduction)
        org/task-compat 0.031
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigurationError(f"limit is {limit!r}; it must be an int of 1 or more, or None for all.")
    tags = [ADAPTER_TAG]
    asked = {"base_model": base_model, "compatible_with": compatible_with, "dataset": dataset}
    for (option, name), beginning in zip(asked.items(), (BASE_TAG, OLD_BASE_TAG, _DATASET), strict=True):
        if name is not None and not is_id(name):
            raise InputError(f"{option} is {printable(name)[:200]!r}; an id of the Hub is needed, org/name.")
        tags += [f"{beginning}{name}"] if name is not None else []
    if task is not None and (not task.strip() or printable(task) != task):
        raise InputError(f"task is {printable(task)!r}; the Hub's name of a task is needed, such as text-generation.")
    with hub_failures("search the Hub for adapters"):
        # To the last page: the Hub does not sort by what is on the cards, so that any limit would lose the best ones.
        listed = list(
            list_models(
                filter=tags,
                pipeline_tag=task,
                # Not cardData: the client makes an object of it, and what people write there can break that.
                expand=_ASKED,
                token=token,
            )
        )
    found = [_adapter(one, dataset) for one in listed]
    found.sort(key=_order)
    return found[:limit]


def _order(one: FoundAdapter) -> tuple[bool, float, int, str]:
    is_unknown = math.isnan(one.nfr_reduction)
    return is_unknown, 0.0 if is_unknown else -one.nfr_reduction, -(one.downloads or 0), one.name


def _adapter(info: ModelInfo, dataset: str | None) -> FoundAdapter:
    tags = [one for one in _list(info.tags) if isinstance(one, str)]
    measured = tuple(_measured(info))
    return FoundAdapter(
        name=str(info.id),
        base_model=next(iter(_after(BASE_TAG, tags)), None),
        compatible_with=_after(OLD_BASE_TAG, tags),
        task=_text(info.pipeline_tag),
        datasets=_after(_DATASET, tags),
        measured=tuple(one for one in measured if dataset and one.dataset == dataset) or measured,
        downloads=info.downloads if isinstance(info.downloads, int) else None,
        last_modified=info.last_modified,
        commit=_text(info.sha),
        gated=bool(info.gated),
        private=bool(info.private),
    )


def _after(beginning: str, tags: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.removeprefix(beginning) for one in tags if one.startswith(beginning)))


def _measured(info: ModelInfo) -> Iterator[Measured]:
    for entry in _list(info.model_index):
        for result in _list(_mapping(entry).get("results")):
            figures: dict[str, Figure] = {}
            for metric in _list(_mapping(result).get("metrics")):
                kind = _mapping(metric).get("type")
                figure = _figure(kind, _mapping(metric)) if isinstance(kind, str) else None
                if figure is not None and isinstance(kind, str):
                    figures.setdefault(kind, figure)
            about = _mapping(_mapping(result).get("dataset"))
            if figures:
                yield Measured(
                    dataset=_text(about.get("type")) or _text(about.get("name")),
                    split=_text(about.get("split")),
                    nfr_reduction=figures.get(REDUCTION),
                    nfr=figures.get(NFR),
                    accuracy=figures.get(ACCURACY),
                )


def _figure(kind: str, metric: Mapping[str, Any]) -> Figure | None:
    if kind not in _RANGES:
        return None
    lowest, highest = _RANGES[kind]
    value = _number(metric.get("value"), lowest, highest)
    if value is None:
        return None
    more = _mapping(metric.get("args"))
    low, high = (_number(more.get(name), lowest - _SLACK, highest + _SLACK) for name in ("low", "high"))
    n = _number(more.get("n"), 1, 10**12)
    # An interval that does not hold its own value is none.
    if low is None or high is None or not low - _SLACK <= value <= high + _SLACK:
        low = high = None
    level = _number(more.get("level"), 0, 1) if low is not None else None
    return Figure(value, low, high, level, None if n is None or n % 1 else int(n))


def _number(value: object, lowest: float, highest: float) -> float | None:
    """Take a number of a card for one if it can be; true, text and nan are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it becomes a float: an int may have thousands of digits.
    return float(value) if lowest <= value <= highest else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

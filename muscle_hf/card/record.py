"""comparison.json: everything that a card was made from, so that it can be made again, completed and compared."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError
from ..flips.classes import Classes
from ..flips.comparison import Comparison
from ..flips.rates import strict_json
from ..runs.outcomes import Instance
from .data import CardData
from .lineage import Lineage
from .measured import LEVEL, SHOWN_OF_SLICES
from .public import HubName, is_hub_id

Card = TypeVar("Card", bound=CardData)

SCHEMA = "muscle_hf.card"
SCHEMA_VERSION = 1
"""Version of what is written; it rises when a field is renamed, removed or changes its meaning."""

_NEEDED = ("title", "name_of_this", "plain_update", "control", "task", "version")
_TEXTS = (*_NEEDED, "base_import", "split", "license", "adapter_type", "evaluated_split")
_LISTS = ("tags", "language", "caveats")
_IDS = ("repository", "dataset", "evaluated_on")
_OF_CLASSES = ("n", "old_right", "broken")
_BASES = ("new_base", "new_adapter", "old_base", "old_adapter")


def to_json(card: CardData) -> str:
    """Write the data of a card whose texts are public."""
    names = (*_TEXTS, *_LISTS, *_IDS, "training", "p_values", "has_picture")
    found: dict[str, Any] = {name: _plain(getattr(card, name)) for name in names}
    if card.embedding_rows is not None:
        found["embedding_rows"] = card.embedding_rows
    # Whether a text is an id of the Hub, or words that look like one, was told by the machine that wrote the card.
    found["ids"] = [name for name in _IDS if isinstance(getattr(card, name), HubName)]
    return (
        strict_json(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                **found,
                "lineage": asdict(card.lineage),
                "comparisons": {name: _comparison(one) for name, one in card.comparisons.items()},
                "slices": {
                    column: {name: _comparison(one, only=SHOWN_OF_SLICES) for name, one in groups.items()}
                    for column, groups in card.slices.items()
                },
                "examples": [one.to_dict() for one in card.examples],
            },
            indent=2,
        )
        + "\n"
    )


def read_record(path: Path, kind: type[Card]) -> Card | None:
    """Read a card's data; None where there is no file, or one of another kind."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}). Write the card again, or delete the file.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    if found.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema_version {found.get('schema_version')!r}, and this version of muscle_hf knows "
            f"{SCHEMA_VERSION}; update muscle_hf."
        )
    try:
        return kind(**_fields(found))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # InputError is a ValueError, and says more.
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is damaged ({said}). Write the card again, or delete the file.") from None


def _fields(found: Mapping[str, Any]) -> dict[str, Any]:
    ids = found["ids"]
    texts: dict[str, Any] = {name: _text(found[name]) for name in (*_TEXTS, *_IDS)}
    for name in _NEEDED:
        if texts[name] is None:
            raise InputError(f"{name} is missing")
    texts |= {name: _hub_name(texts[name], name) for name in _IDS if name in ids and texts[name]}
    lineage = {one.name: _text(found["lineage"][one.name]) for one in fields(Lineage)}
    lineage |= {name: _hub_name(lineage[name], name) for name in _BASES if lineage[name]}
    texts |= {name: tuple(_text(one) or "" for one in found[name]) for name in _LISTS}
    return dict(
        **texts,
        lineage=Lineage(**lineage),
        training={str(name): _scalar(value) for name, value in found["training"].items()},
        p_values={
            str(name): {str(kind): _number(value) for kind, value in values.items()}
            for name, values in found["p_values"].items()
        },
        has_picture=found["has_picture"] is True,
        embedding_rows=None if found.get("embedding_rows") is None else int(found["embedding_rows"]),
        comparisons={str(name): _read_comparison(one) for name, one in found["comparisons"].items()},
        slices={
            str(column): {str(name): _read_comparison(one) for name, one in groups.items()}
            for column, groups in found["slices"].items()
        },
        examples=tuple(_instance(one) for one in found["examples"]),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _comparison(one: Comparison, only: Sequence[str] = ()) -> dict[str, Any]:
    found = one.to_dict(LEVEL)
    if only:
        found["rates"] = {name: found["rates"][name] for name in only}
    if one.by_class:
        # Without their names, which may be nobody's business.
        found["classes"] = {name: getattr(one.by_class, name).tolist() for name in _OF_CLASSES}
    return found | {"chance_agreement": one.chance_agreement, "kappa_standard_error": one.kappa_standard_error}


def _read_comparison(found: Mapping[str, Any]) -> Comparison:
    counts = found["counts"]
    negative, positive = (np.array(found[f"{sign}_flips"], np.int64) for sign in ("negative", "positive"))
    same = counts["both_wrong_same"]
    right, wrong = int(counts["both_right"]), int(counts["both_wrong"])
    read = Comparison(
        both_right=right,
        both_wrong=wrong,
        both_wrong_same=None if same is None else int(same),
        chance_agreement=_number(found["chance_agreement"]),
        kappa_standard_error=_number(found["kappa_standard_error"]),
        negative_flips=negative,
        positive_flips=positive,
        by_class=_read_classes(found["classes"]) if "classes" in found else None,
    )
    flips = np.concatenate([negative, positive])
    is_sound = min(right, wrong) >= 0 and read.n > 0 and (same is None or 0 <= same <= wrong)
    if (
        not is_sound
        or len(np.unique(flips)) < len(flips)
        or (len(flips) and not 0 <= flips.min() <= flips.max() < read.n)
    ):
        raise InputError("the counts of a comparison contradict each other")
    return read


def _read_classes(found: Mapping[str, Any]) -> Classes:
    n, right, broken = (np.array(found[name], np.int64) for name in _OF_CLASSES)
    if not (n.shape == right.shape == broken.shape and (n > 0).all() and ((broken >= 0) & (broken <= right)).all()):
        raise InputError("the counts of the classes of a comparison contradict each other")
    return Classes(tuple(range(len(n))), n, right, broken)


def _instance(found: Mapping[str, Any]) -> Instance:
    texts = {name: _text(found[name]) for name in ("question", "reference", "old_answer", "new_answer")}
    number = found["id"]
    return Instance(
        task=str(found["task"]),
        id=number if isinstance(number, int) else str(number),
        kind=str(found["kind"]),
        old_score=_number(found["old_score"]),
        new_score=_number(found["new_score"]),
        slices={str(name): _text(value) for name, value in found["slices"].items()},
        **texts,
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{value!r} stands where a text is needed")


def _hub_name(value: str | None, field: str) -> HubName:
    # A data set may have a configuration and a revision behind its id.
    name, more = value or "", ""
    if field in _IDS and (mark := re.search("[:@]", name)):
        name, more = name[: mark.start()], name[mark.end() :]
    if value is None or not is_hub_id(name) or not re.fullmatch(r"[\w./:@-]*", more, re.ASCII):
        raise InputError(f"{field} is {value!r}, which is no id of the Hub")
    return HubName(value)


def _scalar(value: Any) -> str | int | float | bool:
    if isinstance(value, str | int | float | bool):
        return value
    raise InputError(f"{value!r} stands where a text or a number is needed")


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)

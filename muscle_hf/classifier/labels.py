"""Classes by their names: which class of an old classifier is which class of a new one, and what a label means.

Two classifiers of one task seldom number their classes alike: a class was added, removed, or the list was sorted anew.
A comparison index by index would then train and measure nonsense without a word, so classes meet by name alone.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ConfigurationError, InputError, ModelMismatchError
from ..losses.logits import IGNORE_INDEX

logger = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class ClassMap:
    """Which class of the new model is which class of the old one; names come in the order of the logits."""

    new: tuple[str, ...]
    old: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse classes that have nothing in common."""
        if not set(self.new) & set(self.old):
            folded = {name.casefold().strip() for name in self.new} & {name.casefold().strip() for name in self.old}
            hint = " Some differ in upper and lower case or in white space alone." if folded else ""
            raise ModelMismatchError(
                f"The label sets do not overlap: the new model has {shown(self.new)}, the old model "
                f"{shown(self.old)}.{hint} Classes are matched by name: correct id2label of one config, or give the "
                "names as new_label_names and old_label_names, each in the order of its model's logits."
            )

    @cached_property
    def old_of_new(self) -> tuple[int, ...]:
        """For each class of the new model its number in the old one; -1: the old model does not know it."""
        place = {name: index for index, name in enumerate(self.old)}
        return tuple(place.get(name, -1) for name in self.new)

    @cached_property
    def new_of_old(self) -> tuple[int, ...]:
        """For each class of the old model its number in the new one; -1: it was removed."""
        place = {name: index for index, name in enumerate(self.new)}
        return tuple(place.get(name, -1) for name in self.old)

    @property
    def added(self) -> tuple[str, ...]:
        """Classes that the old model does not know."""
        return tuple(name for name, place in zip(self.new, self.old_of_new, strict=True) if place < 0)

    @property
    def removed(self) -> tuple[str, ...]:
        """Classes that the new model no longer knows."""
        return tuple(name for name, place in zip(self.old, self.new_of_old, strict=True) if place < 0)

    @property
    def is_identity(self) -> bool:
        """Whether both models have the same classes in the same order."""
        return self.new == self.old

    def __str__(self) -> str:
        """Say in one sentence how the classes meet."""
        if self.is_identity:
            return f"Both models have the same {len(self.new)} classes in the same order."
        kept = [place for place in self.old_of_new if place >= 0]
        parts = [f"{len(kept)} classes of the new model are matched with the old model's by name"]
        parts += ["their order differs"] if kept != sorted(kept) else []
        for what, names in (("added", self.added), ("removed", self.removed)):
            parts += [f"{what}: {shown(names)}"] if names else []
        return "; ".join(parts) + "."


def class_names(config: Any, label_names: Sequence[str] | None, *, role: str) -> tuple[str, ...]:
    """Return the names of a classifier's classes, in the order of its logits: those given, or those of its config.

    They are `LABEL_0`, `LABEL_1`, ... where nobody gave any. Refused: another number of names than of classes, a name
    twice, and a model that is no classifier of one label for each instance.
    """
    count = int(config.num_labels)
    problem = getattr(config, "problem_type", None)
    if count < 2 or problem in ("regression", "multi_label_classification"):
        raise ConfigurationError(
            f"The {role} model has {count} output{'s' * (count != 1)} and problem_type={problem!r}. The compatibility "
            "loss compares distributions over classes, of which each instance has one: at least two classes and "
            'problem_type=None or "single_label_classification" are needed.'
        )
    names = tuple(str(config.id2label.get(index, f"LABEL_{index}")) for index in range(count))
    if label_names is not None:
        if len(label_names) != count:
            raise ConfigurationError(
                f"{role}_label_names has {len(label_names)} names, and the {role} model has {count} classes. Give one "
                "name for each class, in the order of the logits."
            )
        names = tuple(label_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"The {role} model has several classes of one name: {shown(twice)}. Classes are matched by name, so each "
            f"needs its own; correct id2label of its config or give {role}_label_names."
        )
    return names


def match_classes(new: tuple[str, ...], old: tuple[str, ...]) -> ClassMap:
    """Match the classes of two models by name.

    Where neither model names its classes and both have the same number of them, class i of the one is taken for class
    i of the other, and the log says so.
    """
    unnamed = {"new": is_unnamed(new), "old": is_unnamed(old)}
    if all(unnamed.values()):
        if len(new) != len(old):
            raise ModelMismatchError(
                f"The new model has {len(new)} classes and the old model {len(old)}, and neither names them (LABEL_0, "
                "LABEL_1, ...), so nobody can tell which is which. Give new_label_names and old_label_names, each in "
                "the order of its model's logits."
            )
        logger.warning(
            f"Neither model names its {len(new)} classes (LABEL_0, LABEL_1, ...): class i of the new model is taken "
            "for class i of the old one. Give new_label_names and old_label_names if their orders differ."
        )
    elif any(unnamed.values()):
        without, names = ("new", old) if unnamed["new"] else ("old", new)
        raise ModelMismatchError(
            f"The {without} model does not name its classes (LABEL_0, LABEL_1, ...), and the other model calls its "
            f"own {shown(names)}. Classes are matched by name: give {without}_label_names, one name for each class in "
            f"the order of the {without} model's logits."
        )
    return ClassMap(new, old)


def is_unnamed(names: Sequence[str]) -> bool:
    """Tell whether these are the names that transformers gives to classes without one.

    Example:
        >>> is_unnamed(["LABEL_0", "LABEL_1"]), is_unnamed(["negative", "positive"])
        (True, False)
    """
    return all(name == f"LABEL_{index}" for index, name in enumerate(names))


class LabelReader:
    """Turns the labels of a data set into class numbers of the new model, or of the old one where that is the `role`.

    A name (a string, or an int of a `ClassLabel` column, whose names are `label_names`) means the class of that name.
    An int without name is a class number already. -100 is not trained on.
    """

    def __init__(
        self, classes: tuple[str, ...], label_names: Sequence[str] | None, *, dataset: str, role: str = "new"
    ) -> None:
        """Work out which name is which number."""
        self.classes, self.dataset, self.role = classes, dataset, role
        self._place = {name: index for index, name in enumerate(classes)}
        self._unnamed = is_unnamed(classes)
        if label_names is not None and self._unnamed and tuple(label_names) != classes:
            if len(label_names) != len(classes):
                raise InputError(
                    f"The labels of the {dataset} set are named ({shown(label_names)}), {len(label_names)} in number; "
                    f"the {role} model has {len(classes)} classes without names. Give {role}_label_names, one name "
                    "for each class in the order of the logits."
                )
            # Training on a ClassLabel column numbers the classes of an unnamed model just so.
            label_names = None
        self._label_names = label_names

    def __call__(self, label: Any, *, row: int) -> int:
        """Return the class number of one label."""
        if isinstance(label, str):
            if self._unnamed:
                raise InputError(
                    f"Row {row} of the {self.dataset} set has the label {label!r}, and the {self.role} model does not "
                    f"name its classes (LABEL_0, LABEL_1, ...). Give {self.role}_label_names, one name for each class "
                    "in the order of the logits."
                )
            return self._number(label, row)
        if isinstance(label, bool) or not isinstance(label, int):
            raise InputError(
                f"Row {row} of the {self.dataset} set has the label {label!r}; a class is needed: its name, its "
                "number, or -100 for what is not trained on."
            )
        if label == IGNORE_INDEX:
            return label
        limit = len(self.classes if self._label_names is None else self._label_names)
        if not 0 <= label < limit:
            raise InputError(
                f"Row {row} of the {self.dataset} set has the label {label}; {limit} classes are numbered from 0 to "
                f"{limit - 1}, and -100 is not trained on."
            )
        return label if self._label_names is None else self._number(self._label_names[label], row)

    def _number(self, name: str, row: int) -> int:
        if name not in self._place:
            way_out = "" if self.role == "old" else ", or train a new model that knows the class"
            raise InputError(
                f"Row {row} of the {self.dataset} set has the label {name!r}, which is no class of the {self.role} "
                f"model ({shown(self.classes)}). Leave such rows out{way_out}."
            )
        return self._place[name]


def shown(names: Sequence[str]) -> str:
    """Return the first few names for a message.

    Example:
        >>> shown(["a", "b"]), shown(list("abcdefg"))
        ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    listed = ", ".join(repr(name) for name in names[:_SHOWN])
    return listed if len(names) <= _SHOWN else f"{listed} and {len(names) - _SHOWN} more"

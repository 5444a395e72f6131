"""Everything that a card says, as data; what of it may be read by everybody."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from ..errors import InputError
from ..flips.comparison import Comparison
from ..hub.names import DATA_SET
from ..runs.outcomes import Instance
from ..version import __version__
from .lineage import Lineage
from .measured import Rival, rival
from .names import COMPATIBILITY_ADAPTER, CONTROL, PLAIN_UPDATE, REDUCTION, REDUCTION_AGAINST_CONTROL
from .public import HubName, hub_id, is_hub_id, public, public_text
from .snippets import CLASSES

_IMPORT = re.compile(r"from [A-Za-z_][\w.]* import [A-Za-z_]\w*", re.ASCII)
_VERSION = re.compile(r"[\w.+!-]{1,50}", re.ASCII)
_BASES = ("new_base", "new_adapter", "old_base", "old_adapter")


@dataclass(frozen=True)
class CardData:
    """Everything that a card says. What tells about this machine and its user, wherever it stands, is not printed.

    Args:
        title: Heading of the card.
        lineage: Where old and new model come from; local paths among them are not printed.
        adapter_type: PEFT's name of the adapter, such as "lora"; None for a model that was trained as a whole.
        training: Name -> value, in the order to print.
        comparisons: Name of a model -> its comparison with the old model: the rows of the table.
        split: What the comparisons were measured on, such as "the test set of CLINC150".
        dataset: What was trained on, in words or as a data set of the Hub, "org/name[:config][@revision]".
        repository: The adapter's id on the Hub, "org/name"; without the owner it would load nothing, and stays out.
        license: The adapter's licence, as the Hub names it.
        tags: Further tags.
        embedding_rows: Rows of the token embeddings, where tokens were added to the new base's or taken away.
        base_import: Where the new base is not on the Hub, an import statement whose last word is its path.
        language: Codes of the languages, such as "en".
        task: "text-generation" (default), "text2text-generation" (encoder-decoders), "text-classification" or
            "token-classification".
        name_of_this: Row of this adapter; verdict, picture and the Hub's figures are about it. Defaults to
            "compatibility adapter"; without a row of that name there are none.
        plain_update: Row of the new task adapter as it is.
        control: Row of the adapter that was trained on for as many steps without the old model.
        p_values: Row of a rival -> exact paired p-values between it and this adapter, "accuracy" and "negative_flips".
            They are worked out where they are not given.
        slices: Column -> group -> this adapter's comparison with the old model.
        examples: Flipped instances to show. They may be private, and are published with the card.
        evaluated_on: The data set of the Hub that was asked, in the form of `dataset`.
        evaluated_split: Its split.
        caveats: Further limits, a sentence each.
        has_picture: Whether quadrants.png lies beside the card; `write` knows.
        version: Of this package.

    Raises:
        InputError: A task or an import statement that no code can be written for.
    """

    title: str
    lineage: Lineage
    adapter_type: str | None
    training: Mapping[str, object]
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    split: str | None = None
    dataset: str | None = None
    repository: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    embedding_rows: int | None = None
    base_import: str | None = None
    language: tuple[str, ...] = ()
    task: str = "text-generation"
    name_of_this: str = COMPATIBILITY_ADAPTER
    plain_update: str = PLAIN_UPDATE
    control: str = CONTROL
    p_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    examples: tuple[Instance, ...] = ()
    evaluated_on: str | None = None
    evaluated_split: str | None = None
    caveats: tuple[str, ...] = ()
    has_picture: bool = True
    version: str = __version__

    def __post_init__(self) -> None:
        """Refuse what would make code of the card that cannot run."""
        if self.task not in CLASSES:
            raise InputError(f"task is {self.task!r}; a card can be made for {', '.join(CLASSES)}.")
        if self.base_import is not None and not _IMPORT.fullmatch(self.base_import):
            raise InputError(f"base_import is {self.base_import!r}; `from package import NAME` is needed.")
        if not _VERSION.fullmatch(self.version):
            raise InputError(f"version is {self.version!r}, which is none.")

    @property
    def ours(self) -> Comparison | None:
        """This adapter's comparison with the old model; None where it was not measured."""
        return self.comparisons.get(self.name_of_this)

    def public(self) -> Self:
        """Return the card without what tells about this machine: paths, the user's name, tokens."""
        names = _unlike(self.comparisons)
        lineage = {name: hub_id(getattr(self.lineage, name)) for name in _BASES}
        commits = {
            f"{name}_revision": _revision(getattr(self.lineage, f"{name}_revision")) if lineage[name] else None
            for name in _BASES
        }

        def text(value: str | None) -> str | None:
            return None if value is None else public(value)

        def named(name: str) -> str:
            return names.get(name) or public(name)

        return replace(
            self,
            title=public(self.title),
            lineage=Lineage(**lineage, **commits),
            adapter_type=text(self.adapter_type),
            training={name: _value(self.training[key]) for key, name in _unlike(self.training).items()},
            comparisons={names[name]: one for name, one in self.comparisons.items()},
            split=text(self.split),
            dataset=_data(self.dataset),
            # Not `hub_id`: the output folder often has the very name of the repository.
            repository=HubName(self.repository) if self.repository and _is_whole_id(self.repository) else None,
            license=text(self.license),
            tags=tuple(public(tag) for tag in self.tags),
            language=tuple(public(one) for one in self.language),
            name_of_this=named(self.name_of_this),
            plain_update=named(self.plain_update),
            control=named(self.control),
            p_values={named(name): dict(values) for name, values in self.p_values.items()},
            slices={
                column: {name: self.slices[key][group] for group, name in _unlike(self.slices[key]).items()}
                for key, column in _unlike(self.slices).items()
            },
            examples=tuple(_public_instance(one) for one in self.examples),
            evaluated_on=_data(self.evaluated_on),
            evaluated_split=text(self.evaluated_split),
            caveats=tuple(public_text(one) for one in self.caveats),
        )

    def rivals(self) -> dict[str, Rival]:
        """Compare this adapter with plain update and control where they were measured; by the Hub's figure."""
        asked = {
            REDUCTION: (self.plain_update, "the plain update"),
            REDUCTION_AGAINST_CONTROL: (self.control, "the control of the same budget"),
        }
        return {
            kind: rival(name, words, self.comparisons[name], self.ours, self.p_values.get(name))
            for kind, (name, words) in asked.items()
            if self.ours is not None and name in self.comparisons and name != self.name_of_this
        }


def _is_whole_id(name: str) -> bool:
    return "/" in name and is_hub_id(name)


def _revision(text: str | None) -> str | None:
    return None if text is None else public(text)


def _data(text: str | None) -> str | None:
    """Return a data set's name: as it is where it is one of the Hub, otherwise as words."""
    if text is None or isinstance(text, HubName):
        return text
    match = DATA_SET.fullmatch(text)
    is_id = match is not None and _is_whole_id(match["name"]) and hub_id(match["name"]) is not None
    return HubName(text) if is_id else public(text)


def _value(value: object) -> object:
    is_plain = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else public(str(value))


def _unlike(names: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """Make names public, and keep them apart where they would become the same."""
    found: dict[str, str] = {}
    for name in names:
        base = wanted = public(name)
        number = 1
        while wanted in found.values():
            number += 1
            wanted = f"{base} ({number})"
        found[name] = wanted
    return found


def _public_instance(one: Instance) -> Instance:
    texts: dict[str, Any] = {
        each.name: public_text(value)
        for each in fields(one)
        if isinstance(value := getattr(one, each.name), str) and each.name != "kind"
    }
    slices = {public(name): None if value is None else public(value) for name, value in one.slices.items()}
    # Whole texts stand below the answers that were taken out of them.
    return replace(one, **texts | {"slices": slices, "old_response": None, "new_response": None})

"""What the targets in a teacher cache are and what they are made from; a cache of anything else is refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigurationError, TeacherError, unknown_option
from ...losses.sampled import sampled_layout
from ...losses.topk import Layout, top_k_layout
from ...models.hidden_states import OutputHead

TEACHERS = ("old", "new")
KINDS = ("topk", "sampled", "hidden", "chunks")
OF_SOME_TOKENS = ("topk", "sampled")
# Options that belong to some kinds.
_OWN = {"k": OF_SOME_TOKENS, "temperature": OF_SOME_TOKENS, "hidden_sizes": ("hidden",)}


@dataclass(frozen=True)
class CacheSpec:
    """What a cache has to hold.

    The kinds are "topk", the k likeliest tokens and the mass of all others; "sampled", k drawn tokens and what they
    stand for; "hidden", the last hidden states; and "chunks", how the old model does on the chunks of two tokenizers,
    which take the place of tokens.
    """

    kind: str
    vocabulary_size: int  # classes of both teachers' logits
    # "old" and "new" -> the type that the teacher computes in; hidden states are stored in it
    dtypes: Mapping[str, torch.dtype]
    # What the targets are made from, by names that messages use, such as "old adapter" or "data".
    fingerprints: Mapping[str, str]
    k: int | None = None  # tokens that "topk" keeps or "sampled" draws; None for "hidden"
    temperature: float | None = None  # divides the logits of both; None for "hidden", which serves every temperature
    hidden_sizes: Mapping[str, int] | None = None  # "old" and "new" -> width of the hidden states; else None

    def __post_init__(self) -> None:
        """Refuse what describes no cache."""
        if self.kind not in KINDS:
            raise unknown_option("teacher_cache", self.kind, dict.fromkeys(KINDS))
        for name, kinds in _OWN.items():
            if (getattr(self, name) is None) == (self.kind in kinds):
                of_kinds = " or ".join(map(repr, kinds))
                raise ConfigurationError(f"A cache of kind {of_kinds} needs {name}, and no other kind takes it.")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigurationError(
                f"temperature={self.temperature!r} must be a positive number; the paper's is 2.0."
            )
        for name in ("dtypes", "hidden_sizes"):
            of_each = getattr(self, name)
            if of_each is not None and sorted(of_each) != sorted(TEACHERS):
                raise ConfigurationError(f"{name} has the keys {sorted(of_each)}; it needs {sorted(TEACHERS)}.")
        self.layout()

    def layout(self) -> Layout:
        """Return what is stored of a token: name, such as "old.tail" -> type and shape."""
        if self.kind == "chunks":
            return {"old.log_likelihood": (torch.float32, ()), "old.right": (torch.uint8, ())}
        stored: Layout = {}
        for role in TEACHERS:
            if self.kind in OF_SOME_TOKENS:
                layout_of = top_k_layout if self.kind == "topk" else sampled_layout
                of_teacher = layout_of(self.k or 0, self.vocabulary_size)
            else:
                of_teacher = {
                    "hidden": (self.dtypes[role], ((self.hidden_sizes or {})[role],)),
                    "log_likelihood": (torch.float32, ()),
                    "right": (torch.uint8, ()),
                }
            stored |= {f"{role}.{name}": value for name, value in of_teacher.items()}
        return stored

    @property
    def bytes_per_token(self) -> int:
        """Bytes of a trained token on disk, both teachers together."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.layout().values())

    def to_json(self) -> dict[str, Any]:
        """Return the spec as it stands in the manifest."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["dtypes"] = {name: str(dtype).removeprefix("torch.") for name, dtype in self.dtypes.items()}
        if self.kind == "sampled":
            values["seed"] = 0  # of the draws, which are the same in every cache
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
            if value is not None
        }


def check_heads_fit(heads: Mapping[str, OutputHead], spec: CacheSpec) -> None:
    """Refuse LM heads that are not those of a cache's teachers."""
    if sorted(heads) != sorted(TEACHERS):
        raise ConfigurationError(f"heads has the keys {sorted(heads)}; it needs {sorted(TEACHERS)}.")
    for role, head in heads.items():
        expected = (spec.vocabulary_size, (spec.hidden_sizes or {})[role])
        bias = expected[:1] if head.bias is None else tuple(head.bias.shape)
        if tuple(head.weight.shape) != expected or bias != expected[:1]:
            raise ConfigurationError(
                f"The LM head of the {role} model has a weight of shape {tuple(head.weight.shape)} and a bias of "
                f"shape {bias}; {expected} and {expected[:1]} are needed."
            )
        for tensor in (head.weight, head.bias):
            if tensor is not None and not bool(tensor.isfinite().all()):
                raise TeacherError(f"The LM head of the {role} model has NaN or infinity in it. Check its weights.")


def refuse_other_spec(folder: Path | str, cached: Mapping[str, Any], spec: CacheSpec) -> None:
    """Refuse a cache that was made from anything else than this spec; the message names what differs."""
    then, now = _flat(cached), _flat(spec.to_json())
    different = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    if not different:
        return
    shown = "; ".join(
        f"{name} (in the cache {_short(then.get(name))}, now {_short(now.get(name))})" for name in different
    )
    hint = ""
    if any(_way(then.get(name)) != _way(now.get(name)) for name in different if name in spec.fingerprints):
        hint = (
            " A model has one fingerprint as a folder, another as an id of the Hub and another as a loaded object: if "
            "it is the same model, give it in the way that it was given when the cache was made."
        )
    raise ConfigurationError(
        f"The teacher cache in {folder} was made from something else and is not used. What differs: {shown}.{hint} "
        "Name another folder, or delete this one to have it computed again."
    )


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Give every part of a spec the name that a message calls it by."""
    flat: dict[str, Any] = {}
    for name, value in spec.items():
        if name == "fingerprints":
            flat |= value
        elif isinstance(value, Mapping):
            what = {"dtypes": "precision", "hidden_sizes": "hidden size"}.get(name, name)
            flat |= {f"{what} of the {role} model": inner for role, inner in value.items()}
        else:
            flat[name.replace("_", " ")] = value
    return flat


def _way(fingerprint: Any) -> str:
    return str(fingerprint).partition(":")[0]


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    return text if len(text) < 32 or text.startswith("hub:") else text[:20] + "…"

"""Small teacher caches for tests: targets that say of which token and teacher they are."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muscle_hf.losses.topk import encode_top_k
from muscle_hf.models.hidden_states import LogitTransform, OutputHead
from muscle_hf.teachers.cache.spec import TEACHERS, CacheSpec

VOCABULARY = 11
HIDDEN = {"old": 3, "new": 4}
COUNTS = (2, 0, 3, 1, 0, 4, 2, 2, 5, 1, 0, 3, 0)
TOKENS = sum(COUNTS)
FINGERPRINTS = {"old base": "files:1", "old adapter": "files:2", "new base": "hub:a/b@c", "data": "rows:3"}
BOTH = {"old": torch.float32, "new": torch.bfloat16}


def top_k_spec(**changes: Any) -> CacheSpec:
    """Return the spec of a cache of the three likeliest of eleven tokens."""
    fields = {"kind": "topk", "vocabulary_size": VOCABULARY, "dtypes": BOTH, "fingerprints": FINGERPRINTS}
    return CacheSpec(**fields | {"k": 3, "temperature": 2.0} | changes)


def hidden_spec(**changes: Any) -> CacheSpec:
    """Return the spec of a cache of hidden states, in another width and type for each teacher."""
    fields = {"kind": "hidden", "vocabulary_size": VOCABULARY, "dtypes": BOTH, "fingerprints": FINGERPRINTS}
    return CacheSpec(**fields | {"hidden_sizes": HIDDEN} | changes)


def heads() -> dict[str, OutputHead]:
    """Return an LM head for each teacher, the one with a bias and a soft cap."""
    generator = torch.Generator().manual_seed(9)
    old, new = (torch.randn(VOCABULARY, HIDDEN[one], generator=generator).to(BOTH[one]) for one in TEACHERS)
    return {"old": OutputHead(old, torch.arange(float(VOCABULARY)), LogitTransform(2.0, 3.0)), "new": OutputHead(new)}


def logits_of(numbers: Sequence[int], teacher: str) -> Tensor:
    """Return the logits of some tokens, by their numbers over the whole data set."""
    rows = [np.random.default_rng([number, TEACHERS.index(teacher)]).normal(size=VOCABULARY) for number in numbers]
    return torch.tensor(np.array(rows).reshape(-1, VOCABULARY), dtype=torch.float32)


def hidden_of(numbers: Sequence[int], teacher: str) -> Tensor:
    """Return the hidden states of some tokens."""
    return logits_of(numbers, teacher)[:, : HIDDEN[teacher]].to(BOTH[teacher])


def targets_of(numbers: Sequence[int], spec: CacheSpec) -> dict[str, Tensor]:
    """Return what a cache has to hold of some tokens."""
    gold = torch.tensor([number % VOCABULARY for number in numbers], dtype=torch.long)
    targets: dict[str, Tensor] = {}
    for teacher in TEACHERS:
        logits = logits_of(numbers, teacher)
        if spec.kind == "topk":
            stored = encode_top_k(logits, gold, k=spec.k or 0, temperature=spec.temperature or 0.0)
        else:
            stored = {
                "hidden": hidden_of(numbers, teacher),
                "log_likelihood": logits.log_softmax(-1)[torch.arange(len(gold)), gold],
                "right": (logits.argmax(-1) == gold).to(torch.uint8),
            }
        targets |= {f"{teacher}.{name}": tensor for name, tensor in stored.items()}
    return targets


def computing(
    spec: CacheSpec, counts: Sequence[int] = COUNTS, seen: list[range] | None = None
) -> Callable[[range], dict[str, Tensor]]:
    """Return a function that computes the targets of some rows, as teachers would, and notes what it was asked."""
    offsets = np.concatenate([[0], np.cumsum(counts)])

    def compute(rows: range) -> dict[str, Tensor]:
        if seen is not None:
            seen.append(rows)
        return targets_of(range(int(offsets[rows.start]), int(offsets[rows.stop])), spec)

    return compute


def files_of(folder: Path) -> list[str]:
    """List the files of a cache."""
    return sorted(file.name for file in folder.iterdir())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare targets bit by bit, NaN and signs of zeros included."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert tensor.shape == expected[name].shape, name
        same = tensor.contiguous().reshape(-1).view(torch.uint8), expected[name].reshape(-1).view(torch.uint8)
        assert torch.equal(*same), name

"""A spec that describes no cache is refused; what a token takes on disk is known before anything is written."""

import math
from typing import Any

import pytest
import torch
from teacher_caches import BOTH, HIDDEN, hidden_spec, top_k_spec

from muscle_hf.errors import ConfigurationError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "top_k"}, "Did you mean 'topk'"),
        ({"k": None}, "'topk' or 'sampled' needs k"),
        ({"temperature": None}, "'sampled' needs temperature"),
        ({"hidden_sizes": HIDDEN}, "'hidden' needs hidden_sizes, and no other"),
        ({"kind": "hidden"}, "'topk' or 'sampled' needs k, and no other"),
        ({"kind": "hidden", "k": None, "temperature": None}, "'hidden' needs hidden_sizes"),
        ({"k": 0}, "keeps no token"),
        ({"vocabulary_size": 2**24}, "vocabulary of"),
        ({"temperature": 0.0}, "positive"),
        ({"temperature": math.nan}, "positive"),
        ({"dtypes": {"old": torch.float32}}, "dtypes has the keys"),
    ],
)
def test_fields_that_do_not_go_together_make_a_cache(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        top_k_spec(**changes)


def test_caches_of_drawn_tokens_that_are_there_are_not_known_any_more() -> None:
    """Their manifests have a seed."""
    assert top_k_spec(kind="sampled").to_json() == {**top_k_spec().to_json(), "kind": "sampled", "seed": 0}


def test_hidden_states_of_one_teacher_alone_make_a_cache() -> None:
    with pytest.raises(ConfigurationError, match="hidden_sizes has the keys"):
        hidden_spec(hidden_sizes={"old": 3})


def test_a_token_takes_more_than_is_announced() -> None:
    # Per teacher: 3 ids of 3 bytes, 3 + 1 halves, two floats and one byte.
    assert top_k_spec().bytes_per_token == 2 * (9 + 8 + 8 + 1)
    # A width of 3 in float32 and of 4 in bfloat16, each with a float and a byte.
    assert hidden_spec().bytes_per_token == 3 * 4 + 4 * 2 + 2 * 5
    assert hidden_spec(hidden_sizes=dict.fromkeys(BOTH, 4096)).bytes_per_token == 4096 * (4 + 2) + 10


def test_two_teachers_of_other_precision_are_stored_in_one() -> None:
    layout = hidden_spec().layout()
    assert layout["old.hidden"] == (torch.float32, (3,))
    assert layout["new.hidden"] == (torch.bfloat16, (4,))

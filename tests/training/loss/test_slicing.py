"""What a teacher reads of a batch, and in how many passes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from muscle_hf.training.loss.slicing import TeacherReader

LENGTHS = torch.tensor([3, 9, 2, 3, 8])
MASK = (torch.arange(9) < LENGTHS[:, None]).long()


@pytest.mark.parametrize(
    ("at_once", "shapes"),
    [
        (None, [(4, 9)]),
        (100, [(4, 9)]),
        (17, [(1, 9), (2, 8), (1, 3)]),
        (15, [(1, 9), (1, 8), (2, 3)]),
        (5, [(1, 9), (1, 8), (1, 3), (1, 3)]),
    ],
)
def test_sequences_of_like_length_are_read_together_and_come_back_in_order(
    at_once: int | None, shapes: list[tuple[int, int]]
) -> None:
    read: list[tuple[int, ...]] = []

    def hidden_states(inputs: dict[str, Any]) -> torch.Tensor:
        read.append(tuple(inputs["input_ids"].shape))
        assert inputs["input_ids"].shape == inputs["attention_mask"].shape and inputs["use_cache"] is False
        return torch.stack([inputs["input_ids"], inputs["input_ids"]], -1).float()

    ids = torch.arange(45).view(5, 9)
    inputs = {"input_ids": ids, "attention_mask": MASK, "use_cache": False}
    trained = MASK.bool() & (torch.arange(9) > 0)
    reader = TeacherReader(SimpleNamespace(hidden_states=hidden_states), inputs, trained, at_once=at_once)
    tokens = (torch.arange(5)[:, None].expand(5, 9) != 2)[trained]  # nothing is asked of row 2
    hidden = reader(tokens)
    assert read == shapes
    assert torch.equal(hidden[:, 0], torch.where(tokens, ids[trained], 0).float())

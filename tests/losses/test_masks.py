"""Each mask marks the tokens that its definition says, and asks no model that it does not need."""

import math

import pytest
import torch

from muscle_hf.errors import ConfigurationError
from muscle_hf.losses.logits import gold_log_probability
from muscle_hf.losses.masks import MASKS, LogitScores, Scores, marked_tokens

LOG_3 = math.log(3.0)


def _scores(leads: dict[str, list[float]], sequence: list[int]) -> Scores:
    """Two classes, gold 0; the numbers are the leads of the gold token in the logits."""
    gold = torch.zeros(len(sequence), dtype=torch.long)
    models = {name: LogitScores(torch.tensor([[lead, 0.0] for lead in row]), gold) for name, row in leads.items()}
    return Scores(**models, gold=gold, sequence=torch.tensor(sequence))


EXAMPLE = _scores(
    {"student": [1.0, -1.0, -1.0, 2.0], "old": [2.0, 1.0, -2.0, 1.0], "new": [0.5, -2.0, -2.0, 3.0]}, [0, 0, 1, 1]
)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("student_wrong", [False, True, True, False]),
        ("new_wrong", [False, True, True, False]),
        ("old_right", [True, True, False, True]),
        ("old_better", [True, True, True, False]),
        ("token_likelihood", [True, True, False, False]),
        ("sequence_likelihood", [True, True, False, False]),
        ("negative_flip", [False, True, False, False]),
        ("none", [True, True, True, True]),
    ],
)
def test_each_mask_sends_the_right_tokens_to_the_old_model(mask: str, expected: list[bool]) -> None:
    assert MASKS[mask](EXAMPLE).tolist() == expected


def test_every_mask_is_worked_out_by_hand_above() -> None:
    cases = next(mark for mark in test_each_mask_sends_the_right_tokens_to_the_old_model.pytestmark).args[1]
    assert {mask for mask, _ in cases} == set(MASKS)


def test_sequence_likelihood_decides_for_a_sequence_and_not_for_its_tokens() -> None:
    # The old model is better on one token and much worse on the other; summed, it is worse.
    scores = _scores({"student": [0.0, 3.0], "old": [1.0, -3.0], "new": [0.0, 0.0]}, [0, 0])
    assert MASKS["token_likelihood"](scores).tolist() == [True, False]
    assert MASKS["sequence_likelihood"](scores).tolist() == [False, False]


def test_a_sequence_that_old_model_and_student_find_equally_likely_stays_with_the_new_one() -> None:
    scores = _scores({"student": [-1.0, 1.0], "old": [1.0, -1.0], "new": [0.0, 0.0]}, [0, 0])
    assert MASKS["sequence_likelihood"](scores).tolist() == [False, False]


class _Unasked:
    """A model that must not be asked."""

    @property
    def right(self) -> torch.Tensor:
        raise AssertionError("this model was asked")

    log_likelihood = right


@pytest.mark.parametrize(
    ("mask", "unasked"),
    [
        ("student_wrong", ("old", "new")),
        ("new_wrong", ("student", "old")),
        ("old_right", ("student", "new")),
        ("old_better", ("student",)),
        ("token_likelihood", ("new",)),
        ("negative_flip", ("new",)),
        ("none", ("student", "old", "new")),
    ],
)
def test_a_mask_asks_no_model_that_it_does_not_need(mask: str, unasked: tuple[str, ...]) -> None:
    models = {name: getattr(EXAMPLE, name) for name in ("student", "old", "new")}
    scores = Scores(**models | dict.fromkeys(unasked, _Unasked()), gold=EXAMPLE.gold, sequence=EXAMPLE.sequence)
    assert MASKS[mask](scores).tolist() == MASKS[mask](EXAMPLE).tolist()


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.ones(4), "torch.float32"),
        (torch.ones(3, dtype=torch.bool), r"\(3,\)"),
        ([True] * 4, "a list"),
    ],
    ids=["numbers", "length", "list"],
)
def test_a_mask_of_ones_own_that_returns_no_mask_is_refused(returned: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        marked_tokens(lambda scores: returned, EXAMPLE)  # type: ignore[arg-type,return-value]


def test_gold_log_probability_is_taken_at_temperature_1() -> None:
    assert gold_log_probability(torch.tensor([[LOG_3, 0.0]]), torch.tensor([0])).item() == pytest.approx(
        math.log(0.75)
    )

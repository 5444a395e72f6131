"""What an evaluation remembers: logits and answers by row, whatever the order and the repetitions."""

import math

import torch

from muscle_hf.classifier.evaluation import EvaluationMemory
from muscle_hf.flips.comparison import compare


def test_logits_come_back_in_the_order_asked_for_with_as_many_words_as_each_row_has() -> None:
    memory = EvaluationMemory()
    old, new = torch.arange(6.0)[:, None], torch.arange(6.0, 12.0)[:, None]
    memory.remember([4, 7, 5], [2, 0, 1], old[:3], new[:3])
    memory.remember([1], [3], old[3:], new[3:])
    found = memory.recall([5, 1, 7, 4], torch.device("cpu"))
    assert found is not None
    assert found[0].flatten().tolist() == [2, 3, 4, 5, 0, 1]
    assert found[1].flatten().tolist() == [8, 9, 10, 11, 6, 7]
    assert memory.recall([5, 99], torch.device("cpu")) is None


def test_logits_that_are_changed_afterwards_do_not_change_what_is_remembered() -> None:
    memory, logits = EvaluationMemory(), torch.zeros(1, 2)
    memory.remember([0], [1], logits, logits)
    logits += 1
    found = memory.recall([0], torch.device("cpu"))
    assert found is not None
    assert not found[0].any()


def test_flips_are_those_of_compare_and_a_repeated_row_counts_once() -> None:
    memory = EvaluationMemory()
    columns = {"old": [0, 1, 2, 5], "new": [0, 0, 2, 1], "student": [1, 1, 2, 1], "references": [0, 1, 1, 1]}
    answers = torch.tensor(list(columns.values()))
    memory.note([2, 0], [1, 2], answers[:, :3])
    memory.note([1], [1], answers[:, 3:])
    memory.note([1], [1], answers[:, 3:])
    metrics = memory.metrics("eval_x")
    comparison = compare(old=columns["old"], new=columns["student"], references=columns["references"])
    assert metrics["eval_x_negative_flip_rate"] == comparison.negative_flip_rate == 0.25
    assert metrics["eval_x_accuracy"] == comparison.new_accuracy
    update = memory.update()
    assert update is not None
    assert metrics["eval_x_new_negative_flip_rate"] == update.negative_flip_rate


def test_a_product_has_the_flips_of_compare_and_takes_nobodys_place() -> None:
    memory = EvaluationMemory()
    columns = {"old": [0, 1, 2, 5], "new": [0, 0, 2, 1], "student": [1, 1, 2, 1], "references": [0, 1, 1, 1]}
    product = [0, 1, 1, 0]
    memory.note([0, 1], [3, 1], torch.tensor([*columns.values(), product]))
    metrics, of_product = memory.metrics("eval"), compare(old=columns["old"], new=product, references=[0, 1, 1, 1])
    for name in ("negative_flip_rate", "relative_negative_flip_rate"):
        assert metrics[f"eval_product_{name}"] == getattr(of_product, name)
    assert metrics["eval_product_accuracy"] == of_product.new_accuracy == 0.75
    without = EvaluationMemory()
    without.note([0, 1], [3, 1], torch.tensor(list(columns.values())))
    assert without.metrics("eval") == {name: value for name, value in metrics.items() if "product" not in name}
    updates = memory.update(), without.update()
    assert updates[0] is not None and updates[1] is not None
    assert updates[0].to_dict() == updates[1].to_dict()


def test_another_evaluation_starts_without_the_answers_of_the_last_and_keeps_the_logits() -> None:
    memory = EvaluationMemory()
    memory.remember([0], [1], torch.zeros(1, 2), torch.zeros(1, 2))
    memory.note([0], [1], torch.zeros(4, 1, dtype=torch.int64))
    memory.forget_answers()
    assert memory.metrics("eval") == {}
    assert memory.update() is None
    assert memory.recall([0], torch.device("cpu")) is not None


def test_a_rate_of_nothing_is_nan() -> None:
    memory = EvaluationMemory()
    memory.note([0], [1], torch.tensor([[0], [1], [1], [1]]))
    assert math.isnan(memory.metrics("eval")["eval_relative_negative_flip_rate"])

"""The classifier example runs from its data to its table, and its data are what their README says."""

import csv
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from muscle_hf import Comparison

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "massive"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_data_are_what_their_readme_says() -> None:
    train, dev, test = _rows("train"), _rows("dev"), _rows("test")
    assert (len(train), len(dev), len(test)) == (1500, 500, 4000)
    old = [row for row in train if row["split"] == "old"]
    assert (len(old), sum(row["split"] == "old" for row in dev)) == (1000, 333)
    intents = {row["intent"] for row in train}
    assert len(intents) == 60
    assert intents - {row["intent"] for row in old} == {"cooking_query"}
    assert {row["intent"] for row in test} == intents
    ids = [row["id"] for part in (train, dev, test) for row in part]
    assert len(set(ids)) == 6000
    texts = {row["text"] for row in test}
    assert len(texts & {row["text"] for row in train + dev}) == 9


@pytest.mark.slow
def test_the_example_trains_every_strategy_and_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "massive_update.py"))
    results = example["main"](
        ["--seeds", "2", "--rows", "120", "--epochs", "1", "--compatibility-epochs", "1", "--measure-on", "dev"]
    )
    printed = capsys.readouterr().out
    assert list(results) == ["new model (plain update)", example["CONTROL"], *example["STRATEGIES"]]
    for name, comparisons in results.items():
        assert [type(comparison) for comparison in comparisons] == [Comparison] * 2
        assert {comparison.n for comparison in comparisons} == {120}
        assert printed.count(name) == 3  # one table for each seed, and the means
    first = results[example["CONTROL"]][0]
    assert f"{first.new_accuracy:8.2%} {first.negative_flip_rate:7.2%}" in printed

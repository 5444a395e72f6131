"""The MMLU-Pro example gives the published counts, and its table can be read."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "mmlu_pro_update.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mmlu_pro_update", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mmlu_pro_update"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("old", "new", "accuracies", "negative", "positive", "wrong_anew"),
    [
        ("Llama-2-7b-hf", "Meta-Llama-3-8B", (0.1831, 0.3416), 839, 2744, 0.4205),
        ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf", (0.2975, 0.2915), 1073, 1001, 0.2887),
    ],
)
def test_the_published_counts_do_not_drift(
    example: ModuleType,
    old: str,
    new: str,
    accuracies: tuple[float, float],
    negative: int,
    positive: int,
    wrong_anew: float,
) -> None:
    rows = example.read()
    c = example.compare(rows, old, new)
    assert c.n == 12018
    assert (round(c.old_accuracy, 4), round(c.new_accuracy, 4)) == accuracies
    assert (len(c.negative_flips), len(c.positive_flips)) == (negative, positive)
    assert round(c.inconsistency_flip_rate - c.negative_flip_rate, 4) == wrong_anew
    parts = [part for _, part in example.slices(rows, "category", old, new)]
    assert len(parts) == 14
    assert sum(part.n for part in parts) == c.n
    assert sum(len(part.negative_flips) for part in parts) == negative
    assert sum(len(part.positive_flips) for part in parts) == positive


def test_the_script_prints_both_updates_by_subject(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(["--by", "category"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Llama-2-7b-hf -> Meta-Llama-3-8B"
    assert lines[2].split()[:5] == ["all", "12018", "0.1831", "->", "0.3416"]
    assert sum(line.startswith("computer science") for line in lines) == 2
    assert "1073 questions broken, 1001 repaired" in lines[-1]


def test_one_model_alone_is_refused(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example.main(["--old", "Llama-2-7b-hf"])
    assert "go together" in capsys.readouterr().err

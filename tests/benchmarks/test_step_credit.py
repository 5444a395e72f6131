"""The benchmark of steps runs, its arithmetic is right, and it goes on where it was."""

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def step_credit(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "step_credit.py"))
    monkeypatch.delitem(sys.modules, "step_credit_task")
    return script


def test_models_are_taught_what_the_questions_say_but_for_their_own_mistakes(step_credit: dict[str, Any]) -> None:
    task = step_credit["trained"].__globals__
    question = task["Question"](4, (("+", 5), ("*", 2), ("-", 3)))
    assert (question.prompt, question.reference) == ("+5*2-3 4\n", "2\n4\n1")
    assert task["first_mistake"]("2\n5\n2", question.reference) == 1
    assert task["is_right"]("0\n0\n1", question.reference) and not task["is_right"]("1", question.reference)
    old, new = task["mistakes"](0)
    assert (len(old), len(new)) == (15, 8) and not {*old} & {*new}
    tokens = task["tokenizer"]()
    for wrong, share in (({}, 0.0), (old, task["WRONG_SHARE"])):
        rows = task["_Taught"](wrong, tokens).rows(2_000, np.random.default_rng(0))
        counts = {True: 0, False: 0}
        for text in tokens.batch_decode(rows.tolist()):
            asked, start, answer = *text.split("\n", 1)[0].split(" "), text.split("\n", 1)[1].removesuffix("<end>")
            value = int(start)
            for place, said in enumerate(map(int, answer.split("\n"))):
                fact = (value, asked[2 * place], int(asked[2 * place + 1]))
                result = task["OPERATIONS"][fact[1]](value, fact[2]) % task["MODULUS"]
                assert said in (result, wrong.get(fact, result))
                if fact in wrong:
                    counts[said != result] += 1
                value = said
        if wrong:
            assert counts[True] / sum(counts.values()) == pytest.approx(share, abs=0.06)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_cells_are_kept_and_a_second_run_makes_none(
    step_credit: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--smoke", "--seeds", "0", "--results", str(tmp_path / "cells")]
    step_credit["main"](arguments)
    assert len(list((tmp_path / "cells").iterdir())) == (1 + 2 * len(step_credit["DPO_RATES"])) + 3
    assert "seed 0, step_dpo" in capsys.readouterr().out
    step_credit["main"](arguments)
    again = capsys.readouterr().out
    assert "seed 0, step_dpo" not in again
    assert "| the new model as it is |" in again and '| StepDPOTrainer, step pairs (end="step") |' in again


def test_the_page_shows_another_table_than_the_kept_cells(step_credit: dict[str, Any]) -> None:
    page = (BENCHMARKS.parent / "docs" / "learn-from-what-broke.md").read_text(encoding="utf-8")
    cells = step_credit["read"](step_credit["RESULTS"])
    assert {cell.seed for cell in cells} == {step_credit["TUNING_SEED"], *step_credit["SEEDS"]}
    assert step_credit["table"](cells) in page

"""The benchmark of labels on disagreements runs, and its sums are those of all samples."""

import runpy
from itertools import combinations
from pathlib import Path

import pytest

BENCHMARK = str(Path(__file__).parents[2] / "benchmarks" / "labelling.py")


def test_a_chance_is_the_share_of_all_samples() -> None:
    names = runpy.run_path(BENCHMARK)
    labels, kinds = 6, "+" * 8 + "-" * 1 + "." * 1
    edge = names["by_interval"](labels, len(kinds))
    samples = [(sample.count("+"), sample.count("-")) for sample in combinations(kinds, labels)]
    told = sum(more >= edge[fewer] for more, fewer in samples) / len(samples)
    assert 0 < told <= 1
    assert names["chance"](edge, labels, 8, 1, len(kinds)) == pytest.approx(told)


def test_every_pair_of_models_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{i},{'AB'[i % 2]},{'A' if i % 3 else 'B'},A,{'AB'[i % 5 == 0]}" for i in range(40)]
    (tmp_path / "answers.csv").write_text("\n".join(["id,right,v1,v2,v3", *rows]))
    arguments = ["--reference", "right", "--labels", "5", "--looks", "5", "8", "--evaluations", "20", "--audits", "1"]
    runpy.run_path(BENCHMARK)["main"]([str(tmp_path / "answers.csv"), *arguments])
    shown = capsys.readouterr().out
    assert "40 answers, 5 labels: chances in %, by enumeration" in shown
    assert [name for name in ("v1 -> v2", "v1 -> v3", "v2 -> v3") if f"| {name} |" in shown] == [
        *("v1 -> v2", "v1 -> v3", "v2 -> v3")
    ]
    assert "All 3 updates" in shown
    assert "| 8 |" in shown


def test_an_audit_is_a_row_for_each_ranking(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(BENCHMARK)["main"](["--only", "audits", "--audits", "2"])
    shown = capsys.readouterr().out
    assert [shown.count(f"| {name} |") for name in ("well", "not at all", "sure, by a coin", "hostile")] == [4] * 4

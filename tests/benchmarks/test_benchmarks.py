"""The benchmark scripts run, on as little as they can."""

import argparse
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import fresh
import numpy as np
import pytest
import torch

import muscle_hf.demo.work as work
from muscle_hf.demo.contenders import DemoSettings
from muscle_hf.losses.strategy import Strategy

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_seeds_benchmark_gives_differences_and_the_seed_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tiny(cls: type[DemoSettings], seed: int = 0) -> DemoSettings:
        return cls(seed=seed, training_rows=32, validation_rows=8, test_rows=16, task_epochs=1, update_epochs=1)

    monkeypatch.setattr(DemoSettings, "fast", classmethod(tiny))
    monkeypatch.setattr(work, "MAX_ANSWER_TOKENS", 2)
    script = runpy.run_path(str(BENCHMARKS / "demo_seeds.py"))
    # The second time it is there already, and is read.
    script["main"](["--fast", "--processes", "1", "--seeds", "0", "0", "--output-dir", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "2 seeds, n = 16" in shown
    assert "compatibility, unlabelled, minus control: same prompts" in shown
    floor = next(line for line in shown.splitlines() if "seed floor: mean of 2 ordered pairs" in line)
    assert floor.split("|")[3:6] == [" 0.00 "] * 3


def test_the_interval_over_seeds_is_students_t() -> None:
    mean_interval = runpy.run_path(str(BENCHMARKS / "demo_seeds.py"))["mean_interval"]
    # Mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.303.
    assert mean_interval([1.0, 2.0, 3.0]) == "2.00 [-0.48, 4.48]"
    assert mean_interval([1.5]) == "1.50"


@pytest.mark.slow
def test_the_comparison_benchmark_times_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(BENCHMARKS / "compare.py"))["main"](["--rows", "500"])
    shown = capsys.readouterr().out
    rows = [line.split("|")[1:3] for line in shown.splitlines() if line.startswith("| ") and "format" not in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [kind, order] for order in ("same", "shuffled") for kind in ("jsonl", "csv", "parquet")
    ]


@pytest.mark.slow
def test_the_peers_benchmark_agrees_with_brute_force_and_says_what_was_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(BENCHMARKS / "peers.py"))["main"](["--rows", "400", "--times", "1"])
    shown = capsys.readouterr().out
    truth, ours = (line.split("|")[2:6] for line in shown.splitlines() if line.startswith(("| brute", "| muscle_hf")))
    assert ours == truth
    assert shown.count("\nNot run: ") == 6


@pytest.mark.slow
def test_the_training_benchmark_gives_times_and_peaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sizes = {"vocabulary": 256, "length": 16, "batch": 2, "hidden": 64, "layers": 1, "rounds": 1}
    script = runpy.run_path(str(BENCHMARKS / "training.py"))
    kept = ("SFTTrainer", "DistillationTrainer (one teacher)")  # each takes a process; ours are in the trainer's tests
    for way in [way for way in script["WAYS"] if way not in kept]:
        del script["WAYS"][way]
    started: list[str] = []

    def run(command: list[str], **_: object) -> object:
        started.append(command[command.index("--peak-of") + 1])
        return fresh.run(command, warm=True, check=True)

    monkeypatch.setattr("steps.subprocess", SimpleNamespace(run=run))
    script["main"]([f"--{name}={value}" for name, value in sizes.items()] + ["--device", "cpu"])
    shown = capsys.readouterr().out
    for way in kept:
        assert f"| {way} |" in shown
    assert started == list(kept)
    assert "ratio of times" in shown


@pytest.mark.slow
def test_trl_with_one_teacher_is_given_the_same_tokens_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "training.py"))
    size = argparse.Namespace(vocabulary=256, length=16, batch=2, hidden=64, layers=1, device="cpu", bf16=False)
    size.tokenizer = script["tokenizer_of"](size.vocabulary)
    rows = script["rows_of"](size)
    ways = ("GKDTrainer (one teacher)", "DistillationTrainer (one teacher)", "live, in slices")
    gkd, distillation, ours = (script["trainer_of"](way, size, rows, tmp_path) for way in ways)
    ours.teachers.loss.strategy = Strategy(mask="none", temperature=1.0)
    tokens = torch.tensor(30)
    losses = [one.compute_loss(one.model, dict(one.batch), num_items_in_batch=tokens).item() for one in (gkd, ours)]
    # GKD has no temperature in its loss, and all three have the old model as the one teacher.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    distillation.temperature = 1.0
    batch = dict(distillation.batch)
    assert distillation.compute_loss(distillation.model, batch).item() == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_the_benchmark_of_two_tokenizers_compares_chunks_of_several_tokens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "aligned.py"))
    script["main"].__globals__.update(SHARED=300, OLD_VOCABULARY=2400)
    sizes = {"vocabulary": 400, "length": 12, "answer": 5, "batch": 2, "hidden": 64, "layers": 1}
    script["main"]([f"--{name}={value}" for name, value in sizes.items()] + ["--device=cpu", "--peak-of=in slices"])
    assert re.search(r'\{"peak": [\d.]+, "old": [\d.]+\}', capsys.readouterr().out)
    size = script["argparse"].Namespace(**sizes, device="cpu", bf16=False)
    text = " ".join(script["rows_of"](size)[0].values())
    lengths = [
        len(tokenizer(text)["input_ids"]) for tokenizer in (script["new_tokenizer"](size), script["old_tokenizer"]())
    ]
    assert lengths[0] == 11 < lengths[1]


@pytest.mark.slow
def test_the_cache_benchmark_says_what_cached_targets_lose(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(BENCHMARKS / "teacher_cache.py"))["main"](
        ["--rows", "3", "--draws", "2", "--steps", "0", "--tokens", "9000"]
    )
    shown = capsys.readouterr().out
    assert re.search(r"\| completions \| \d+ \| sampled \| 64 \| 333 \|", shown)


@pytest.mark.slow
def test_the_intervals_benchmark_prints_how_often_the_truth_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(BENCHMARKS / "intervals.py"))
    small = ["--exact", "6", "--simulated", "40", "--draws", "20", "--contradictions", "6"]
    script["main"].__globals__.update(ACCURACIES=(0.5, 0.9), RELATIVE=(0.2, 1.0))
    script["main"]([*small, "--margins", "10", "--ratios", "5"])
    shown = capsys.readouterr().out
    assert re.search(r"\| 6 \| enumeration \| \d+ \| [\d.]+, [\d.]+ \| [\d.]+, [\d.]+ \|", shown)
    assert "| 40 | 20 draws each |" in shown
    assert re.search(r"differ on \d+ of the 209 outcomes of 1 to 6 instances", shown)
    assert len(re.findall(r"\| (?:5|10) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", shown)) == 8


@pytest.mark.slow
def test_the_decide_benchmark_prints_how_often_verdicts_err(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(BENCHMARKS / "decide.py"))
    script["main"](["--sizes", "10", "--evaluations", "20", "--clustered", "2", "--length", "200"])
    shown = capsys.readouterr().out
    # Of 10 questions 3 that fell, or more, show an NFR above 5 %: 1.15 %.
    assert "| 10 | 5 | 0.0 | 1.2 | 98.8 |" in shown
    # 40.9 % of neutral updates of 50 questions fall by more than a point, were it not for the interval.
    assert script["_chance_of_difference"](50, 0.05, 0.05, 1) == pytest.approx(0.409, abs=0.001)
    assert re.search(r"\| 10 \| 0 \| [\d.]+ \| [\d.]+ \| [\d.]+ \[[\d., ]+\]", shown)


@pytest.mark.slow
def test_stopping_after_every_answer_is_enumerated_as_it_is_drawn() -> None:
    script = runpy.run_path(str(BENCHMARKS / "decide.py"))
    least = script["boundary"](script["by_bayes_factor"], 60)
    assert all(script["by_bayes_factor"](least[n], n - least[n]) == "broken" for n in (8, 30, 60))
    assert all(script["by_bayes_factor"](least[n] - 1, n - least[n] + 1) == "cannot tell" for n in (8, 30, 60))
    draws = np.random.default_rng(0).random((4_000, 100))
    fell, rose = np.cumsum(draws < 0.12, axis=1), np.cumsum((draws >= 0.12) & (draws < 0.2), axis=1)
    broken, kept = fell >= least[fell + rose], rose >= least[fell + rose]
    first = (np.arange(4_000), (broken | kept).argmax(axis=1))
    # Three standard errors.
    expected = pytest.approx([broken[first].mean(), kept[first].mean()], abs=0.014)
    assert script["after_every_answer"](least, 100, 0.2, 0.04) == expected


@pytest.mark.slow
def test_the_gpu_script_runs_without_one_keeps_to_its_time_and_fails_with_its_checks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = runpy.run_path(str(BENCHMARKS / "gpu.py"))
    checks = sys.modules["gpu_checks"]
    monkeypatch.delitem(sys.modules, "gpu_checks")
    small = [f"--{name}={value}" for name, value in {**checks.TINY, "layers": 1, "device": "cpu"}.items()]
    for way in list(script["WAYS"])[2:]:
        del script["WAYS"][way]

    def fails(device: str, folder: Path) -> str:
        return str(checks.hold("distance", float("nan"), 1.0))

    assert script["main"](small) == 0
    shown = capfd.readouterr().out
    for check in ("slices, float32", "slices, bfloat16", "caches", "flips in the loop", "resume"):
        assert f"| {check} | holds |" in shown
    assert re.search(r"\| live, in slices \| [\d.]+ s a step \|", shown)
    assert "Left out: FSDP2 of one process: accelerate turns FSDP2 into DDP on a CPU." in shown

    script["SECONDS"]["a way"] = 1000
    script["CHECKS"].clear()
    script["CHECKS"]["not a number"] = fails
    assert script["main"](small) == 1
    shown = capfd.readouterr().out
    assert "| not a number | FAILS | distance nan, at most 1.0e+00 |" in shown
    assert "Left out: time and memory: no time left." in shown

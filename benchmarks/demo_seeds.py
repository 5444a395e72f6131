"""The demo over several seeds: means with 95 % t intervals, differences from the controls, and the seed floor.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --output-dir demo_seeds

Each seed is one whole demo below the output folder, and one that is there already is read, not run again. The seed
floor is what retraining alone does: the flips between new task adapters that differ in nothing but their seed.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from muscle_hf.demo.contenders import BOUND, FULL, NEW, DemoSettings
from muscle_hf.demo.results import DemoResult
from muscle_hf.demo.run import run_demo
from muscle_hf.flips.comparison import compare
from muscle_hf.text import markdown_table

RATES = {
    "accuracy, %": "new_accuracy",
    "NFR, %": "negative_flip_rate",
    "PFR, %": "positive_flip_rate",
    "inconsistency, %": "inconsistency_flip_rate",
    "relative NFR": "relative_negative_flip_rate",
}


def mean_interval(values: Sequence[float], level: float = 0.95) -> str:
    """Return "mean [low, high]" over seeds, by Student's t; the mean alone for one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(stats.sem(values) * stats.t.ppf((1 + level) / 2, len(values) - 1))
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def table(results: Sequence[DemoResult]) -> str:
    """Return the table of all models, and of the differences between each adapter and its own controls."""
    names = [NEW.name, *(contender.name for contender in FULL.updates), BOUND]

    def figures(name: str, rate: str) -> np.ndarray:
        scale = 1 if rate.startswith("relative") else 100
        return np.array([scale * getattr(result.comparisons[name], rate) for result in results])

    rows = [[name, *(mean_interval(figures(name, rate)) for rate in RATES.values())] for name in names]
    rows += [
        [
            f"{candidate.name}, minus {control.name}",
            *(mean_interval(figures(candidate.name, rate) - figures(control.name, rate)) for rate in RATES.values()),
        ]
        for candidate in FULL.candidates
        for control in candidate.controls
    ]
    rows += floor(results)
    return markdown_table(["model", *RATES], rows)


def floor(results: Sequence[DemoResult]) -> list[list[str]]:
    """Return the row of the seed floor: every ordered pair of plain updates, one against the other."""
    pairs = [
        compare(
            old=[row["prediction"] for row in one.answers[NEW.name]],
            new=[row["prediction"] for row in other.answers[NEW.name]],
            references=[row["reference"] for row in other.answers[NEW.name]],
        )
        for one, other in itertools.permutations(results, 2)
    ]
    if not pairs:
        return []
    means = [np.mean([getattr(pair, rate) for pair in pairs]) for rate in RATES.values()]
    scaled = [mean if name.startswith("relative") else 100 * mean for name, mean in zip(RATES, means, strict=True)]
    return [
        [f"seed floor: mean of {len(pairs)} ordered pairs of plain updates", *(f"{value:.2f}" for value in scaled)]
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("demo_seeds"))
    parser.add_argument("--processes", type=int, choices=(1, 2), help="at once; as many as there are cores by default")
    parser.add_argument("--fast", action="store_true", help="tiny runs that show that it works")
    parsed = parser.parse_args(arguments)
    make = DemoSettings.fast if parsed.fast else DemoSettings
    results = [
        run_demo(parsed.output_dir / f"seed-{seed}", make(seed=seed), FULL, processes=parsed.processes)
        for seed in parsed.seeds
    ]
    n = results[0].comparisons[NEW.name].n
    print(f"{len(results)} seeds, n = {n} test utterances each\n\n{table(results)}")  # noqa: T201


if __name__ == "__main__":
    main()

"""What the answers of a demo show: every model against the old one, and each adapter against all others."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..flips.comparison import Comparison, compare, paired_p_values
from .contenders import BOUND, NEW, OLD, Candidate, Cast, Contender

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class DemoResult:
    """What a demo found on the test set."""

    cast: Cast
    answers: dict[str, Answers]  # name of a model -> its answers, rows with `prompt`, `prediction` and `reference`
    comparisons: dict[str, Comparison]  # with the old model, in the order of the table
    # Name of a compatibility adapter -> name of any other row -> exact paired p-values between the two, for `accuracy`
    # and for `negative_flips` (over the instances that the old model gets right).
    p_values: dict[str, dict[str, dict[str, float]]]
    chosen: Candidate  # the one with the lowest NFR on the validation set, or the only one

    def broken(self, name: str) -> int:
        """Return how many of the old model's right answers a model gets wrong."""
        return len(self.comparisons[name].negative_flips)

    def better_control(self, candidate: Candidate) -> Contender:
        """Return the control that breaks fewest of those that an adapter is held against."""
        return min(candidate.controls, key=lambda control: self.broken(control.name))


def read_answers(path: Path) -> Answers:
    """Return the rows of a file of answers."""
    # Not splitlines(), which would also cut at the line separators that a text may hold.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def evaluate_answers(cast: Cast, validation: dict[str, Answers], test: dict[str, Answers]) -> DemoResult:
    """Choose the adapter on the validation answers and compare every model with the old one on the test answers."""

    def against_old(answers: dict[str, Answers], name: str) -> Comparison:
        return compare(
            old=[row["prediction"] for row in answers[OLD.name]],
            new=[row["prediction"] for row in answers[name]],
            references=[row["reference"] for row in answers[name]],
        )

    chosen, *others = cast.candidates
    if others:
        chosen = min(cast.candidates, key=lambda candidate: against_old(validation, candidate.name).negative_flip_rate)
    test = dict(test)
    test[BOUND] = [
        max(pair, key=lambda row: float(row["mean_log_likelihood"]))
        for pair in zip(test[NEW.name], test[OLD.name], strict=True)
    ]
    names = [NEW.name, *(update.name for update in cast.updates), BOUND]
    right = {name: [row["prediction"] == row["reference"] for row in rows] for name, rows in test.items()}
    p_values = {
        candidate.name: {
            rival: paired_p_values(right[OLD.name], right[rival], right[candidate.name])
            for rival in names
            if rival != candidate.name
        }
        for candidate in cast.candidates
    }
    return DemoResult(cast, test, {name: against_old(test, name) for name in names}, p_values, chosen)

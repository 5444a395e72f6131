"""Negative flips ranked by how likely the grader made them, as objects, sentences and data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import InputError
from ...flips.comparison import Comparison
from ...flips.rates import strict_json
from ...text import how_many, listed
from ..outcomes import Instance, Outcomes
from .flip_draw import FlipDraw, Suspect, draw_flips

SCHEMA_VERSION = 1
_HEAD = ["suspect", "chance", "what changed in its form"]


@dataclass(frozen=True)
class FormEvidence:
    """What is known of one feature of form."""

    name: str
    phrase: str
    is_flag: bool
    old: float
    """How many old answers have it; of a feature that is no yes or no, the median."""
    new: float
    is_missed: bool
    """Whether it counts against an answer that it lacks it, or has less of it."""
    broken: int
    """Broken answers that changed so that it counts against them: which have it and whose old one has it not, or have
    more of it; where it is missed the other way round."""
    recognised: tuple[int, int]
    """New answers that have it: marked right, and all. (0, 0) where it is no yes or no."""
    others_recognised: tuple[int, int]
    """The same of new answers that have it not."""
    never_recognised: bool
    """Whether none of the answers, old or new, that have it (where it is missed: that lack it) is marked right."""
    slope: float
    """Log odds of being marked right, for 1 of it; nan where marks say nothing of it, or it is told with others."""
    goes_with_others: bool
    """Whether it always goes with other features, and is told with these."""

    def sentence(self, n: int, flips: int) -> str:
        """Say how often it is there, before and after, and how often it goes with being marked right."""
        if not self.is_flag:
            told = f"{self.phrase}: median {self.old:.4g} -> {self.new:.4g}"
            return f"{told}; {'less' if self.is_missed else 'more'} in {self.broken:,} of {flips:,} broken answers"
        (right, of), (others, of_others) = self.recognised, self.others_recognised
        changed = "gone from" if self.is_missed else "new in"
        return (
            f"{self.phrase}: {_count(self.new)} of {n:,} new answers, {_count(self.old)} of the old ones; {changed} "
            f"{self.broken:,} of {flips:,} broken answers. Marked right: {right:,} of {of:,} with it, {others:,} of "
            f"{of_others:,} without"
        )


@dataclass(frozen=True, eq=False)
class Suspects:
    """The negative flips, the grader's likeliest mistakes first; made by `suspect_flips`. `print` lists the first."""

    n: int
    """Answers of either version."""
    flips: tuple[Suspect, ...]
    forms: tuple[FormEvidence, ...]
    """What the grader may have recognised answers by."""
    speak_for_right: tuple[str, ...]
    """Names of the features that speak for being right."""
    unchanged: tuple[str, ...]
    """Built-in features of form that the update does not change, and that are left out."""
    result: "Outcomes | Comparison" = field(repr=False)

    def __len__(self) -> int:
        """Say how many negative flips there are."""
        return len(self.flips)

    def __iter__(self) -> Iterator[Suspect]:
        """Give them, the likeliest mistakes of the grader first."""
        return iter(self.flips)

    def __getitem__(self, place: Any) -> Any:
        """Give one of them, or some."""
        return self.flips[place]

    @property
    def explained(self) -> float:
        """How many flips the changed form explains, by the model; nan where the marks say nothing of it."""
        return float(sum(flip.chance for flip in self.flips))

    def draw(self, count: int, *, seed: int = 0) -> FlipDraw:
        """Draw flips to check by hand, each with a known chance above 0; see `audited_rate`.

        Args:
            count: How many; all where there are fewer. Two at least.
            seed: Of the draw. The same flips and seed give the same draw, whatever the order of the files.

        Returns:
            The flips to check, in that order; `probabilities` has the chance of each to be drawn.

        Raises:
            InputError: A count below 2, a seed that is no int.

        Example:
            >>> import muscle_hf
            >>> c = muscle_hf.compare_correct(old=[1] * 8, new=[0] * 4 + [1] * 4)
            >>> draw = muscle_hf.suspect_flips(c, {"fence": ([0] * 8, [1, 1, 0, 0] * 2)}).draw(2)
            >>> len(draw), draw.probabilities
            (2, [0.5, 0.5])
        """
        return draw_flips(self.flips, self.n, count, seed=seed)

    def instances(self, places: Sequence[int]) -> list[Instance]:
        """Read some of them with their texts, by their places here; of compared runs alone."""
        if isinstance(self.result, Comparison):
            raise InputError("a Comparison holds no texts; compare_runs gives a result that does.")
        made: dict[int, Instance] = {}
        alone = graded_tasks(self.result)[0]
        by_task: dict[str, list[int]] = {}
        for place in places:
            by_task.setdefault(self.flips[place].task or alone, []).append(place)
        for task, chosen in by_task.items():
            rows = np.array([self.flips[place].row for place in chosen], np.int64)
            made |= dict(zip(chosen, self.result.instances(task, rows), strict=True))
        return [made[place] for place in places]

    @property
    def lines(self) -> list[str]:
        """Say what the update changed in the form of answers, and what the marks can and cannot tell."""
        if not self.flips:
            return ["no negative flips, so the grader made none"]
        count = len(self.flips)
        told = [form.sentence(self.n, count) for form in self.forms]
        if self.unchanged:
            told.append(f"not changed by the update, and left out: {listed(self.unchanged)}")
        if together := [form.name for form in self.forms if form.goes_with_others]:
            told.append(f"{listed(together)}: always goes with the others, and is told with these")
        unknown = [form for form in self.forms if math.isnan(form.slope) and not form.goes_with_others]
        if unknown:
            names = listed(form.name for form in unknown)
            told.append(
                f"{names}: follows from the version, or from what speaks for being right, so the marks say nothing "
                "of it; only a person can tell"
            )
        never = [form for form in self.forms if form.never_recognised and not math.isnan(form.slope)]
        if never:
            names = listed(f"without {form.name}" if form.is_missed else form.name for form in never)
            who = f"{listed(self.speak_for_right)} may, or a person" if self.speak_for_right else "only a person can"
            told.append(f"{names}: never recognised, so the marks do not tell which of these answers are right; {who}")
        if not self.forms:
            told.append("the update changes no feature of form, so nothing speaks for the grader")
        elif not math.isnan(self.explained):
            told.append(
                f"the changed form explains about {self.explained:.1f} of {how_many(count, 'negative flip')}, by a "
                "model of the marks alone; check some by hand"
            )
        alike = sum(1 for flip in self.flips if f"{flip.chance:.9g}" == f"{self.flips[0].chance:.9g}")
        if self.forms and alike > 1:
            told.append(f"{'all' if alike == count else 'the first'} {alike:,} are equally suspect")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the texts as a dictionary of plain Python values; undefined numbers are nan."""
        return {
            "schema": "muscle_hf.suspects",
            "schema_version": SCHEMA_VERSION,
            "n": self.n,
            "negative_flips": len(self),
            "explained": self.explained,
            "forms": [
                vars(form) | {"recognised": list(form.recognised), "others_recognised": list(form.others_recognised)}
                for form in self.forms
            ],
            "speak_for_right": list(self.speak_for_right),
            "unchanged": list(self.unchanged),
            "lines": self.lines,
            "flips": [
                {"task": flip.task, "id": flip.id, "chance": flip.chance, "reasons": list(flip.reasons)}
                for flip in self.flips
            ],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON, with null for what is undefined."""
        return strict_json(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Say what the marks can tell, and list the first."""
        return "\n".join([*self.lines, *map(" ".join, self.rows(10))])

    @property
    def head(self) -> list[str]:
        """Titles of the columns of `rows`."""
        return ["task", *_HEAD] if self.flips and self.flips[0].task is not None else _HEAD

    def rows(self, count: int) -> list[list[str]]:
        """Lay the first out as a table: task where there are several, id, chance, reasons."""
        table = []
        for flip in self.flips[:count]:
            chance = "unknown" if math.isnan(flip.chance) else f"{flip.chance:.2f}"
            key = [str(flip.id)] if flip.task is None else [flip.task, str(flip.id)]
            table.append([*key, chance, "; ".join(flip.reasons) or "nothing changed in its form"])
        return table


def _count(count: float) -> str:
    return f"{int(count):,}" if count else "none"


def graded_tasks(outcomes: Outcomes) -> list[str]:
    """Name the tasks of right and wrong answers; refuse a comparison without any."""
    tasks = [part.name for part in outcomes.tasks if not part.has_scores]
    if not tasks:
        raise InputError(
            "there are scores alone, and a grader that marks answers wrong makes no flips of these; give right and "
            "wrong answers."
        )
    return tasks

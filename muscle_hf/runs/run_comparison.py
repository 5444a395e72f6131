"""What an update changed on everything that was compared, with its verdict, as text, page, picture and data."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .cells import GraderShown
from .outcomes import Outcomes

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure

    from ..flips.sampling.audit import AuditedRate
    from .gates.gate import Gate
    from .report import GateShown
    from .suspects.shown import Suspects


@dataclass(frozen=True, eq=False)
class RunComparison(Outcomes):
    """What an update changed, on everything that was compared; made by `compare_runs`.

    `print` shows it as a table; `to_dict` and `to_json` give it as data (see `run_comparison.schema.json`).
    """

    margin: float | None = None
    """How far accuracy, or the mean score, may fall; None where nobody said."""
    stop_at: float | None = None
    """The Bayes factor at which an evaluation that is looked at while it grows may stop; None where it is not."""

    suspects: "Suspects | None" = None
    """Negative flips, the grader's likeliest mistakes first; None where nobody asked, see `with_suspects`."""
    audit: "AuditedRate | None" = None
    """The negative flip rate, corrected by what a person checked; None where nobody did."""

    def with_suspects(
        self, suspects: "Suspects", audit: "AuditedRate | None" = None, *, count: int = 50
    ) -> "RunComparison":
        """Give the same comparison with what was found of the grader's mistakes, for every report and the data.

        Args:
            suspects: What `suspect_flips` made of this comparison.
            audit: What `audited_rate` made of verdicts on its flips.
            count: How many of the suspects reports list.

        Raises:
            InputError: Suspects of another comparison.
        """
        if getattr(suspects.result, "tasks", None) is not self.tasks:
            raise InputError("the suspects are those of another comparison; make them of this one with suspect_flips.")
        shown = GraderShown(audit.lines if audit else [], suspects.lines, suspects.head, suspects.rows(count))
        return replace(self, suspects=suspects, audit=audit, grader=shown)

    def preference_pairs(
        self,
        task: str | None = None,
        chosen: str = "old",
        max_length_ratio: float | None = None,
        held_out: Iterable[Any] | None = None,
    ) -> "Dataset":
        """Make preference pairs of the negative flips, for `trl.DPOTrainer`; rejected is the new model's answer.

        Both are the whole texts that the models wrote (`Instance.old_response`), the prompt is the question as the
        file has it. What is left out, and how much longer chosen answers are, is logged, and is the description of
        the data set (`pairs.info.description`). `muscle_hf.flip_pairs` makes them of lists, also from samples.

        Args:
            task: Of this task alone; None: of all tasks with right and wrong answers.
            chosen: "old": the old model's answer. "reference": the right answer as the file has it.
            max_length_ratio: Leave out pairs in which one answer is more than so many times as long as the other, in
                words (in characters where texts have no spaces); from 1 up. None: keep all.
            held_out: Prompts of the test set, or its rows, such as a `flips_dataset`: pairs of these are refused.

        Returns:
            A data set with `prompt`, `chosen`, `rejected`, `id` (of several tasks "task:id") and `chosen_from`; empty,
            with these columns, where nothing flipped.

        Raises:
            InputError: The files have no whole texts or no questions, there is no such task, a question is one of the
                test set.
            MissingPackageError: datasets is not installed.
        """
        from .pairs.preference_pairs import pairs_as_dataset

        return pairs_as_dataset(self, task, chosen, max_length_ratio, held_out)

    @cached_property
    def gate(self) -> "Gate":
        """What came of holding the comparison to its margin, and to `stop_at`.

        Raises:
            InputError: It has neither, or there is no row for all: tasks with scores are bounded one by one.
        """
        from .gates.gate import bound_of, judge

        given = {name: value for name in ("margin", "stop_at") if (value := getattr(self, name)) is not None}
        if not given:
            raise InputError(
                "the comparison has no margin, so there is no verdict; say by how much accuracy may fall, as in "
                "compare_runs(…, margin=0.01) for one point."
            )
        return judge(self, [bound_of(name, "all", value, f"{name} {value}") for name, value in given.items()])

    @property
    def verdict(self) -> str:
        """ "kept", "broken" or "cannot tell": whether accuracy falls by at most the margin, or rises (`stop_at`).

        Of a margin both of the first err in at most (1 - level) / 2 of cases; `gate` has numbers and sentence.

        Raises:
            InputError: It has neither, or is no evidence, since tasks lack or both runs are one.
        """
        if self.gate.refusals:
            raise InputError(" ".join(self.gate.refusals))
        return self.gate.verdict

    def _shown(self, gate: "Gate | None") -> "GateShown | None":
        gate = self.gate if gate is None and self._is_held else gate
        return gate.shown() if gate else None

    @property
    def _is_held(self) -> bool:
        return self.margin is not None or self.stop_at is not None

    def __str__(self) -> str:
        """Show the verdict, the tables, the coin-flip view and the notes as plain text."""
        from .terminal import plain_text

        return plain_text(self, self._shown(None))

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the texts as a dictionary of plain Python values.

        Returns:
            What `muscle_hf/run_comparison.schema.json` describes; `gate` is there where the comparison has a margin,
            `suspects` and `audit` after `with_suspects`. Undefined numbers are nan.
        """
        found = {"suspects": self.suspects, "audit": self.audit}
        told = {name: value.to_dict() for name, value in found.items() if value is not None}
        return super().to_dict() | told | ({"gate": self.gate.to_dict()} if self._is_held else {})

    def to_markdown(self, gate: "Gate | None" = None) -> str:
        """Give verdict, tables and notes in GitHub's Markdown, for a pull-request comment.

        Args:
            gate: What the comparison was held to, see `muscle_hf.runs.gates.gate.judge`, by default its margin; it
                is shown.
        """
        from .report import markdown

        return markdown(self, self._shown(gate))

    def to_html(self, path: str | Path, gate: "Gate | None" = None) -> Path:
        """Write a page that stands alone: verdict, quadrants, slices and every flipped instance, to search and filter.

        Args:
            path: The file; written to a temporary name and renamed.
            gate: What the comparison was held to, see `muscle_hf.runs.gates.gate.judge`, by default its margin; it
                is shown.

        Returns:
            The path.

        Raises:
            InputError: There is something else than a file, such as a folder or a device.
            OSError: The file cannot be written.
        """
        from .page import write_html

        return write_html(self, path, gate=self._shown(gate))

    def to_jsonl(self, path: str | Path) -> Path:
        """Write every flipped instance with both answers, one JSON object a line.

        Args:
            path: The file; written to a temporary name and renamed.

        Returns:
            The path.

        Raises:
            InputError: There is something else than a file, such as a folder or a device.
            OSError: The file cannot be written.
        """
        from .report import write_flips

        return write_flips(self, path)

    def to_png(self, path: str | Path) -> Path:
        """Draw quadrants and slices, see `plot`, into a file.

        Args:
            path: The file; written to a temporary name and renamed.

        Returns:
            The path.

        Raises:
            ConfigurationError: matplotlib is not installed.
            InputError: There is something else than a file, such as a folder or a device.
            OSError: The file cannot be written.
        """
        from .plots import write_png

        return write_png(self, path)

    def plot(self) -> "Figure":
        """Draw quadrants and slices as a matplotlib figure; save it with `figure.savefig(path)`.

        Raises:
            ConfigurationError: matplotlib is not installed.
        """
        from .plots import plot

        return plot(self)

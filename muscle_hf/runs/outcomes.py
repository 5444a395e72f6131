"""What an update changed, task by task, pooled and by slice: the result that every report is made from.

Source: Holm (1979) for the adjusted p-values, Bartoš et al. (2023, arXiv 2310.04153) for the coin-flip view.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pyarrow as pa

from ..errors import InputError
from ..flips.coin import GroupedCoinFlips, grouped_coin_flips
from ..flips.comparison import Comparison
from ..flips.rates import strict_json
from ..flips.score_comparison import ScoreComparison
from ..flips.yes_no.answers import Labels
from ..readers.answers import Origin, Positions, TaskAnswers
from ..readers.identical import Identical, find_identical
from ..readers.join import Aligned
from ..readers.not_compared import each_task
from ..readers.task_notes import grouped
from .cells import GraderShown
from .classes import classes_dict
from .clusters import Features, repeats, set_aside, with_clusters, without_column
from .instance import Instance as Instance
from .measure import Part, Table, adjusted, measure, tabulate
from .slicing import slice_notes, sliced_by
from .yes_no import yes_no_tables

SCHEMA = "muscle_hf.run_comparison"
SCHEMA_VERSION = 2
"""Version of what `Outcomes.to_dict` gives; it rises when a field is renamed, removed or changes its meaning."""

# Texts are read for this many instances at first, then for as many as hold about so many characters: a table has to be
# gone through from its beginning for every block, and memory has to stay small.
_BLOCK = 2_000
_CHARACTERS = 30_000_000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What an update changed, on everything that was compared; made by `muscle_hf.compare_runs`."""

    old_name: str
    new_name: str
    sources: tuple[str, str]
    """Where the old and the new model's answers were read, as it was given."""
    level: float
    """Level of all intervals."""
    test: str
    """The paired test that every p is of, one of `muscle_hf.flips.paired_tests.TESTS`."""
    cluster: str | None
    """Column that says which instances belong together; None where each is taken for itself."""
    tasks: tuple[Part, ...]
    pooled: Part | None
    """The instances of all tasks with right and wrong answers together; None where that is one task, or none."""
    slices: Mapping[str, tuple[Part, ...]]
    """Slice column -> its groups, the highest negative flip rate first."""
    hierarchical: Mapping[str, GroupedCoinFlips]
    """"task" or slice column -> the coin-flip view with groups that differ."""
    notes: tuple[str, ...]
    """What has to be known about the comparison: what was left out, what was chosen by default."""
    missing_tasks: tuple[str, ...]
    """Tasks of the old model's evaluation that the new one's lacks, so that nobody knows what broke there."""
    not_compared: Mapping[str, str]
    """Task of the old model's evaluation that is in none of the rows -> why; also the missing ones."""
    allow_missing: bool
    """Whether that was accepted beforehand; otherwise no gate passes."""
    identical: tuple[Identical, ...]
    """Tasks on which old and new are one run, unless that was accepted beforehand; no gate passes then."""
    pairs: Mapping[str, Aligned] = field(repr=False)
    """Task name -> the aligned answers."""
    tables: Mapping[str, Table] = field(repr=False)
    """Task name -> what is known of each instance, in the same order."""
    features: Mapping[str, Features] = field(default_factory=dict, repr=False)
    """Task name -> columns that were read for `suspect_flips`, of the old and of the new answers."""
    grader: GraderShown | None = None
    """What was found of the grader's own mistakes, for reports; None where nobody asked."""
    origins: tuple[Origin, ...] = ()
    """Where the old and the new model's answers come from, then those of each run of the seed floor."""

    @classmethod
    def of_pairs(
        cls,
        pairs: Mapping[str, Aligned],
        *,
        names: tuple[str, str],
        sources: tuple[str, str],
        by: Sequence[str],
        seed_floor: Mapping[str, Sequence[TaskAnswers]],
        by_position: bool,
        tolerance: float | None,
        level: float,
        prior: tuple[float, float],
        test: str,
        cluster: str | None,
        notes: Sequence[str],
        missing_tasks: Sequence[str],
        not_compared: Mapping[str, str],
        allow_missing: bool,
        allow_identical: bool,
        features: Sequence[str] = (),
        origins: Sequence[Origin] = (),
        yes_no: tuple[Labels, Labels] | None = None,
        yes_no_scores: tuple[str | None, str | None] = (None, None),
    ) -> Self:
        """Compare the aligned answers of each task; names and sources are those of the old and the new model.

        The new model's evaluation lacks the missing tasks; those that are not compared come with the reason. The seed
        floor is task -> the same task by two or more runs of one version. The other options are those of `tabulate`.
        """
        options: dict[str, Any] = {"tolerance": tolerance, "level": level}
        seeding = options | {"allow_identical": allow_identical}
        tables, refused = each_task(pairs, lambda name: tabulate(pairs[name], **options), not_compared)
        pairs = {name: pairs[name] for name in tables}
        identical = find_identical(pairs, one_source=sources[0] == sources[1])
        notes = [*notes, *(item.message for item in identical if allow_identical or item.in_part)]
        floors = {name: runs for name, runs in seed_floor.items() if name in tables}
        with_floors, floorless = each_task(
            floors,
            lambda name: tabulate(pairs[name], seed_floor=floors[name], by_position=by_position, **seeding),
            none="none of the tasks has a seed floor",
        )
        tables |= with_floors
        notes = [*notes, *(f"{name}: no seed floor: {reason}" for name, reason in floorless.items())]
        # Those that are not compared may have had scores, or the columns.
        if tolerance is not None and not refused and not any(table.has_scores for table in tables.values()):
            raise InputError(
                f"tolerance is {tolerance!r}, but there are only right and wrong answers to compare; it is for "
                "scores, so leave it out."
            )
        held, pairs = set_aside(pairs, features, others=[*by, cluster, *yes_no_scores])
        if yes_no is not None:
            answered, told = yes_no_tables(pairs, yes_no, yes_no_scores)
            tables |= {name: replace(tables[name], yes_no=table) for name, table in answered.items()}
            notes = [*notes, *told]
            for column in set(filter(None, yes_no_scores)) - set(by):
                pairs = without_column(pairs, column)
        if cluster is None:
            notes = [*notes, *repeats(pairs)]
        else:
            tables, told = with_clusters(tables, pairs, cluster)
            pairs = pairs if cluster in by else without_column(pairs, cluster)
            notes = [*notes, *told]
        rows: dict[str, Any] = {"level": level, "prior": prior, "test": test}
        tasks = adjusted([measure(name, table, **rows) for name, table in tables.items()])
        graded = [name for name, table in tables.items() if not table.has_scores]
        pooled = None
        if len(graded) > 1:
            joined = Table.pooled([tables[name] for name in graded])
            pooled = measure("all tasks", joined, **rows)
        if refused:
            sliced = {name for pair in pairs.values() for name in (*pair.old.slices, *pair.new.slices)}
            lost = [column for column in by if column not in sliced]
            notes = [*notes, *(f"no compared task has a column {column!r} to slice by" for column in lost)]
            by = [column for column in by if column in sliced]
        slices = {column: sliced_by(column, pairs, tables, rows) for column in by}
        notes = [*notes, *(note for column in slices for note in slice_notes(column, pairs))]
        groups: dict[str, Sequence[Part]] = {"task": tasks, **slices}
        return cls(
            old_name=names[0],
            new_name=names[1],
            sources=sources,
            level=level,
            test=test,
            cluster=cluster,
            tasks=tasks,
            pooled=pooled,
            slices=slices,
            hierarchical={
                name: grouped_coin_flips(
                    [part.coin.negative for part in parts],
                    [part.coin.positive for part in parts],
                    prior=prior,
                    level=level,
                )
                for name, parts in groups.items()
                if len(parts) > 1
            },
            notes=tuple(dict.fromkeys([*notes, *grouped(_task_notes(pairs, tables))])),
            missing_tasks=tuple(missing_tasks),
            not_compared=dict(sorted(refused.items())),
            allow_missing=allow_missing,
            identical=() if allow_identical else tuple(item for item in identical if not item.in_part),
            pairs=pairs,
            tables=tables,
            features=held,
            origins=tuple(origins),
        )

    @property
    def overall(self) -> Part | None:
        """The one row that speaks for everything: the pooled one or the only task; None for several with scores."""
        return self.pooled or (self.tasks[0] if len(self.tasks) == 1 else None)

    @property
    def compared(self) -> dict[str, Comparison | ScoreComparison]:
        """Task -> its comparison."""
        return {part.name: part.comparison for part in self.tasks}

    @property
    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every row with the name that a gate calls it: "all", a task, or "column=value"."""
        if self.overall:
            yield "all", self.overall
        for part in self.tasks:
            yield part.name, part
        for column, parts in self.slices.items():
            for part in parts:
                yield f"{column}={part.name}", part

    def flips(self) -> Iterator[Instance]:
        """Give every flipped instance with its texts: task by task, negative flips first, in the order of the file."""
        for part in self.tasks:
            for places in (part.comparison.negative_flips, part.comparison.positive_flips):
                yield from self.instances(part.name, places)

    def instances(self, task: str, positions: Positions) -> Iterator[Instance]:
        """Give some instances of a task with their texts, by their rows as in `comparison.negative_flips`."""
        part = next(part for part in self.tasks if part.name == task)
        pair, table = self.pairs[task], self.tables[task]
        negative, positive = (
            set(places.tolist()) for places in (part.comparison.negative_flips, part.comparison.positive_flips)
        )
        columns = {**pair.new.slices, **pair.old.slices}
        start, size = 0, _BLOCK
        while start < len(positions):
            places = positions[start : start + size]
            start += len(places)
            indices = pa.array(places)
            groups = {name: column.take(indices).to_pylist() for name, column in columns.items()}
            old_texts, new_texts = pair.old.read_texts(places), pair.new.read_texts(places)
            length = sum(len(text or "") for row in (*old_texts, *new_texts) for text in row)
            size = max(_BLOCK, int(_CHARACTERS * len(places) / max(1, length)))
            ids = plain_ids(pair.old.ids.take(indices))
            for row, place in enumerate(places.tolist()):
                before, after = old_texts[row], new_texts[row]
                yield Instance(
                    task=task,
                    id=ids[row],
                    kind=(
                        "negative_flip"
                        if place in negative
                        else "positive_flip"
                        if place in positive
                        else "unchanged"
                        if table.has_scores
                        else "both_right"
                        if table.old[place]
                        else "both_wrong"
                    ),
                    question=before.question if before.question is not None else after.question,
                    reference=before.reference if before.reference is not None else after.reference,
                    old_answer=before.answer,
                    new_answer=after.answer,
                    old_score=float(table.old[place]),
                    new_score=float(table.new[place]),
                    slices={name: values[row] for name, values in groups.items()},
                    old_response=before.response,
                    new_response=after.response,
                )

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the texts as a dictionary of plain Python values.

        Returns:
            What `muscle_hf/run_comparison.schema.json` describes: `schema`, `schema_version`, the two models, `level`,
            and for `tasks`, `pooled` and each group of `slices` the counts, rates with intervals, tests, coin-flip
            view and seed floor; for tasks also the ids of the flips. Undefined numbers are nan.
        """
        tasks = []
        for part in self.tasks:
            ids = self.pairs[part.name].old.ids
            flipped = {
                name: plain_ids(ids.take(pa.array(getattr(part.comparison, name))))
                for name in ("negative_flips", "positive_flips")
            }
            counted = self.pairs[part.name].missing
            missing = {"missing": counted.to_dict()} if counted else {}
            classes = classes_dict(part.comparison, self.level)
            tasks.append(part.to_dict(self.level) | {"ids": flipped} | missing | classes)
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "old": {"name": self.old_name, "source": self.sources[0]},
            "new": {"name": self.new_name, "source": self.sources[1]},
            "level": self.level,
            "test": self.test,
            "cluster": self.cluster,
            "tasks": tasks,
            "pooled": self.pooled and self.pooled.to_dict(self.level),
            "slices": {name: [part.to_dict(self.level) for part in parts] for name, parts in self.slices.items()},
            "hierarchical_coin_flips": {name: view.to_dict() for name, view in self.hierarchical.items()},
            "missing_tasks": list(self.missing_tasks),
            "not_compared": dict(self.not_compared),
            "identical": [item.to_dict() for item in self.identical],
            "notes": list(self.notes),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Give `to_dict` as JSON, with null for what is undefined."""
        return strict_json(self.to_dict(), indent=indent)


def _task_notes(pairs: Mapping[str, Aligned], tables: Mapping[str, Table]) -> dict[str, list[str]]:
    """Give the notes of each task; grades cannot contradict answers, so only what is right or wrong is said to."""
    return {
        name: [
            *pair.notes,
            *(
                f"{name}: the most likely choice contradicts {side.metric} on {side.contradicted} of {len(side)} "
                "instances, so the answers themselves are not compared"
                for side in (pair.old, pair.new)
                if side.contradicted and not tables[name].has_scores
            ),
        ]
        for name, pair in pairs.items()
    }


def plain_ids(ids: pa.Array) -> list[str | int]:
    """Give ids as strings or Python integers."""
    return [key if isinstance(key, str) else int(key) for key in ids.to_pylist()]

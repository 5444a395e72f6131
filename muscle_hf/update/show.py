"""What `muscle-hf update` prints: who meets on what, the stages, the table at the end; or what a dry run finds."""

import contextlib
import json
import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..card import against
from ..flips.rates import p_equation
from ..runs.cells import stacked
from ..runs.report import header, table_rows
from ..text import how_many, printable
from .candidates import Candidate, candidates_of, known_of_search, settled
from .estimate import cache_bytes, device_memory, memory, readable, trainable_parameters, weight_bytes
from .evidence import ANSWERS, CARD, COMPARISON, COMPATIBILITY, CONTROL, NEW, REPORT, Evidence
from .models import Base
from .plan import Plan
from .run import check_folder
from .search import Choice, combinations, shown
from .stages import Stages, title_of_answers
from .training import FACTS


def say(line: str) -> None:
    """Print a line, in which nothing steers the terminal."""
    _print(Text("\n".join(printable(part) for part in line.split("\n"))))


def announce(plan: Plan) -> None:
    """Say who meets on which data, before the first stage."""
    settings = plan.settings
    say(f"old model: {settings.old_adapter} on {plan.old_base.name}")
    adapter = f"{settings.new_adapter} on " if settings.new_adapter else ""
    say(f"new model: {adapter}{plan.new_base.name}")
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in plan.data)
    how = "" if settings.test_dataset else f" (split by prompt, split_seed {settings.split_seed})"
    say(f"data: {sizes} rows{how}")
    grid = plan.options.grid
    if grid:
        tried = "; ".join(f"{name} {', '.join(map(shown, values))}" for name, values in grid.items())
        rows = how_many(len(plan.data.validation), "validation row")
        say(f"search: {how_many(len(combinations(grid)), 'candidate')}, of which {rows} choose one: {tried}")
    if plan.unlabelled and not grid.keys().isdisjoint(("unlabelled_teacher", "unlabelled_ratio")):
        say(f"unlabelled: {len(plan.unlabelled):,} prompts, drawn and answered as each candidate says")
    elif plan.unlabelled:
        teacher = plan.config.unlabelled_teacher
        whose = "more_confident" if teacher == "product" else teacher
        how = ", learned from the product of both" if teacher == "product" else ""
        ratio = plan.config.unlabelled_ratio
        drawn = "" if ratio is None else f", {ratio:g} of them for each labelled row"
        say(f"unlabelled: {len(plan.unlabelled):,} prompts{drawn}, answered by the {whose} model{how}")
    for note in plan.notes:
        say(f"note: {note}")


def conclude(plan: Plan, evidence: Evidence) -> None:
    """Print the table, a sentence on it, and where everything lies."""
    if evidence.search is not None:
        say(f"\n{len(evidence.search.candidates)} candidates on {evidence.search.rows:,} validation rows")
        _print(_table_of_search(evidence.search))
    old = next(iter(evidence.comparisons.values()))
    say(f"\n{old.n:,} test rows, old model right on {100 * old.old_accuracy:.1f} %  (in brackets: 95 % intervals)")
    _print(_table(evidence, intervals=_console().width >= _WIDTH_OF_INTERVALS))
    say(sentence(evidence))
    folder = plan.options.output_dir
    say(f"\nSaved in {folder}: {CARD}/ (the compatibility adapter with its card), {REPORT}, {COMPARISON}, {ANSWERS}/")


def sentence(evidence: Evidence) -> str:
    """Say in one sentence what the table shows, flattering or not."""
    lost = {name: len(comparison.negative_flips) for name, comparison in evidence.comparisons.items()}
    ours = lost[COMPATIBILITY.name]
    rivals = [
        against(ours, lost[name], _WORDS[name], tests["negative_flips"]) for name, tests in evidence.p_values.items()
    ]
    advice = "" if CONTROL.name in lost else " Without a control nobody can tell this from longer training."
    answers = "answer that was" if ours == 1 else "answers that were"
    text = f"The compatibility adapter breaks {ours} {answers} right, {' and '.join(rivals)}.{advice}"
    return f"{text}{_price(evidence)}"


def _price(evidence: Evidence) -> str:
    """Say what the adapter costs in accuracy, where that is no chance: fewer flips alone would look like a success."""
    ours = evidence.comparisons[COMPATIBILITY.name].new_accuracy
    theirs = {name: evidence.comparisons[name].new_accuracy for name in evidence.p_values}
    dearer = [
        f"the {100 * theirs[name]:.1f} % of {_WORDS[name]} (paired {p_equation(p['accuracy'])})"
        for name, p in evidence.p_values.items()
        if theirs[name] > ours and p["accuracy"] < _SURE
    ]
    if not dearer:
        return ""
    return (
        f" But it is right on {100 * ours:.1f} %, less than {' and '.join(dearer)}: it has learned wrong answers of "
        "the old model too. A --cross-entropy-weight such as 0.5 holds it to the data."
    )


_SURE = 0.05
_WORDS = {NEW.name: "the plain update", CONTROL.name: "as many steps more without it"}


def _console() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(width=_PIPED_WIDTH, highlight=False, markup=False, emoji=False)


def _print(shown: Text | Table) -> None:
    console = _console()
    # Not printed by rich itself, which ends the process when the reader of a pipe is gone.
    with console.capture() as captured:
        console.print(shown)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(captured.get())
        sys.stdout.flush()


# What is piped is not cut.
_PIPED_WIDTH = 10_000
# A narrower terminal gets the rates without their intervals.
_WIDTH_OF_INTERVALS = 104


def _table(evidence: Evidence, *, intervals: bool) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for index, title in enumerate(header()):
        table.add_column(title.replace(", %", "\n%"), justify="right" if index else "left", no_wrap=True)
    for name, *cells in table_rows(evidence.comparisons):
        # The interval below its rate takes half the width.
        table.add_row(str(name), *(stacked(cell, intervals=intervals) for cell in cells))
    return table


def _table_of_search(search: Choice) -> Table:
    table = Table("candidate", box=SIMPLE_HEAD)
    for title in ("accuracy, %", "NFR, %", "relative NFR"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, figures in search.rows_of_table().items():
        table.add_row(name, *figures.cells())
    return table


def dry_run(plan: Plan) -> None:
    """Print what an update would train, take and skip."""
    stages = Stages(plan)
    check_folder(stages)
    stages = settled(stages)
    announce(plan)
    say(f"\n{_model('old base', plan.old_base)}\n{_model('new base', plan.new_base)}")
    trained, all_of_it = trainable_parameters(plan), plan.new_base.model.num_parameters()
    source = "as given" if plan.settings.new_adapter else "with the old adapter's hyper-parameters"
    say(f"task adapter: {trained:,} parameters, {trained / all_of_it:.2%} of the base, {source}")
    for name, part in plan.encoded.items():
        lost = "nothing lost to max_length"
        if part.cut_rows:
            lost = f"{part.cut_rows:,} rows lose {part.lost_tokens / part.tokens:.1%} of all tokens to max_length"
        empty = f", {part.empty_rows:,} rows teach nothing" if part.empty_rows else ""
        say(f"{name}: {part.rows:,} rows, {part.tokens:,} tokens, the longest {part.longest:,}; {lost}{empty}")
    asked = f"answers of up to {plan.max_new_tokens} tokens" if plan.max_new_tokens else "the likeliest of the choices"
    say(f"test: {len(plan.data.test):,} rows; {asked}")
    _say_stages(plan, stages)
    _say_memory(plan)
    say("\nNothing was trained and nothing written. Without --dry-run the update starts.")


def _model(name: str, base: Base) -> str:
    count = base.model.num_parameters()
    return f"{name}: {count:,} parameters, {readable(weight_bytes(base))} in {str(base.dtype).removeprefix('torch.')}"


def _say_stages(plan: Plan, stages: Stages) -> None:
    finished = {stage.name for stage in (*stages.known(), *known_of_search(stages)) if stage.finished}
    lines = [] if stages.task is None else [(stages.task.name, stages.task.title, plan.steps(task=True))]
    candidates = candidates_of(plan) if stages.choice is None else []
    of_each = [(each.contender.key, each.contender.name, each.stages.plan.steps(task=False)) for each in candidates]
    lines += of_each
    steps = f"{stages.plan.steps(task=False):,} steps" if not candidates else "as many steps as the chosen candidate"
    say("")
    for name, title, count in lines:
        say(f"{title}: {'finished before' if name in finished else f'{count:,} steps'}")
    if candidates:
        _say_search(plan, candidates, [count for name, _, count in of_each if name not in finished])
    else:
        say(f"the compatibility adapter: {'finished before' if COMPATIBILITY.key in finished else steps}")
    if plan.settings.control:
        say(f"the control: {'finished before' if CONTROL.key in finished else steps}")
    for contender in stages.contenders:
        title, done = title_of_answers(contender), f"answers-{contender.key}" in finished
        say(f"{title}: {'finished before' if done else f'{len(plan.data.test):,} rows'}")


def _say_search(plan: Plan, candidates: list[Candidate], steps: list[int]) -> None:
    """Say what the candidates cost that are not trained yet, and how long one took that is."""
    alone, rows = plan.steps(task=False), how_many(len(plan.data.validation), "validation row")
    facts = [plan.options.output_dir / each.contender.key / FACTS for each in candidates]
    times = [json.loads(path.read_text("utf-8"))["training"].get("time") for path in facts if path.exists()]
    took = f"; the first of them took {times[0]}" if times and times[0] else ""
    say(
        f"the search: {how_many(len(steps), 'training')}, {sum(steps):,} steps in all, the time of "
        f"{sum(steps) / alone:.3g} compatibility trainings without it{took}; each candidate, the old model and the "
        f"plain update are asked {rows}"
    )


def _say_memory(plan: Plan) -> None:
    both, alone = memory(plan, compatibility=True), memory(plan, compatibility=False)
    config = plan.config
    say(
        f"\nmemory for the compatibility adapter, about {readable(both.total)}:\n"
        f"new base {readable(both.new_base)}, old base {readable(both.old_base)}, adapter with gradients, "
        f"AdamW and a copy {readable(both.adapter)},\n"
        f"activations {readable(both.activations)}, logits {readable(both.logits)}\n"
        f"memory for a plain training, about {readable(alone.total)}\n"
        f"(assumed: {config.per_device_train_batch_size} rows of the longest length at once, gradient checkpointing "
        f"{'on' if config.gradient_checkpointing else 'off'}; activations and logits are rough)"
    )
    if config.teacher_cache != "none":
        say(
            f"teacher cache ({config.teacher_cache}): {readable(cache_bytes(plan))} on disk; while it is filled, both "
            "bases are in memory"
        )
    there = device_memory(config.device)
    say(f"device: {config.device}" + (f" with {readable(there)}" if there else ""))

"""What an update shows for itself: comparisons with the old model, the report, and the adapter with its card."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..card import COMPATIBILITY_ADAPTER, OLD_MODEL, PLAIN_UPDATE, AdapterCard, first_flips
from ..card import CONTROL as CONTROL_ROW
from ..card.lineage import Lineage, commit_of, commit_of_adapter
from ..files import write_text
from ..flips.comparison import Comparison, compare, paired_p_values
from ..flips.rates import p_number, strict_json
from ..readers.answers import Run
from ..readers.formats.jsonlines import read_objects
from ..readers.sources import read
from ..runs.cells import Cell
from ..runs.compare import RunComparison, compare_runs
from ..runs.page import write_html
from ..runs.report import header, table_rows
from ..version import library_versions
from .plan import Plan
from .search import OPTIMISTIC, Choice
from .training import COMPATIBILITY as FOLDER
from .training import FACTS


@dataclass(frozen=True)
class Contender:
    """A model that is asked."""

    name: str  # its row in the table
    key: str  # name of its file of answers


OLD = Contender(OLD_MODEL, "old")
NEW = Contender(PLAIN_UPDATE, "new")
CONTROL = Contender(CONTROL_ROW, "control")
COMPATIBILITY = Contender(COMPATIBILITY_ADAPTER, FOLDER)

ANSWERS, CARD, COMPARISON, REPORT = "answers", "adapter", "comparison.json", "report.html"
"""What is made from the adapters, below the output folder."""


@dataclass(frozen=True)
class Evidence:
    """What the answers show."""

    comparisons: dict[str, Comparison]  # with the old model, in the order of the table
    # Name of a rival of the compatibility adapter -> exact paired p-values between the two, for `accuracy` and for
    # `negative_flips` (over the instances that the old model gets right).
    p_values: dict[str, dict[str, float]]
    report: RunComparison  # old model against compatibility adapter, in full
    warning: str | None  # that the old model is right on nothing, or that the new task adapter learned little
    search: Choice | None = None  # what chose the options of the compatibility adapter


def answers_of(output_dir: Path, contender: Contender) -> Path:
    """Return the file of a model's answers."""
    return output_dir / ANSWERS / f"{contender.key}.jsonl"


def weigh(output_dir: Path, *, control: bool, search: Choice | None = None) -> Evidence:
    """Compare every model's answers with the old one's."""
    contenders = [OLD, NEW, *([CONTROL] if control else []), COMPATIBILITY]
    answers = {contender.name: _read(answers_of(output_dir, contender)) for contender in contenders}
    references = [row["reference"] for row in answers[OLD.name]]
    predictions = {name: [row["prediction"] for row in rows] for name, rows in answers.items()}
    right = {
        name: [answer == gold for answer, gold in zip(of_model, references, strict=True)]
        for name, of_model in predictions.items()
    }
    comparisons = {
        contender.name: compare(old=predictions[OLD.name], new=predictions[contender.name], references=references)
        for contender in contenders
        if contender is not OLD
    }
    return Evidence(
        comparisons=comparisons,
        p_values={
            rival.name: paired_p_values(right[OLD.name], right[rival.name], right[COMPATIBILITY.name])
            for rival in contenders
            if rival in (NEW, CONTROL)
        },
        report=compare_runs(_run(output_dir, OLD), _run(output_dir, COMPATIBILITY)),
        warning=nothing_to_keep(comparisons[NEW.name]) or learned_little(comparisons[NEW.name]),
        search=search,
    )


def plain_update(output_dir: Path) -> Comparison:
    """Compare the new model with the old one, as soon as both have answered."""
    return compared(*(answers_of(output_dir, contender) for contender in (OLD, NEW)))


def compared(of_old: Path, of_new: Path) -> Comparison:
    """Compare two files of answers to the same rows."""
    old, new = _read(of_old), _read(of_new)
    answers = {"old": [row["prediction"] for row in old], "new": [row["prediction"] for row in new]}
    return compare(**answers, references=[row["reference"] for row in old])


def nothing_to_keep(update: Comparison) -> str | None:
    """Say that the old model is right on no row of ten or more, as where it was trained on other prompts."""
    if update.old_accuracy or update.n < _FEW:
        return None
    return (
        f"the old model is right on none of the {update.n:,} test rows, so there is nothing to keep: are they free "
        "texts, which seldom equal the right ones (muscle-hf compare --metric rouge1 scores them), or are prompts and "
        "right answers not written as those that it was trained on?"
    )


def learned_little(update: Comparison) -> str | None:
    """Say that the new task adapter learned little or nothing, from its comparison with the old model.

    None where it is right on half as many rows as the old one or more, or where the exact paired test leaves it to
    chance.
    """
    if update.new_accuracy >= update.old_accuracy / 2 or update.p_value >= _SURE:
        return None
    right = [f"{round(share * update.n):,}" for share in (update.new_accuracy, update.old_accuracy)]
    return (
        f"the new base with its task adapter is right on {right[0]} of {update.n:,} test rows "
        f"({100 * update.new_accuracy:.1f} %), the old model on {right[1]} ({100 * update.old_accuracy:.1f} %): the "
        "task adapter has learned little or nothing of the task, and the compatibility adapter starts as its copy"
    )


# What the exact paired test leaves to chance is no warning, and neither are so few rows.
_SURE, _FEW = 0.05, 10


def _read(path: Path) -> list[dict[str, Any]]:
    return [row for *_, row in read_objects(path, "one JSON object a line with id, prediction, reference")]


def _run(output_dir: Path, contender: Contender) -> Run:
    # The report may be passed on, and shall not say where on this machine it was made.
    path = answers_of(output_dir, contender)
    return replace(read(path), name=contender.name, source=str(path.relative_to(output_dir)))


def write_evidence(plan: Plan, evidence: Evidence, source: Path, made_from: Mapping[str, Any]) -> None:
    """Write the comparison, the report, and the adapter with its card."""
    output_dir = plan.options.output_dir
    write_text(
        output_dir / COMPARISON,
        strict_json(
            {
                "old_model_against": {name: json.loads(c.to_json()) for name, c in evidence.comparisons.items()},
                "paired_p_values_of_the_compatibility_adapter": evidence.p_values,
                **({} if evidence.search is None else {"search": evidence.search.as_dict()}),
                "settings": asdict(plan.settings),
                "made_from": dict(made_from),
                "versions": library_versions(),
            },
            indent=2,
        )
        + "\n",
    )
    notes = [*([f"Warning: {evidence.warning}"] if evidence.warning else []), *_caveats(plan)]
    if (search := evidence.search) is not None:
        notes += [f"{_sentence(search.sentence())} {OPTIMISTIC}"]
        notes += [f"on the validation rows, {name}: {figures}" for name, figures in search.rows_of_table().items()]
    notes.append("p in the table of models: exact two-sided paired tests against the compatibility adapter")
    report = replace(evidence.report, notes=(*notes, *evidence.report.notes))
    write_html(report, output_dir / REPORT, _models(evidence))
    card(plan, evidence, source).write_with_adapter(source, output_dir / CARD, _not_shipped)


def _models(evidence: Evidence) -> list[list[Cell]]:
    """Lay out all models, with the paired tests between the compatibility adapter and its rivals."""
    rows: list[list[Cell]] = [[*header(), "p, accuracy", "p, NFR"]]
    names = [OLD.name, *evidence.comparisons]
    for name, row in zip(names, table_rows(evidence.comparisons, old_name=OLD.name), strict=True):
        test = evidence.p_values.get(name)
        rows.append([*row, *("" if test is None else p_number(test[of]) for of in ("accuracy", "negative_flips"))])
    return rows


def _not_shipped(folder: str, names: list[str]) -> list[str]:
    """Leave out what only the training needed: of its folders, all but the tokenizer's."""
    folders = {name for name in names if (Path(folder) / name).is_dir()} - {"additional_chat_templates"}
    return [name for name in names if name in folders or name in ("training_args.bin", FACTS)]


def card(plan: Plan, evidence: Evidence, folder: Path) -> AdapterCard:
    """Make the card of the compatibility adapter."""
    settings = plan.settings
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    trained = "" if settings.new_adapter else ", trained by muscle-hf update with the old adapter's hyper-parameters"
    asked = "greedy, right where they equal the completion" if plan.delimiter is None else "the likeliest choice"
    if settings.answer_pattern is not None:
        # Not its repr, whose doubled backslashes look like the path of a machine.
        asked = f"greedy, right where what '{settings.answer_pattern}' finds first is the same as in the completion"
    asked += "" if plan.config.old_endpoint is None else "; the old model's by the endpoint that serves it"
    old_base, new_base = plan.old_base, plan.new_base
    return AdapterCard(
        title=Path(plan.config.hub_model_id or plan.options.output_dir.resolve()).name,
        lineage=Lineage(
            new_base=settings.new_base,
            new_adapter=settings.new_adapter,
            old_base=old_base.name,
            old_adapter=settings.old_adapter,
            new_base_revision=commit_of(settings.new_base, "config.json", new_base.init_kwargs.get("revision")),
            new_adapter_revision=commit_of_adapter(settings.new_adapter),
            old_base_revision=commit_of(old_base.name, "config.json", old_base.init_kwargs.get("revision")),
            old_adapter_revision=commit_of_adapter(settings.old_adapter),
        ),
        adapter_type=facts["adapter_type"],
        embedding_rows=facts.get("embedding_rows"),
        training=facts["training"]
        | ({"start": f"a new task adapter{trained}"} if trained else {})
        | ({} if (search := evidence.search) is None else {"options": search.sentence()} | _validation(search))
        | {"answers in the comparison": asked},
        comparisons=evidence.comparisons,
        p_values=evidence.p_values,
        dataset=settings.dataset,
        repository=plan.config.hub_model_id,
        task=plan.new_base.kind.task,
        examples=first_flips(evidence.report, _EXAMPLES) if settings.card_examples else (),
        caveats=(
            *([_sentence(evidence.warning)] if evidence.warning else []),
            *([] if search is None else [f"{OPTIMISTIC}."]),
            *_caveats(plan),
        ),
        **_asked(plan),
    )


def _validation(search: Choice) -> dict[str, str]:
    return {f"validation of {name}": str(figures) for name, figures in search.rows_of_table().items()}


_EXAMPLES = 3
_FROM_THE_SAME_DATA = (
    "The test rows were cut from the data set named above, so the old adapter may have been trained on them. Then the "
    "old model looks better than it is on new questions, and more of its answers can be lost."
)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"


def _caveats(plan: Plan) -> tuple[str, ...]:
    """Say what the old model may know of the test rows."""
    if plan.settings.test_dataset is None:
        return (_FROM_THE_SAME_DATA,)
    known, count = len(plan.data.known), len(plan.data.test)
    if not known:
        return ()
    return (
        f"{known:,} of the {count:,} test rows are asked in the training data too. They were not trained on here, but "
        "the old adapter may have been trained on them, and then the old model looks better than it is.",
    )


def _asked(plan: Plan) -> dict[str, Any]:
    """Say which rows the models were compared on."""
    settings = plan.settings
    source = settings.test_dataset or settings.dataset
    path = Path(source)
    data = path.name if path.exists() else source
    if settings.test_dataset is not None:
        split = None if path.exists() else settings.test_split or "test"
        return {"split": f"the test rows {data}", "evaluated_on": source, "evaluated_split": split}
    return {
        "split": f"held-out rows of {data}",
        "evaluated_on": source,
        "evaluated_split": None if path.exists() else settings.dataset_split or "train",
    }

"""The text of a card, from its data."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..flips.comparison import Comparison
from ..hub.names import ADAPTER_TAG, BASE_TAG, DATA_SET, OLD_BASE_TAG, is_commit
from ..text import printable
from ..version import homepage
from .data import CardData
from .front_matter import eval_results
from .markdown import LONGEST_NAME, cut, shown
from .measured import Rival, examples_section, main_table, rivals_table, slices_section, verdict
from .picture import alternative_text
from .snippets import snippets

TEMPLATE = Path(__file__).with_name("template.md")
TAGS = ("muscle", ADAPTER_TAG)


def render(card: CardData) -> str:
    """Render a card whose texts are public."""
    is_adapter = card.adapter_type is not None
    this = "adapter" if is_adapter else "model"
    rivals, ours, lineage = card.rivals(), card.ours, card.lineage
    shared = _shared(card.comparisons)
    measured_on = [f"On {shown(card.split)}"] if card.split else []
    if shared:
        measured_on.append(f"n = {shared.n:,}")
    # The Hub takes the link of a picture for what it is, so that no text of others may be in it.
    rendered = ModelCard.from_template(
        _metadata(card, rivals),
        template_path=str(TEMPLATE),
        title=shown(card.title),
        verdict=ours and verdict(ours, list(rivals.values()), shown(card.split) if card.split else "", this),
        this=this,
        is_adapter=is_adapter,
        old_base=_linked(lineage.old_base, lineage.old_base_revision, "a local model"),
        new_base=_linked(lineage.new_base, lineage.new_base_revision, "a local model"),
        old_adapter=_linked(lineage.old_adapter, lineage.old_adapter_revision, "not named"),
        new_adapter=_linked(lineage.new_adapter, lineage.new_adapter_revision, "not named"),
        results=main_table(card.comparisons, card.name_of_this, this, shared) if card.comparisons else None,
        measured_on=", ".join(measured_on),
        picture=alternative_text(ours, models_side_by_side(card.comparisons)) if ours and card.has_picture else None,
        old_accuracy=f"{100 * shared.old_accuracy:.1f} %" if shared else None,
        rivals=rivals_table(list(rivals.values()), this),
        slices=slices_section(card.slices) if card.slices else None,
        examples=examples_section(card.examples),
        dataset=shown(card.dataset) if card.dataset else None,
        snippets=list(
            snippets(
                card.task,
                adapter=card.repository,
                base=lineage.new_base,
                commit=lineage.new_base_revision if is_commit(lineage.new_base_revision) else None,
                base_import=card.base_import,
                rows=card.embedding_rows,
                is_adapter=is_adapter,
            )
        ),
        training="\n".join(f"- {shown(name)}: {shown(value)}" for name, value in card.training.items()),
        limits="\n".join(f"- {line}" for line in _limits(card, this)),
        version=card.version,
        homepage=homepage(),
    )
    return f"{str(rendered).rstrip()}\n"


def _metadata(card: CardData, rivals: Mapping[str, Rival]) -> ModelCardData:
    is_adapter = card.adapter_type is not None
    # Plain texts, which is all that YAML knows.
    new_base, old_base = (name and str(name) for name in (card.lineage.new_base, card.lineage.old_base))
    tags = [*TAGS, *(["trl"] if card.task == "text-generation" else [])]
    tags = [*tags, str(card.adapter_type)] if is_adapter else [tag for tag in tags if "adapter" not in tag]
    if new_base and is_adapter:
        tags.append(f"{BASE_TAG}{new_base}")
    if old_base:
        tags.append(f"{OLD_BASE_TAG}{old_base}")
    dataset = DATA_SET.fullmatch(card.dataset or "")
    results = None
    if card.ours is not None:
        results = eval_results(card.ours, rivals, task=card.task, dataset=_asked(card))
    return ModelCardData(
        base_model=new_base,
        base_model_relation=("adapter" if is_adapter else "finetune") if new_base else None,
        library_name="peft" if is_adapter else "transformers",
        license=card.license,
        language=list(card.language) or None,
        pipeline_tag=card.task,
        # A name without an owner is more likely a word such as "GSM8K" than one of the Hub's few old ids.
        datasets=[str(dataset["name"])] if dataset else None,
        tags=list(dict.fromkeys([*tags, *(tag for tag in card.tags if tag)])),
        eval_results=results or None,
        model_name=_short(card.title) if results else None,
    )


def _asked(card: CardData) -> dict[str, str | None]:
    """Tell what was asked: the Hub wants a name and an id, and takes words where there is no id."""
    # Not what was trained on: that is seldom what was asked.
    words = _short(card.split or "questions that are not named")
    split = None if card.evaluated_split is None else _short(card.evaluated_split)
    match = DATA_SET.fullmatch(card.evaluated_on or "")
    if match is None:
        return {"type": words, "name": words, "split": split}
    return {
        "type": match["name"],
        "name": words,
        "config": match["config"],
        "split": split,
        "revision": match["revision"],
    }


def _short(name: str) -> str:
    return cut(printable(name), LONGEST_NAME)


def _limits(card: CardData, this: str) -> list[str]:
    lines = [f"The {this} learns from the old model, so biases and mistakes of the old model may carry over."]
    if card.lineage.new_base and this == "adapter":
        what = f" {card.lineage.new_base}"
        lines.append(f"It is made for {shown(what.strip())}, and means nothing on another base.")
    if card.ours is not None:
        lines.append(
            "The figures hold for what was asked, and for this one run of training. Answers to other questions may "
            "flip more often."
        )
        if card.control not in card.comparisons:
            lines.append(
                "There is no control of the same budget, so nobody can tell how much of this comes from longer "
                "training alone."
            )
    return [*lines, *(shown(one) for one in card.caveats)]


def _linked(name: str | None, revision: str | None, otherwise: str) -> str:
    if not name:
        return otherwise
    if not is_commit(revision):
        return f"[{shown(name)}](https://huggingface.co/{name})" + (f" at {shown(revision)}" if revision else "")
    return f"[{shown(name)}](https://huggingface.co/{name}/tree/{revision}) at {str(revision)[:7]}"


def models_side_by_side(comparisons: Mapping[str, Comparison]) -> Mapping[str, Comparison]:
    """Return the models that can be drawn side by side: all, where there are several asked the same; or none."""
    return comparisons if len(comparisons) > 1 and _shared(comparisons) is not None else {}


def _shared(comparisons: Mapping[str, Comparison]) -> Comparison | None:
    """Return a comparison whose number of instances and old model hold for every row, or None."""
    found = {(one.n, one.old_accuracy): one for one in comparisons.values()}
    return next(iter(found.values())) if len(found) == 1 else None

"""What a demo leaves besides its answers: the comparison as JSON, and the adapter with its card."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from ..card import AdapterCard
from ..card.lineage import Lineage
from ..files import write_text
from ..flips.comparison import Comparison, compare
from ..locks import LOCK
from ..version import library_versions
from .contenders import OLD, DemoSettings
from .jobs import FACTS
from .results import Answers, DemoResult


def write_evidence(output_dir: Path, settings: DemoSettings, result: DemoResult) -> None:
    """Write the comparison as JSON, and the chosen adapter with its card."""
    shown = {
        "chosen_on_validation" if len(result.cast.candidates) > 1 else "shipped": result.chosen.name,
        "old_model_against": {name: json.loads(c.to_json()) for name, c in result.comparisons.items()},
        "paired_p_values": result.p_values,
        "settings": asdict(settings),
        "versions": library_versions(),
    }
    write_text(output_dir / "comparison.json", json.dumps(shown, indent=2))
    source, not_shipped = output_dir / result.chosen.folder, shutil.ignore_patterns(FACTS, LOCK, "training_args.bin")
    _card(source, settings, result).write_with_adapter(source, output_dir / "adapter", not_shipped)


def _card(source: Path, settings: DemoSettings, result: DemoResult) -> AdapterCard:
    chosen, count = result.chosen, len(result.cast.candidates)
    prompts = f", and {settings.unlabelled_ratio} prompts without label for each" if chosen.learns_from else ""
    facts = json.loads((source / FACTS).read_text(encoding="utf-8"))
    chosen_among = f"It was chosen among {count} by the negative flip rate on the validation set."
    return AdapterCard(
        title="CLINC150 intents: compatibility adapter of the muscle_hf demo",
        lineage=Lineage(new_base=None, new_adapter=None, old_base=None, old_adapter=None),
        adapter_type="lora",
        base_import="from muscle_hf.demo.task import BASE_V2",
        training={
            "old model": "base-v1 and task-on-v1, which ship with muscle_hf's demo",
            "new base": "base-v2, which ships with muscle_hf's demo",
            "strategy": chosen.name,
            "cross-entropy weight": chosen.cross_entropy_weight,
            **facts,
            "learning rate": settings.update_learning_rate,
            "seed": settings.seed,
            "hardware": "CPU, one thread",
            "versions": library_versions(),
        },
        comparisons=result.comparisons,
        name_of_this=chosen.name,
        control=result.better_control(chosen).name,
        p_values=result.p_values[chosen.name],
        slices={"intent": _by_intent(result.answers[OLD.name], result.answers[chosen.name])},
        split="the test set of CLINC150",
        caveats=(chosen_among,) if count > 1 else (),
        dataset=f"CLINC150 (CC BY 3.0), {settings.training_rows} labelled training utterances{prompts}",
    )


def _by_intent(old: Answers, new: Answers) -> dict[str, Comparison]:
    """Compare two models on the utterances of each intent."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(old):
        places.setdefault(row["reference"], []).append(place)
    return {
        intent: compare(
            old=[old[place]["prediction"] for place in of_intent],
            new=[new[place]["prediction"] for place in of_intent],
            references=[intent] * len(of_intent),
        )
        for intent, of_intent in places.items()
    }

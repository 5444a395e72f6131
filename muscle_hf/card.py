"""The model card of a compatibility adapter: what it came from, what was measured, how to load it.

A card says only what is known. Facts of the run come from the trainer, measured figures from comparisons that were
computed, and a path of somebody's machine never reaches it.
"""

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PureWindowsPath

from huggingface_hub import ModelCard, ModelCardData

from . import __version__
from .adapters import Lineage
from .files import replaced
from .flips import Comparison
from .report import escape_markdown, header, markdown_table, table_rows
from .strategy import Strategy
from .trainer import CompatibilityTrainer

__all__ = ["AdapterCard", "CompatibilityTrainer", "card_of_trainer", "hub_id", "library_versions"]

TEMPLATE = Path(__file__).with_name("card_template.md")
_SCALED = "scaled by the squared temperature"
TAGS = ("muscle", "compatibility-adapter", "trl")
# What the Hub takes as the name of a repository: see `huggingface_hub.utils.validate_repo_id`.
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
# Paths of Unix and of Windows, absolute, relative or of a home folder, and file URLs.
_PATH = re.compile(r"[/\\]|~[\w.-]*(?:[/\\]|$)|\.{1,2}(?:[/\\]|$)|[A-Za-z]:[/\\]|file:", re.IGNORECASE)
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w/.:~\\])(?:/|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|file:/)[^\s\"'<>|]*[/\\][^\s\"'<>|]+", re.IGNORECASE
)


@dataclass(frozen=True)
class AdapterCard:
    """Everything that a card says. Of a path of this machine, wherever it stands, only the last part is printed.

    Args:
        title: Heading of the card.
        lineage: Where old and new model come from; local paths among them are not printed.
        adapter_type: PEFT's name of the adapter, such as "lora"; None for a model that was trained as a whole.
        training: Name -> value, in the order to print.
        comparisons: Name of a model -> its comparison with the old model: the rows of the table.
        split: What the comparisons were measured on, such as "the test set of CLINC150".
        dataset: What was trained on, in words or as an id of the Hub, "org/name".
        repository: The adapter's id on the Hub, "org/name"; without the owner it would load nothing, and stays out.
        license: The adapter's licence, as the Hub names it.
        tags: Further tags.
        base_import: Where the new base is not on the Hub, an import statement whose last word is its path.
    """

    title: str
    lineage: Lineage
    adapter_type: str | None
    training: Mapping[str, object]
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    split: str | None = None
    dataset: str | None = None
    repository: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    base_import: str | None = None

    def render(self) -> str:
        """Return the card: front matter for the Hub and Markdown for people."""
        new_base, old_base = hub_id(self.lineage.new_base), hub_id(self.lineage.old_base)
        is_adapter = self.adapter_type is not None
        tags = [*TAGS, self.adapter_type] if self.adapter_type else [tag for tag in TAGS if "adapter" not in tag]
        if new_base and is_adapter:
            tags.append(f"base_model:adapter:{new_base}")
        if old_base:
            tags.append(f"compatible-with:{old_base}")
        dataset = hub_id(self.dataset)
        data = ModelCardData(
            base_model=new_base,
            base_model_relation=("adapter" if is_adapter else "finetune") if new_base else None,
            library_name="peft" if is_adapter else "transformers",
            license=self.license,
            pipeline_tag="text-generation",
            # A name without an owner is more likely a word such as "GSM8K" than one of the Hub's few old ids.
            datasets=[dataset] if dataset and "/" in dataset else None,
            tags=list(dict.fromkeys([*tags, *self.tags])),
        )
        shared = self._shared()
        measured_on = [f"On {_shown(self.split)}"] if self.split else []
        if shared:
            measured_on.append(f"n = {shared.n}")
        card = ModelCard.from_template(
            data,
            template_path=str(TEMPLATE),
            title=_shown(self.title),
            is_adapter=is_adapter,
            old_base=_shown(old_base or "a local model"),
            new_base=_shown(new_base or "a local model"),
            old_adapter=_shown(hub_id(self.lineage.old_adapter) or "not named"),
            new_adapter=_shown(hub_id(self.lineage.new_adapter) or "not named"),
            results=self._results(),
            measured_on=", ".join(measured_on),
            old_accuracy=f"{100 * shared.old_accuracy:.1f} %" if shared else None,
            dataset=_shown(self.dataset) if self.dataset else None,
            base_import=self.base_import,
            load_base=self.base_import.split()[-1] if self.base_import else f'"{new_base or "path/to/the/new/base"}"',
            load_adapter=self._loadable_id() or "path/to/this/folder",
            training="\n".join(f"- {_shown(name)}: {_shown(value)}" for name, value in self.training.items()),
        )
        return f"{str(card).rstrip()}\n"

    def _loadable_id(self) -> str | None:
        # Not `hub_id`: the output folder often has the very name of the repository.
        name = self.repository
        return name if name and "/" in name and _HUB_ID.fullmatch(name) else None

    def _results(self) -> str | None:
        if not self.comparisons:
            return None
        head, rows = header(), table_rows(self.comparisons)
        for row in rows:
            row[0] = _local_name(row[0])
        if not self._shared():
            head += ["n", "old model's accuracy, %"]
            for row, comparison in zip(rows, self.comparisons.values(), strict=True):
                row += [str(comparison.n), f"{100 * comparison.old_accuracy:.1f}"]
        return markdown_table(head, rows)

    def _shared(self) -> Comparison | None:
        """Return a comparison whose number of instances and old model hold for every row, or None."""
        found = {(comparison.n, comparison.old_accuracy): comparison for comparison in self.comparisons.values()}
        return next(iter(found.values())) if len(found) == 1 else None

    def write(self, folder: Path) -> Path:
        """Write the card as README.md into a folder, whole or not at all.

        Args:
            folder: A folder that exists; a README.md in it is replaced.

        Returns:
            The path of the card.
        """
        path = folder / "README.md"
        with replaced(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")
        return path


def hub_id(name: str | None) -> str | None:
    """Return a model's name if it can be one on the Hub, and None for a path of this machine.

    Args:
        name: An id or a path, as given to `from_pretrained`. A folder of that name under the working directory makes
            it a path, as it does there.

    Example:
        >>> hub_id("org/base-v2"), hub_id("/home/somebody/base-v2"), hub_id("../base-v2")
        ('org/base-v2', None, None)
    """
    return name if name and _HUB_ID.fullmatch(name) and not _exists(name) else None


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # Too long for a path, or not to be encoded as one.
        return False


def _local_name(text: str) -> str:
    """Return text as it is, and of the paths in it only the last part, which tells nothing about the machine."""
    text = text.strip()
    # A name of the Hub and a relative path look alike; what settles it is whether there is such a file.
    if _PATH.match(text) or (("/" in text or "\\" in text) and _exists(text)):
        return PureWindowsPath(text).name or "a local folder"
    return _ABSOLUTE_PATH.sub(lambda match: PureWindowsPath(match[0]).name, text)


def _shown(value: object) -> str:
    return escape_markdown(_local_name(str(value)))


def library_versions() -> str:
    """Return the versions of the libraries that decide what is trained, such as "torch 2.13.0, peft 0.21.2"."""
    # Not the metadata for this package: an editable install keeps the version of the day it was made.
    others = ("torch", "transformers", "trl", "peft")
    return ", ".join([f"muscle_hf {__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in others)])


def strategy_rows(strategy: Strategy) -> dict[str, object]:
    """Return what a card says of a strategy: what decides each run, and what is not at its default.

    Args:
        strategy: What was trained with.

    Example:
        >>> list(strategy_rows(Strategy(focal_beta=5.0)))[-1]
        'focal beta'
    """
    always = ("mask", "divergence", "temperature", "cross_entropy_weight", "scale_by_temperature_squared")
    names = {"cross_entropy_weight": "cross-entropy weight", "scale_by_temperature_squared": _SCALED}
    rows: dict[str, object] = {}
    for one in sorted(fields(strategy), key=lambda one: (*always, one.name).index(one.name)):
        value = getattr(strategy, one.name)
        if one.name in always or value != one.default:
            shown = getattr(value, "__name__", repr(value)) if callable(value) else value
            name = names.get(one.name, one.name.replace("_", " "))
            rows[name] = ("yes" if value else "no") if isinstance(value, bool) else shown
    return rows


def card_of_trainer(trainer: CompatibilityTrainer, details: Mapping[str, object] | None = None) -> AdapterCard:
    """Collect what a trainer knows about its adapter.

    Args:
        trainer: The trainer, before, during or after training.
        details: Fields of [`AdapterCard`] that only the user knows.
    """
    args, state = trainer.args, trainer.state
    training: dict[str, object] = {
        **strategy_rows(trainer.strategy),
        "learning rate": args.learning_rate,
        "optimizer steps": state.global_step,
        "sequences a step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "seed": args.seed,
        "versions": library_versions(),
    }
    # A model that is trained as a whole has none.
    config = getattr(trainer.accelerator.unwrap_model(trainer.model), "active_peft_config", None)
    given = {name: value for name, value in (details or {}).items() if value}
    # A push gives the name its owner; the one in the arguments may lack it.
    repository = getattr(trainer, "hub_model_id", None) or args.hub_model_id
    return AdapterCard(
        **{
            "title": Path(args.hub_model_id or args.output_dir).name,
            "lineage": trainer.lineage,
            "adapter_type": config.peft_type.value.lower() if config else None,
            "training": training,
            "comparisons": trainer.comparisons,
            "repository": repository,
        }
        | given
    )


def _write_trainer_card(trainer: CompatibilityTrainer, folder: Path) -> None:
    card_of_trainer(trainer, trainer.card_details).write(folder)


CompatibilityTrainer.card_writer = staticmethod(_write_trainer_card)

"""What `muscle-hf update` asks for beside `CompatibilityConfig`; imports nothing heavy, so that `--help` is quick."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from ..errors import ConfigurationError
from ..text import nearest_option
from .answer_pattern import compiled

_TEST_SHARE = 0.2


def _option(text: str, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class UpdateSettings:
    """Which models meet, on which data, and what is asked of them.

    The `help` of a field says what it is, on the command line too. Seeds, batch sizes, precision, the folder and the
    method's own options are fields of `CompatibilityConfig`.
    """

    old_adapter: str = _option("id or path of the task adapter on the old base")
    new_base: str = _option("id or path of the new base model")
    dataset: str = _option(
        "the task's data: JSONL, JSON, CSV or Parquet with prompt and completion (or messages, question and answer, "
        "alpaca, ShareGPT), or org/name[:config][@revision] of the Hub"
    )
    old_base: str | None = _option("the old base, where it is another than the one that the old adapter names", None)
    new_adapter: str | None = _option("the task adapter on the new base (default: it is trained)", None)
    dataset_split: str | None = _option("split of a data set of the Hub (default: train)", None)
    dataset_config: str | None = _option("configuration of a data set of the Hub", None)
    columns: list[str] | None = field(
        default=None, metadata={"help": "which column is what, such as prompt=question,completion=answer"}
    )
    test_dataset: str | None = _option("rows to compare the models on (default: a share of the data)", None)
    test_split: str | None = _option("split of a test set of the Hub (default: test)", None)
    test_share: float | None = _option("share of the data to compare on, without a test set (default: 0.2)", None)
    validation_share: float = _option("share of the data that chooses the epoch; 0: the last one (default: 0.1)", 0.1)
    split_seed: int = _option("which rows these shares are; --seed is that of the trainings (default: 0)", 0)
    kind: Literal["generation", "choice"] = _option(
        "generation: greedy answers, right where equal to the completion; choice: the likeliest of a row's choices "
        "(default: generation)",
        "generation",
    )
    max_new_tokens: int | None = _option("longest answer in tokens (default: the longest completion)", None)
    normalization: Literal["sum", "characters"] = _option(
        "of a choice's log-likelihood: sum of its tokens, or by character (default: sum)", "sum"
    )
    answer_pattern: str | None = _option(
        "regular expression: what it finds first, or its group of that, is compared in an answer and in the "
        "completion, such as '#### (.+)' (default: all of both)",
        None,
    )
    ask_batch_size: int = _option("prompts asked at once (default: 32)", 32)
    task_epochs: float | None = _option("epochs of the new task adapter (default: --num-train-epochs)", None)
    task_learning_rate: float | None = _option("its learning rate (default: --learning-rate)", None)
    task_target_modules: list[str] | None = field(
        default=None, metadata={"help": "its layers, or all-linear (default: those of the old adapter)"}
    )
    unlabelled_dataset: str | None = _option("prompts without answers, which the old model answers", None)
    unlabelled_split: str | None = _option("split of unlabelled prompts of the Hub (default: train)", None)
    measure_flips: bool = _option(
        "ask the validation rows at each evaluation, so that --metric-for-best-model can be a rate of flips", False
    )
    search: list[str] | None = field(
        default=None,
        metadata={
            "help": "options of the method with values to try, such as temperature=1,2 cross_entropy_weight=0,0.5: "
            "each combination is trained, and of those that are as accurate as the plain update on the validation "
            "rows the one with the lowest relative negative flip rate there is taken"
        },
    )
    control: bool = _option("also train and ask an adapter of as many steps more with plain cross-entropy", True)
    card_examples: bool = _option(
        "show three flipped test rows on the card, with question and answers; they are published with it", False
    )
    dry_run: bool = _option("say what would be trained, memory and steps; write nothing", False)

    def __post_init__(self) -> None:
        """Check what a YAML file may have made of a value, too."""
        for name in ("old_adapter", "new_base", "dataset", "old_base", "new_adapter", *_FURTHER_DATA):
            self._check(name, str, "an id or a path")
        for name in ("dataset_split", "test_split", "unlabelled_split", "dataset_config"):
            self._check(name, str, "the name of a split" if name.endswith("split") else "a name")
        for name, least in (("split_seed", 0), ("max_new_tokens", 1), ("ask_batch_size", 1)):
            self._check(name, int, f"a whole number from {least} up", least)
        for name in ("task_epochs", "task_learning_rate"):
            self._check(name, float, "a number above 0", 0, above=True)
        for name in ("test_share", "validation_share"):
            self._check(name, float, "a share from 0 to below 1", 0, below=1)
        for name in ("control", "dry_run", "measure_flips", "card_examples"):
            self._check(name, bool, "true or false")
        for name, known in (("kind", ("generation", "choice")), ("normalization", ("sum", "characters"))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(known)}.")
        if self.columns is not None and not all(isinstance(column, str) for column in self.columns):
            raise ConfigurationError(f"columns is {self.columns!r}; texts are needed, such as prompt=question.")
        if self.answer_pattern is not None:
            self._check("answer_pattern", str, "a regular expression")
            compiled(self.answer_pattern)
        if self.search is not None and not (self.search and all(isinstance(entry, str) for entry in self.search)):
            raise ConfigurationError(f"search is {self.search!r}; options with values are needed: temperature=1,2.")
        modules = self.task_target_modules
        if modules is not None and (not modules or not all(isinstance(module, str) and module for module in modules)):
            raise ConfigurationError(f"task_target_modules is {modules!r}; names of layers are needed, or all-linear.")
        self._refuse_contradictions()

    def _check(
        self, name: str, kind: type, expected: str, least: float = -math.inf, *, above: bool = False, below: float = 0
    ) -> None:
        value = getattr(self, name)
        if value is None and _DEFAULTS[name] is None:
            return
        # A bool is an int for Python, and none for whoever wrote the file.
        kinds = (int, float) if kind is float else kind
        fits = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool)) and value != ""
        if fits and isinstance(value, int | float):
            fits = (
                math.isfinite(value) and (value > least if above else value >= least) and (not below or value < below)
            )
        if not fits:
            raise ConfigurationError(f"{name} is {value!r}; {expected} is needed.")

    def _refuse_contradictions(self) -> None:
        """Refuse what would do nothing."""
        if self.new_adapter is not None:
            idle = [name for name in TASK_TRAINING if getattr(self, name) is not None]
            if idle:
                raise ConfigurationError(
                    f"{idle[0]} would do nothing: new_adapter={self.new_adapter!r} is trained already. Leave one out."
                )
        if self.kind == "choice" and self.max_new_tokens is not None:
            raise ConfigurationError("max_new_tokens would do nothing with kind=choice; leave it out.")
        if self.kind == "generation" and self.normalization != "sum":
            raise ConfigurationError("normalization would do nothing with kind=generation; leave it out.")
        if self.answer_pattern is not None and (self.kind == "choice" or self.measure_flips):
            rival = "kind=choice" if self.kind == "choice" else "measure_flips, which compares whole completions"
            raise ConfigurationError(f"answer_pattern would do nothing with {rival}; leave one of them out.")
        for data in _FURTHER_DATA:
            split = f"{data.removesuffix('dataset')}split"
            if getattr(self, data) is None and getattr(self, split) is not None:
                raise ConfigurationError(f"{split} would do nothing without {data}; name both.")
        if self.measure_flips and not self.validation_share:
            raise ConfigurationError("measure_flips asks the validation rows, and validation_share is 0.")
        if self.search is not None and not self.validation_share:
            raise ConfigurationError("search chooses by the validation rows, and validation_share is 0.")
        if self.test_dataset is None:
            if self.test_share == 0:
                raise ConfigurationError("test_share is 0 and there is no test_dataset, so nothing can be compared.")
        elif self.test_share is not None:
            raise ConfigurationError("test_share would do nothing: there is a test_dataset. Leave one of them out.")
        if self.validation_share + self.held_out_share >= 1:
            raise ConfigurationError(
                f"test_share {self.held_out_share:g} and validation_share {self.validation_share:g} leave no row to "
                "train on; their sum must be below 1."
            )

    @property
    def held_out_share(self) -> float:
        """Share of `dataset` that is compared on: 0 where there is a test set."""
        if self.test_dataset is not None:
            return 0.0
        return _TEST_SHARE if self.test_share is None else self.test_share


_FURTHER_DATA = ("test_dataset", "unlabelled_dataset")

TASK_TRAINING = ("task_epochs", "task_learning_rate", "task_target_modules")
"""Settings of the training of a new task adapter."""

_DEFAULTS = {setting.name: setting.default for setting in fields(UpdateSettings)}
REQUIRED = tuple(name for name, default in _DEFAULTS.items() if default is MISSING)
"""Settings without a default. `output_dir`, of `CompatibilityConfig`, is needed as well."""


def options_in(words: Sequence[str]) -> set[str]:
    """Return the options that stand among the words of a command line, with dashes."""
    return {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}


def missing_options(names: Sequence[str], words: Sequence[str] = ()) -> str:
    """Say which options are missing, and which of them a misspelt one among the words of a command line may be."""
    options = [f"--{name.replace('_', '-')}" for name in names]
    near = nearest_option(words, options, cutoff=0.85)  # others may be right, such as --dataset-split
    hint = f" Did you mean {near}?" if near else ""
    verb = "are" if len(names) > 1 else "is"
    return f"{', '.join(options)} {verb} needed, on the command line or in the file of --config.{hint}"

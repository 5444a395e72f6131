"""The words of a command line and the keys of a YAML file, as settings of the update and options of its trainings."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigurationError, InputError, MuscleError
from ..flips.eval_metrics import better_when_greater
from ..losses.presets import PRESETS
from ..models.placement import refuse_places_in_each_process
from ..models.splitting import refuse_other_ways
from ..seq2seq.contrast_options import ContrastOptions
from ..text import printable
from ..training.config import CompatibilityConfig
from ..training.log import LossSums
from ..training.loss.product import uses_product
from ..training.options.precision import bf16_of_device
from .arguments import read_words
from .kinds import CAUSAL, ENCODER_DECODER, Kind, kind_of_base
from .search import Value, combinations, described, entries_of, read_grid, shown
from .settings import REQUIRED, UpdateSettings, missing_options

# What the command takes care of itself, or cannot do.
_OWN = {
    "full_fine_tune": "an update makes an adapter. Train with CompatibilityTrainer, or CompatibilitySeq2SeqTrainer",
    "push_to_hub": "it would publish an adapter before it is compared. Later: muscle-hf push DIR/adapter org/name",
    "contrast_flips": "the rows of an update have no wrong texts. Train with CompatibilitySeq2SeqTrainer",
    "resume_from_checkpoint": "an interrupted update goes on by itself when the same command is given again",
    "enable_jit_checkpoint": "an update saves by itself when it is told to stop",
    "save_only_model": "an interrupted update could not go on from weights alone",
    "fsdp": "the launcher says it: accelerate launch --config_file examples/accelerate/fsdp2.yaml -m muscle_hf update",
    "deepspeed": "an update splits models by FSDP2. Train with CompatibilityTrainer under DeepSpeed",
}

_BETTER_WHEN_LOWER = ("loss", "cross_entropy", "divergence_to_old_model", "divergence_to_new_model")


@dataclass(frozen=True)
class Options:
    """Everything that was asked for."""

    settings: UpdateSettings
    given: Mapping[str, Any]  # fields of the kind's config that the user gave, and those that the command sets
    kind: Kind = CAUSAL

    @property
    def output_dir(self) -> Path:
        """The folder that receives everything."""
        return Path(self.given["output_dir"])

    @cached_property
    def grid(self) -> dict[str, tuple[Value, ...]]:
        """What is searched, each option with its values; empty without a search."""
        return read_grid(self.settings.search or (), {option.name for option in fields(self.kind.config)})

    def with_values(self, values: Mapping[str, Value]) -> "Options":
        """Return the options of a candidate of the search, whose values win over a preset's too."""
        base, settings = self.compatibility_config(self.output_dir), self.settings
        # A preset fills in whatever has the value of the default, and a candidate may try that.
        filled = {name: getattr(base, name) for name in PRESETS.get(base.preset or "", ())}
        if "learning_rate" in values and settings.new_adapter is None:
            # All candidates start from one task adapter.
            settings = replace(settings, task_learning_rate=settings.task_learning_rate or base.learning_rate)
        return replace(self, settings=settings, given={**self.given, **filled, "preset": None, **values})

    def compatibility_config(self, folder: Path, **changes: Any) -> Any:
        """Return the options of the compatibility training."""
        return _built(self.kind.config, self.given, {"output_dir": str(folder), **changes})

    def cross_entropy_config(self, folder: Path, **changes: Any) -> Any:
        """Return the same options for a training with plain cross-entropy, as of task adapter and control."""
        # Its own defaults differ in places, such as the learning rate, and the trainings shall not.
        known = {field.name: field.default for field in fields(self.kind.plain_config) if field.init}
        shared = {
            field.name: field.default
            for field in fields(self.kind.config)
            if field.name in known and field.default is not MISSING and field.default != known[field.name]
        }
        options = shared | {name: value for name, value in self.given.items() if name in known}
        if options.get("metric_for_best_model"):
            options |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
        # The model is loaded before, with these arguments.
        options |= {"model_init_kwargs": None} if "model_init_kwargs" in known else {}
        return _built(self.kind.plain_config, options, {"output_dir": str(folder), **changes})


def _built(kind: type, options: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    try:
        return kind(**copy.deepcopy({**options, **changes}))
    except MuscleError:
        raise
    # What transformers and trl raise for options that contradict each other, or that ask for what is not installed.
    except (ValueError, TypeError, ImportError, NotImplementedError, RuntimeError) as error:
        raise ConfigurationError(f"the options of the training are refused: {printable(str(error))}") from error


def read_options(arguments: Sequence[str]) -> Options:
    """Read what follows `muscle-hf update`; the command line wins over the YAML file.

    Each field of `UpdateSettings` and of [`CompatibilityConfig`] is an option, with underscores or dashes, and a key
    of the file.
    """
    chosen = read_words((UpdateSettings, CompatibilityConfig, _OfEncoderDecoders), arguments, command="update")
    missing = [name for name in (*REQUIRED, "output_dir") if chosen.get(name) is None]
    if missing:
        raise InputError(missing_options(missing))
    own = {field.name for field in fields(UpdateSettings)}
    if isinstance(chosen.get("columns"), dict):  # as a YAML file may have them
        chosen["columns"] = [f"{what}={name}" for what, name in chosen["columns"].items()]
    if "search" in chosen:
        chosen["search"] = entries_of(chosen["search"])
    for name in ("task_target_modules", "columns"):
        if isinstance(chosen.get(name), str):
            chosen[name] = [chosen[name]]
    settings = UpdateSettings(**{name: value for name, value in chosen.items() if name in own})
    given = {name: chosen[name] for name in chosen if name not in own}
    kind = kind_of_base(settings.new_base, given)
    _refuse_other_kind(kind, settings, given)
    options = Options(settings, _with_defaults(given, settings), kind)
    _check(options)
    return options


@dataclass
class _OfEncoderDecoders(ContrastOptions):
    """What only [`CompatibilitySeq2SeqConfig`] has."""

    max_prompt_length: int | None = None
    max_completion_length: int | None = None


def _refuse_other_kind(kind: Kind, settings: UpdateSettings, given: Mapping[str, Any]) -> None:
    """Refuse options that the training of this kind of model does not have."""
    known = {field.name for field in fields(kind.config)}
    if foreign := sorted(given.keys() - known):
        more = " Write max_length." if foreign[0].startswith("max_") and kind is CAUSAL else ""
        raise ConfigurationError(
            f"{foreign[0]} cannot be given: new_base={settings.new_base!r} is one of the {kind.name}, and "
            f"{kind.config.__name__} has no such option.{more}"
        )
    if kind is not ENCODER_DECODER:
        return
    for is_given, name, reason in (
        (settings.kind == "choice", "kind=choice", "choices are scored by causal models alone; take generation"),
        (
            settings.unlabelled_dataset is not None,
            "unlabelled_dataset",
            "let the old model answer the prompts first, and add them as rows",
        ),
    ):
        if is_given:
            raise ConfigurationError(f"{name} cannot be given for encoder-decoders: {reason}.")


def _with_defaults(chosen: dict[str, Any], settings: UpdateSettings) -> dict[str, Any]:
    """Add the defaults of the command, which are those of the paper where there is a validation set."""
    # The libraries are told to be quiet, and would take that for a wish to see no bar.
    options = {"disable_tqdm": False} | chosen
    on_gpu = torch.cuda.is_available() and not chosen.get("use_cpu")
    # Also for the trainings by TRL's own config, whose default is an error on a machine that cannot do it.
    if chosen.get("bf16") is None:
        options["bf16"] = bf16_of_device(None, fp16=bool(chosen.get("fp16")), use_cpu=bool(chosen.get("use_cpu")))
    # A pinned memory without a GPU is a warning.
    options.setdefault("dataloader_pin_memory", on_gpu)
    _decide_strategies(options, settings)
    evaluates = str(options["eval_strategy"])
    if options.setdefault("load_best_model_at_end", evaluates != "no" and options["save_strategy"] != "no"):
        best = str(options.setdefault("metric_for_best_model", "eval_cross_entropy"))
        # transformers takes every metric that is no loss for better when greater.
        if best.removeprefix("eval_") in _BETTER_WHEN_LOWER:
            options.setdefault("greater_is_better", False)
    options.setdefault("save_total_limit", 1)
    return options


def _decide_strategies(options: dict[str, Any], settings: UpdateSettings) -> None:
    """Let each of evaluating and saving follow the other one where it is not given: what is best must be on disk."""
    for name in ("save", "eval"):
        if options.get(f"{name}_steps") is not None:
            options.setdefault(f"{name}_strategy", "steps")
    saves = str(options.get("save_strategy", "epoch"))
    follows = saves if saves in ("steps", "epoch") else "epoch"
    evaluates = str(options.setdefault("eval_strategy", follows if settings.validation_share else "no"))
    options.setdefault("save_strategy", "epoch" if evaluates == "no" else evaluates)
    if options["save_strategy"] == evaluates == "steps":
        steps = options.get("save_steps") or options.get("eval_steps") or _STEPS
        for name in ("eval_steps", "save_steps"):
            options[name] = options.get(name) or steps
    if (
        evaluates == "no"
        or options["save_strategy"] in ("no", "best")
        or options.get("load_best_model_at_end") is False
    ):
        return
    if options["save_strategy"] != evaluates:
        raise ConfigurationError(
            f"save_strategy={options['save_strategy']} and eval_strategy={evaluates} do not go together: the "
            "checkpoint of the best evaluation could not be kept. Leave one of --save-strategy and --eval-strategy "
            "out, and it follows the other; or keep the last step, with --load-best-model-at-end false."
        )
    if evaluates == "steps" and options["save_steps"] != options["eval_steps"]:
        raise ConfigurationError(
            f"save_steps={options['save_steps']:g} and eval_steps={options['eval_steps']:g} differ: the best step "
            "might not be saved. Leave one of --save-steps and --eval-steps out, and it follows the other; or "
            "keep the last step, with --load-best-model-at-end false."
        )


_STEPS = 100
"""Steps between two evaluations, and savings, where steps are asked for without a number."""


def _check(options: Options) -> None:
    """Refuse what would fail later, or do nothing."""
    refuse_other_ways()
    for name, reason in _OWN.items():
        if options.given.get(name):
            raise ConfigurationError(f"{name} cannot be given: {reason}.")
    for name in ("model_init_kwargs", "old_model_init_kwargs"):
        if not isinstance(options.given.get(name, {}), dict | str | None):
            raise ConfigurationError(f"{name}={options.given[name]!r} must be a mapping, such as {{dtype: bfloat16}}.")
    config = options.compatibility_config(options.output_dir)
    for name in ("model_init_kwargs", "old_model_init_kwargs"):
        dtype = (getattr(config, name) or {}).get("dtype", "auto")
        if dtype != "auto" and not isinstance(getattr(torch, str(dtype), None), torch.dtype):
            raise ConfigurationError(f"{name}: dtype={dtype!r} is no type of torch; give bfloat16, float32 or auto.")
        refuse_places_in_each_process(name, (getattr(config, name) or {}).get("device_map"))
    if config.max_steps <= 0 and config.num_train_epochs <= 0:
        raise ConfigurationError(f"num_train_epochs={config.num_train_epochs:g} trains nothing; give more than 0.")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(config, name) < 1:
            raise ConfigurationError(f"{name}={getattr(config, name)} must be 1 or more.")
    if str(config.eval_strategy.value) != "no" and not options.settings.validation_share:
        raise ConfigurationError(
            f"eval_strategy={config.eval_strategy.value} has nothing to evaluate on with validation_share=0."
        )
    if uses_product(config) and config.product_temperatures is None and not options.settings.validation_share:
        raise ConfigurationError(
            "the temperatures of the product are fitted on the validation rows, and validation_share is 0. Give "
            "product_temperatures, such as 1 1, or a share."
        )
    if options.settings.validation_share and str(config.eval_strategy.value) == "no":
        raise ConfigurationError(
            "with eval_strategy=no the validation rows would do nothing; set validation_share=0 to train on them."
        )
    options.cross_entropy_config(options.output_dir)
    _check_metric(config, options.settings)
    _check_search(options)
    if config.n_gpu > 1 and "device_map" not in (config.model_init_kwargs or {}):
        raise ConfigurationError(
            f"{config.n_gpu} GPUs are visible, and one process trains on one. Start a process for each (accelerate "
            "launch -m muscle_hf update …), make one visible with CUDA_VISIBLE_DEVICES=0, or spread the model with "
            'model_init_kwargs={"device_map": "auto"}.'
        )


def _check_search(options: Options) -> None:
    """Refuse an option that all candidates would replace, and values that the training would refuse."""
    settings = options.settings
    trains_task = settings.new_adapter is None and settings.task_learning_rate is None
    for name, values in options.grid.items():
        if options.given.get(name) is not None and not (name == "learning_rate" and trains_task):
            raise ConfigurationError(
                f"{name}={options.given[name]} would do nothing: the search tries {', '.join(map(shown, values))}. "
                "Leave one of them out."
            )
    for combination in combinations(options.grid) if options.grid else ():
        try:
            options.with_values(combination).compatibility_config(options.output_dir)
        except MuscleError as error:
            raise ConfigurationError(f"search: {described(combination)} is refused: {error}") from error


def _check_metric(config: Any, settings: UpdateSettings) -> None:
    """Refuse a metric that no evaluation will have."""
    name = (config.metric_for_best_model or "loss").removeprefix("eval_")
    known = ["loss", *LossSums().figures("mean_token_accuracy", with_undefined=True)]
    if better_when_greater(name) is not None:
        if not settings.measure_flips:
            raise ConfigurationError(f"metric_for_best_model={name} needs the answers of --measure-flips; give both.")
    elif name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean eval_{near[0]}?" if near else ""
        raise ConfigurationError(f"there is no metric {name} that could choose the best epoch.{hint}")

"""What this package leans on in other libraries though their documentation does not promise it, in one place.

`HOOKS` names all of it. What trainers need is used through the functions here; the rooms below use theirs themselves.
`tests/training/test_hooks.py` tries each of them on the library's own class, so that a release that changes one is
told by its name, and finds what is used and not named here.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from accelerate.utils.fsdp_utils import fsdp2_apply_ac
from datasets import Dataset
from transformers.utils.hub import PushInProgress
from trl import SFTTrainer

from ..models.splitting import fully_split


@dataclass(frozen=True)
class Hook:
    """Something that a library does not promise.

    Args:
        name: Where it is, from its library on.
        purpose: What it is needed for.
        files: Where it is used: files of this package, or whole rooms.
    """

    name: str
    purpose: str
    files: tuple[str, ...] = ("training/hooks.py",)


HOOKS = (
    # Overridden, so that the library calls what is here.
    Hook("trl.SFTTrainer._send_telemetry", "nobody is told of a training", ("training/",)),
    Hook("trl.SFTTrainer._tag_names", "tags of what is trained", ("training/trainer.py",)),
    Hook("trl.SFTTrainer._name", "the method's name", ("training/trainer.py",)),
    Hook(
        "transformers.Trainer._determine_best_metric", "the best checkpoint has a bound", ("training/", "classifier/")
    ),
    Hook(
        "transformers.Trainer._push_from_checkpoint",
        "a checkpoint is pushed with its card",
        ("training/base.py",),
    ),
    Hook(
        "transformers.Trainer._save",
        "a config without a token, a split model as a whole",
        ("training/base.py", "training/cross_entropy.py"),
    ),
    Hook(
        "transformers.TrainingArguments._VALID_DICT_FIELDS",
        "more options that are given as JSON text",
        ("training/config.py", "classifier/config.py", "seq2seq/config.py"),
    ),
    Hook("trl.DPOTrainer._prepare_dataset", "no end token behind a step", ("training/step_dpo.py",)),
    # Called or read.
    Hook("trl.SFTTrainer._prepare_dataset", "rows are encoded as TRL does", ("training/trainer.py",)),
    Hook("trl.SFTTrainer.completion_only_loss", "whether prompts are trained on", ("training/trainer.py",)),
    Hook("trl.SFTTrainer.chat_template", "which template is trained with", ("training/trainer.py",)),
    Hook("trl.SFTTrainer.aux_loss_enabled", "the loss of a router is asked for", ("training/",)),
    Hook("trl.SFTTrainer.router_aux_loss_coef", "what the loss of a router counts"),
    Hook("transformers.Trainer._set_signature_columns_if_needed", "columns of ours reach the collator"),
    Hook("transformers.Trainer._signature_columns", "columns of ours reach the collator"),
    Hook("transformers.Trainer._loss_shifts_labels", "which labels of a step are counted"),
    Hook("transformers.Trainer.model_accepts_loss_kwargs", "the labels of a whole step are counted"),
    Hook("transformers.Trainer.current_gradient_accumulation_steps", "what the loss of a router is divided by"),
    Hook("transformers.Trainer.loss_is_scaled_for_ga", "the loss is not divided again", ("training/base.py",)),
    Hook("transformers.Trainer.init_hf_repo", "the repository is made after the data are read", ("training/",)),
    Hook("transformers.Trainer._prepare_inputs", "a batch reaches the device"),
    Hook("transformers.Trainer._load_from_checkpoint", "a training that has ended is not gone on with"),
    Hook("transformers.Trainer._finish_current_push", "one push after the other"),
    Hook("transformers.utils.hub.PushInProgress", "the trainer waits for our pushes"),
    Hook(
        "transformers.trainer.DEFAULT_PROGRESS_CALLBACK",
        "one bar instead of two",
        ("training/checkpoints/resuming.py",),
    ),
    Hook("transformers.PreTrainedModel._hf_peft_config_loaded", "adapters without PEFT's model", ("models/",)),
    Hook("transformers.modeling_layers.GradientCheckpointingLayer", "what a layer is", ("models/compiled.py",)),
    Hook(
        "accelerate.state.AcceleratorState.dynamo_plugin",
        "what compiles whole models",
        ("training/processes/refusals.py",),
    ),
    Hook("transformers.PreTrainedModel._no_split_modules", "layers to split by", ("models/splitting.py",)),
    Hook("transformers.cache_utils.DynamicSlidingWindowLayer", "caches that can be branched", ("prediction/",)),
    Hook("accelerate.Accelerator._models", "the old model is not saved with the state"),
    Hook(
        "torch.distributed.distributed_c10d._get_default_store",
        "processes wait for each other without a collective",
        ("models/processes.py",),
    ),
    Hook(
        "accelerate.Accelerator._is_accelerate_prepared",
        "a model that was evaluated is wrapped in DDP after all",
        ("training/processes/split_models.py",),
    ),
    Hook(
        "accelerate.utils.fsdp_utils.fsdp2_prepare_model",
        "models are split before they are asked",
        ("models/splitting.py",),
    ),
    Hook("accelerate.Accelerator._prepare_fsdp2", "a student that is split already is taken as it is"),
    Hook(
        "accelerate.utils.deepspeed.HfDeepSpeedConfig",
        "DeepSpeed's own config file says which stage it is",
        ("models/splitting.py",),
    ),
    Hook("accelerate.utils.fsdp_utils.fsdp2_apply_ac", "FSDP's activation checkpointing comes before splitting"),
    Hook("transformers.integrations.deepspeed", "models are loaded whole, and split later", ("models/zero3.py",)),
    Hook(
        "transformers.integrations.deepspeed._hf_deepspeed_config_weak_ref",
        "models are loaded whole, and split later",
        ("models/zero3.py",),
    ),
    Hook("torch.nn.Module._forward_hooks", "a head is used outside of the forward pass", ("models/sharding.py",)),
    Hook("torch.nn.Module._forward_pre_hooks", "a head is used outside of the forward pass", ("models/sharding.py",)),
    Hook("datasets.Dataset._fingerprint", "the same rows are known again"),
    Hook("trl.data_utils.get_dataset_column_names", "columns of streams too", ("training/",)),
    Hook("trl.chat_template_utils.has_generation_markers", "which template is trained with", ("update/encoding.py",)),
    Hook("peft.utils.other.get_pattern_key", "ranks and alphas of single layers", ("hub/",)),
    Hook("peft.utils.other.AuxiliaryTrainingWrapper", "layers that are trained whole", ("models/",)),
    Hook("peft.utils.ModulesToSaveWrapper", "layers that are trained whole", ("models/", "classifier/models.py")),
    Hook("peft.tuners.tuners_utils.BaseTunerLayer", "layers with an adapter", ("models/",)),
    Hook("peft.tuners.lora.LoraLayer", "layers that can be widened", ("models/ranks.py",)),
    Hook("peft.tuners.lora.layer.MultiheadAttention", "layers that cannot be widened", ("models/ranks.py",)),
    Hook("peft.tuners.lora.layer.ParamWrapper", "experts, widened one by one", ("models/ranks.py",)),
    Hook("peft.tuners.lora.variants.DoraLinearVariant", "magnitudes stay with a wider rank", ("models/ranks.py",)),
    Hook("peft.tuners.lora.variants.DoraConv1dVariant", "magnitudes stay with a wider rank", ("models/ranks.py",)),
    Hook("peft.tuners.lora.variants.DoraConv2dVariant", "magnitudes stay with a wider rank", ("models/ranks.py",)),
    Hook("peft.tuners.lora.variants.DoraConv3dVariant", "magnitudes stay with a wider rank", ("models/ranks.py",)),
    Hook("huggingface_hub.utils._validators.validate_repo_id", "what is a name on the Hub", ("hub/",)),
    Hook("huggingface_hub._CACHED_NO_EXIST", "a file that is known not to be there", ("hub/",)),
    Hook("huggingface_hub.hf_api.ExpandModelProperty_T", "the names of what is asked of a list", ("hub/",)),
    Hook("huggingface_hub.CommitOperationAdd._should_ignore", "a .gitignore leaves nothing out unseen", ("hub/",)),
    Hook("huggingface_hub.repocard.REGEX_YAML_BLOCK", "where the front matter ends", ("card/",)),
    Hook("evaluate.Metric._info", "a metric says its inputs", ("spaces/",)),
    Hook("evaluate.Metric._finalize", "what all of a metric's inputs were", ("spaces/",)),
    Hook("evaluate.Metric._feature_names", "which inputs a metric has", ("spaces/",)),
    Hook("evaluate.Metric._init_writer", "inputs that are all None", ("spaces/",)),
    Hook("tqdm.tqdm._instances", "bars are closed before an error is told", ("cli/",)),
    Hook("argparse.ArgumentParser._actions", "the options of a command", ("update/arguments.py",)),
    Hook("argparse.ArgumentParser._option_string_actions", "a misspelt option is told", ("cli/",)),
)


def send_nothing(trainer: Any) -> None:
    """Stand in the place of `_send_telemetry`, where TRL sends its version and kinds of trainer, model and device."""


def prepare_rows(
    trainer: Any, dataset: Any, args: Any, *, tokenizer: Any, packing: bool, formatting_func: Any, name: str
) -> Any:
    """Encode, cut and pack a data set as TRL does, by an `SFTTrainer` or a [`stand_in`]; bars show the name."""
    return SFTTrainer._prepare_dataset(trainer, dataset, tokenizer, args, packing, formatting_func, name)


def stand_in(tokenizer: Any, *, completion_only_loss: bool, chat_template: str | None) -> Any:
    """Return all that [`prepare_rows`] reads of a trainer, which itself would need a model with weights."""
    names = {"completion_only_loss": completion_only_loss, "chat_template": chat_template}
    return SimpleNamespace(_tokenizer=tokenizer, **names)


def keep_columns(trainer: Any, names: Iterable[str]) -> None:
    """Let columns of ours reach the collator, beside those that the trainer keeps."""
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns = list(dict.fromkeys([*trainer._signature_columns, *names]))


def kept_columns(trainer: Any) -> list[str]:
    """Return the names of the columns that reach the collator."""
    trainer._set_signature_columns_if_needed()
    return list(trainer._signature_columns)


def count_labels_of_steps(trainer: Any, *, shifted: bool) -> None:
    """Let the trainer count the labels of a whole optimizer step, whatever the model's own forward does.

    Where they are shifted, the first label of a row has no position that predicts it.
    """
    trainer.model_accepts_loss_kwargs = True
    trainer._loss_shifts_labels = shifted


def router_loss_weight(trainer: Any) -> float:
    """Return the weight of the router loss that the parent has found in options and config; 0 without routers."""
    return float(trainer.router_aux_loss_coef) if trainer.aux_loss_enabled else 0.0


def accumulated_batches(trainer: Any) -> int:
    """Return how many forward passes the optimizer step under way has; 1 outside of a training loop."""
    return int(getattr(trainer, "current_gradient_accumulation_steps", 1))


def prepared_batch(trainer: Any, batch: Any) -> Any:
    """Return what the collator made, on the device."""
    return trainer._prepare_inputs(batch)


def prepared_teacher(accelerator: Any, model: Any) -> Any:
    """Prepare a model that is asked and never trained.

    accelerate would keep it in memory after a cache has made it superfluous and save it with its state, and the
    trainer would take it for the student, prepared already.
    """
    prepared = accelerator.prepare_model(model, evaluation_mode=True)
    accelerator._models[:] = [other for other in accelerator._models if other is not prepared]
    return prepared


def split_by_fsdp2(accelerator: Any, model: Any) -> Any:
    """Split a model over processes as accelerate does at the first step, which then takes it as it is."""
    plugin = accelerator.state.fsdp_plugin
    plugin.set_auto_wrap_policy(model)
    if plugin.activation_checkpointing:
        model = fsdp2_apply_ac(accelerator, model)
    return fully_split(accelerator, model)


def take_as_split(accelerator: Any, model: Any) -> None:
    """Let accelerate take a model as it is, and an optimizer of its parts.

    It would tell these parts by their memory, and all that a process has nothing of look alike by that.
    """
    prepare = accelerator._prepare_fsdp2

    def prepare_the_rest(*objects: Any) -> tuple[Any, ...]:
        rest = iter(prepare(*(other for other in objects if other is not model)))
        if model not in accelerator._models:  # each training starts with an empty list
            accelerator._models.append(model)
        return tuple(model if each is model else next(rest) for each in objects)

    accelerator._prepare_fsdp2 = prepare_the_rest
    accelerator._models.append(model)


def take_as_prepared(accelerator: Any, model: Any) -> None:
    """Let a trainer that evaluates before it trains take its model as it is."""
    accelerator._models.append(model)


def load_weights(trainer: Any, checkpoint: str | Path) -> None:
    """Load the weights of a checkpoint into the trainer's model."""
    trainer._load_from_checkpoint(str(checkpoint))


def content_key(dataset: Dataset) -> str:
    """Return what two data sets with the same rows, made in the same way, have in common."""
    return str(dataset._fingerprint)


def is_pushing(trainer: Any) -> bool:
    """Tell whether a push that the trainer knows of goes on."""
    return trainer.push_in_progress is not None and not trainer.push_in_progress.is_done()


def note_push(trainer: Any, job: "Future[Any]") -> None:
    """Let the trainer wait for a push."""
    if not is_pushing(trainer):
        trainer.push_in_progress = PushInProgress([])
    trainer.push_in_progress.jobs.append(job)


def wait_for_pushes(trainer: Any) -> None:
    """Wait for the pushes that the trainer knows of."""
    trainer._finish_current_push()
